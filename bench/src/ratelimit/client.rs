//! As much of HTTP/2 as a client needs that asks the same things over and over.
//!
//! It shares the processors with the server that it measures, so it does next to nothing: a request is some twenty bytes
//! of headers that the server knows from the first one, and a message that was made beforehand; of an answer the frame's
//! head and the code are looked at. A client library would cost about as much as the server.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the server may send before it hears how much of it was taken.
const WINDOW: u32 = 1 << 30;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders<'a> {
    /// Whom it asks.
    pub(crate) server: SocketAddr,
    /// What it asks, framed for gRPC, one after the other and then again.
    pub(crate) messages: &'a [Bytes],
    /// So many at a time.
    pub(crate) in_flight: usize,
    /// From then on answers are counted.
    pub(crate) begin: Instant,
    /// Until then.
    pub(crate) end: Instant,
}

/// What it got.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How long each answer took, in nanoseconds.
    pub(crate) took: Vec<u32>,
    /// Answers that let pass.
    pub(crate) passed: u64,
    /// Answers that refused.
    pub(crate) refused: u64,
}

impl Tally {
    /// Adds those of another client.
    pub(crate) fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.passed += other.passed;
        self.refused += other.refused;
    }

    /// All answers.
    pub(crate) fn answers(&self) -> u64 {
        self.passed + self.refused
    }
}

/// Asks on a connection of its own until the end.
pub(crate) fn ask(orders: Orders<'_>) -> Result<Tally> {
    let stream = TcpStream::connect(orders.server)
        .with_context(|| format!("cannot connect to {}", orders.server))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut client = Client {
        stream,
        wire: Wire::new(&orders.server.to_string()),
        tally: Tally::default(),
    };
    client.run(orders)?;
    Ok(client.tally)
}

struct Client {
    stream: TcpStream,
    wire: Wire,
    tally: Tally,
}

impl Client {
    fn run(&mut self, orders: Orders<'_>) -> Result<()> {
        let mut messages = orders.messages.iter().cycle();
        let mut chunk = vec![0; 64 * 1024];
        let mut answers = Vec::new();
        let mut now = Instant::now();
        while now < orders.end {
            while self.wire.asked.len() < orders.in_flight {
                let message = messages.next().context("there is nothing to ask")?;
                if !self.wire.ask(message, now) {
                    break;
                }
            }
            self.stream.write_all(&self.wire.out)?;
            self.wire.out.clear();
            let count = self.stream.read(&mut chunk).context("no answer came")?;
            ensure!(count > 0, "the server ended the connection");
            self.wire
                .feed(chunk.get(..count).unwrap_or_default(), &mut answers)?;
            now = Instant::now();
            for Asked { code, at, .. } in answers.drain(..) {
                if now < orders.begin {
                    continue;
                }
                match code {
                    Some(1) => self.tally.passed += 1,
                    Some(2) => self.tally.refused += 1,
                    other => bail!("the server failed to answer: {other:?}"),
                }
                let took = now.duration_since(at).as_nanos();
                self.tally
                    .took
                    .push(u32::try_from(took).unwrap_or(u32::MAX));
            }
        }
        Ok(())
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    id: u32,
    at: Instant,
    /// The `overall_code` of its answer.
    code: Option<u8>,
}

/// A connection's bytes, without the connection.
#[derive(Debug)]
struct Wire {
    /// To be sent.
    out: Vec<u8>,
    /// What came of a frame that is not complete.
    rest: Vec<u8>,
    asked: Vec<Asked>,
    /// The next stream.
    next: u32,
    authority: String,
    /// Bytes of messages that the server takes.
    window: u32,
    /// Bytes of messages that came since the server was told.
    taken: u32,
}

impl Wire {
    fn new(authority: &str) -> Self {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut out, SETTINGS, 0, 0, &[]);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        Self {
            out,
            rest: Vec::new(),
            asked: Vec::new(),
            next: 1,
            authority: authority.to_owned(),
            window: 65_535,
            taken: 0,
        }
    }

    /// Asks; `false`: the server does not take it yet.
    fn ask(&mut self, message: &[u8], now: Instant) -> bool {
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let Some(window) = self.window.checked_sub(len) else {
            return false;
        };
        self.window = window;
        let id = self.next;
        self.next += 2;
        if id == 1 {
            let first = first_headers(&self.authority);
            frame(&mut self.out, HEADERS, END_HEADERS, id, &first);
        } else {
            frame(&mut self.out, HEADERS, END_HEADERS, id, &LATER_HEADERS);
        }
        frame(&mut self.out, DATA, END_STREAM, id, message);
        let code = None;
        self.asked.push(Asked { id, at: now, code });
        true
    }

    /// Looks at what came; what is answered goes to `answers`.
    fn feed(&mut self, bytes: &[u8], answers: &mut Vec<Asked>) -> Result<()> {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut left = all.as_slice();
        while let Some((head, rest)) = left.split_first_chunk::<9>() {
            let [a, b, c, kind, flags, id @ ..] = *head;
            let len = usize::try_from(u32::from_be_bytes([0, a, b, c]))?;
            let Some((payload, rest)) = rest.split_at_checked(len) else {
                break;
            };
            left = rest;
            self.take(kind, flags, u32::from_be_bytes(id), payload, answers)?;
        }
        self.rest = left.to_vec();
        Ok(())
    }

    fn take(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        answers: &mut Vec<Asked>,
    ) -> Result<()> {
        match kind {
            DATA => {
                self.taken += u32::try_from(payload.len())?;
                if self.taken > WINDOW / 2 {
                    let taken = std::mem::take(&mut self.taken).to_be_bytes();
                    frame(&mut self.out, WINDOW_UPDATE, 0, 0, &taken);
                }
                // Behind gRPC's prefix the answer begins with its code, which is field 1.
                if let (Some([8, code]), Some(asked)) = (payload.get(5..7), self.find(id)) {
                    asked.code = Some(*code);
                }
            }
            HEADERS if flags & END_HEADERS == 0 => bail!("the server has too much to say"),
            HEADERS if flags & END_STREAM != 0 => {
                let at = self.asked.iter().position(|asked| asked.id == id);
                let at = at.context("the server answers what nobody asked")?;
                answers.push(self.asked.swap_remove(at));
            }
            HEADERS => {}
            SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            SETTINGS | PING => {}
            WINDOW_UPDATE if id == 0 => {
                let more = payload.first_chunk().context("a frame is too short")?;
                self.window = self.window.saturating_add(u32::from_be_bytes(*more));
            }
            WINDOW_UPDATE => {}
            other => bail!("the server ends stream {id} or the connection (frame {other})"),
        }
        Ok(())
    }

    fn find(&mut self, id: u32) -> Option<&mut Asked> {
        self.asked.iter_mut().find(|asked| asked.id == id)
    }
}

/// The headers of the first request, which the server is to remember: `:method: POST`, `:scheme: http`, `:path`,
/// `:authority`, `content-type`, `te`.
fn first_headers(authority: &str) -> Vec<u8> {
    const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    let mut block = vec![0x83, 0x86];
    let mut text = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        // All are shorter than 127 bytes.
        block.push(u8::try_from(value.len()).unwrap_or(0));
        block.extend_from_slice(value.as_bytes());
    };
    text(&[0x44], PATH);
    text(&[0x41], authority);
    text(&[0x5f], "application/grpc");
    text(b"\x40\x02te", "trailers");
    block
}

/// Those of all others: where the server has them, the latest first.
const LATER_HEADERS: [u8; 6] = [0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // All are far below 16 MiB.
    let [_, len @ ..] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&len);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(frames: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, flags, id, payload) in frames {
            frame(&mut bytes, *kind, *flags, *id, payload);
        }
        bytes
    }

    #[test]
    fn answers_are_read_however_they_are_cut() {
        let bytes = frames(&[
            (SETTINGS, 0, 0, &[]),
            (HEADERS, END_HEADERS, 3, b"\x88"),
            (DATA, 0, 3, b"\0\0\0\0\x02\x08\x02"),
            (DATA, 0, 1, b"\0\0\0\0\x02\x08\x01"),
            (WINDOW_UPDATE, 0, 0, &[0, 0, 0, 7]),
            (HEADERS, END_HEADERS | END_STREAM, 3, b"x"),
            (PING, 0, 0, b"12345678"),
            (HEADERS, END_HEADERS | END_STREAM, 1, b"x"),
        ]);
        for cut in 0..bytes.len() {
            let mut wire = Wire::new("a");
            let now = Instant::now();
            assert!(wire.ask(b"12345", now) && wire.ask(b"12345", now));
            wire.out.clear();
            let mut answers = Vec::new();
            let (first, second) = bytes.split_at(cut);
            wire.feed(first, &mut answers).unwrap();
            wire.feed(second, &mut answers).unwrap();
            let answers: Vec<_> = answers.iter().map(|asked| (asked.id, asked.code)).collect();
            assert_eq!(answers, [(3, Some(2)), (1, Some(1))], "{cut}");
            assert_eq!(wire.window, 65_535 - 10 + 7);
            let acks = frames(&[(SETTINGS, ACK, 0, &[]), (PING, ACK, 0, b"12345678")]);
            assert_eq!(wire.out, acks);
        }
    }

    #[test]
    fn no_answer_is_no_answer() {
        let check = |bytes: &[(u8, u8, u32, &[u8])]| {
            let mut wire = Wire::new("a");
            wire.ask(b"", Instant::now());
            let mut answers = Vec::new();
            let fed = wire.feed(&frames(bytes), &mut answers);
            fed.is_ok() && answers.iter().all(|asked| asked.code.is_some())
        };
        assert!(check(&[]));
        assert!(!check(&[(HEADERS, END_HEADERS | END_STREAM, 1, b"x")]));
        assert!(!check(&[(HEADERS, END_HEADERS | END_STREAM, 3, b"x")]));
        assert!(!check(&[(HEADERS, 0, 1, b"x")]));
        assert!(!check(&[(3, 0, 1, b"1234")]));
        assert!(!check(&[(7, 0, 0, b"12345678")]));
    }

    #[test]
    fn no_more_is_sent_than_the_server_takes() {
        let mut wire = Wire::new("a");
        let message = [0; 65_535];
        assert!(wire.ask(&message, Instant::now()));
        assert!(!wire.ask(b"1", Instant::now()));
        let more = frames(&[(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])]);
        wire.feed(&more, &mut Vec::new()).unwrap();
        assert!(wire.ask(b"1", Instant::now()));
    }
}
