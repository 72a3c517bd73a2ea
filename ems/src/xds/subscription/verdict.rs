//! What a client says of the response in flight, and what that makes of the resources in it.

use std::sync::Arc;

use super::{Entry, InFlight, Subscription, blame::mentions};
use crate::xds::{Resource, stream::State};

/// A client's word on the response in flight.
#[derive(Debug, Default)]
pub(in crate::xds) struct Verdict {
    /// What it rejected.
    pub(in crate::xds) blamed: Vec<Arc<str>>,
    /// Something of that it had not rejected before in this version.
    pub(in crate::xds) fresh: bool,
    /// What has become bad by it, or good again.
    pub(in crate::xds) ruled: Vec<Arc<Resource>>,
}

impl Subscription {
    /// Takes the client's word on the response with this nonce. `None`: it is not the one in flight.
    pub(in crate::xds) fn verdict(
        &mut self,
        nonce: u64,
        error: Option<&Arc<str>>,
    ) -> Option<Verdict> {
        if self.in_flight.as_ref()?.nonce != nonce {
            return None;
        }
        let InFlight { names, .. } = self.in_flight.take()?;
        let Some(error) = error else {
            return Some(Verdict {
                ruled: self.accept(&names),
                ..Verdict::default()
            });
        };
        let mut blamed: Vec<_> = names
            .iter()
            .filter(|n| mentions(error, n))
            .cloned()
            .collect();
        // Of several of which none is named any may be good: they are shown as rejected, and not ruled upon.
        let certain = !blamed.is_empty() || names.len() == 1;
        if blamed.is_empty() {
            blamed = names;
        }
        let mut fresh = false;
        let mut ruled = Vec::new();
        for name in &blamed {
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            if let Some(sent) = &entry.sent {
                fresh |= entry.refused.as_ref() != Some(sent.version());
                entry.refused = Some(sent.version().clone());
                entry.state = State::Rejected;
                if certain && sent.fate().reject(error) {
                    ruled.push(sent.clone());
                }
                self.errors.insert(name.clone(), error.clone());
            }
        }
        Some(Verdict {
            blamed,
            fresh,
            ruled,
        })
    }

    /// Gives what has become good again by it.
    fn accept(&mut self, names: &[Arc<str>]) -> Vec<Arc<Resource>> {
        let mut ruled = Vec::new();
        let mut take = |entry: &mut Entry| {
            let Some(sent) = &entry.sent else {
                return false;
            };
            entry.state = State::Acked;
            if sent.fate().take() {
                ruled.push(sent.clone());
            }
            true
        };
        if self.is_full() {
            self.errors.clear();
            for entry in self.entries.values_mut() {
                take(entry);
            }
            return ruled;
        }
        for name in names {
            let Some(entry) = self.entries.get_mut(name) else {
                continue;
            };
            if take(entry) {
                self.errors.remove(name);
            }
        }
        ruled
    }
}
