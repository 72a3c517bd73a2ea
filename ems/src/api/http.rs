//! The API as HTTP with canonical protobuf JSON, and the pages for machines: metrics, health, the OpenAPI document.

use std::collections::HashMap;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, Query, Request, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{MethodFilter, get, on},
};
use isthmus_proto::v1;
use prost::{Message, Name};
use serde_json::json;

use super::{
    Api, Failure, Written, openapi,
    problem::Problem,
    route::{Operation, ROUTES, Route},
};
use crate::{
    json::{self, Draft},
    metrics::CONTENT_TYPE as METRICS_TYPE,
    record::{self, Invalid},
    registry::Outcome,
};

/// Most bytes of a request's body; the same for gRPC.
pub const BODY_LIMIT: usize = 1024 * 1024;

type Parameters = HashMap<String, String>;

/// What a request came with.
struct Input {
    path: Parameters,
    query: Vec<(String, String)>,
    body: Bytes,
}

/// All routes of the HTTP API.
pub fn router(api: Api) -> Router {
    let mut router = Router::new();
    for &Route {
        ref method,
        path,
        operation,
    } in &ROUTES
    {
        // The table has methods that routers know; another would be found by the test of the OpenAPI document.
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        let handler = move |State(api): State<Api>,
                            path_parts: Result<Path<Parameters>, PathRejection>,
                            query: Result<Query<Vec<(String, String)>>, QueryRejection>,
                            body: Result<Bytes, BytesRejection>| async move {
            let response = match Input::of(path_parts, query, body) {
                Ok(input) => run(&api, operation, &input).await,
                Err(problem) => Err(problem),
            };
            let response = response.into_response();
            let status = response.status().as_u16();
            api.metrics.requested(method.as_str(), path, status);
            response
        };
        router = router.route(path, on(filter, handler));
    }
    router
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(|| async { Json(openapi::document()) }))
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .fallback(|uri: Uri| async move { Problem::no_such_path(uri.path()) })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(refuse_cross_site))
        .with_state(api)
}

async fn run(api: &Api, operation: Operation, input: &Input) -> Result<Response, Problem> {
    match operation {
        Operation::PutService => {
            let mut draft: Draft<v1::Service> = input.draft()?;
            input.fill(&mut draft, |m| &mut m.name, "name", "service");
            let check = |m: &_| record::Service::parse(m).map(drop);
            written(api.put_service(draft.finish_with(check)?).await)
        }
        Operation::GetService => read(api.get_service(&input.service())),
        Operation::ListServices => list(api.list_services()),
        Operation::DeleteService => written(api.delete_service(&input.service()).await),
        Operation::PutEndpoint => {
            let mut draft: Draft<v1::Endpoint> = input.draft()?;
            input.fill(&mut draft, |m| &mut m.service, "service", "service");
            input.fill(&mut draft, |m| &mut m.id, "id", "id");
            let check = |m: &_| record::Endpoint::parse(m).map(drop);
            written(api.put_endpoint(draft.finish_with(check)?).await)
        }
        Operation::GetEndpoint => read(api.get_endpoint(&input.endpoint())),
        Operation::ListEndpoints => list(api.list_endpoints(&input.service())),
        Operation::DeleteEndpoint => written(api.delete_endpoint(&input.endpoint()).await),
        Operation::DrainEndpoint => written(api.drain_endpoint(&input.endpoint()).await),
        Operation::PutRegion => {
            let mut draft: Draft<v1::Region> = input.draft()?;
            input.fill(&mut draft, |m| &mut m.name, "name", "region");
            let check = |m: &_| record::Region::parse(m).map(drop);
            written(api.put_region(draft.finish_with(check)?).await)
        }
        Operation::GetRegion => read(api.get_region(&input.region())),
        Operation::ListRegions => list(api.list_regions()),
        Operation::DeleteRegion => written(api.delete_region(&input.region()).await),
        Operation::ListNodes => {
            let request = nodes_request(&input.query)?;
            api.list_nodes(request, |nodes| list(Ok(nodes))).await?
        }
        Operation::ListLimits => {
            let request = limits_request(&input.query)?;
            list(api.list_limits(&request).await)
        }
        Operation::Explain => {
            let request = explain_request(&input.query)?;
            read(api.explain(&request).await)
        }
    }
}

impl Input {
    /// What was extracted, or the problem document of what could not be.
    fn of(
        path: Result<Path<Parameters>, PathRejection>,
        query: Result<Query<Vec<(String, String)>>, QueryRejection>,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Self, Problem> {
        let Path(path) = path.map_err(|rejection| Invalid::one("path", rejection.body_text()))?;
        let Query(query) =
            query.map_err(|rejection| Invalid::one("query", rejection.body_text()))?;
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(BODY_LIMIT),
            _ => Invalid::one("", rejection.body_text()).into(),
        })?;
        Ok(Self { path, query, body })
    }

    fn parameter(&self, name: &str) -> String {
        self.path.get(name).cloned().unwrap_or_default()
    }

    fn service(&self) -> v1::ServiceRef {
        let service = self.parameter("service");
        v1::ServiceRef { service }
    }

    fn endpoint(&self) -> v1::EndpointRef {
        let (service, id) = (self.parameter("service"), self.parameter("id"));
        v1::EndpointRef { service, id }
    }

    fn region(&self) -> v1::RegionRef {
        let region = self.parameter("region");
        v1::RegionRef { region }
    }

    /// An empty body is an empty message: a service needs no more than its name, which is in the path.
    fn draft<M: Message + Name + Default>(&self) -> Result<Draft<M>, Invalid> {
        if self.body.is_empty() {
            return Ok(Draft::default());
        }
        Draft::read(&self.body)
    }

    /// Takes a field of the body from the path, where it must not say something else.
    fn fill<M>(
        &self,
        draft: &mut Draft<M>,
        value: impl FnOnce(&mut M) -> &mut String,
        field: &str,
        parameter: &str,
    ) {
        let value = value(&mut draft.message);
        let path = self.parameter(parameter);
        let same = match field {
            "id" => *value == path,
            _ => value.eq_ignore_ascii_case(&path),
        };
        if value.is_empty() || same {
            *value = path;
            return;
        }
        let detail = format!("is {value:?}, and the path says {path:?}");
        draft.add(&Invalid::one(field, detail));
    }
}

fn nodes_request(query: &[(String, String)]) -> Result<v1::ListNodesRequest, Invalid> {
    let mut draft = Draft::<v1::ListNodesRequest>::default();
    for (name, value) in query {
        match name.as_str() {
            "node" => draft.message.node.clone_from(value),
            other => draft.add(&Invalid::one(other, "is not known: node is")),
        }
    }
    draft.finish()
}

fn limits_request(query: &[(String, String)]) -> Result<v1::LimitsRequest, Invalid> {
    let mut request = v1::LimitsRequest::default();
    for (name, value) in query {
        match name.as_str() {
            "service" => request.service.clone_from(value),
            other => return Err(Invalid::one(other, "is not known: service is")),
        }
    }
    Ok(request)
}

/// Name and value; names of HTTP/2 itself begin with a colon.
fn header(text: &str) -> Option<(&str, &str)> {
    let (name, value) = match text.strip_prefix(':') {
        Some(rest) => {
            let end = rest.find([':', '='])? + 1;
            (text.get(..end)?, text.get(end + 1..)?)
        }
        None => text.split_once([':', '='])?,
    };
    let name = name.trim();
    (!name.is_empty() && name != ":").then_some((name, value.trim()))
}

fn explain_request(query: &[(String, String)]) -> Result<v1::ExplainRequest, Invalid> {
    let mut draft = Draft::<v1::ExplainRequest>::default();
    let request = &mut draft.message;
    let mut faults = Vec::new();
    for (name, value) in query {
        match name.as_str() {
            "service" => request.service.clone_from(value),
            "region" => request.region.clone_from(value),
            "caller" => request.caller.clone_from(value),
            "header" => match header(value) {
                Some((header, value)) => {
                    request.headers.insert(header.to_owned(), value.to_owned());
                }
                None => faults.push(Invalid::one(
                    "header",
                    "must be <name>:<value> or <name>=<value>",
                )),
            },
            other => {
                let detail = "is not known: service, region, caller and header are";
                faults.push(Invalid::one(other, detail));
            }
        }
    }
    faults.iter().for_each(|fault| draft.add(fault));
    draft.finish()
}

fn read<M: Message + Name>(result: Result<M, Failure>) -> Result<Response, Problem> {
    Ok(Json(json::write(&result?)?).into_response())
}

/// A list without entries is still a list, for whoever goes through it without looking.
fn list<M: Message + Name>(result: Result<M, Failure>) -> Result<Response, Problem> {
    let mut value = json::write(&result?)?;
    if let Some(fields) = value.as_object_mut() {
        for field in json::descriptor::<M>()?.fields().filter(|f| f.is_list()) {
            fields.entry(field.json_name()).or_insert_with(|| json!([]));
        }
    }
    Ok(Json(value).into_response())
}

fn written<M: Message + Name>(result: Written<M>) -> Result<Response, Problem> {
    let (outcome, message) = result?;
    let status = match outcome {
        Outcome::Created => StatusCode::CREATED,
        Outcome::Updated | Outcome::Unchanged | Outcome::Deleted => StatusCode::OK,
    };
    Ok((status, Json(json::write(&message)?)).into_response())
}

/// Alive, whatever is wrong; and what is wrong.
async fn health(State(api): State<Api>) -> Response {
    let registry = api.registrar.shared().read();
    let due = registry.leases().due(std::time::Instant::now());
    let ids = |ids: &Vec<crate::record::EndpointId>| -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    };
    let held = due.held.iter().map(|(s, held)| (s.to_string(), ids(held)));
    let held: HashMap<_, _> = held.collect();
    let quarantined = registry.quarantined().iter();
    let quarantined: HashMap<_, _> = quarantined.map(|(key, q)| (key, &q.reason)).collect();
    let held_back = api.insight.redis_held_back();
    let alarm = !held.is_empty() || !quarantined.is_empty() || held_back == Some(true);
    let redis = held_back.map(|held_back| if held_back { "held back" } else { "ok" });
    Json(json!({
        "status": if alarm { "alarm" } else { "ok" },
        "region": registry.home().region,
        "revision": registry.revision(),
        "heldLeases": held,
        "quarantined": quarantined,
        "redis": redis,
    }))
    .into_response()
}

async fn ready(State(api): State<Api>) -> Response {
    match api.ready() {
        Ok(()) => Json(json!({ "status": "ready" })).into_response(),
        Err(failure) => Problem::from(failure).into_response(),
    }
}

async fn metrics(State(api): State<Api>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], api.metrics.encode()).into_response()
}

/// A browser would send some writes from any page that somebody looks at. It says so, and pages cannot keep it from
/// doing that.
async fn refuse_cross_site(request: Request, next: Next) -> Response {
    if request.method() != Method::GET && is_cross_site(request.headers()) {
        return Problem::cross_site().into_response();
    }
    next.run(request).await
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none")
}
