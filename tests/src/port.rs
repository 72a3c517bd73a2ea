//! Ports that nobody else takes: neither another test, nor another run beside this one, nor an outgoing connection.

use std::{
    fmt, fs,
    io::ErrorKind,
    net::TcpListener,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context, Result, bail};

/// Below the range that Linux hands out to outgoing connections (32768 and up), so that none of those gets in between
/// the reservation and the process that will listen.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A reserved port on loopback, given back when dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // The reservation is an advisory lock on this file, so the kernel gives it back even when the program is killed.
    _lock: fs::File,
}

impl Port {
    /// Reserves a port on which nobody listens.
    pub fn reserve() -> Result<Port> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let dir = lock_dir()?;
        // Runs side by side start at different places, so that they seldom meet.
        let start = (std::process::id() % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start.wrapping_mul(37) % COUNT + step % COUNT) % COUNT;
            if let Some(port) = try_reserve(&dir, number)? {
                return Ok(port);
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

fn lock_dir() -> Result<PathBuf> {
    let dir = std::env::temp_dir().join("isthmus-ports");
    fs::create_dir_all(&dir)
        .with_context(|| format!("cannot make {} for port reservations", dir.display()))?;
    Ok(dir)
}

fn try_reserve(dir: &std::path::Path, number: u16) -> Result<Option<Port>> {
    let path = dir.join(number.to_string());
    let lock = match fs::File::create(&path) {
        Ok(file) => file,
        // Another user's reservation.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
    };
    // SAFETY: the descriptor is open for as long as `lock` lives; flock touches no memory of ours.
    let locked = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    let free = locked && TcpListener::bind(("127.0.0.1", number)).is_ok();
    Ok(free.then_some(Port {
        number,
        _lock: lock,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_reserved_port_is_not_reserved_again() {
        let port = Port::reserve().unwrap();
        let dir = lock_dir().unwrap();
        assert!(try_reserve(&dir, port.number()).unwrap().is_none());
        let number = port.number();
        drop(port);
        assert!(try_reserve(&dir, number).unwrap().is_some());
    }

    #[test]
    fn a_port_in_use_is_not_reserved() {
        let port = Port::reserve().unwrap();
        let listener = TcpListener::bind(port.address()).unwrap();
        let number = port.number();
        drop(port);
        assert!(try_reserve(&lock_dir().unwrap(), number).unwrap().is_none());
        drop(listener);
    }
}
