//! What Envoy calls, and what is called in Envoy: one VM is one thread, so this state needs no locks.
//!
//! Fails closed: where the host does not do what it should, the request is refused as `internal`.

use std::cell::RefCell;

use isthmus_model::{
    Caller, Code, Config, Decision, Exceeded, Field, Kind, Mode, Peer, RawHeaders, Refusal,
    Request, Route, decide,
    limit::{POLICY_HEADER, Scope, lease, named_by_policy},
    spend, write_limited, write_place, write_receipt,
};

use crate::{
    abi::{self, Action, HostError, HostResult, Level, Map},
    budgets::{Seeded, SharedData},
    counters::EnvoyCounters,
    counts::{self, Counts, limits::LimitCounts},
    edits::{Edit, Texts, edits},
    load::load,
    owner::{self, Mark},
    pairs::Pairs,
    receipts::{Change, Limited, Receipt, Receipts},
    reply::Reply,
    roots::Roots,
};

/// How often counts are handed to Envoy.
const FLUSH_MILLISECONDS: u32 = 250;

/// Makes Envoy look for the route anew.
const FORGET_ROUTE: &str = "clear_route_cache";

/// The first URI of the peer's certificate.
const PEER_URI: &str = "connection\0uri_san_peer_certificate";

/// The server name that the peer asked for, which chose the roots that its certificate was checked with.
const SERVER_NAME: &str = "connection\0requested_server_name";

/// Why Envoy answered by itself, in its own words, and the two that its rate limit filter has: EMS refused the request, or
/// could not be asked.
const DETAILS: &str = "response\0code_details";
const OVER_LIMIT: &[u8] = b"request_rate_limited";
const NOT_ASKED: &[u8] = b"rate_limiter_error";
/// Those of its quota filter, which has a lease and has used it up, or has none. Envoy 1.36 has no words for it.
const OVER_LEASE: &[u8] = b"rate_limited_by_quota";
const OVER_LEASE_BEFORE: &[u8] = b"";

thread_local! {
    static VM: RefCell<Vm> = RefCell::default();
}

#[derive(Default)]
struct Vm {
    configs: Roots<Config>,
    mark: Option<Mark>,
    receipts: Receipts,
    counts: Counts,
    counters: Vec<u32>,
    limit_counts: LimitCounts,
    texts: Texts,
    /// There as soon as a config has limits whose budgets are kept here.
    seed: Option<Seeded>,
}

/// A plugin's configuration has come. `false` makes Envoy keep what it has.
pub(crate) fn on_configure(root: u32, size: usize) -> bool {
    let result = abi::plugin_configuration(size)
        .map_err(|HostError(status)| {
            vec![format!(
                "the plugin configuration cannot be read: status {status}"
            )]
        })
        .and_then(|bytes| load(&bytes));
    match result {
        Ok(config) => {
            abi::log(
                Level::Info,
                &format!(
                    "isthmus: config {:?} of region {} is in force",
                    config.version(),
                    config.region()
                ),
            );
            VM.with_borrow_mut(|vm| vm.configure(root, config))
                .inspect_err(|HostError(status)| {
                    let text =
                        format!("isthmus: this Envoy lacks what the filter needs: status {status}");
                    abi::log(Level::Error, &text);
                })
                .is_ok()
        }
        Err(problems) => {
            for problem in problems {
                abi::log(Level::Error, &format!("isthmus: bad config: {problem}"));
            }
            false
        }
    }
}

/// Time to hand over counts, and to see whether an earlier config's streams have ended.
pub(crate) fn on_tick(root: u32) {
    VM.with_borrow_mut(|vm| {
        vm.flush();
        // If this fails there are several configs as before.
        let _ = vm.forget_ended(root);
    });
}

/// The headers of a request have come.
pub(crate) fn on_request_headers(stream: u32) -> Action {
    VM.with_borrow_mut(|vm| vm.request(stream))
}

/// The headers of a response are about to leave.
pub(crate) fn on_response_headers(stream: u32) -> Action {
    VM.with_borrow_mut(|vm| vm.response(stream));
    Action::Continue
}

impl Vm {
    fn configure(&mut self, root: u32, config: Config) -> HostResult<()> {
        if self.counters.is_empty() {
            self.counters = counts::names()
                .map(|name| abi::define_counter(&name))
                .collect::<HostResult<_>>()?;
        }
        if config.has_limits(Scope::Local) && self.seed.is_none() {
            self.seed = Some(Seeded::find()?);
        }
        abi::set_tick_period(FLUSH_MILLISECONDS)?;
        if !self.configs.has(root) {
            self.mark = Some(owner::mark(root, self.mark)?);
        }
        self.configs.put(root, config);
        self.forget_ended(root)
    }

    /// Being told when a context ends would be one more callback for every stream; asking now and then costs nothing. A
    /// root lives as long as its streams.
    fn forget_ended(&mut self, current: u32) -> HostResult<()> {
        if !self.configs.are_several() {
            return Ok(());
        }
        self.configs
            .retain(|other| other == current || abi::set_effective_context(other).is_ok());
        abi::set_effective_context(current)
    }

    fn flush(&mut self) {
        let decisions = self
            .counts
            .drain()
            .filter_map(|(at, by)| Some((*self.counters.get(at)?, by)));
        for (counter, by) in decisions.chain(self.limit_counts.drain()) {
            // A count that Envoy does not take is lost; requests are not.
            let _ = abi::increment_counter(counter, by);
        }
    }

    fn request(&mut self, stream: u32) -> Action {
        let mark = self.mark;
        let Some(config) = self.configs.of_stream(|| owner::root(mark?)) else {
            // So it is not known what the headers are called either.
            let names = RawHeaders::default();
            return refuse_internal(&names, "the filter has no config", &mut self.counts);
        };
        let names = config.headers();
        let bytes = abi::request_headers().unwrap_or_default();
        let mut pairs = Pairs::new(&bytes);
        let request = Request::collect(names, &mut pairs);
        // Every request has headers, so none means that the host did not give them.
        if bytes.is_empty() || pairs.is_broken() {
            return refuse_internal(names, "the headers could not be read", &mut self.counts);
        }
        let (uri, server_name) = match config.mode() {
            Mode::Outbound => (None, None),
            Mode::Gateway => (
                abi::property(PEER_URI).ok(),
                abi::property(SERVER_NAME).ok(),
            ),
        };
        let peer = Peer {
            uri: uri.as_deref(),
            server_name: server_name.as_deref(),
        };
        let caller = Caller::parse(config, &request, peer);
        let mut decision = match &caller {
            Ok(caller) => decide(config, caller),
            Err(refusal) => Decision::Reject(refusal.clone()),
        };
        let mut exceeded = None;
        if let Decision::Route(route) = &decision
            && !route.limits.is_empty()
            && let Err(limit) = charge(route, &bytes, self.seed.as_ref(), &mut self.limit_counts)
        {
            decision = Decision::Reject(limit.refusal());
            exceeded = Some(limit);
        }
        match &decision {
            Decision::Route(route) => {
                let asks = self.texts.ask(route, request.is_grpc(), Pairs::new(&bytes));
                let spoofed = request.destination() != Field::Absent;
                let sent = send_on(edits(names, &request, route, &mut self.texts), spoofed);
                if sent.is_err() {
                    return refuse_internal(
                        names,
                        "the headers could not be set",
                        &mut self.counts,
                    );
                }
                // Not before: what could not be sent on is refused, and counted as that.
                self.counts.add(&decision);
                if request.asks_for_receipt() {
                    let receipt = receipt(config, route, &decision, asks);
                    self.receipts.put(stream, receipt);
                }
                Action::Continue
            }
            Decision::Reject(refusal) => {
                self.counts.add(&decision);
                let receipt = (request.asks_for_receipt() && config.debug())
                    .then(|| receipt_text(config, &decision, exceeded.as_ref()));
                refuse(&Reply::new(
                    names,
                    refusal,
                    request.is_grpc(),
                    receipt.as_deref(),
                    exceeded.as_ref(),
                ))
            }
        }
    }

    fn response(&mut self, stream: u32) {
        let Some(receipt) = self.receipts.take(stream) else {
            return;
        };
        let Receipt {
            header,
            mut change,
            limited,
        } = receipt;
        if let Some(limited) = limited
            && let Some(text) = limited_text(&limited)
        {
            change = Change::Replace(text);
        }
        // A response without its receipt is still a good response.
        let _ = match change {
            Change::Replace(text) => abi::replace_header(Map::Response, &header, &text),
            Change::Add(text) => abi::add_header(Map::Response, &header, &text),
            Change::Strip => abi::remove_header(Map::Response, &header),
        };
    }
}

/// Changing a header makes Envoy forget the route that it had found before (see `abi`). Not trusted with that where the
/// request came with a destination already: the route was found by what a stranger wrote, and must not stay.
fn send_on<'a>(edits: impl Iterator<Item = Edit<'a>>, spoofed: bool) -> HostResult<()> {
    for edit in edits {
        match edit {
            Edit::Set(name, value) => abi::replace_header(Map::Request, name, value)?,
            Edit::Remove(name) => abi::remove_header(Map::Request, name)?,
        }
    }
    if spoofed {
        abi::call_foreign_function(FORGET_ROUTE, &[])?;
    }
    Ok(())
}

/// Charges the limits that a request meets. `bytes` are its headers, which are gone through again only here.
fn charge<'a>(
    route: &Route<'a>,
    bytes: &[u8],
    seed: Option<&Seeded>,
    counts: &mut LimitCounts,
) -> Result<(), Exceeded<'a>> {
    // A config with limits is not in force without a seed.
    let Some(seed) = seed else {
        return Ok(());
    };
    spend(
        route,
        Pairs::new(bytes),
        seed.hasher(),
        &mut SharedData,
        |limit, outcome| counts.add(route.service, limit, outcome, &mut EnvoyCounters),
    )
}

/// What to do to a response's receipt. `asks`: Envoy will ask EMS about limits, and may refuse the request.
fn receipt(config: &Config, route: &Route<'_>, decision: &Decision<'_>, asks: bool) -> Receipt {
    let change = if !config.debug() {
        Change::Strip
    } else if route.kind == Kind::Local {
        // What comes from this region passed no gateway, so a receipt in it is not one of ours.
        Change::Replace(receipt_text(config, decision, None))
    } else {
        Change::Add(receipt_text(config, decision, None))
    };
    Receipt {
        header: config.headers().receipt.clone(),
        change,
        limited: (asks && config.debug()).then(|| {
            let mut place = String::new();
            // Writing to a string does not fail.
            let _ = write_place(&mut place, config);
            let limits = route.limits.to_string();
            let leased = lease::met(route).map(ToString::to_string);
            Limited {
                place,
                limits,
                leased,
            }
        }),
    }
}

/// The receipt, if the response is the refusal of Envoy's own rate limit filter: what that is, no service can say.
fn limited_text(limited: &Limited) -> Option<String> {
    let details = abi::property(DETAILS).ok()?;
    let policy;
    let limit = match details.as_slice() {
        OVER_LIMIT => {
            policy = abi::header(Map::Response, POLICY_HEADER).ok();
            policy.as_deref().and_then(named_by_policy)
        }
        OVER_LEASE | OVER_LEASE_BEFORE => Some(limited.leased.as_deref()?),
        NOT_ASKED => None,
        _ => return None,
    };
    let mut text = limited.place.clone();
    // Writing to a string does not fail.
    let _ = write_limited(&mut text, limit, &limited.limits);
    Some(text)
}

fn receipt_text(
    config: &Config,
    decision: &Decision<'_>,
    exceeded: Option<&Exceeded<'_>>,
) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_receipt(&mut text, config, decision, exceeded);
    text
}

fn refuse(reply: &Reply) -> Action {
    // If this fails the request hangs until its time-out: nothing can be said to the caller, but nothing is let through.
    let _ = abi::send_local_response(
        reply.status,
        &reply.details,
        &reply.body,
        &reply.headers,
        reply.grpc_status,
    );
    Action::Stop
}

/// For what should not happen. Whether the caller speaks gRPC may not be known; Envoy finds that out by itself.
fn refuse_internal(names: &RawHeaders, message: &'static str, counts: &mut Counts) -> Action {
    let refusal = Refusal::new(Code::Internal, message);
    let reply = Reply::new(names, &refusal, false, None, None);
    counts.add(&Decision::Reject(refusal));
    refuse(&reply)
}
