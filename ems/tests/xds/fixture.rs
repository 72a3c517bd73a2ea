//! The xDS server on a memory of raw resources, in this process, on a free port.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ems::{
    serve::network::{Keepalive, Terms, listen, serve},
    xds::{
        limits::Limits,
        memory::{Memory, Write},
        server::Server,
    },
};
use tokio::{net::TcpListener, sync::watch};

/// Terms under which everybody is let in.
pub(crate) fn roomy() -> Terms {
    Terms {
        places: 1_000,
        admission: None,
        keepalive: Keepalive::default(),
    }
}

/// Gone with the test.
pub(crate) struct Fixture {
    pub(crate) memory: Memory,
    pub(crate) server: Arc<Server>,
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Fixture {
    pub(crate) async fn new(limits: Limits) -> Self {
        Self::on(limits, roomy()).await
    }

    pub(crate) async fn on(limits: Limits, terms: Terms) -> Self {
        let free = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        Self::at(free, Memory::default(), limits, terms)
    }

    pub(crate) fn at(listener: TcpListener, memory: Memory, limits: Limits, terms: Terms) -> Self {
        let server = Server::new(Arc::new(memory.clone()), limits);
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let services = tonic::service::Routes::from(server.router());
        tokio::spawn(serve(listener, services, terms, stopped));
        Self {
            memory,
            server,
            address,
            stop,
        }
    }

    /// Changes the memory at once, and tells the streams.
    pub(crate) fn write(&self, change: impl FnOnce(&mut Write<'_>)) {
        self.server.publish(self.memory.write(change));
    }

    /// Lets nobody in any more and sends everybody away, as `ems serve` does when it stops.
    pub(crate) async fn leave(&self, over: Duration) {
        self.stop.send_replace(true);
        self.server.drain(over).await;
    }
}
