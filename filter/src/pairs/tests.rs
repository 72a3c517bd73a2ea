//! Serialized headers, whole and damaged.

use super::*;

const TWO: [(&str, &str); 2] = [(":path", "/"), ("x-mesh-service", "")];

/// Reads everything; `None` if it did not add up.
fn read(bytes: &[u8]) -> Option<Vec<Pair<'_>>> {
    let mut pairs = Pairs::new(bytes);
    let read: Vec<_> = (&mut pairs).collect();
    (!pairs.is_broken()).then_some(read)
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

#[test]
fn the_form_is_the_hosts() {
    let mut want = numbers(&[2, 5, 1, 14, 0]);
    want.extend(b":path\0/\0x-mesh-service\0\0");
    assert_eq!(write(&TWO), want);
    assert_eq!(write(&[]), numbers(&[0]));
}

#[test]
fn what_is_written_is_read() {
    let bytes = write(&TWO);
    let want = TWO.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    assert_eq!(read(&bytes), Some(want.to_vec()));
}

#[test]
fn values_are_bytes() {
    let mut bytes = numbers(&[1, 1, 3]);
    bytes.extend(b"n\0\xff\0\x80\0");
    assert_eq!(read(&bytes), Some(vec![(&b"n"[..], &b"\xff\0\x80"[..])]));
}

#[test]
fn nothing_is_no_pairs() {
    assert_eq!(read(b""), Some(vec![]));
    assert_eq!(read(&numbers(&[0])), Some(vec![]));
}

#[test]
fn lies_are_noticed() {
    let check = |head: &[u32], tail: &[u8]| {
        let bytes = [numbers(head), tail.to_vec()].concat();
        assert_eq!(read(&bytes), None, "{bytes:?}");
    };
    check(&[], b"\x01");
    check(&[], b"\x01\0\0");
    check(&[1], b"");
    check(&[1, 1], b"n\0v\0");
    check(&[u32::MAX], b"");
    check(&[u32::MAX / 8 + 1], b"");
    check(&[1, u32::MAX, u32::MAX], b"n\0v\0");
    check(&[1, 1, 2], b"n\0v\0");
    check(&[1, 1, 1], b"n\0v");
    check(&[1, 1, 1], b"nv\0\0");
    check(&[2, 1, 1, 1, 1], b"n\0v\0");
}

/// Every cut and every changed byte of real headers: no panic, and never a pair that is not in the bytes.
#[test]
fn damaged_headers() {
    let whole = write(&TWO);
    for len in 0..whole.len() {
        let cut = whole.get(..len).unwrap_or_default();
        assert!(len == 0 || read(cut).is_none(), "cut at {len}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 2, 3, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            for (name, value) in Pairs::new(&bytes) {
                assert!(name.len() + value.len() + 2 <= bytes.len());
            }
        }
    }
}
