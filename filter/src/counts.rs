//! Counts of decisions. They are kept here and handed to Envoy now and then: what the filter costs is its calls into the
//! host (see `docs/filter.md`), and counting at once would be one more for every request.

pub(crate) mod limits;

use isthmus_model::{Code, Decision, Kind};

const KINDS: usize = Kind::ALL.len();
const CODES: usize = Code::ALL.len();
/// How many counters there are.
pub(crate) const COUNTERS: usize = KINDS + CODES;

/// What was counted since it was last handed over.
#[derive(Debug)]
pub(crate) struct Counts {
    pending: [i64; COUNTERS],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            pending: [0; COUNTERS],
        }
    }
}

impl Counts {
    /// Counts a decision.
    pub(crate) fn add(&mut self, decision: &Decision<'_>) {
        let at = match decision {
            Decision::Route(route) => route.kind as usize,
            Decision::Reject(refusal) => KINDS + refusal.code() as usize,
        };
        if let Some(count) = self.pending.get_mut(at) {
            *count += 1;
        }
    }

    /// Hands over what is not zero, as places in [`names`], and starts anew.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (usize, i64)> {
        std::mem::replace(&mut self.pending, [0; COUNTERS])
            .into_iter()
            .enumerate()
            .filter(|(_, count)| *count != 0)
    }
}

/// The counters' names. Envoy puts `wasmcustom.` before them.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let routed = Kind::ALL.map(|kind| format!("isthmus.routed.{}", kind.as_str()));
    let refused = Code::ALL.map(|code| format!("isthmus.refused.{code}"));
    routed.into_iter().chain(refused)
}

#[cfg(test)]
mod tests;
