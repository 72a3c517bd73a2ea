//! Precedence, defaults, and every error at once.

use clap::Parser;

use super::{LogFormat, RawOptions, file};

fn yaml(text: &str) -> RawOptions {
    let (raw, faults) = file::parse(text).unwrap();
    assert_eq!(faults, [], "{text}");
    raw
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    raw: RawOptions,
}

fn flags(text: &str) -> RawOptions {
    let words = std::iter::once("ems").chain(text.split_whitespace());
    Command::try_parse_from(words).unwrap().raw
}

#[test]
fn flags_come_before_the_file_and_the_file_before_defaults() {
    let file = yaml("region: eu\nxdsAddress: 0.0.0.0:1\nlogFormat: json\ndebugReceipts: false\n");
    let options =
        flags("--region us --max-streams 5 --max-streams-per-node 3 --keepalive-seconds 7")
            .or(file)
            .check()
            .unwrap();
    assert_eq!(options.region.as_str(), "us");
    assert_eq!(options.xds_address.to_string(), "0.0.0.0:1");
    assert_eq!(options.http_address.to_string(), "127.0.0.1:18080");
    assert_eq!(options.log_format, LogFormat::Json);
    assert!(!options.debug_receipts);
    assert_eq!((options.max_streams, options.max_streams_per_node), (5, 3));
    let unsaid = flags("--region us").check().unwrap();
    let unsaid = (unsaid.max_streams, unsaid.max_streams_per_node);
    assert_eq!(unsaid, (20_000, 1_000));
    let keepalive = options.keepalive;
    let seconds = [keepalive.after, keepalive.within].map(|time| time.as_secs());
    assert_eq!(seconds, [7, 10]);
    assert_eq!(options.trust_domain, "mesh.internal");
}

#[test]
fn every_error_is_reported() {
    let raw = flags(
        "--xds-address localhost:1 --http-address x --trust-domain A/b --default-region a.b --log-format xml --log-level = \
         --redis rediss://a --max-connects-per-second 0 --max-streams 0 \
         --max-streams-per-node 0 --drain-seconds 3601 --keepalive-seconds 0 --keepalive-timeout-seconds 0",
    );
    let errors = raw.check().unwrap_err();
    let at: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
    let flags = [
        "--region",
        "--xds-address",
        "--http-address",
        "--trust-domain",
        "--redis",
        "--default-region",
        "--log-format",
        "--log-level",
        "--keepalive-seconds",
        "--keepalive-timeout-seconds",
        "--max-connects-per-second",
        "--max-streams",
        "--max-streams-per-node",
        "--drain-seconds",
    ];
    assert_eq!(at, flags);
}

#[test]
fn a_redis_is_named_by_a_url() {
    for (url, fits) in [
        ("redis://127.0.0.1:6379", true),
        ("redis://:secret@redis.internal/3", true),
        ("redis+unix:///run/redis.sock", true),
        ("rediss://127.0.0.1", false),
        ("127.0.0.1:6379", false),
        ("redis://", false),
        ("redis://127.0.0.1:x", false),
        ("redis://127.0.0.1/x", false),
    ] {
        let checked = flags(&format!("--region us --redis {url}")).check();
        assert_eq!(checked.is_ok(), fits, "{url}: {checked:?}");
    }
    assert_eq!(
        yaml("redis: redis://a\n").redis.as_deref(),
        Some("redis://a")
    );
}

#[test]
fn header_names_are_said_one_by_one() {
    let file = yaml("headers: {service: x-to, error: X-Why}\n");
    let options = flags("--region us --header-service x-dest").or(file);
    let headers = options.check().unwrap().headers;
    let said = [&headers.service, &headers.error, &headers.region];
    assert_eq!(said, ["x-dest", "x-why", "x-mesh-region"]);

    let wrong = flags("--region us --header-caller host --header-hops x-mesh-debug");
    let errors = wrong.check().unwrap_err();
    let at: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
    assert_eq!(at, ["--header-caller", "--header-debug"]);
}

#[test]
fn one_address_serves_one_purpose() {
    let errors = flags("--region us --http-address 127.0.0.1:18000")
        .check()
        .unwrap_err();
    assert_eq!(errors.len(), 1);
    let free = flags("--region us --http-address 127.0.0.1:0 --xds-address 127.0.0.1:0");
    assert!(free.check().is_ok());
}

#[test]
fn files_say_what_they_may() {
    for (text, at) in [
        ("", ""),
        ("# nothing\n", ""),
        ("region: us\n", ""),
        ("regoin: us\n", "regoin"),
        ("region: [us]\n", "region"),
        ("maxStreams: -1\n", "maxStreams"),
        ("headers: {service: a, services: b}\n", "headers.services"),
        (
            "regoin: us\nmaxStreams: x\nheaders: {services: b, caller: [], hops: x}\nother: {a: 1, b: 2}\n\
             debugReceipts: 7\nlogLevel: warn\n",
            "debugReceipts headers.caller headers.services maxStreams other regoin",
        ),
        // Each is taken as it is without the others' faults.
        (
            "foo: 1\nregion: 7\ndataDir: \"7\"\nmaxStreams: 0x10\ndebugReceipts: yes\n",
            "foo",
        ),
    ] {
        let (_, faults) = file::parse(text).unwrap();
        let fields: Vec<_> = faults.iter().map(|fault| &*fault.field).collect();
        assert_eq!(fields.join(" "), at, "{text:?}");
    }
    for text in ["a: [", "[]", "region: us\nregion: eu\n"] {
        assert!(file::parse(text).is_err(), "{text:?}");
    }
    let (raw, _) = file::parse(
        "foo: 1\nlogLevel: warn\nregion: no\ndebugReceipts: no\nheaders: {hops: x, a: b}\n",
    )
    .unwrap();
    let said = (raw.log_level.as_deref(), raw.headers.hops.as_deref());
    assert_eq!(said, (Some("warn"), Some("x")));
    let said = (raw.region.as_deref(), raw.debug_receipts);
    assert_eq!(said, (Some("no"), Some(false)));
}
