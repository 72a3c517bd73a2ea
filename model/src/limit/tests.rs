//! Limits, good and bad; what they are called; and which requests share a budget.

use std::hash::DefaultHasher;

use super::*;
use crate::{
    access::Identity,
    name::ServiceName,
    request::tests::{config, pairs},
    testing::test,
};

pub(crate) fn limits(json: &str) -> Vec<Limit> {
    let raw: Vec<RawLimit> = serde_json::from_str(json).expect(json);
    check_service(&service(), &raw).expect(json)
}

fn service() -> ServiceName {
    "payments".parse().expect("a name")
}

/// Checks what is said about some limits, one line for each error.
fn check(json: &str, want: &[&str]) {
    let raw: Vec<RawLimit> = serde_json::from_str(json).expect(json);
    let errors = check_service(&service(), &raw).err().unwrap_or_default();
    let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "{json}");
}

#[test]
fn good_ones() {
    check(
        r#"[{"per": "service", "requests": 1000000, "unit": "second", "burst": 1},
            {"per": ["service"], "requests": 1, "unit": "day", "burst": 366},
            {"per": "caller", "requests": 100, "unit": "second", "burst": 200},
            {"per": ["caller", "header:X-Tenant"], "method": "/pay.v1.Pay/Charge", "requests": 5, "unit": "minute",
             "mode": "shadow", "on_error": "deny"},
            {"per": "caller", "requests": 100, "unit": "second", "scope": "region"},
            {"per": ["caller_region", "method"], "requests": 1, "unit": "hour"}]"#,
        &[],
    );
}

#[test]
fn what_can_be_leased() {
    check(
        r#"[{"per": ["caller", "caller_region"], "method": "/pay", "requests": 5, "unit": "minute", "scope": "lease", "burst": 9,
             "on_error": "deny"},
            {"per": ["caller", "caller_region"], "method": "/pay", "requests": 5, "unit": "minute", "scope": "region"}]"#,
        &[],
    );
    check(
        r#"[{"per": ["caller", "method"], "requests": 5, "unit": "day", "scope": "lease"},
            {"per": "header:a", "requests": 5, "unit": "hour", "scope": "lease", "mode": "shadow"},
            {"per": ["header:x-mesh-lease-allow", "header:X-Mesh-Lease-Deny"], "requests": 5, "unit": "day"},
            {"per": "caller", "requests": 5, "unit": "second", "scope": "lease"},
            {"per": "service", "requests": 5, "unit": "second", "scope": "lease"}]"#,
        &[
            "[0].per: has method, of which callers can make up values: that cannot be leased; leave lease out",
            "[0].unit: day is too long to be leased: write second or minute, or leave lease out",
            "[1].per: has header:a, of which callers can make up values: that cannot be leased; leave lease out",
            "[1].unit: hour is too long to be leased: write second or minute, or leave lease out",
            "[1].mode: shadow cannot be leased: leave lease out",
            "[2].per[0]: names a header that is not the caller's to choose: use caller for who calls, method for the path",
            "[2].per[1]: names a header that is not the caller's to choose: use caller for who calls, method for the path",
            "[4]: is leased, and 1 of a service's limits may be: leave lease out",
        ],
    );
}

#[test]
fn what_makes_no_sense_for_the_region() {
    check(
        r#"[{"per": "caller", "requests": 5, "unit": "day", "scope": "region", "burst": 5},
            {"per": ["header:a", "header:b", "header:c", "header:d", "header:e", "header:f", "header:g", "caller", "method"],
             "requests": 5, "unit": "day", "scope": "region"},
            {"per": ["header:x-mesh-limit-allow", "header:X-Mesh-Limit-Deny"], "requests": 5, "unit": "day"}]"#,
        &[
            "[0].burst: is for scope local and for leases: a limit of the region counts in windows of one unit, so all of its requests may \
             come at once; leave it out",
            "[1].per: has 9 words; 8 are the most with scope region",
            "[2].per[0]: names a header that is not the caller's to choose: use caller for who calls, method for the path",
            "[2].per[1]: names a header that is not the caller's to choose: use caller for who calls, method for the path",
        ],
    );
}

#[test]
fn every_error_is_said_with_its_path() {
    check(
        r#"[{"per": [], "requests": 1, "unit": "second"},
            {"per": ["caller", "caller", "header:", "header:a b", "header:x-mesh-caller", "header:host", "Caller"],
             "requests": 0, "unit": "second", "burst": 0, "method": "pay?"},
            {"per": "caller", "requests": 1, "unit": "day", "burst": 367},
            {"per": "caller", "requests": 1, "unit": "day", "burst": 1000001},
            {"per": "caller", "requests": 4294967295, "unit": "day", "method": "/\""}]"#,
        &[
            "[0].per: is empty: write service for one budget that all callers share",
            "[1].per[1]: caller is listed twice",
            "[1].per[2]: names no header: a name has 1 to 64 of a-z 0-9 - _ .",
            "[1].per[3]: names no header: a name has 1 to 64 of a-z 0-9 - _ .",
            "[1].per[4]: names a header that is not the caller's to choose: use caller for who calls, method for the path",
            "[1].per[5]: names a header that is not the caller's to choose: use caller for who calls, method for the path",
            "[1].per[6]: must be service, caller, caller_region, method or header:<name>",
            "[1].method: must start with /: /<package>.<Service>/<Method> for gRPC, else a path",
            "[1].method: has '?', which no path has that limits can be for",
            "[1].requests: must be given, and be 1 to 1000000",
            "[2].burst: takes more than 366 days to refill: allow less at once, or more requests",
            "[3].burst: must be 1 to 1000000, and is 1000001",
            "[4].method: has '\"', which no path has that limits can be for",
            "[4].requests: must be 1 to 1000000, and is 4294967295",
        ],
    );
    let header = "h".repeat(65);
    check(
        &format!(r#"[{{"per": "header:{header}", "requests": 1, "unit": "second"}}]"#),
        &["[0].per[0]: names no header: a name has 1 to 64 of a-z 0-9 - _ ."],
    );
    let method = "m".repeat(256);
    check(
        &format!(
            r#"[{{"per": "caller", "requests": 1, "unit": "second", "method": "/{method}"}}]"#
        ),
        &["[0].method: is longer than 256 bytes"],
    );
    let many = vec![r#"{"per": "x", "requests": 1, "unit": "second"}"#; 17].join(",");
    let raw: Vec<RawLimit> = serde_json::from_str(&format!("[{many}]")).expect("json");
    let errors = check_service(&service(), &raw).expect_err("too many");
    assert_eq!(errors[0].to_string(), ": has 17 limits; 16 are the most");
}

#[test]
fn two_about_the_same() {
    let twice = |second: &str, want: &[&str]| {
        check(
            &format!(
                r#"[{{"per": "x", "requests": 1, "unit": "second"}},
                    {{"per": ["caller", "method"], "requests": 1, "unit": "second"}}, {second}]"#
            ),
            &[
                &["[0].per[0]: must be service, caller, caller_region, method or header:<name>"],
                want,
            ]
            .concat(),
        );
    };
    twice(
        r#"{"per": ["method", "service", "caller"], "requests": 2, "unit": "second", "burst": 9}"#,
        &["[2]: is about the same as [1]: limits must differ in per, method, unit, scope or mode"],
    );
    for other in [
        r#"{"per": ["method", "caller"], "requests": 2, "unit": "minute"}"#,
        r#"{"per": ["method", "caller"], "requests": 2, "unit": "second", "mode": "shadow"}"#,
        r#"{"per": ["method", "caller"], "requests": 2, "unit": "second", "method": "/a"}"#,
        r#"{"per": ["method", "caller_region"], "requests": 2, "unit": "second"}"#,
        r#"{"per": ["method", "caller"], "requests": 2, "unit": "second", "scope": "region"}"#,
    ] {
        twice(other, &[]);
    }
}

#[test]
fn words_that_are_none() {
    for (json, want) in [
        (
            r#"{"per": 7, "requests": 1, "unit": "second"}"#,
            "a word or a list of words",
        ),
        (
            r#"{"per": "caller", "requests": 1, "unit": "week"}"#,
            "unknown variant `week`",
        ),
        (
            r#"{"per": "caller", "requests": 1, "unit": "day", "mode": "x"}"#,
            "unknown variant `x`",
        ),
        (
            r#"{"per": "caller", "requests": -1, "unit": "day"}"#,
            "invalid value",
        ),
        (
            r#"{"per": "caller", "requests": 1, "unit": "day", "scope": "mesh"}"#,
            "unknown variant `mesh`",
        ),
        (
            r#"{"per": "caller", "unit": "day"}"#,
            "missing field `requests`",
        ),
    ] {
        let error = serde_json::from_str::<RawLimit>(json)
            .expect_err(json)
            .to_string();
        assert!(error.contains(want), "{json}: {error}");
    }
}

#[test]
fn names_and_raw_forms() {
    for (json, name) in [
        (
            r#"{"per":["service"],"requests":7,"unit":"hour"}"#,
            "service 7/hour",
        ),
        (
            r#"{"per":["caller","header:x-tenant"],"method":"/a.B/C","requests":5,"unit":"minute","burst":6,"mode":"shadow","on_error":"deny"}"#,
            "caller+header:x-tenant /a.B/C 5/minute shadow",
        ),
        (
            r#"{"per":["caller"],"requests":5,"unit":"minute","scope":"region","mode":"shadow"}"#,
            "caller 5/minute region shadow",
        ),
    ] {
        let limits = limits(&format!("[{json}]"));
        assert_eq!(limits[0].to_string(), name);
        assert_eq!(
            serde_json::to_string(&limits[0].to_raw()).expect("json"),
            json
        );
    }
}

const ORDERS: &str = "us/orders";
const BILLING: &str = "eu/billing";

/// The key of a request: who calls (or nobody), the path, the headers.
fn key(limit: &Limit, caller: &str, path: &str, headers: &str) -> u64 {
    let caller = Identity::parse_owned(caller).ok();
    let headers: Vec<_> = pairs(headers).collect();
    limit.key(
        DefaultHasher::new(),
        caller.as_ref(),
        path.as_bytes(),
        headers.iter().copied(),
    )
}

/// Whether the budget of the first request is that of each further one: `=` or `!`.
fn check_shared(per: &str, requests: &[(&str, &str, &str)], want: &str) {
    let limits = limits(&format!(
        r#"[{{"per": {per}, "requests": 1, "unit": "hour"}}]"#
    ));
    let keys: Vec<u64> = requests
        .iter()
        .map(|(caller, path, headers)| key(&limits[0], caller, path, headers))
        .collect();
    let got: String = keys[1..]
        .iter()
        .map(|other| if *other == keys[0] { '=' } else { '!' })
        .collect();
    assert_eq!(got, want, "{per} {requests:?}");
}

#[test]
fn who_shares_a_budget() {
    let all = [
        (ORDERS, "/a", "x-tenant: 1"),
        (ORDERS, "/a", "x-tenant: 1\nx-mesh-caller: eu/billing"),
        (BILLING, "/a", "x-tenant: 1"),
        ("us/other", "/a", "x-tenant: 1"),
        (ORDERS, "/b", "x-tenant: 1"),
        (ORDERS, "/a", "x-tenant: 2"),
    ];
    check_shared(r#""service""#, &all, "=====");
    check_shared(r#""caller""#, &all, "=!!==");
    check_shared(r#""caller_region""#, &all, "=!===");
    check_shared(r#""method""#, &all, "===!=");
    check_shared(r#""header:x-tenant""#, &all, "====!");
    check_shared(r#"["header:x-tenant", "caller"]"#, &all, "=!!=!");
    check_shared(
        r#""header:x-tenant""#,
        &[
            (ORDERS, "/", ""),
            (ORDERS, "/", "x-other: 1"),
            // No way out: several values, an empty one and none are budgets of their own.
            (ORDERS, "/", "x-tenant: 1\nx-tenant: 1"),
            (ORDERS, "/", "x-tenant:"),
        ],
        "=!!",
    );
    check_shared(
        r#""header:x-tenant""#,
        &[
            (ORDERS, "/", "x-tenant: 1\nx-tenant: 1"),
            (ORDERS, "/", "x-tenant: 1\nx-tenant: 2\nx-tenant: 3"),
        ],
        "=",
    );
    // Nobody is one caller, and never the same as anybody.
    check_shared(
        r#""caller""#,
        &[("", "/", ""), ("", "/", ""), (ORDERS, "/", "")],
        "=!",
    );
    // Texts do not flow into each other.
    check_shared(
        r#"["header:a", "header:b"]"#,
        &[(ORDERS, "/", "a: xy\nb: z"), (ORDERS, "/", "a: x\nb: yz")],
        "!",
    );
}

#[test]
fn a_budget_outlives_its_numbers() {
    let of = |json: &str| key(&limits(json)[0], ORDERS, "/a", "");
    let before = of(r#"[{"per": "caller", "requests": 1, "unit": "hour"}]"#);
    let same = r#"[{"per": ["service", "caller"], "requests": 9, "unit": "hour", "burst": 2, "on_error": "deny"}]"#;
    assert_eq!(of(same), before);
    for other in [
        r#"[{"per": "caller", "requests": 1, "unit": "day"}]"#,
        r#"[{"per": "caller", "requests": 1, "unit": "hour", "mode": "shadow"}]"#,
        r#"[{"per": "caller", "requests": 1, "unit": "hour", "method": "/a"}]"#,
    ] {
        assert_ne!(of(other), before, "{other}");
    }
    // Another service's is another budget, whatever it is about.
    let raw: Vec<RawLimit> =
        serde_json::from_str(r#"[{"per": "caller", "requests": 1, "unit": "hour"}]"#)
            .expect("json");
    let other = check_service(&"ledger".parse().expect("a name"), &raw).expect("limits");
    assert_ne!(key(&other[0], ORDERS, "/a", ""), before);
}

/// A header in which the mesh says who calls is no caller's, whatever it is called.
#[test]
fn the_callers_name_is_never_a_header() {
    let config = config(
        r#"{"region": "us", "headers": {"caller": "x-who"},
            "services": {"a": {"limits": [{"per": "header:x-who", "requests": 1, "unit": "hour"}]}}}"#,
    );
    let name = ServiceName::check(b"a").expect("a name");
    let limit = &config.service(&name).expect("a service").limits[0];
    let orders = key(limit, ORDERS, "/", "x-who: us/orders");
    assert_eq!(key(limit, ORDERS, "/", "x-who: eu/billing"), orders);
    assert_ne!(key(limit, BILLING, "/", "x-who: us/orders"), orders);
}
