//! How many connections there is room for. Each is an open file, and the system allows a process only so many.
//!
//! Whoever takes the last file leaves none for the registry's own, so each socket has a bound of its own below that. This
//! is arithmetic: what the system allows is asked and raised by whoever starts the server.

/// Connections of the xDS socket that carry no stream: of programs that use the registry there, and of those that are
/// just being told that there are streams enough.
const BESIDE_STREAMS: usize = 128;
/// Connections of the HTTP socket: services that keep theirs open between heartbeats.
const HTTP: usize = 8_192;
/// Files of the process itself: data, sockets, log, the runtime's.
const OWN: usize = 64;

/// Connections that each socket takes at a time. More wait in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Of the socket for Envoys.
    pub xds: usize,
    /// Of the socket for people and programs.
    pub http: usize,
}

impl Room {
    /// What so many streams need.
    #[must_use]
    pub fn whole(max_streams: usize) -> Self {
        Self {
            xds: max_streams.saturating_add(BESIDE_STREAMS),
            http: HTTP,
        }
    }

    /// What a process has that may have so many files open, each Envoy having a connection for its stream; and what is
    /// wrong if that is not room for as many streams as are allowed.
    #[must_use]
    pub fn of(open_files: u64, max_streams: usize) -> (Self, Option<TooFewFiles>) {
        let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
        let wanted = Self::whole(max_streams);
        let needed = wanted.xds.saturating_add(wanted.http + OWN);
        if needed <= open_files {
            return (wanted, None);
        }
        let rest = open_files.saturating_sub(OWN).max(2);
        let http = HTTP.min((rest / 4).max(1));
        let room = Self {
            xds: wanted.xds.min(rest - http),
            http,
        };
        let few = TooFewFiles {
            open_files,
            room: room.xds,
            max_streams,
            needed,
        };
        (room, Some(few))
    }
}

/// Not all streams that are allowed can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {open_files} files open, which is room for {room} connections of Envoys, and --max-streams is \
     {max_streams}: raise the hard limit of open files to {needed} or more (`ulimit -Hn`, systemd: LimitNOFILE, Docker: \
     --ulimit nofile), or lower --max-streams"
)]
pub struct TooFewFiles {
    open_files: usize,
    room: usize,
    max_streams: usize,
    needed: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_takes_no_more_than_there_are_files_for() {
        for (open_files, max_streams, xds, http, enough) in [
            (1_048_576, 20_000, 20_128, 8_192, true),
            (u64::MAX, 20_000, 20_128, 8_192, true),
            (28_384, 20_000, 20_128, 8_192, true),
            (28_383, 20_000, 20_128, 7_079, false),
            (1_024, 20_000, 720, 240, false),
            (1_024, 300, 428, 240, false),
            (64, 20_000, 1, 1, false),
            (0, 0, 1, 1, false),
        ] {
            let (room, few) = Room::of(open_files, max_streams);
            let case = format!("{open_files} files, {max_streams} streams: {room:?}");
            assert_eq!((room.xds, room.http), (xds, http), "{case}");
            assert_eq!(few.is_none(), enough, "{case}");
        }
    }

    #[test]
    fn too_few_files_are_said_with_what_to_do() {
        let (_, few) = Room::of(1_024, 20_000);
        let text = few.unwrap().to_string();
        for part in [
            "1024 files",
            "720 connections",
            "--max-streams is 20000",
            "to 28384 or more",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
