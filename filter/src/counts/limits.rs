//! Counts of what limits had to say, for each limit: counters are defined when a limit first counts, and kept for good.
//!
//! Envoy forgets no counter, and configs change, so there is a bound: the first [`MOST`] limits that count anything in an
//! Envoy have counters of their own, and all others share some. Limits come from the config, so no caller can make up a
//! name. Which limits those are, all threads have to agree on, or else a limit would be counted here under its own name and
//! there under that of the others, and neither would say anything. So there is one list, which all threads share and each
//! has read as far as it had to; it only grows, and once it is full nobody has to look again.

use std::collections::BTreeMap;

use isthmus_model::{Limit, Outcome};

/// Most limits that have counters of their own, in the life of an Envoy.
pub(crate) const MOST: usize = 1000;

/// Most bytes of a limit on the list; longer ones are counted with the others.
const LONGEST: usize = 1000;

/// Between limits on the list: none has it in it.
const END: u8 = b'\n';

/// How often the list is written. Whenever that fails another thread has succeeded, so this is never reached in practice.
const ATTEMPTS: u32 = 100;

/// What stands for the service and for the limit where it is one of the others. A service may be called this, no limit is.
const OTHER: &str = "other";

const OUTCOMES: usize = Outcome::ALL.len();

/// What Envoy keeps: its counters, and the list of limits that have some.
pub(crate) trait Counters {
    /// The number of the counter of this name.
    fn define(&mut self, name: &str) -> Option<u32>;

    /// The list and the version under which it can be replaced; an empty one if there is none yet.
    fn list(&mut self) -> Option<(Vec<u8>, u32)>;

    /// Replaces the list, unless it has another version by now: `false`.
    fn replace_list(&mut self, list: &[u8], version: u32) -> Option<bool>;

    /// There is no room on the list for a limit: to be said once in a thread.
    fn full(&mut self);
}

/// What limits had to say since it was last handed over.
#[derive(Debug, Default)]
pub(crate) struct LimitCounts {
    /// By the limit's identity. `None`: it is on the list, and nothing was counted in this thread.
    own: BTreeMap<Box<str>, Option<Count>>,
    others: Option<Count>,
    /// All of the list is in `own`, and no more comes.
    is_full: bool,
}

/// The counts of one limit: one for each outcome, and the number of its counter.
#[derive(Debug)]
struct Count([(u32, i64); OUTCOMES]);

impl LimitCounts {
    /// Counts what a limit had to say. Calls the host only the first time; not at all where the list is full.
    pub(crate) fn add(
        &mut self,
        service: &str,
        limit: &Limit,
        outcome: Outcome,
        host: &mut impl Counters,
    ) {
        let identity = limit.identity();
        if let Some(Some(count)) = self.own.get_mut(identity) {
            count.add(outcome);
            return;
        }
        let count = if self.has_own(identity, host) {
            let count = self.own.entry(identity.into()).or_default();
            count_of(count, service, limit.token(), host)
        } else {
            count_of(&mut self.others, OTHER, OTHER, host)
        };
        // A count that Envoy does not take is lost; requests are not.
        if let Some(count) = count {
            count.add(outcome);
        }
    }

    /// Hands over what is not zero, as numbers of counters, and starts anew.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u32, i64)> {
        let own = self.own.values_mut().flatten();
        own.chain(&mut self.others)
            .flat_map(|count| &mut count.0)
            .filter(|(_, count)| *count != 0)
            .map(|(counter, count)| (*counter, std::mem::take(count)))
    }

    /// Whether a limit that has counted nothing yet has counters of its own: puts it on the list if there is room.
    fn has_own(&mut self, identity: &str, host: &mut impl Counters) -> bool {
        if self.own.contains_key(identity) {
            return true;
        }
        if self.is_full || identity.len() > LONGEST {
            return false;
        }
        for _ in 0..ATTEMPTS {
            let Some((mut list, version)) = host.list() else {
                return false;
            };
            match enlist(&mut list, identity) {
                Place::Known => return true,
                Place::None => {
                    let limits = entries(&list).filter_map(|limit| str::from_utf8(limit).ok());
                    for limit in limits {
                        self.own.entry(limit.into()).or_default();
                    }
                    self.is_full = true;
                    host.full();
                    return false;
                }
                Place::New => match host.replace_list(&list, version) {
                    Some(true) => return true,
                    Some(false) => {}
                    None => return false,
                },
            }
        }
        false
    }
}

/// The counts at a place, with counters that are defined now if they are not yet: all, so that a first refusal is a step
/// from zero.
fn count_of<'a>(
    place: &'a mut Option<Count>,
    service: &str,
    limit: &str,
    host: &mut impl Counters,
) -> Option<&'a mut Count> {
    if place.is_none() {
        let mut count = Count([(0, 0); OUTCOMES]);
        for (outcome, (counter, _)) in Outcome::ALL.into_iter().zip(&mut count.0) {
            *counter = host.define(&name(service, limit, outcome))?;
        }
        *place = Some(count);
    }
    place.as_mut()
}

/// The name of a counter; Envoy puts `wasmcustom.` before it. Neither a service nor a limit has a semicolon, and no outcome
/// has a dot, so `stats_tags` find the parts: see `envoy-configs/`.
fn name(service: &str, limit: &str, outcome: Outcome) -> String {
    let outcome = outcome.as_str();
    format!("isthmus.limit_requests_total.{service};{limit}.{outcome}")
}

impl Count {
    fn add(&mut self, outcome: Outcome) {
        if let Some((_, count)) = self.0.get_mut(outcome as usize) {
            *count += 1;
        }
    }
}

/// Whether a limit is on the list.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Known,
    /// It was put there now.
    New,
    /// It is not, and there is no room.
    None,
}

fn enlist(list: &mut Vec<u8>, limit: &str) -> Place {
    if entries(list).any(|entry| entry == limit.as_bytes()) {
        return Place::Known;
    }
    if entries(list).count() >= MOST {
        return Place::None;
    }
    list.extend_from_slice(limit.as_bytes());
    list.push(END);
    Place::New
}

fn entries(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == END)
        .filter(|entry| !entry.is_empty())
}

#[cfg(test)]
mod tests;
