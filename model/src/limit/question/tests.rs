//! Questions, word for word; and that no value of a caller's looks like another one.

use super::*;
use crate::{
    config::Config,
    decide::{Decision, decide},
    request::{
        Caller, Peer, Request,
        tests::{config, pairs},
    },
    testing::test,
};

/// A config whose service `payments` has these limits.
fn of(limits: &str) -> Config {
    config(&format!(
        r#"{{"region": "us", "regions": ["eu"], "caller": "us/orders", "services": {{"payments": {{"limits": {limits}}}}}}}"#
    ))
}

fn ask(config: &Config, headers: &[(&[u8], &[u8])]) -> Option<(OnError, String)> {
    let mut all = vec![(&b"x-mesh-service"[..], &b"payments"[..])];
    all.extend(headers);
    let request = Request::collect(config.headers(), all.iter().copied());
    let caller = Caller::parse(config, &request, Peer::default()).expect("a caller");
    let Decision::Route(route) = decide(config, &caller) else {
        panic!("not routed")
    };
    let mut text = String::new();
    let on_error = write(&mut text, &route, request.is_grpc(), all.iter().copied())?;
    Some((on_error, text))
}

fn check(limits: &str, headers: &str, want: &str) {
    let headers: Vec<_> = pairs(headers).collect();
    let got = match ask(&of(limits), &headers) {
        None => "nothing".to_owned(),
        Some((on_error, text)) => format!("{} {text}", on_error.as_str()),
    };
    assert_eq!(got, want, "{limits}");
}

#[test]
fn what_is_asked() {
    let service = r#"{"per": "service", "requests": 9, "unit": "second", "scope": "region"}"#;
    let tenant = r#"{"per": ["header:X-Tenant", "caller"], "method": "/pay.v1.Pay/Charge(", "requests": 5, "unit": "minute",
        "scope": "region", "on_error": "deny", "mode": "shadow"}"#;
    let method =
        r#"{"per": ["method", "caller_region"], "requests": 5, "unit": "hour", "scope": "region"}"#;
    let local = r#"{"per": "service", "requests": 9, "unit": "second"}"#;
    check("[]", "", "nothing");
    check(&format!("[{local}]"), "", "nothing");
    check(
        &format!("[{service}]"),
        "",
        "allow 1h;payments;service,,second,enforce|",
    );
    check(
        &format!("[{service}]"),
        "content-type: application/grpc+proto",
        "allow 1g;payments;service,,second,enforce|",
    );
    check(&format!("[{service}]"), "x-mesh-region: eu", "nothing");
    check(
        &format!("[{local}, {tenant}, {service}]"),
        ":path: /pay.v1.Pay/Charge(?a=b\nx-tenant: é, =;|%",
        "deny 1h;payments;caller+header:x-tenant,/pay.v1.Pay/Charge%28,minute,shadow|us/orders,\
         =%C3%A9%2C%20%3D%3B%7C%25;service,,second,enforce|",
    );
    check(
        &format!("[{tenant}]"),
        ":path: /pay.v1.Pay/Charge%28",
        "nothing",
    );
    check(
        &format!("[{method}]"),
        ":path: /a_b?c",
        "allow 1h;payments;caller_region+method,,hour,enforce|us,=/a_b",
    );
}

#[test]
fn whose_budget() {
    let limits = r#"[{"per": "header:t", "requests": 1, "unit": "day", "scope": "region"}]"#;
    let of_value = |headers: &[(&[u8], &[u8])]| {
        let (_, text) = ask(&of(limits), headers).expect("a question");
        let values = Question::parse(&text)
            .and_then(|question| question.asks().next())
            .map(|ask| ask.values.to_owned());
        values.expect(&text)
    };
    let longest = [b'a'; LONGEST_VALUE];
    let longer = [b'a'; LONGEST_VALUE + 1];
    let other = [b'b'; 20_000];
    let t = &b"t"[..];
    assert_eq!(of_value(&[]), "-");
    assert_eq!(of_value(&[(t, b"a"), (t, b"b")]), "+");
    assert_eq!(of_value(&[(t, b"")]), "=");
    assert_eq!(of_value(&[(t, b"-")]), "=-");
    assert_eq!(of_value(&[(t, b"+")]), "=%2B");
    assert_eq!(of_value(&[(t, b"~")]), "=~");
    assert_eq!(of_value(&[(t, &longest)]).len(), 1 + LONGEST_VALUE);
    assert_eq!(of_value(&[(t, &longer)]), "~");
    assert_eq!(of_value(&[(t, &other)]), "~", "no way out by length");
}

#[test]
fn nobody_is_somebody_too() {
    let limits = r#"{"limits": [{"per": ["caller", "caller_region"], "requests": 1, "unit": "day", "scope": "region"}]}"#;
    let config = config(&format!(
        r#"{{"region": "us", "services": {{"payments": {limits}}}}}"#
    ));
    let (_, text) = ask(&config, &[]).expect("a question");
    assert_eq!(text, "1h;payments;caller+caller_region,,day,enforce|,");
}

#[test]
fn what_is_read() {
    let longest = format!("1h;a;t|{}", "v".repeat(LONGEST));
    let many = format!("1h;a{}", ";t|v".repeat(MOST_LIMITS + 1));
    for (text, want) in [
        ("1h;payments;t|", Some("h payments t|")),
        ("1g;payments;t|a,b;u|", Some("g payments t|a,b u|")),
        ("", None),
        ("1h", None),
        ("1h;payments", None),
        ("1h;payments;", None),
        ("1h;payments;t", None),
        ("1h;payments;t|v;", None),
        ("1h;payments;|v", None),
        ("1h;payments;t|v|w", None),
        ("2h;payments;t|", None),
        ("1x;payments;t|", None),
        ("1h;payments;t|a b", None),
        ("1h;payments;t|é", None),
        (&longest, None),
        (&many, None),
    ] {
        let got = Question::parse(text).map(|question| {
            let form = if question.is_grpc { "g" } else { "h" };
            let keys: Vec<_> = question.asks().map(|ask| ask.key).collect();
            for ask in question.asks() {
                assert_eq!(format!("{}|{}", ask.token, ask.values), ask.key);
            }
            format!("{form} {} {}", question.service, keys.join(" "))
        });
        assert_eq!(got.as_deref(), want, "{}", text.get(..20).unwrap_or(text));
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod always {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: &str = r#"[{"per": ["header:a", "header:b", "method"], "requests": 1, "unit": "day", "scope": "region"},
        {"per": "header:b", "requests": 1, "unit": "day", "scope": "region", "on_error": "deny"}]"#;

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let marks = proptest::sample::select(b"=-+~,;|%ab\xff ".to_vec());
        prop_oneof![
            proptest::collection::vec(marks, 0..4),
            proptest::collection::vec(any::<u8>(), 0..LONGEST_VALUE + 20),
        ]
    }

    /// What the encoding stands for: the bytes themselves.
    fn decode(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                bytes.push(byte);
                continue;
            }
            let digits: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&digits, 16).expect("two digits"));
        }
        bytes
    }

    proptest! {
        /// What callers write comes out as it went in, in its place, and nowhere else.
        #[test]
        fn values_come_out_as_they_went_in(a in value(), b in value(), path in value()) {
            let headers = [(&b"a"[..], &*a), (b"b", &b), (b":path", &path)];
            let (on_error, text) = ask(&of(LIMITS), &headers).expect("a question");
            prop_assert_eq!(on_error, OnError::Deny);
            let question = Question::parse(&text).expect("a question");
            prop_assert_eq!(question.service, "payments");
            let asks: Vec<_> = question.asks().collect();
            let config = of(LIMITS);
            let service = crate::name::ServiceName::check(b"payments").expect("a name");
            let limits = &config.service(&service).expect("a service").limits;
            let method = path.split(|&b| b == b'?').next().unwrap_or_default();
            let want: [&[&[u8]]; 2] = [&[&a, &b, method], &[&b]];
            prop_assert_eq!(asks.len(), want.len());
            for ((ask, limit), want) in asks.iter().zip(limits).zip(want) {
                prop_assert_eq!(ask.token, limit.token());
                // The parts are sorted: caller, region, method, headers.
                let mut want = want.to_vec();
                if want.len() == 3 {
                    want.rotate_right(1);
                }
                let got: Vec<_> = ask.values.split(',').collect();
                prop_assert_eq!(got.len(), want.len());
                for (got, want) in got.iter().zip(want) {
                    if want.len() > LONGEST_VALUE {
                        prop_assert_eq!(*got, "~");
                    } else {
                        prop_assert_eq!(decode(got.strip_prefix('=').expect("a value")), want);
                    }
                }
            }
        }

        /// Whatever comes in, nothing breaks, and what is read is all there is.
        #[test]
        fn anything_can_be_read(text in "(1[gh];)?[a-z;|,=%1 é]{0,40}") {
            if let Some(question) = Question::parse(&text) {
                let keys: Vec<_> = question.asks().map(|ask| ask.key).collect();
                let form = if question.is_grpc { 'g' } else { 'h' };
                prop_assert_eq!(format!("1{form};{};{}", question.service, keys.join(";")), text);
            }
        }
    }
}

#[test]
fn budgets_in_words() {
    for (key, want) in [
        ("service,,second,enforce|", ""),
        ("caller,,second,enforce|us/orders", "us/orders"),
        ("caller,,second,enforce|", "(nobody)"),
        (
            "header:x-tenant+caller,/charge,minute,shadow|us/orders,=acme%20inc",
            "us/orders, acme%20inc",
        ),
        (
            "header:a+header:b+header:c+method,,day,enforce|-,+,~,=-",
            "(absent), (several), (too long), -",
        ),
    ] {
        assert_eq!(Ask::parse(key).unwrap().whose(), want, "{key}");
    }
}
