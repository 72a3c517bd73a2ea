//! Receipts of requests that were sent on and whose responses are awaited.
//!
//! Streams that end without a response leave theirs behind, and Envoy is not asked to tell (each callback costs every
//! request), so the oldest give way. Ids of streams are not used twice, so a receipt cannot reach another stream.

use std::collections::VecDeque;

/// How many are kept; a receipt is for debugging, and this many at once are no debugging.
const MOST: usize = 1024;

/// What to do to a response's receipt header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Whatever the service says about receipts is no receipt of ours: this one takes its place.
    Replace(String),
    /// A gateway's receipt may be there already: this one joins it.
    Add(String),
    /// One was asked for, but none are given here.
    Strip,
}

/// A change and the header it concerns: by then the stream's config may be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The header's name.
    pub(crate) header: String,
    /// What to do to it.
    pub(crate) change: Change,
    /// What takes its place if a limit of the region refuses the request.
    pub(crate) limited: Option<Limited>,
}

/// A receipt but for the limit that refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    /// How it begins.
    pub(crate) place: String,
    /// The limits that were consulted.
    pub(crate) limits: String,
    /// The one of them that is leased.
    pub(crate) leased: Option<String>,
}

/// Receipts by stream.
#[derive(Debug, Default)]
pub(crate) struct Receipts(VecDeque<(u32, Receipt)>);

impl Receipts {
    /// Keeps a receipt until the stream has a response.
    pub(crate) fn put(&mut self, stream: u32, receipt: Receipt) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((stream, receipt));
    }

    /// The receipt of a stream; at most once.
    pub(crate) fn take(&mut self, stream: u32) -> Option<Receipt> {
        let at = self.0.iter().position(|(id, _)| *id == stream)?;
        self.0.remove(at).map(|(_, receipt)| receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(change: Change) -> Receipt {
        Receipt {
            header: "x-mesh-receipt".to_owned(),
            change,
            limited: None,
        }
    }

    #[test]
    fn taken_once_and_by_its_stream() {
        let strip = || receipt(Change::Strip);
        let add = || receipt(Change::Add("b".to_owned()));
        let mut receipts = Receipts::default();
        receipts.put(7, strip());
        receipts.put(8, add());
        assert_eq!(receipts.take(9), None);
        assert_eq!(receipts.take(8), Some(add()));
        assert_eq!(receipts.take(8), None);
        assert_eq!(receipts.take(7), Some(strip()));
    }

    #[test]
    fn the_oldest_give_way() {
        let mut receipts = Receipts::default();
        for stream in (0..).take(MOST + 1) {
            receipts.put(stream, receipt(Change::Strip));
        }
        assert_eq!(receipts.take(0), None);
        assert_eq!(receipts.take(1), Some(receipt(Change::Strip)));
        assert!(receipts.0.len() < MOST);
    }
}
