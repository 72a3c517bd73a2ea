//! Cells: who has a place, who gets one, and what the host keeps.

use super::*;
use crate::testing::test;

fn bytes(cell: &Cell) -> Vec<u8> {
    let mut out = [0; WAYS * 16];
    let len = cell.to_bytes(&mut out);
    out[..len].to_vec()
}

fn full(until: u64) -> Cell {
    let mut cell = Cell::default();
    for key in 0..WAYS as u64 {
        cell.set(key, until + key, 0);
    }
    cell
}

#[test]
fn an_unknown_key_has_a_full_budget() {
    let mut cell = Cell::default();
    assert_eq!(cell.get(7, 100), Some(0));
    cell.set(7, 150, 100);
    assert_eq!(cell.get(7, 100), Some(150));
    assert_eq!(cell.get(7, 200), Some(150), "its own place, idle or not");
    assert_eq!(cell.get(8, 100), Some(0));
}

#[test]
fn the_idle_give_way_and_the_busy_do_not() {
    let mut cell = full(1000);
    assert_eq!(cell.get(99, 999), None, "all are in use");
    cell.set(99, 5000, 999);
    assert_eq!(cell, full(1000), "without a place nothing happens");
    assert_eq!(cell.get(0, 999), Some(1000));
    // The first of them is full again.
    assert_eq!(cell.get(99, 1000), Some(0));
    cell.set(99, 5000, 1000);
    assert_eq!(cell.get(99, 1000), Some(5000));
    assert_eq!(cell.get(0, 1000), None);
    assert_eq!(cell.get(1, 1000), Some(1001), "the others are as they were");
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
    assert_eq!(bytes(&full(1)).len(), 128);
    // What another build may have left there.
    for strange in [&b"x"[..], &[1; 15], &[1; 17]] {
        assert_eq!(Cell::from_bytes(strange), Cell::default());
    }
    assert_eq!(bytes(&Cell::from_bytes(&[1; 16 * 20])).len(), 128);
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
    let names: std::collections::HashSet<_> = (0..100_000)
        .map(|key| CellName::of(Origin::Caller, key))
        .collect();
    assert_eq!(names.len(), usize::from(CELLS), "never more than this");
    assert!(names.iter().all(|name| name.as_bytes().len() < 16));
}
