//! Cells: who has a place, who gets one, and what the host keeps.

use super::*;
use crate::testing::test;

fn bytes(cell: &Cell) -> Vec<u8> {
    let mut out = [0; LONGEST];
    let len = cell.to_bytes(&mut out);
    out[..len].to_vec()
}

/// Keys that one cell may have: they are equal in what chooses it.
fn nth(n: u64) -> u64 {
    (n << 14) + 0x155
}

fn full(until: u64) -> Cell {
    let mut cell = Cell::default();
    for n in 0..WAYS as u64 {
        cell.set(nth(n), until + n, 0);
    }
    cell
}

#[test]
fn an_unknown_key_has_a_full_budget() {
    let mut cell = Cell::default();
    assert_eq!(cell.get(nth(7), 100), Some(0));
    cell.set(nth(7), 150, 100);
    assert_eq!(cell.get(nth(7), 100), Some(150));
    assert_eq!(
        cell.get(nth(7), 200),
        Some(150),
        "its own place, idle or not"
    );
    assert_eq!(cell.get(nth(8), 100), Some(0));
}

#[test]
fn the_idle_give_way_and_the_busy_do_not() {
    let mut cell = full(1000);
    assert_eq!(cell.get(nth(99), 999), None, "all are in use");
    cell.set(nth(99), 5000, 999);
    assert_eq!(cell, full(1000), "without a place nothing happens");
    assert_eq!(cell.get(nth(0), 999), Some(1000));
    // The first of them is full again.
    assert_eq!(cell.get(nth(99), 1000), Some(0));
    cell.set(nth(99), 5000, 1000);
    assert_eq!(cell.get(nth(99), 1000), Some(5000));
    assert_eq!(cell.get(nth(0), 1000), None);
    assert_eq!(
        cell.get(nth(1), 1000),
        Some(1001),
        "the others are as they were"
    );
}

#[test]
fn bytes_and_back() {
    for cell in [Cell::default(), full(5), {
        let mut cell = Cell::default();
        cell.set(u64::MAX, u64::MAX, 0);
        cell
    }] {
        assert_eq!(Cell::from_bytes(&bytes(&cell)), cell);
    }
    assert_eq!(bytes(&full(1)).len(), 120);
    // What another build may have left there.
    for strange in [&b"x"[..], &[1; 14], &[1; 16]] {
        assert_eq!(Cell::from_bytes(strange), Cell::default());
    }
    assert_eq!(bytes(&Cell::from_bytes(&[1; 15 * 20])).len(), 120);
}

#[test]
fn names() {
    let name = |origin, key| format!("{:?}", CellName::of(origin, key));
    assert_eq!(name(Origin::Limit, 0x4142_4344_4546_4748), "ist1lABCDEFGH");
    assert_eq!(name(Origin::Identity, 0x4142_4344_4546_0748), r"ist1i\x07H");
    // Keys whose low bits are equal share a cell, and only within their table.
    assert_eq!(
        name(Origin::Caller, 0x0001),
        name(Origin::Caller, 0xff00_4001)
    );
    assert_ne!(name(Origin::Caller, 0x0001), name(Origin::Identity, 0x0001));
    // What a cell does not keep of a key, the cell's name tells.
    for low in 1..256 {
        assert_ne!(
            name(Origin::Caller, 0xabcd_ef00),
            name(Origin::Caller, 0xabcd_ef00 + low)
        );
    }
    let names: std::collections::HashSet<_> = (0..100_000)
        .map(|key| CellName::of(Origin::Caller, key))
        .collect();
    assert_eq!(names.len(), usize::from(CELLS), "never more than this");
    assert!(names.iter().all(|name| name.as_bytes().len() < 16));
}
