//! The part of a subscription that knows what a client has from an earlier stream.

use std::{collections::HashMap, sync::Arc};

use super::{Entry, Subscription, plan::Why};
use crate::xds::{
    Resource, View,
    limits::{Limits, Refusal},
    stream::{State, version_of},
};

impl Subscription {
    /// Takes what the client says it has from an earlier stream.
    pub(super) fn remember(
        &mut self,
        initial: HashMap<String, String>,
        view: &dyn View,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        for (name, version) in initial {
            limits.check_name(&name)?;
            let resource = match view.get(self.kind, &name) {
                Some(current) if **current.version() == *version => self.dress(current),
                _ => Arc::new(Resource::remembered(name.into(), version.into())),
            };
            let name = resource.name().clone();
            self.mark(name.clone(), Why::Changed, 0);
            let entry = Entry {
                asked: false,
                sent: Some(resource.clone()),
                state: State::Acked,
                refused: None,
            };
            // Its TTL runs since nobody knows when.
            if let Some(heartbeat) = resource.heartbeat() {
                self.refresh.push((name.clone(), Some(heartbeat.clone())));
            }
            self.entries.insert(name, entry);
        }
        Ok(())
    }

    /// Takes it that the client has everything, if that is what its version says; else everything is sent.
    pub(super) fn skip_if_current(&mut self, version: &str, view: &dyn View) {
        let plan = self.plan(view);
        let mut resources: Vec<_> = plan.answers.iter().filter_map(|(_, r)| r.clone()).collect();
        resources.sort_by(|a, b| a.name().cmp(b.name()));
        let expires = resources.iter().any(|r| r.ttl().is_some());
        if expires || *version_of(self.kind, &resources, &[], view) != *version {
            for (name, _) in plan.answers {
                self.mark(name, Why::Asked, 0);
            }
            return;
        }
        self.due = false;
        for (name, resource) in plan.answers {
            let entry = self.entries.entry(name).or_default();
            entry.sent = resource;
            entry.state = State::Acked;
        }
    }
}
