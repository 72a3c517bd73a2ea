//! The part of a subscription that knows how requests change what a client wants.

use std::{collections::HashMap, sync::Arc};

use super::{
    Entry, Subscription, WILDCARD, Waves,
    due::{Due, Why},
};
use crate::xds::{
    View,
    limits::{Limits, Refusal},
    stream::{Action, Mode},
};

impl Subscription {
    /// Applies a delta request: what is no longer wanted goes first, so that a name on both lists is answered.
    pub(in crate::xds) fn ask_delta(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        initial: HashMap<String, String>,
        view: &dyn View,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let first = !std::mem::replace(&mut self.started, true);
        let nothing = subscribe.is_empty() && unsubscribe.is_empty();
        let legacy = nothing && !self.named && !self.wildcard;
        let returning = first && !initial.is_empty();
        if first {
            limits.check_count(self.kind, initial.len())?;
            self.remember(initial, view, limits, actions)?;
        }
        let all = |names: &[String]| names.iter().any(|name| name == WILDCARD);
        let (joins, leaves) = (all(&subscribe), all(&unsubscribe));
        self.named |= leaves || !subscribe.is_empty();
        // Before names are forgotten: what the wildcard covers is not.
        if joins || legacy {
            self.join_wildcard(returning, view, actions);
        }
        self.forget(unsubscribe.iter().map(|name| &**name), view, actions);
        let names = subscribe.into_iter().filter(|name| name != WILDCARD);
        self.want(names, returning, limits, actions)?;
        // After names are asked for: what the client had by the wildcard it still has. A request that leaves the wildcard
        // and joins it does not leave: the client may still have all of it, and has to hear what is gone.
        if leaves && !joins {
            self.leave_wildcard(view, actions);
        }
        if first && !self.wildcard {
            self.drop_unasked(view);
        }
        Ok(())
    }

    /// Applies a state-of-the-world request, whose names replace the former ones.
    pub(in crate::xds) fn ask_sotw(
        &mut self,
        names: Vec<String>,
        version: &str,
        view: &dyn View,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let first = !std::mem::replace(&mut self.started, true);
        limits.check_count(self.kind, names.len())?;
        self.named |= !names.is_empty();
        let wildcard = !self.named || names.iter().any(|name| name == WILDCARD);
        let mut names: Vec<_> = names.into_iter().filter(|n| n != WILDCARD).collect();
        names.sort();
        // Before names are forgotten: what the wildcard covers is not.
        if wildcard && !self.wildcard {
            self.join_wildcard(false, view, actions);
        }
        let gone: Vec<_> = self
            .asked()
            .filter(|name| names.binary_search_by(|n| (**n).cmp(name)).is_err())
            .cloned()
            .collect();
        self.forget(gone.iter().map(|name| &**name), view, actions);
        names.retain(|name| !self.entries.get(name).is_some_and(|entry| entry.asked));
        self.want(names, false, limits, actions)?;
        if !wildcard {
            self.leave_wildcard(view, actions);
        }
        // A client that comes back with everything it needs: only where the server alone decides what that is.
        if first && self.wildcard && self.is_full() && !self.named && !version.is_empty() {
            self.skip_if_current(version, view, actions);
        }
        Ok(())
    }

    /// Takes names that the client asks for, again or for the first time.
    fn want(
        &mut self,
        names: impl IntoIterator<Item = String>,
        returning: bool,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort();
        names.dedup();
        // All of it before anything is kept.
        limits.check_count(self.kind, names.len())?;
        for name in &names {
            limits.check_name(name)?;
        }
        let mut names: Vec<Arc<str>> = names.into_iter().map(Into::into).collect();
        let mut walk = self.entries.walk();
        let asked = |name| walk.to(name).is_some_and(|entry| entry.asked);
        let known = names.iter().map(asked).filter(|asked| *asked).count();
        limits.check_count(self.kind, self.asked + names.len() - known)?;
        let mut has = vec![false; names.len()];
        let mut fresh = Vec::new();
        let mut walk = self.entries.walk();
        for (name, has) in names.iter_mut().zip(&mut has) {
            if let Some(entry) = walk.to(name) {
                *has = true;
                *name = entry.name().clone();
                if std::mem::replace(&mut entry.asked, true) {
                    continue;
                }
            } else {
                let mut entry = Entry::named(name.clone());
                entry.asked = true;
                fresh.push(entry);
            }
            self.asked += 1;
            actions.push(Action::Follow(self.kind, name.clone()));
        }
        self.entries.add(fresh);
        let (new, known) = (self.answering(false), self.answering(returning));
        let dues = names.into_iter().zip(has);
        let dues = dues.map(|(name, has)| (name, if has { known } else { new }));
        self.dirty.add(dues);
        Ok(())
    }

    /// Drops names that the client asks for no longer.
    fn forget<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        view: &dyn View,
        actions: &mut Vec<Action>,
    ) {
        let mut gone = Vec::new();
        for name in names {
            if let Some(entry) = self.entries.get_mut(name)
                && std::mem::replace(&mut entry.asked, false)
            {
                self.asked -= 1;
                let name = entry.name().clone();
                let within = self.within.as_ref();
                if within.is_none_or(|within| within.binary_search(&name).is_err()) {
                    actions.push(Action::Unfollow(self.kind, name.clone()));
                }
                gone.push(name);
            }
        }
        if gone.is_empty() {
            return;
        }
        if !self.wildcard {
            self.drop_unasked(view);
            return;
        }
        // The client cannot tell whether the wildcard covers the name: it has to be told either way, where there are
        // words for it. A full list says it by what it contains.
        let why = match self.mode {
            Mode::Delta => Why::Asked,
            Mode::Sotw => {
                // Nothing will be said of what it was never sent.
                let full = self.is_full();
                self.retain(view, |entry| {
                    let told = entry.sent().is_some() || full && entry.is_still_there();
                    entry.asked || told
                });
                Why::Changed
            }
        };
        self.mark(gone, Due::new(why, Waves::NONE));
    }

    fn join_wildcard(&mut self, returning: bool, view: &dyn View, actions: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.wildcard, true) {
            self.within = view.wildcard_within(self.kind);
            match &mut self.within {
                Some(names) => {
                    names.sort();
                    names.dedup();
                    let names = names.iter().cloned();
                    actions.extend(names.map(|name| Action::Follow(self.kind, name)));
                }
                None => actions.push(Action::FollowAll(self.kind)),
            }
        }
        self.due |= !returning;
        self.mark(view.wildcard(self.kind), self.answering(returning));
    }

    /// How the client is answered; `has`: it says what it has, and is told only what differs, in order.
    fn answering(&self, has: bool) -> Due {
        if has {
            // It may have missed any.
            Due::new(Why::Changed, Waves::until(self.wave))
        } else {
            Due::asked(self.wave)
        }
    }

    fn leave_wildcard(&mut self, view: &dyn View, actions: &mut Vec<Action>) {
        if std::mem::replace(&mut self.wildcard, false) {
            match self.within.take() {
                Some(names) => {
                    let entries = &self.entries;
                    let asked = |name: &Arc<str>| entries.get(name).is_some_and(|e| e.asked);
                    let names = names.into_iter().filter(|name| !asked(name));
                    actions.extend(names.map(|name| Action::Unfollow(self.kind, name)));
                }
                None => actions.push(Action::UnfollowAll(self.kind)),
            }
            self.drop_unasked(view);
        }
    }

    fn drop_unasked(&mut self, view: &dyn View) {
        self.retain(view, |entry| entry.asked);
        let (entries, dirty) = (&self.entries, &mut self.dirty);
        let kind = self.kind;
        dirty.retain(|name, _| {
            let kept = entries.get(name).is_some();
            if !kept {
                // It may have been looked at, and had to wait.
                view.unused(kind, name);
            }
            kept
        });
    }
}
