//! Counts of decisions. They are kept here and handed to Envoy now and then: what the filter costs is its calls into the
//! host (see `docs/filter.md`), and counting at once would be one more for every request.

use isthmus_model::{Code, Decision, Kind, LimitKind, Outcome};

const KINDS: usize = Kind::ALL.len();
const CODES: usize = Code::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();
const LIMITS: usize = LimitKind::ALL.len() * OUTCOMES;
/// How many counters there are.
pub(crate) const COUNTERS: usize = KINDS + CODES + LIMITS;

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
        self.add_one(at);
    }

    /// Counts what a limit had to say.
    pub(crate) fn add_limit(&mut self, kind: LimitKind, outcome: Outcome) {
        self.add_one(KINDS + CODES + kind as usize * OUTCOMES + outcome as usize);
    }

    fn add_one(&mut self, at: usize) {
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
    let limits = LimitKind::ALL.into_iter().flat_map(|kind| {
        Outcome::ALL.map(|outcome| format!("isthmus.limit.{}.{}", kind.as_str(), outcome.as_str()))
    });
    routed.into_iter().chain(refused).chain(limits)
}

#[cfg(test)]
mod tests;
