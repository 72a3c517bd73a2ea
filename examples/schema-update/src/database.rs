//! A database service: takes a schema over gRPC, and shows over HTTP which one is in force.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Json, Router, routing::get, serve::ListenerExt};
use serde::Serialize;
use tonic::{Request, Response, Status, service::Routes};

use crate::v1::{
    ApplySchemaRequest, ApplySchemaResponse,
    schema_update_service_server::{SchemaUpdateService, SchemaUpdateServiceServer},
};

/// Who and where a database is.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// Its service name.
    pub database: String,
    /// The region it runs in.
    pub region: String,
    /// This process among those of the service.
    pub instance: String,
}

/// A database. It keeps the version in force in memory: the example is about reaching it.
#[derive(Clone, Debug)]
pub struct Database {
    identity: Identity,
    version: Arc<Mutex<u64>>,
}

/// What `GET /schema` answers.
#[derive(Debug, Serialize)]
struct InForce {
    #[serde(flatten)]
    identity: Identity,
    version: u64,
}

impl Database {
    /// A database without a schema.
    pub fn new(identity: Identity) -> Database {
        Database {
            identity,
            version: Arc::default(),
        }
    }

    /// Both interfaces: gRPC for callers, `GET /schema` for people.
    pub fn router(self) -> Router {
        let shown = self.clone();
        let show = move || async move {
            let version = *shown.version();
            Json(InForce {
                identity: shown.identity,
                version,
            })
        };
        Routes::new(SchemaUpdateServiceServer::new(self))
            .into_axum_router()
            .route("/schema", get(show))
    }

    /// Puts a version in force. `Ok(false)`: it was already.
    fn apply(&self, wanted: u64) -> Result<bool, Status> {
        let mut version = self.version();
        if wanted == 0 {
            return Err(Status::invalid_argument("version must be greater than 0"));
        }
        if wanted < *version {
            return Err(Status::failed_precondition(format!(
                "version {} is in force, which is newer than {wanted}",
                *version
            )));
        }
        let changed = wanted > *version;
        *version = wanted;
        Ok(changed)
    }

    fn version(&self) -> std::sync::MutexGuard<'_, u64> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl SchemaUpdateService for Database {
    async fn apply_schema(
        &self,
        request: Request<ApplySchemaRequest>,
    ) -> Result<Response<ApplySchemaResponse>, Status> {
        let version = request.into_inner().version;
        let changed = self.apply(version)?;
        let Identity {
            database,
            region,
            instance,
        } = self.identity.clone();
        Ok(Response::new(ApplySchemaResponse {
            database,
            region,
            instance,
            version,
            changed,
        }))
    }
}

/// Serves until `stop` is done, then finishes the requests under way.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: tokio::net::TcpListener,
    database: Database,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), std::io::Error> {
    // Without it, small answers on a shared connection wait for the peer's acknowledgement: 40 ms each.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            eprintln!("cannot set TCP_NODELAY: {error}");
        }
    });
    axum::serve(listener, database.router())
        .with_graceful_shutdown(stop)
        .await
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn versions_only_grow() {
        let database = Database::new(Identity {
            database: "orders-db".to_owned(),
            region: "eu".to_owned(),
            instance: "1".to_owned(),
        });
        for (version, outcome) in [
            (0, Err(Code::InvalidArgument)),
            (3, Ok(true)),
            (3, Ok(false)),
            (2, Err(Code::FailedPrecondition)),
            (4, Ok(true)),
        ] {
            let found = database.apply(version).map_err(|status| status.code());
            assert_eq!(found, outcome, "version {version}");
        }
    }
}
