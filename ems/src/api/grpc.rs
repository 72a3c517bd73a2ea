//! The API as gRPC: messages in, messages out, failures as statuses.

use isthmus_proto::v1::{self, registry_server::Registry};
use tonic::{Code, Request, Response, Status};

use super::{Api, Failure};
use crate::registry::Rejection;

type Answer<M> = Result<Response<M>, Status>;

fn answer<M>(result: Result<M, Failure>) -> Answer<M> {
    result
        .map(Response::new)
        .map_err(|failure| status(&failure))
}

fn record<O, M>(result: Result<(O, M), Failure>) -> Answer<M> {
    answer(result.map(|(_, message)| message))
}

fn status(failure: &Failure) -> Status {
    let code = match failure {
        Failure::Rejected(Rejection::Invalid(_)) => Code::InvalidArgument,
        Failure::Rejected(Rejection::NotFound { .. }) => Code::NotFound,
        // Neither gets better by trying again.
        Failure::Rejected(Rejection::Stale { .. } | Rejection::Home(_)) => Code::FailedPrecondition,
        Failure::Rejected(Rejection::Loading) | Failure::Unavailable(_) => Code::Unavailable,
    };
    Status::new(code, failure.to_string())
}

#[tonic::async_trait]
impl Registry for Api {
    async fn put_service(&self, request: Request<v1::Service>) -> Answer<v1::Service> {
        record(Api::put_service(self, request.into_inner()).await)
    }

    async fn get_service(&self, request: Request<v1::ServiceRef>) -> Answer<v1::Service> {
        answer(Api::get_service(self, request.get_ref()))
    }

    async fn list_services(&self, _: Request<v1::ListRequest>) -> Answer<v1::ServiceList> {
        answer(Api::list_services(self))
    }

    async fn delete_service(&self, request: Request<v1::ServiceRef>) -> Answer<v1::Deleted> {
        record(Api::delete_service(self, request.get_ref()).await)
    }

    async fn put_endpoint(&self, request: Request<v1::Endpoint>) -> Answer<v1::Endpoint> {
        record(Api::put_endpoint(self, request.into_inner()).await)
    }

    async fn get_endpoint(&self, request: Request<v1::EndpointRef>) -> Answer<v1::Endpoint> {
        answer(Api::get_endpoint(self, request.get_ref()))
    }

    async fn list_endpoints(&self, request: Request<v1::ServiceRef>) -> Answer<v1::EndpointList> {
        answer(Api::list_endpoints(self, request.get_ref()))
    }

    async fn delete_endpoint(&self, request: Request<v1::EndpointRef>) -> Answer<v1::Deleted> {
        record(Api::delete_endpoint(self, request.get_ref()).await)
    }

    async fn drain_endpoint(&self, request: Request<v1::EndpointRef>) -> Answer<v1::Endpoint> {
        record(Api::drain_endpoint(self, request.get_ref()).await)
    }

    async fn put_region(&self, request: Request<v1::Region>) -> Answer<v1::Region> {
        record(Api::put_region(self, request.into_inner()).await)
    }

    async fn get_region(&self, request: Request<v1::RegionRef>) -> Answer<v1::Region> {
        answer(Api::get_region(self, request.get_ref()))
    }

    async fn list_regions(&self, _: Request<v1::ListRequest>) -> Answer<v1::RegionList> {
        answer(Api::list_regions(self))
    }

    async fn delete_region(&self, request: Request<v1::RegionRef>) -> Answer<v1::Deleted> {
        record(Api::delete_region(self, request.get_ref()).await)
    }

    async fn list_nodes(&self, request: Request<v1::ListNodesRequest>) -> Answer<v1::NodeList> {
        answer(Api::list_nodes(self, request.into_inner(), |list| list).await)
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Answer<v1::Explanation> {
        answer(Api::explain(self, request.get_ref()).await)
    }

    async fn list_limits(&self, request: Request<v1::LimitsRequest>) -> Answer<v1::LimitList> {
        answer(Api::list_limits(self, request.get_ref()).await)
    }
}
