//! The network between two regions: a TCP relay that can be listened in on, cut and mended.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// How many bytes of either direction are kept to be looked at.
const KEPT: usize = 1 << 20;

/// A relay from a port of its own to an address.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    cut: AtomicBool,
    closed: AtomicBool,
    /// Connections before this one, counted from 0, let nothing through.
    silent: Mutex<u64>,
    spoken: Condvar,
    connections: AtomicU64,
    // What went through, both directions, up to KEPT.
    seen: Mutex<Vec<u8>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A relay to `target`, such as `127.0.0.1:15443`. Connects only when somebody connects to it.
    pub fn to(target: &str) -> Result<Link> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen for a link")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            cut: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            silent: Mutex::new(0),
            spoken: Condvar::new(),
            connections: AtomicU64::new(0),
            seen: Mutex::new(Vec::new()),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Link { address, shared })
    }

    /// Where to connect.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Breaks every connection, and new ones at once.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.break_all();
    }

    /// Lets nothing through any more, and breaks nothing either: a network that drops packets.
    pub fn silence(&self) {
        *lock(&self.shared.silent) = u64::MAX;
    }

    /// Lets nothing through any more on the connections that there are, and breaks none: the other side has lost its power,
    /// and is back. New ones are as usual.
    pub fn silence_those_there_are(&self) {
        *lock(&self.shared.silent) = self.connections();
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
        self.shared.speak();
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The bytes that went through so far, both directions mixed.
    pub fn seen(&self) -> Vec<u8> {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.speak();
        self.shared.break_all();
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn speak(&self) {
        *lock(&self.silent) = 0;
        self.spoken.notify_all();
    }

    fn wait_while_silent(&self, connection: u64) {
        let silent = lock(&self.silent);
        let is_silent = |first: &mut u64| connection < *first;
        let waited = self.spoken.wait_while(silent, is_silent);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn break_all(&self) {
        for stream in lock(&self.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for near in listener.incoming() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        if shared.cut.load(Ordering::SeqCst) {
            continue;
        }
        let (Ok(near), Ok(far)) = (near, TcpStream::connect(&shared.target)) else {
            continue;
        };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        // A stream that cannot be cloned is dropped here, so both sides see the end of the connection.
        let _ = relay(near, far, shared, number);
    }
}

fn relay(
    near: TcpStream,
    far: TcpStream,
    shared: &Arc<Shared>,
    number: u64,
) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    lock(&shared.open).extend([near.try_clone()?, far.try_clone()?]);
    pump(near.try_clone()?, far.try_clone()?, shared.clone(), number);
    pump(far, near, shared.clone(), number);
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: Arc<Shared>, number: u64) {
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n) = from.read(&mut buffer) {
            let bytes = buffer.get(..n).unwrap_or_default();
            shared.wait_while_silent(number);
            if bytes.is_empty() || to.write_all(bytes).is_err() {
                break;
            }
            let mut seen = lock(&shared.seen);
            let room = KEPT.saturating_sub(seen.len()).min(n);
            seen.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn relays_remembers_and_cuts() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::to(&server.local_addr().unwrap().to_string()).unwrap();
        let mut near = TcpStream::connect(("127.0.0.1", link.port())).unwrap();
        near.write_all(b"hello").unwrap();
        let (mut far, _) = server.accept().unwrap();
        let mut heard = [0; 5];
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        crate::eventually("the link to remember", || link.seen() == b"hello").unwrap();
        link.silence();
        near.write_all(b"anybody?").unwrap();
        far.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        assert!(far.read_exact(&mut heard).is_err(), "nothing comes");
        link.mend();
        far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"anybo");
        link.silence_those_there_are();
        near.write_all(b"anybody?").unwrap();
        far.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        far.read_exact(&mut [0; 3]).unwrap();
        assert!(far.read_exact(&mut heard).is_err(), "nothing comes");
        let mut other = TcpStream::connect(("127.0.0.1", link.port())).unwrap();
        other.write_all(b"hello").unwrap();
        let (mut far, _) = server.accept().unwrap();
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        link.cut();
        assert_eq!(near.read(&mut heard).unwrap(), 0, "the connection broke");
        assert_eq!(link.connections(), 2);
    }
}
