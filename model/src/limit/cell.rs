//! Where budgets are kept: cells of a table of fixed size, each with room for a few keys.
//!
//! The host gives no more than a map from short texts to bytes, from which nothing can be taken out again, and callers
//! can make up as many keys as they like. So keys share a fixed number of cells. A cell has places for several, and a
//! place is free as soon as its budget is full again: an idle key is forgotten at no loss, since a full budget is
//! what an unknown key has. Only when all places of a cell are in use a further key finds none.

use std::fmt;

/// Keys in one cell.
pub const WAYS: usize = 8;

/// Cells of each table whose keys vary: so 131,072 keys in use, if they spread evenly.
pub const CELLS: u16 = 16_384;

/// Bytes of a key: those that the choice of the cell does not tell.
const KEY: usize = 7;

/// Bytes of an entry. A cell with one, as most have, is short enough for the host to copy without an allocation.
const ENTRY: usize = KEY + 8;

/// Most bytes of a cell.
pub const LONGEST: usize = WAYS * ENTRY;

/// What a key is made of. It says which table holds its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The limit alone: it has a cell of its own, and there are as many as limits.
    Limit,
    /// Identities, which nobody can make up.
    Identity,
    /// Headers and methods. Apart from identities, for whoever makes up many of these must not take the places of those.
    Caller,
}

/// The name of a cell, as the host's map has it. It stays under 16 bytes, which the host keeps without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CellName {
    bytes: [u8; Self::LONGEST],
    len: usize,
}

impl CellName {
    const LONGEST: usize = 13;

    /// The cell of a key. The digit stands for the format of [`Cell`]: builds of another format pass over each other's.
    #[must_use]
    pub fn of(origin: Origin, key: u64) -> Self {
        let prefix = match origin {
            Origin::Limit => b"ist1l",
            Origin::Identity => b"ist1i",
            Origin::Caller => b"ist1c",
        };
        let own = key.to_be_bytes();
        // The low bits choose the cell; the whole key tells the keys of a cell apart.
        let shared = (key % u64::from(CELLS)).to_be_bytes();
        let place: &[u8] = match origin {
            Origin::Limit => &own,
            Origin::Identity | Origin::Caller => shared.last_chunk::<2>().map_or(&[], |p| p),
        };
        let mut name = Self {
            bytes: [0; Self::LONGEST],
            len: 0,
        };
        for (to, from) in name.bytes.iter_mut().zip(prefix.iter().chain(place)) {
            *to = *from;
            name.len += 1;
        }
        name
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Debug for CellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// The budgets in a cell: keys (what is kept of them), and when each is full again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    entries: [(u64, u64); WAYS],
    len: usize,
}

impl Cell {
    /// Reads the bytes of a cell; what makes no sense is as good as nothing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut cell = Self::default();
        let (entries, []) = bytes.as_chunks::<ENTRY>() else {
            return cell;
        };
        for (to, bytes) in cell.entries.iter_mut().zip(entries) {
            let (key, tat) = bytes.split_at(KEY);
            *to = (number(key), number(tat));
            cell.len += 1;
        }
        cell
    }

    /// Writes the bytes of the cell, and says how many they are.
    pub fn to_bytes(&self, out: &mut [u8; LONGEST]) -> usize {
        let places = out.as_chunks_mut::<ENTRY>().0;
        for (place, (key, tat)) in places.iter_mut().zip(self.used()) {
            for (to, from) in place.iter_mut().zip(
                key.to_le_bytes()
                    .into_iter()
                    .take(KEY)
                    .chain(tat.to_le_bytes()),
            ) {
                *to = from;
            }
        }
        self.len * ENTRY
    }

    fn used(&self) -> &[(u64, u64)] {
        self.entries.get(..self.len).unwrap_or_default()
    }

    /// The time at which a key's budget is full again: its own, or that of the place which it may take over. `None`:
    /// others need all places.
    #[must_use]
    pub fn get(&self, key: u64, now: u64) -> Option<u64> {
        self.place(key, now).map(|at| match self.used().get(at) {
            Some((owner, tat)) if *owner == rest(key) => *tat,
            _ => 0,
        })
    }

    /// Sets that time. Without a place for the key nothing happens.
    pub fn set(&mut self, key: u64, tat: u64, now: u64) {
        if let Some(at) = self.place(key, now)
            && let Some(entry) = self.entries.get_mut(at)
        {
            *entry = (rest(key), tat);
            self.len = self.len.max(at + 1);
        }
    }

    /// Its own place, else the first that nobody needs, else a new one.
    fn place(&self, key: u64, now: u64) -> Option<usize> {
        let used = self.used();
        used.iter()
            .position(|(owner, _)| *owner == rest(key))
            .or_else(|| used.iter().position(|(_, tat)| *tat <= now))
            .or_else(|| (self.len < WAYS).then_some(self.len))
    }
}

/// What is kept of a key. The lowest eight bits are among those that choose the cell, so nothing is lost.
fn rest(key: u64) -> u64 {
    key >> 8
}

fn number(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    for (to, from) in number.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests;
