//! The part of a subscription that knows what a client has from an earlier stream.

use std::{collections::HashMap, sync::Arc};

use super::{
    Entry, Subscription, Waves,
    due::{Due, Why},
    refresh::dress,
};
use crate::xds::{
    Bundle, Resource, View,
    limits::{Limits, Refusal},
    stream::{Action, State, version_of},
};

/// Bytes of a version that is kept.
const VERSION: usize = 64;

impl Subscription {
    /// Takes what the client says it has from an earlier stream.
    pub(super) fn remember(
        &mut self,
        initial: HashMap<String, String>,
        view: &dyn View,
        limits: &Limits,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        for name in initial.keys() {
            limits.check_name(name)?;
        }
        let mut initial: Vec<_> = initial.into_iter().collect();
        initial.sort();
        let names: Vec<&str> = initial.iter().map(|(name, _)| &**name).collect();
        let current = view.get_all(self.kind, &names).into_iter();
        for (current, (name, version)) in current.zip(initial) {
            let resource = match current {
                Some(current) if **current.version() == *version => {
                    let current = dress(self.expires, current);
                    self.taken_before(&current, actions);
                    current
                }
                // A long one is not of this server, and differs like any other.
                _ if version.len() > VERSION => {
                    Arc::new(Resource::remembered(name.into(), Arc::default()))
                }
                _ => Arc::new(Resource::remembered(name.into(), version.into())),
            };
            // Its TTL runs since nobody knows when.
            self.refresh.extend(resource.heartbeat().cloned());
            self.entries.add([Entry::of(resource, State::Acked)]);
        }
        let names: Vec<_> = self.entries.iter().map(|e| e.name().clone()).collect();
        self.mark(names, Due::new(Why::Changed, Waves::until(self.wave)));
        Ok(())
    }

    /// Takes it that the client has everything, if that is what its version says; else everything is sent. A version that
    /// somebody gave the type says nothing of what it holds.
    pub(super) fn skip_if_current(
        &mut self,
        version: &str,
        view: &dyn View,
        actions: &mut Vec<Action>,
    ) {
        let items = self.plan(view).into_items();
        let resources: Bundle = items.iter().filter_map(|i| i.resource.clone()).collect();
        let expires = resources.iter().any(|r| r.ttl().is_some());
        let given = view.type_version(self.kind).is_some();
        if expires || given || *version_of(self.kind, &resources, &[], view) != *version {
            let names = items.into_iter().map(|item| item.name);
            self.mark(names, Due::asked(self.wave));
            return;
        }
        self.due = false;
        for resource in &*resources {
            self.taken_before(resource, actions);
        }
        let taken = resources.iter().cloned();
        self.entries
            .add(taken.map(|resource| Entry::of(resource, State::Acked)));
    }

    /// A client has what it took, also if it took it from another server or before this one was started.
    fn taken_before(&self, resource: &Arc<Resource>, actions: &mut Vec<Action>) {
        if resource.fate().take() {
            actions.push(Action::Ruled(self.kind, resource.clone()));
        }
    }
}
