//! The routing decision: one pure function, run by the Wasm filter and by `ems explain` alike.
//!
//! It takes no time: nothing that it decides depends on it. Which rate limits a request meets is part of the decision;
//! whether their budgets have something left, and at what time, is asked afterwards ([`spend`](crate::limit::spend)), and only where
//! there are any.

use std::fmt;

use crate::{
    access::{Granted, Identity, Rule},
    config::{Config, DefaultRegion, Mode},
    limit::Limits,
    name::{ANY_REGION, write_cluster_name},
    refusal::{Code, Refusal},
    request::{Caller, Wish},
};

/// Where a destination is, as seen from this Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In this region.
    Local,
    /// In another region, behind its gateways.
    Remote,
    /// Wherever healthy endpoints are, the nearest first.
    Any,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Local, Self::Remote, Self::Any];

    /// The kind as receipts and metrics show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Any => "any",
        }
    }
}

/// Where a request goes, and what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// The service.
    pub service: &'a str,
    /// The pinned version. For a remote destination it stays in the request for the gateway to judge.
    pub version: Option<&'a str>,
    /// The region, or `any`.
    pub region: &'a str,
    /// Where that is.
    pub kind: Kind,
    /// Who calls, if it is known.
    pub caller: Option<Identity<'a>>,
    /// Gateways passed, once this Envoy has sent the request on; 0 is not written.
    pub hops: u8,
    /// Why the caller may.
    pub granted: Granted<'a>,
    /// The rate limits that it meets here. For a remote destination none: its gateway knows them.
    pub limits: Limits<'a>,
}

impl Route<'_> {
    /// Writes the name of the destination's cluster.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_cluster(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write_cluster_name(out, self.service, self.version, self.region)
    }
}

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Send it there.
    Route(Route<'a>),
    /// Turn it away.
    Reject(Refusal),
}

/// Decides: loop check, region, access, which limits, destination, in this order.
#[must_use]
pub fn decide<'a>(config: &'a Config, caller: &'a Caller<'a>) -> Decision<'a> {
    match route(config, caller) {
        Ok(route) => Decision::Route(route),
        Err(refusal) => Decision::Reject(refusal),
    }
}

fn route<'a>(config: &'a Config, caller: &'a Caller<'a>) -> Result<Route<'a>, Refusal> {
    let mode = config.mode();
    if mode == Mode::Gateway && caller.passed_gateway {
        return Err(Refusal::new(
            Code::Loop,
            "the request passed a gateway already: a cluster of another region points back here",
        ));
    }
    let (kind, region) = match mode {
        Mode::Outbound => find_region(config, &caller.region)?,
        Mode::Gateway => own_region(config, &caller.region)?,
    };
    // What the config says of services is for those of this region.
    let service = match kind {
        Kind::Remote => None,
        Kind::Local | Kind::Any => config.service(&caller.service),
    };
    let rule = service.map(|service| &service.rule);
    let granted = check_access(config, caller, kind, rule)?;
    let version = check_pin(config, caller, kind, rule)?;
    Ok(Route {
        service: &caller.service,
        version,
        region,
        kind,
        caller: match mode {
            Mode::Outbound => config.caller().map(Identity::borrowed),
            Mode::Gateway => caller.peer.as_ref().map(Identity::borrowed),
        },
        hops: match mode {
            Mode::Outbound => 0,
            Mode::Gateway => 1,
        },
        granted,
        limits: service.map_or(Limits::NONE, |service| {
            Limits::of(&service.limits, caller.method)
        }),
    })
}

fn find_region<'a>(config: &'a Config, wish: &Wish<'_>) -> Result<(Kind, &'a str), Refusal> {
    let own = (Kind::Local, config.region().as_str());
    match wish {
        Wish::Any => Ok((Kind::Any, ANY_REGION)),
        Wish::Default => Ok(match config.default_region() {
            DefaultRegion::Own => own,
            DefaultRegion::Other(region) => (Kind::Remote, region.as_str()),
            DefaultRegion::Any => (Kind::Any, ANY_REGION),
        }),
        Wish::Region(name) if **name == *config.region().as_str() => Ok(own),
        Wish::Region(name) => match config.other_region(name) {
            Some(region) => Ok((Kind::Remote, region.as_str())),
            None => Err(Refusal::new(
                Code::UnknownRegion,
                format!("no region {name} is known here"),
            )),
        },
    }
}

/// A gateway is an entrance: it never sends a request on to another region.
fn own_region<'a>(config: &'a Config, wish: &Wish<'_>) -> Result<(Kind, &'a str), Refusal> {
    let own = config.region().as_str();
    match wish {
        Wish::Region(name) if **name != *own => Err(Refusal::new(
            Code::Loop,
            format!("this is a gateway of {own}, which sends nothing on to {name}"),
        )),
        _ => Ok((Kind::Local, own)),
    }
}

/// The rules of the config are those of this region. A request for another one is judged at its gateway, which knows
/// that region's rules and sees the caller's certificate.
fn check_access<'a>(
    config: &'a Config,
    caller: &Caller<'_>,
    kind: Kind,
    rule: Option<&'a Rule>,
) -> Result<Granted<'a>, Refusal> {
    if kind == Kind::Remote {
        return Ok(Granted::Elsewhere);
    }
    let granted = match config.mode() {
        Mode::Outbound => match rule {
            None => Some(Granted::Open),
            Some(rule) => rule.grants_own_caller(),
        },
        Mode::Gateway => {
            let Some(peer) = &caller.peer else {
                return Err(Refusal::new(
                    Code::Denied,
                    format!(
                        "the peer certificate has no URI spiffe://{}/region/<region>/service/<service>",
                        config.trust_domain()
                    ),
                ));
            };
            if !caller.vouched {
                return Err(Refusal::new(
                    Code::Denied,
                    format!(
                        "the peer certificate says {peer}, but the connection is not for callers of that region: its \
                         server name has to be {}.{}",
                        peer.region(),
                        config.trust_domain()
                    ),
                ));
            }
            match rule {
                None => Some(Granted::Open),
                Some(rule) => rule.grants(peer),
            }
        }
    };
    granted.ok_or_else(|| {
        let who = caller.peer.as_ref().or(config.caller());
        Refusal::new(
            Code::Denied,
            match who {
                Some(who) => format!("{who} may not call {}", caller.service),
                None => format!("callers without identity may not call {}", caller.service),
            },
        )
    })
}

fn check_pin<'a>(
    config: &Config,
    caller: &'a Caller<'_>,
    kind: Kind,
    rule: Option<&Rule>,
) -> Result<Option<&'a str>, Refusal> {
    let Some(version) = caller.version.as_deref() else {
        return Ok(None);
    };
    // The gateway over there reads the header again.
    if kind == Kind::Remote {
        return Ok(None);
    }
    if rule.is_some_and(Rule::allow_pins) {
        return Ok(Some(version));
    }
    Err(Refusal::new(
        Code::BadVersion,
        format!(
            "{} allows no version pins: leave {} out",
            caller.service,
            config.headers().version
        ),
    ))
}

#[cfg(test)]
mod tests;
