//! The routes of the HTTP API, each of which is one method of `isthmus.v1.Registry`. One table, from which the router
//! and the OpenAPI document are both made.

use axum::http::Method;

/// One route.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) method: Method,
    /// With parameters in braces.
    pub(super) path: &'static str,
    pub(super) operation: Operation,
}

/// A method of the service, by its name in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    PutService,
    GetService,
    ListServices,
    DeleteService,
    PutEndpoint,
    GetEndpoint,
    ListEndpoints,
    DeleteEndpoint,
    DrainEndpoint,
    PutRegion,
    GetRegion,
    ListRegions,
    DeleteRegion,
    ListNodes,
    ListLimits,
    Explain,
}

impl Operation {
    /// Whether the fields of the request come in the query.
    pub(super) fn has_query(self) -> bool {
        matches!(self, Self::ListNodes | Self::ListLimits | Self::Explain)
    }

    /// Whether the request is the body of the HTTP request.
    pub(super) fn has_body(self) -> bool {
        matches!(self, Self::PutService | Self::PutEndpoint | Self::PutRegion)
    }
}

const SERVICE: &str = "/v1/services/{service}";
const ENDPOINT: &str = "/v1/services/{service}/endpoints/{id}";
const REGION: &str = "/v1/regions/{region}";

/// All routes.
pub(super) static ROUTES: [Route; 16] = [
    route(Method::GET, "/v1/services", Operation::ListServices),
    route(Method::GET, SERVICE, Operation::GetService),
    route(Method::PUT, SERVICE, Operation::PutService),
    route(Method::DELETE, SERVICE, Operation::DeleteService),
    route(
        Method::GET,
        "/v1/services/{service}/endpoints",
        Operation::ListEndpoints,
    ),
    route(Method::GET, ENDPOINT, Operation::GetEndpoint),
    route(Method::PUT, ENDPOINT, Operation::PutEndpoint),
    route(Method::DELETE, ENDPOINT, Operation::DeleteEndpoint),
    route(
        Method::POST,
        "/v1/services/{service}/endpoints/{id}/drain",
        Operation::DrainEndpoint,
    ),
    route(Method::GET, "/v1/regions", Operation::ListRegions),
    route(Method::GET, REGION, Operation::GetRegion),
    route(Method::PUT, REGION, Operation::PutRegion),
    route(Method::DELETE, REGION, Operation::DeleteRegion),
    route(Method::GET, "/v1/nodes", Operation::ListNodes),
    route(Method::GET, "/v1/limits", Operation::ListLimits),
    route(Method::GET, "/v1/explain", Operation::Explain),
];

const fn route(method: Method, path: &'static str, operation: Operation) -> Route {
    Route {
        method,
        path,
        operation,
    }
}
