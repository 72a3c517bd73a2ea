//! As much of xDS as a client needs that only counts: requests made, responses looked at while their bytes come in.
//!
//! A response is never put together: of a hundred kilobytes of resources only their number matters, and looking at more
//! would measure the client.

use bytes::{BufMut, Bytes, BytesMut};
use prost_types::Struct;

/// The protocol variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Incremental.
    Delta,
    /// State of the world.
    Sotw,
}

/// Type URL of clusters.
pub(crate) const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Type URL of endpoints.
pub(crate) const ENDPOINTS: &str =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// `envoy.config.core.v3.Node`, as much as is said.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Node {
    /// Its id.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// What EMS wants to know.
    #[prost(message, optional, tag = "3")]
    pub(crate) metadata: Option<Struct>,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct DeltaRequest {
    #[prost(message, optional, tag = "1")]
    node: Option<Node>,
    #[prost(string, tag = "2")]
    type_url: String,
    #[prost(string, repeated, tag = "3")]
    subscribe: Vec<String>,
    #[prost(string, tag = "6")]
    nonce: String,
}

/// `envoy.service.discovery.v3.DiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct SotwRequest {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, optional, tag = "2")]
    node: Option<Node>,
    #[prost(string, repeated, tag = "3")]
    names: Vec<String>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// The names of a type that a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// The type.
    pub(crate) type_url: &'static str,
    /// The names.
    pub(crate) names: Vec<String>,
}

impl Subscription {
    /// The request that subscribes, framed for gRPC.
    pub(crate) fn request(&self, mode: Mode, node: Option<Node>) -> Bytes {
        let type_url = self.type_url.to_owned();
        match mode {
            Mode::Delta => framed(&DeltaRequest {
                node,
                type_url,
                subscribe: self.names.clone(),
                nonce: String::new(),
            }),
            Mode::Sotw => framed(&SotwRequest {
                node,
                type_url,
                names: self.names.clone(),
                ..SotwRequest::default()
            }),
        }
    }

    /// The request that takes a response.
    pub(crate) fn ack(&self, mode: Mode, response: &Response) -> Bytes {
        let type_url = self.type_url.to_owned();
        let nonce = response.nonce.clone();
        match mode {
            Mode::Delta => framed(&DeltaRequest {
                type_url,
                nonce,
                ..DeltaRequest::default()
            }),
            Mode::Sotw => framed(&SotwRequest {
                version: response.version.clone(),
                node: None,
                names: self.names.clone(),
                type_url,
                nonce,
            }),
        }
    }
}

/// A message with gRPC's prefix.
pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let len = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + len);
    bytes.put_u8(0);
    // Requests are far below 4 GiB.
    bytes.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    // The buffer grows: this cannot fail.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// What was seen of a response of either variant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// Its type.
    pub(crate) type_url: String,
    /// Its nonce.
    pub(crate) nonce: String,
    /// Its version.
    pub(crate) version: String,
    /// How many resources it has.
    pub(crate) resources: u64,
}

/// These bytes are no gRPC message with a discovery response in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Looks at the bytes of one stream as they come.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    at: At,
    /// Bytes left of the message.
    left: usize,
    response: Response,
}

#[derive(Debug)]
enum At {
    /// In gRPC's prefix, at this byte of it.
    Prefix(usize),
    /// In a field's key; what was read of the number and its bits.
    Key(u64, u32),
    /// In the length of this field.
    Length(u64, u64, u32),
    /// In a field that is of no interest, with so many bytes to come.
    Skip(usize),
    /// In a text.
    Text(u64, usize, Vec<u8>),
}

impl Default for At {
    fn default() -> Self {
        Self::Prefix(0)
    }
}

impl Scanner {
    /// Looks at more bytes; every response that ends in them is given to `each`.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Response),
    ) -> Result<(), Malformed> {
        while let Some((&byte, rest)) = bytes.split_first() {
            let at = std::mem::take(&mut self.at);
            let used = match at {
                At::Prefix(_) => 1,
                At::Key(..) | At::Length(..) => self.take(1)?,
                At::Skip(more) | At::Text(_, more, _) => self.take(more.min(bytes.len()))?,
            };
            self.at = match at {
                At::Prefix(0) if byte == 0 => At::Prefix(1),
                // Compressed: we did not ask for that.
                At::Prefix(0) => return Err(Malformed),
                At::Prefix(index) => {
                    self.left = self.left << 8 | usize::from(byte);
                    if index < 4 {
                        At::Prefix(index + 1)
                    } else {
                        At::Key(0, 0)
                    }
                }
                At::Key(number, bits) => match varint(number, bits, byte)? {
                    Varint::More(number, bits) => At::Key(number, bits),
                    // Every field of these messages has a length.
                    Varint::Done(key) if key & 7 == 2 => At::Length(key >> 3, 0, 0),
                    Varint::Done(_) => return Err(Malformed),
                },
                At::Length(field, number, bits) => match varint(number, bits, byte)? {
                    Varint::More(number, bits) => At::Length(field, number, bits),
                    Varint::Done(len) => self.enter(field, len)?,
                },
                At::Skip(more) if more > used => At::Skip(more - used),
                At::Skip(_) => At::Key(0, 0),
                At::Text(field, more, mut text) => {
                    text.extend_from_slice(bytes.get(..used).unwrap_or_default());
                    if more > used {
                        At::Text(field, more - used, text)
                    } else {
                        self.keep(field, &text);
                        At::Key(0, 0)
                    }
                }
            };
            bytes = if used == 1 {
                rest
            } else {
                bytes.get(used..).unwrap_or_default()
            };
            if self.left == 0 {
                match self.at {
                    At::Prefix(_) => {}
                    At::Key(0, 0) => {
                        self.at = At::Prefix(0);
                        each(std::mem::take(&mut self.response));
                    }
                    _ => return Err(Malformed),
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<usize, Malformed> {
        self.left = self.left.checked_sub(count).ok_or(Malformed)?;
        Ok(count)
    }

    fn enter(&mut self, field: u64, len: u64) -> Result<At, Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        if len > self.left {
            return Err(Malformed);
        }
        if field == 2 {
            self.response.resources += 1;
        }
        Ok(match (field, len) {
            (_, 0) => At::Key(0, 0),
            (1 | 4 | 5, _) => At::Text(field, len, Vec::with_capacity(len)),
            _ => At::Skip(len),
        })
    }

    fn keep(&mut self, field: u64, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        match field {
            1 => self.response.version = text,
            4 => self.response.type_url = text,
            _ => self.response.nonce = text,
        }
    }
}

enum Varint {
    More(u64, u32),
    Done(u64),
}

fn varint(number: u64, bits: u32, byte: u8) -> Result<Varint, Malformed> {
    if bits > 56 {
        return Err(Malformed);
    }
    let number = number | u64::from(byte & 0x7f) << bits;
    Ok(if byte & 0x80 == 0 {
        Varint::Done(number)
    } else {
        Varint::More(number, bits + 7)
    })
}

#[cfg(test)]
mod tests;
