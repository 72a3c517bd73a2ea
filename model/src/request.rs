//! What a request says about where it wants to go: first the few header values that matter ([`Request`]), then what
//! they mean ([`Caller`]).
//!
//! Header values are bytes from strangers and stay bytes until a name was made of them. Nothing is copied to the heap.

use std::fmt::Display;

use crate::{
    access::Identity,
    config::{Config, Headers, Mode},
    limit::{
        OnError, lease,
        question::{ALLOW_HEADER, DENY_HEADER},
    },
    name::{ANY_REGION, Name, NameError, RegionName, ServiceName, VersionLabel},
    refusal::{Code, Refusal},
};

/// A host name that ends so is one of the mesh.
const MESH_SUFFIX: &[u8] = b".mesh";

/// A header of which there should be one at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    /// It is not there.
    #[default]
    Absent,
    /// It is there, with this value.
    Once(&'a [u8]),
    /// It is there more than once: which value counts is anybody's guess.
    Repeated,
}

impl<'a> Field<'a> {
    /// Looks for one header.
    pub(crate) fn find(
        headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        name: &str,
    ) -> Self {
        let mut field = Self::Absent;
        for (other, value) in headers {
            if other == name.as_bytes() {
                field.put(value);
            }
        }
        field
    }

    fn put(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

/// The header values that decide, and what a caller put where only the filter writes.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    service: Field<'a>,
    region: Field<'a>,
    version: Field<'a>,
    hops: Field<'a>,
    debug: Field<'a>,
    content_type: &'a [u8],
    path: &'a [u8],
    authority: &'a [u8],
    destination: Field<'a>,
    caller: Field<'a>,
    receipt: Field<'a>,
    limit_allow: Field<'a>,
    limit_deny: Field<'a>,
    lease_allow: Field<'a>,
    lease_deny: Field<'a>,
}

impl<'a> Request<'a> {
    /// Goes through all headers once. Names are lower case, as HTTP/2 and Envoy have them; `:path` and `:authority`
    /// stand for the request line and `Host`.
    pub fn collect(
        names: &Headers,
        headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let mut request = Self::default();
        for (name, value) in headers {
            match name {
                b":path" => request.path = value,
                b":authority" => request.authority = value,
                b"content-type" => request.content_type = value,
                name if name == names.service.as_bytes() => request.service.put(value),
                name if name == names.region.as_bytes() => request.region.put(value),
                name if name == names.version.as_bytes() => request.version.put(value),
                name if name == names.debug.as_bytes() => request.debug.put(value),
                name if name == names.hops.as_bytes() => request.hops.put(value),
                name if name == names.destination.as_bytes() => request.destination.put(value),
                name if name == names.caller.as_bytes() => request.caller.put(value),
                name if name == names.receipt.as_bytes() => request.receipt.put(value),
                name if name == ALLOW_HEADER.as_bytes() => request.limit_allow.put(value),
                name if name == DENY_HEADER.as_bytes() => request.limit_deny.put(value),
                name if name == lease::ALLOW_HEADER.as_bytes() => request.lease_allow.put(value),
                name if name == lease::DENY_HEADER.as_bytes() => request.lease_deny.put(value),
                _ => {}
            }
        }
        request
    }

    /// Whether a refusal has to be given in the gRPC form. Same rule as Envoy's own: gRPC-Web is not gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.content_type
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
    }

    /// What the request has in place of the destination.
    #[must_use]
    pub fn destination(&self) -> Field<'a> {
        self.destination
    }

    /// What the request has in place of the caller.
    #[must_use]
    pub fn caller(&self) -> Field<'a> {
        self.caller
    }

    /// What the request has in place of the hops.
    #[must_use]
    pub fn hops(&self) -> Field<'a> {
        self.hops
    }

    /// What the request has in place of a receipt; it belongs on responses alone.
    #[must_use]
    pub fn receipt(&self) -> Field<'a> {
        self.receipt
    }

    /// What the request has in place of a question about limits.
    #[must_use]
    pub fn question(&self, on_error: OnError) -> Field<'a> {
        match on_error {
            OnError::Allow => self.limit_allow,
            OnError::Deny => self.limit_deny,
        }
    }

    /// What the request has in place of the name of a leased budget.
    #[must_use]
    pub fn lease(&self, on_error: OnError) -> Field<'a> {
        match on_error {
            OnError::Allow => self.lease_allow,
            OnError::Deny => self.lease_deny,
        }
    }

    /// Whether the request asks for a receipt.
    #[must_use]
    pub fn asks_for_receipt(&self) -> bool {
        self.debug == Field::Once(b"1")
    }

    /// Whether the request passed a gateway before it came to this one. Anything but nothing or zero counts, for a loop
    /// must not hide behind a malformed number.
    ///
    /// Envoy up to 1.37 lets the filters see a request again, as they left it, once it has found the cluster
    /// on demand. Then the caller is already the peer's identity. After another gateway the peer is that gateway, and no caller is it.
    fn passed_gateway(&self, peer: Option<&Identity<'_>>) -> bool {
        match self.hops {
            Field::Absent | Field::Once(b"0") => false,
            Field::Once(b"1") => !peer.is_some_and(|peer| self.names_caller(peer)),
            Field::Once(_) | Field::Repeated => true,
        }
    }

    fn names_caller(&self, identity: &Identity<'_>) -> bool {
        let Field::Once(text) = self.caller else {
            return false;
        };
        text.strip_prefix(identity.region().as_bytes())
            .and_then(|rest| rest.strip_prefix(b"/"))
            == Some(identity.service().as_bytes())
    }

    /// The path without its query: for gRPC the method.
    fn method(&self) -> &'a [u8] {
        let end = self.path.iter().position(|&b| b == b'?');
        end.and_then(|end| self.path.get(..end))
            .unwrap_or(self.path)
    }

    /// The gRPC service in the path, where this is a call of the gRPC family.
    fn grpc_service(&self) -> Option<&'a [u8]> {
        if !self.content_type.starts_with(b"application/grpc") {
            return None;
        }
        let path = self.path.strip_prefix(b"/").unwrap_or_default();
        let end = path.iter().position(|&b| b == b'/').unwrap_or(path.len());
        path.get(..end)
    }

    /// What comes before `.mesh` in the host, without the port.
    fn mesh_host(&self) -> Option<&'a [u8]> {
        let host = match self.authority.iter().rposition(|&b| b == b':') {
            Some(colon) => self.authority.get(..colon)?,
            None => self.authority,
        };
        let (head, suffix) = host.split_at_checked(host.len().checked_sub(MESH_SUFFIX.len())?)?;
        suffix.eq_ignore_ascii_case(MESH_SUFFIX).then_some(head)
    }
}

/// The region a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a name holds its folded text, see there"
)]
pub enum Wish<'a> {
    /// It does not say.
    Default,
    /// The nearest with healthy endpoints.
    Any,
    /// This one.
    Region(Name<'a>),
}

/// What the connection says about the peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer<'a> {
    /// The URI of its certificate: the first, if it has several.
    pub uri: Option<&'a [u8]>,
    /// The server name that it asked for. At a gateway that says which region's roots its certificate was checked with.
    pub server_name: Option<&'a [u8]>,
}

impl Peer<'_> {
    /// Whether the roots that its certificate was checked with may speak of this identity. A certificate can carry names
    /// of two regions: the region that issued it vouches for its own ones only, whatever order they come in.
    fn is_vouched(&self, identity: &Identity<'_>, trust_domain: &str) -> bool {
        let Some(name) = self.server_name else {
            return false;
        };
        // Host names are the same in either case.
        let region = identity.region().as_bytes();
        name.split_at_checked(region.len())
            .filter(|(head, _)| head.eq_ignore_ascii_case(region))
            .and_then(|(_, rest)| rest.strip_prefix(b"."))
            .is_some_and(|rest| rest.eq_ignore_ascii_case(trust_domain.as_bytes()))
    }
}

/// Who asks for what, in checked names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Destination service.
    pub service: Name<'a>,
    /// Destination region.
    pub region: Wish<'a>,
    /// Pinned version.
    pub version: Option<Name<'a>>,
    /// The path without its query: for gRPC the method.
    pub method: &'a [u8],
    /// At a gateway: who the peer certificate says it is, if it says so in our way.
    pub peer: Option<Identity<'a>>,
    /// At a gateway: whether the peer's own region says so.
    pub vouched: bool,
    /// Whether the request passed a gateway already.
    pub passed_gateway: bool,
}

impl<'a> Caller<'a> {
    /// Makes sense of a request. Only a gateway looks at the peer.
    ///
    /// The service is named by the header; else by the path of a gRPC call; else by a host `<service>.mesh` or
    /// `<service>.<region>.mesh`. Service names may have dots, so of a host's labels the last one is a region if, and
    /// only if, the config knows a region of that name (or it is `any`).
    ///
    /// # Errors
    /// The refusal, if a name is missing or malformed.
    pub fn parse(config: &Config, request: &Request<'a>, peer: Peer<'a>) -> Result<Self, Refusal> {
        let names = config.headers();
        let (service, host_region) = find_service(config, request)?;
        let region = match request.region {
            Field::Absent => host_region,
            Field::Once(text) if text.eq_ignore_ascii_case(ANY_REGION.as_bytes()) => Wish::Any,
            Field::Once(text) => Wish::Region(
                RegionName::check(text).map_err(|e| bad(Code::BadRegion, &names.region, &e))?,
            ),
            Field::Repeated => return Err(repeated(Code::BadRegion, &names.region)),
        };
        let version = match request.version {
            Field::Absent => None,
            Field::Once(text) => Some(
                VersionLabel::check(text).map_err(|e| bad(Code::BadVersion, &names.version, &e))?,
            ),
            Field::Repeated => return Err(repeated(Code::BadVersion, &names.version)),
        };
        let trust_domain = config.trust_domain();
        let identity = match config.mode() {
            Mode::Outbound => None,
            Mode::Gateway => peer
                .uri
                .and_then(|uri| Identity::from_spiffe(uri, trust_domain)),
        };
        let vouched = identity
            .as_ref()
            .is_some_and(|identity| peer.is_vouched(identity, trust_domain));
        let passed_gateway = request.passed_gateway(identity.as_ref());
        Ok(Self {
            service,
            region,
            version,
            method: request.method(),
            peer: identity,
            vouched,
            passed_gateway,
        })
    }
}

/// The service, and the region if the place that names the service names one too.
fn find_service<'a>(
    config: &Config,
    request: &Request<'a>,
) -> Result<(Name<'a>, Wish<'a>), Refusal> {
    let header = &config.headers().service;
    match request.service {
        Field::Once(text) => {
            let name = ServiceName::check(text).map_err(|e| bad(Code::BadService, header, &e))?;
            return Ok((name, Wish::Default));
        }
        Field::Repeated => return Err(repeated(Code::BadService, header)),
        Field::Absent => {}
    }
    if let Some(text) = request.grpc_service() {
        let name = ServiceName::check(text)
            .map_err(|e| bad(Code::BadService, "the gRPC service in the path", &e))?;
        return Ok((name, Wish::Default));
    }
    if let Some(text) = request.mesh_host() {
        let (service, region) = split_region(config, text);
        let name = ServiceName::check(service)
            .map_err(|e| bad(Code::BadService, "the service in the host", &e))?;
        return Ok((name, region));
    }
    Err(Refusal::new(
        Code::MissingService,
        format!("the request names no service: set {header}, or use a host <service>.mesh"),
    ))
}

/// Takes a host's last label off if it is a region's name.
fn split_region<'a>(config: &Config, host: &'a [u8]) -> (&'a [u8], Wish<'a>) {
    let whole = (host, Wish::Default);
    let Some(dot) = host.iter().rposition(|&b| b == b'.') else {
        return whole;
    };
    let (Some(service), Some(label)) = (host.get(..dot), host.get(dot + 1..)) else {
        return whole;
    };
    if label.eq_ignore_ascii_case(ANY_REGION.as_bytes()) {
        return (service, Wish::Any);
    }
    match RegionName::check(label) {
        Ok(region) if config.knows_region(&region) => (service, Wish::Region(region)),
        _ => whole,
    }
}

#[cold]
fn bad(code: Code, what: impl Display, error: &NameError) -> Refusal {
    Refusal::new(code, format!("{what} {error}"))
}

#[cold]
fn repeated(code: Code, header: &str) -> Refusal {
    Refusal::new(
        code,
        format!("{header} is given more than once: send one value"),
    )
}

#[cfg(test)]
pub(crate) mod tests;
