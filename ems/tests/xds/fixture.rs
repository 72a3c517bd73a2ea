//! The xDS server on a memory of raw resources, in this process, on a free port.

use std::{net::SocketAddr, sync::Arc};

use ems::xds::{
    limits::Limits,
    memory::{Memory, Write},
    server::Server,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;

/// Gone with the test.
pub(crate) struct Fixture {
    memory: Memory,
    pub(crate) server: Arc<Server>,
    pub(crate) address: SocketAddr,
}

impl Fixture {
    pub(crate) async fn new(limits: Limits) -> Self {
        let memory = Memory::default();
        let server = Server::new(Arc::new(memory.clone()), limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Routes::from(server.router());
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_routes(routes)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self {
            memory,
            server,
            address,
        }
    }

    /// Changes the memory at once, and tells the streams.
    pub(crate) fn write(&self, change: impl FnOnce(&mut Write<'_>)) {
        self.server.publish(self.memory.write(change));
    }
}
