//! Charges a request to the budgets of all limits that it meets and this Envoy keeps, or to none of them.
//!
//! Several threads do this at once, so nothing is written that was changed meanwhile: every write is a compare-and-swap,
//! and is tried again with what is there now. First all budgets are looked at, and if one refuses nothing was written. Only
//! where another thread takes the last of a budget between the look and the write, an earlier one of the same request was
//! charged already; that charge is given back.

use std::hash::Hasher;

use super::{Cell, CellName, Exceeded, Limit, LimitMode, NANOSECONDS, OnError, Scope, gcra::Wait};
use crate::decide::Route;

/// How often a write is tried. Whenever one fails another thread's has succeeded, so this is never reached in practice.
const ATTEMPTS: u32 = 100;

/// The budget could not be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// Where budgets are kept.
pub trait Budgets {
    /// A cell, and the version under which it can be written. A cell that is not there is empty.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read(&mut self, name: &CellName) -> Result<(Cell, u32), Unavailable>;

    /// Writes a cell, unless it was written since it was read; `false`: it was.
    ///
    /// # Errors
    /// If it cannot be written.
    fn write(&mut self, name: &CellName, cell: &Cell, version: u32) -> Result<bool, Unavailable>;

    /// Nanoseconds of a clock that all who share the budgets share, and that never goes back.
    fn now(&mut self) -> u64;
}

/// What a limit had to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request was charged to it.
    Allowed,
    /// It refused the request.
    Denied,
    /// It would have refused the request, but only counts.
    ShadowDenied,
    /// Its budget could not be asked for, so [`OnError`] decided.
    Unchecked,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [
        Self::Allowed,
        Self::Denied,
        Self::ShadowDenied,
        Self::Unchecked,
    ];

    /// The outcome as metrics show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::ShadowDenied => "shadow_denied",
            Self::Unchecked => "unchecked",
        }
    }
}

/// A budget that a request needs.
struct Charge<'a> {
    limit: &'a Limit,
    key: u64,
    name: CellName,
    /// As it was read, and what it would be after the charge.
    cell: Cell,
    version: u32,
}

/// Why a charge is not possible.
#[derive(Clone, Copy)]
enum No {
    Wait(u64),
    Unknown,
}

impl From<Unavailable> for No {
    fn from(_: Unavailable) -> Self {
        Self::Unknown
    }
}

impl<'a> Charge<'a> {
    fn new(limit: &'a Limit, key: u64) -> Self {
        Self {
            limit,
            key,
            name: CellName::of(limit.origin(), key),
            cell: Cell::default(),
            version: 0,
        }
    }

    /// Reads, takes and writes.
    fn make(&mut self, budgets: &mut impl Budgets) -> Result<(), No> {
        self.read(budgets)?;
        let now = budgets.now();
        self.take(now, budgets)?;
        self.write(budgets)
    }

    fn read(&mut self, budgets: &mut impl Budgets) -> Result<(), No> {
        (self.cell, self.version) = budgets.read(&self.name)?;
        Ok(())
    }

    /// Works out what the cell would be after the charge.
    fn take(&mut self, now: u64, budgets: &mut impl Budgets) -> Result<(), No> {
        // Others need all places: whether this key has something left nobody knows.
        let tat = self.cell.get(self.key, now).ok_or(No::Unknown)?;
        match self.limit.rate.take(tat, now) {
            Ok(next) => {
                self.cell.set(self.key, next, now);
                Ok(())
            }
            Err(Wait { wait, mend }) => {
                if let Some(mended) = mend {
                    self.cell.set(self.key, mended, now);
                    // If another thread was faster, it or the next request mends it.
                    let _ = budgets.write(&self.name, &self.cell, self.version);
                }
                Err(No::Wait(wait))
            }
        }
    }

    /// Writes the cell; if it has changed, with what is there now.
    fn write(&mut self, budgets: &mut impl Budgets) -> Result<(), No> {
        for _ in 0..ATTEMPTS {
            if budgets.write(&self.name, &self.cell, self.version)? {
                return Ok(());
            }
            self.read(budgets)?;
            // Only after the reading: then no time in the cell is later than this one and a full burst.
            let now = budgets.now();
            self.take(now, budgets)?;
        }
        Err(No::Unknown)
    }

    /// Takes the charge back. If that fails the budget is one request short for a while.
    fn undo(&mut self, budgets: &mut impl Budgets) {
        for _ in 0..ATTEMPTS {
            if self.read(budgets).is_err() {
                return;
            }
            let now = budgets.now();
            match self.cell.get(self.key, now) {
                Some(tat) if tat > now => {
                    self.cell.set(self.key, self.limit.rate.give_back(tat), now);
                }
                // It is full again, or somebody else's.
                _ => return,
            }
            if budgets.write(&self.name, &self.cell, self.version) != Ok(false) {
                return;
            }
        }
    }
}

/// Charges a request to its local limits, and notes what each had to say: all that were charged, or those that refused.
///
/// # Errors
/// If a limit refuses it. Then no budget was charged.
pub fn spend<'a, 'h, B: Budgets>(
    route: &Route<'a>,
    headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    hasher: &(impl Hasher + Clone),
    budgets: &mut B,
    note: impl FnMut(&'a Limit, Outcome),
) -> Result<(), Exceeded<'a>> {
    let charge = |limit: &'a Limit| {
        let key = limit.key(
            hasher.clone(),
            route.caller.as_ref(),
            route.limits.method,
            headers.clone(),
        );
        Charge::new(limit, key)
    };
    let mut verdict = Verdict {
        note,
        refusal: None,
    };
    let mut limits = route.limits.of_scope(Scope::Local);
    match (limits.next(), limits.next()) {
        (None, _) => return Ok(()),
        // By far the most usual: nothing to be given back, and nothing on the heap.
        (Some(limit), None) => verdict.hear(limit, charge(limit).make(budgets)),
        _ => spend_all(
            route.limits.of_scope(Scope::Local).map(charge).collect(),
            budgets,
            &mut verdict,
        ),
    }
    match verdict.refusal {
        None => Ok(()),
        Some((limit, wait)) => Err(Exceeded {
            limit,
            limits: route.limits,
            retry_after: wait.div_ceil(NANOSECONDS).max(1),
            service: route.service,
        }),
    }
}

/// First looks at all budgets, then charges them.
fn spend_all<'a, N: FnMut(&'a Limit, Outcome)>(
    mut charges: Vec<Charge<'a>>,
    budgets: &mut impl Budgets,
    verdict: &mut Verdict<'a, N>,
) {
    charges.retain_mut(|charge| verdict.keep(charge.limit, charge.read(budgets)));
    let now = budgets.now();
    charges.retain_mut(|charge| verdict.keep(charge.limit, charge.take(now, budgets)));
    charges.retain_mut(|charge| {
        if verdict.refusal.is_some() {
            return false;
        }
        verdict.keep(charge.limit, charge.write(budgets))
    });
    // Those that are left were charged.
    for charge in &mut charges {
        match verdict.refusal {
            None => verdict.hear(charge.limit, Ok(())),
            Some(_) => charge.undo(budgets),
        }
    }
}

/// What the limits had to say.
struct Verdict<'a, N> {
    note: N,
    /// The limit that needs the longest wait.
    refusal: Option<(&'a Limit, u64)>,
}

impl<'a, N: FnMut(&'a Limit, Outcome)> Verdict<'a, N> {
    fn hear(&mut self, limit: &'a Limit, said: Result<(), No>) {
        let (outcome, wait) = match (said, limit.mode, limit.on_error) {
            (Ok(()), _, _) => (Outcome::Allowed, None),
            (Err(No::Wait(_)), LimitMode::Shadow, _) => (Outcome::ShadowDenied, None),
            (Err(No::Wait(wait)), LimitMode::Enforce, _) => (Outcome::Denied, Some(wait)),
            (Err(No::Unknown), LimitMode::Enforce, OnError::Deny) => {
                (Outcome::Unchecked, Some(NANOSECONDS))
            }
            (Err(No::Unknown), _, _) => (Outcome::Unchecked, None),
        };
        (self.note)(limit, outcome);
        if let Some(wait) = wait
            && self.refusal.is_none_or(|(_, longest)| wait > longest)
        {
            self.refusal = Some((limit, wait));
        }
    }

    /// Hears only what is against the request; `true`: nothing.
    fn keep(&mut self, limit: &'a Limit, said: Result<(), No>) -> bool {
        if said.is_err() {
            self.hear(limit, said);
        }
        said.is_ok()
    }
}

#[cfg(test)]
mod tests;
