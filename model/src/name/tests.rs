//! Names: what is one, what is none, and why.

use super::*;
use crate::testing::test;

#[test]
fn service_names() {
    let cases: &[(&[u8], Result<&str, NameError>)] = &[
        (b"payments", Ok("payments")),
        (b"Pay.V1.Payments", Ok("pay.v1.payments")),
        (b"a", Ok("a")),
        (b"", Err(NameError::Empty)),
        (b"-a", Err(NameError::BadByte { byte: b'-', at: 0 })),
        (b"a.", Err(NameError::BadByte { byte: b'.', at: 1 })),
        (b"a_b", Err(NameError::BadByte { byte: b'_', at: 1 })),
        (b"a\xffb", Err(NameError::BadByte { byte: 0xff, at: 1 })),
        (&[b'a'; 253], Ok(str::from_utf8(&[b'a'; 253]).unwrap())),
        (&[b'a'; 254], Err(NameError::TooLong { limit: 253 })),
    ];
    for (bytes, want) in cases {
        let got = ServiceName::parse(bytes);
        assert_eq!(
            got.as_ref().map(ServiceName::as_str),
            want.as_ref().map(|t| *t),
            "{bytes:?}"
        );
    }
}

#[test]
fn region_names() {
    let cases: &[(&[u8], Result<&str, NameError>)] = &[
        (b"eu", Ok("eu")),
        (b"EU-west-1", Ok("eu-west-1")),
        (b"any", Err(NameError::Reserved)),
        (b"ANY", Err(NameError::Reserved)),
        (b"eu.west", Err(NameError::BadByte { byte: b'.', at: 2 })),
        (&[b'a'; 64], Err(NameError::TooLong { limit: 63 })),
    ];
    for (bytes, want) in cases {
        let got = RegionName::parse(bytes);
        assert_eq!(
            got.as_ref().map(RegionName::as_str),
            want.as_ref().map(|t| *t),
            "{bytes:?}"
        );
    }
}

#[test]
fn cluster_names_read_back_as_they_were_written() {
    for text in [
        "payments.eu",
        "pay.v1.payments.eu",
        "payments@1.2.3.eu",
        "payments.any",
        "payments@v2.any",
    ] {
        assert_eq!(ClusterName::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn what_is_no_cluster_name() {
    for text in [
        "",
        "payments",
        ".eu",
        "payments.",
        "payments@.eu",
        "@v1.eu",
        "a b.eu",
    ] {
        assert!(ClusterName::parse(text).is_err(), "{text:?}");
    }
}
