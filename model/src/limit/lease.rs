//! The name of a leased budget: what the filter tells Envoy's quota filter in a header, and Envoy tells EMS in its reports.
//!
//! ```text
//! 1;payments;caller,,second,enforce,lease|us/orders
//! ```
//!
//! It is made as a [question](super::question) is, of one limit, and says nothing of the request but whose budget it draws on:
//! equal names are one bucket in Envoy.

use super::{Limit, MOST_LEASED, OnError, Scope, question};
use crate::{decide::Route, name::ServiceName};

/// The header with the budget of a request that passes without a lease.
pub const ALLOW_HEADER: &str = "x-mesh-lease-allow";

/// The header with the budget of a request that is refused without a lease.
pub const DENY_HEADER: &str = "x-mesh-lease-deny";

/// What every name begins with.
pub const BEGIN: &str = "1;";

/// The header that carries a name.
#[must_use]
pub fn header(on_error: OnError) -> &'static str {
    match on_error {
        OnError::Allow => ALLOW_HEADER,
        OnError::Deny => DENY_HEADER,
    }
}

/// The leased limit that a request meets. A service has one at most.
#[must_use]
pub fn met<'a>(route: &Route<'a>) -> Option<&'a Limit> {
    const { assert!(MOST_LEASED == 1) };
    route.limits.of_scope(Scope::Lease).next()
}

/// Writes the name of the leased budget of a request, and says what becomes of the request without a lease. `None`: it meets
/// no leased limit, and nothing is written.
pub fn write(out: &mut String, route: &Route<'_>) -> Option<OnError> {
    let limit = met(route)?;
    out.push_str(BEGIN);
    out.push_str(route.service);
    out.push(';');
    out.push_str(&limit.token);
    out.push('|');
    // No header tells leased budgets apart.
    question::write_values(out, limit, route, std::iter::empty());
    Some(limit.on_error)
}

/// What every name of a budget of a service begins with.
#[must_use]
pub fn begin(service: &ServiceName) -> String {
    format!("{BEGIN}{service};")
}

/// Reads a name: the service, and the [token](Limit::token) of the limit. `None`: it is none that [`write()`] made.
#[must_use]
pub fn parse(name: &str) -> Option<(&str, &str)> {
    let (service, rest) = name.strip_prefix(BEGIN)?.split_once(';')?;
    let (token, values) = rest.split_once('|')?;
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && !service.is_empty() && !values.contains([';', '|'])).then_some((service, token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decide::{Decision, decide},
        request::{Caller, Peer, Request, tests::config},
        testing::test,
    };

    fn name(limits: &str, path: &str) -> Option<(OnError, String)> {
        let config = config(&format!(
            r#"{{"region": "us", "regions": ["eu"], "caller": "us/orders", "services": {{"payments": {{"limits": [{limits}]}}}}}}"#
        ));
        let headers = [(":path", path), ("x-mesh-service", "payments")];
        let pairs = headers.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let request = Request::collect(config.headers(), pairs);
        let caller = Caller::parse(&config, &request, Peer::default()).expect("a caller");
        let Decision::Route(route) = decide(&config, &caller) else {
            panic!("not routed");
        };
        let mut text = String::new();
        let on_error = write(&mut text, &route)?;
        assert!(text.len() < 1_024);
        Some((on_error, text))
    }

    #[test]
    fn names() {
        for (limit, want) in [
            (
                r#""per": "service", "requests": 9, "unit": "second", "scope": "lease""#,
                Some((OnError::Allow, "1;payments;service,,second,enforce,lease|")),
            ),
            (
                r#""per": ["caller", "caller_region"], "method": "/pay", "requests": 9, "unit": "minute", "scope": "lease", "on_error": "deny""#,
                Some((
                    OnError::Deny,
                    "1;payments;caller+caller_region,/pay,minute,enforce,lease|us/orders,us",
                )),
            ),
            (
                r#""per": "service", "method": "/other", "requests": 9, "unit": "second", "scope": "lease""#,
                None,
            ),
            (
                r#""per": "service", "requests": 9, "unit": "second", "scope": "region""#,
                None,
            ),
        ] {
            let got = name(&format!("{{{limit}}}"), "/pay?now");
            let got = got.as_ref().map(|(on_error, text)| (*on_error, &**text));
            assert_eq!(got, want);
            if let Some((_, text)) = got {
                let (service, token) = parse(text).expect(text);
                assert!(text.starts_with(&begin(&service.parse().expect(service))));
                assert_eq!(service, "payments");
                assert!(text.contains(&format!(";{token}|")));
            }
        }
    }

    #[test]
    fn what_is_no_name() {
        for text in [
            "",
            "1;",
            "1;payments",
            "1;payments;token",
            "2;payments;token|",
            "1;;token|",
            "1;payments;token|a|b",
            "1;payments;token|a;b",
            "1;payments;to ken|",
            "1;payments;tokän|",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
