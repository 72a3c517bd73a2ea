//! How much one client may ask for, so that no client can cost more than its share.

use std::time::Duration;

use super::ResourceType;

/// Bounds on streams and requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams in all.
    pub streams: usize,
    /// Streams of one node.
    pub streams_per_node: usize,
    /// Names that one stream may subscribe to, of one type.
    pub names: usize,
    /// Bytes of all names that one stream subscribes to; twice as many of those that it says it has from an earlier one.
    pub all_names_bytes: usize,
    /// Bytes of one name, and of each text in which a node says who it is.
    pub name_bytes: usize,
    /// Bytes of one request.
    pub request_bytes: usize,
    /// How long a stream may take to say anything: until then it has a place and no node that could be blamed for it.
    pub first_request: Duration,
    /// How long a client that comes back on an aggregated stream has to say of all types what it has, before it is told
    /// what it missed of any. Envoy (1.40) sends its first request apart, and all others a moment later.
    pub settle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 20_000,
            // An Envoy has one. A gRPC library has one for each service that it calls, and all programs of a machine may
            // be one node.
            streams_per_node: 1_000,
            names: 20_000,
            all_names_bytes: 4 * 1024 * 1024,
            name_bytes: 1_024,
            request_bytes: 4 * 1024 * 1024,
            first_request: Duration::from_secs(60),
            settle: Duration::from_millis(50),
        }
    }
}

/// Bytes that are kept of what a client says when it rejects something.
const WORDS: usize = 4 * 1024;

impl Limits {
    /// As much of a client's words as is kept, on one line and with nothing in them that a terminal or a log would obey.
    pub(super) fn shorten(&self, words: &str) -> String {
        let lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.collect();
        let mut words = lines.join("; ").replace(char::is_control, " ");
        if words.len() > WORDS {
            let end = (0..=WORDS).rev().find(|&end| words.is_char_boundary(end));
            words.truncate(end.unwrap_or_default());
            words.push('…');
        }
        words
    }

    pub(super) fn check_count(&self, kind: ResourceType, found: usize) -> Result<(), Refusal> {
        if found > self.names {
            let limit = self.names;
            return Err(Refusal::TooManyNames { kind, limit });
        }
        Ok(())
    }

    pub(super) fn check_name(&self, name: &str) -> Result<(), Refusal> {
        if name.len() > self.name_bytes {
            return Err(Refusal::NameTooLong {
                found: name.len(),
                limit: self.name_bytes,
            });
        }
        Ok(())
    }

    /// `what` the node says of itself, which is kept as long as the stream.
    pub(super) fn check_node(&self, what: &'static str, text: &str) -> Result<(), Refusal> {
        if text.len() > self.name_bytes {
            return Err(Refusal::NodeTooLong {
                what,
                found: text.len(),
                limit: self.name_bytes,
            });
        }
        Ok(())
    }
}

/// Why a stream is ended. The text is told to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Crosses [`Limits::names`].
    #[error(
        "a stream may subscribe to at most {limit} names of type {kind}; split the load over several nodes"
    )]
    TooManyNames {
        /// The type.
        kind: ResourceType,
        /// The bound.
        limit: usize,
    },
    /// Crosses [`Limits::all_names_bytes`].
    #[error(
        "the names that a stream subscribes to may take at most {limit} bytes, and those that it says it has twice as many; \
         split the load over several nodes"
    )]
    NamesTooLong {
        /// The bound.
        limit: usize,
    },
    /// Crosses [`Limits::name_bytes`].
    #[error("a resource name of {found} bytes is too long; at most {limit} are allowed")]
    NameTooLong {
        /// Its length.
        found: usize,
        /// The bound.
        limit: usize,
    },
    /// Crosses [`Limits::name_bytes`].
    #[error("the node's {what} has {found} bytes, which is too long; at most {limit} are allowed")]
    NodeTooLong {
        /// Of what it says of itself.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The bound.
        limit: usize,
    },
    /// An aggregated stream needs a type on every request.
    #[error("type_url is required on an aggregated stream")]
    MissingType,
    /// A stream of one type was asked for another.
    #[error("this service serves {expected} only, not {found:?}")]
    WrongType {
        /// What it serves.
        expected: &'static str,
        /// What was asked for.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client could forge lines of a log with them, or paint a terminal.
    #[test]
    fn words_are_one_line() {
        let limits = Limits::default();
        for (words, kept) in [
            ("a: bad\nb: bad\n", "a: bad; b: bad"),
            ("x\r\n\n  ERROR y", "x; ERROR y"),
            ("\x1b[31mred\t\u{9b}\0", " [31mred   "),
        ] {
            assert_eq!(limits.shorten(words), kept);
        }
    }

    #[test]
    fn words_are_cut_between_letters() {
        let limits = Limits::default();
        for (words, kept) in [
            (String::new(), ""),
            ("x".repeat(WORDS), &*"x".repeat(WORDS)),
            ("x".repeat(WORDS + 1), &*format!("{}…", "x".repeat(WORDS))),
            ("é".repeat(WORDS), &*format!("{}…", "é".repeat(WORDS / 2))),
            (
                format!("x{}", "é".repeat(WORDS)),
                &*format!("x{}…", "é".repeat(WORDS / 2 - 1)),
            ),
        ] {
            assert_eq!(limits.shorten(&words), kept);
        }
    }
}
