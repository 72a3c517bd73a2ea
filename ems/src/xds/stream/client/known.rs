//! What the model client knows of one type, and what must be true of each response of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::TTL;
use crate::xds::stream::{Mode, Response};

/// What one client knows of one type.
#[derive(Default)]
pub(super) struct Known {
    pub(super) names: BTreeSet<String>,
    pub(super) wildcard: bool,
    pub(super) asked: bool,
    pub(super) named: bool,
    /// Name to version.
    pub(super) has: BTreeMap<String, String>,
    /// When it forgets what it has.
    pub(super) until: BTreeMap<String, Duration>,
    /// The last version of the whole type that it took.
    pub(super) version: String,
    /// What it took last, by its own word.
    pub(super) took: BTreeMap<String, String>,
    /// Names of which it keeps what it took last, whatever else it rejects.
    pub(super) keeps: BTreeSet<String>,
    /// Names of which it rejected a heartbeat: how long it still has them may not be known.
    pub(super) unsure: BTreeSet<String>,
    /// The response to answer.
    pub(super) open: Option<Response>,
    /// What it had, and until when, of what that holds: it has it again if it rejects the response.
    pub(super) before: BTreeMap<String, (Option<String>, Option<Duration>)>,
    /// What it had of what is gone by it; none of what it forgot.
    pub(super) gone: BTreeMap<String, Option<String>>,
    /// Names whose next response may repeat a version: they were asked for.
    pub(super) excused: BTreeSet<String>,
    /// The same because their cluster changed; not if the client rejected that version.
    pub(super) follows: BTreeSet<String>,
    /// Rejected with others, so that nobody knows which of them is at fault: these are tried apart.
    pub(super) doubted: BTreeSet<String>,
    /// Rejected and not sent anything else since.
    pub(super) refused: BTreeSet<String>,
    /// Of these it had an older version then.
    pub(super) behind: BTreeSet<String>,
    /// What it has and is gone: it rejected that.
    pub(super) clings: BTreeSet<String>,
    /// What it uses without having said so, beside what it rejected by name: it does not name that when it comes back.
    pub(super) untold: BTreeSet<String>,
    /// Of these it did not say that it has them when it came back: nobody can tell it that they are gone.
    pub(super) unknown: BTreeSet<String>,
    /// What was sent last on this stream, whether rejected or not.
    pub(super) sent: BTreeMap<String, Option<String>>,
}

impl Known {
    /// It takes all that a response holds.
    pub(super) fn accept(&mut self, response: &Response) {
        let gone = std::mem::take(&mut self.gone);
        self.clings.retain(|name| !gone.contains_key(name));
        for resource in &**response.resources {
            let (name, version) = (resource.name().to_string(), resource.version().to_string());
            // It may have asked for it no more meanwhile.
            if self.before.contains_key(&name) {
                self.keeps.insert(name.clone());
                self.took.insert(name.clone(), version);
            }
            self.unsure.remove(&name);
            self.untold.remove(&name);
        }
    }

    /// What it could name as wrong in a response.
    pub(super) fn suspect(&self, response: &Response) -> Option<String> {
        let names = response.resources.iter().map(|r| (r, r.name().to_string()));
        let lasting = |name: &String| !self.until.contains_key(name);
        let all_last = { names.clone() }
            .all(|(r, name)| r.ttl().is_none() && !r.is_heartbeat() && lasting(&name))
            && self.gone.keys().all(lasting)
            && self.before.values().all(|(_, until)| until.is_none());
        let had = |name: &String| self.before.get(name).map(|(has, _)| has.clone());
        let mut new = names.filter(|(r, name)| {
            had(name).is_some_and(|had| had.as_deref() != Some(&**r.version()))
        });
        new.next().map(|(_, name)| name).filter(|_| all_last)
    }

    /// It uses all of a response but for one thing, and does not say so.
    pub(super) fn use_beside(&mut self, response: &Response, blamed: &str, now: Duration) {
        let gone = std::mem::take(&mut self.gone);
        self.clings.retain(|name| !gone.contains_key(name));
        for resource in &**response.resources {
            let (name, version) = (resource.name().to_string(), resource.version().to_string());
            if name != blamed && self.before.contains_key(&name) {
                self.took.insert(name.clone(), version);
                self.untold.insert(name);
            }
        }
        self.refuse(blamed, now);
    }

    /// It takes nothing of a response, and says that it is because of one thing in it.
    pub(super) fn blame(&mut self, response: &Response, blamed: &str, now: Duration) {
        let refused = self.refused.clone();
        self.reject(response, now);
        let names = response.resources.iter().map(|r| r.name().to_string());
        let removed = response.removed.iter().map(ToString::to_string);
        self.doubted.extend(names.chain(removed));
        self.doubted.remove(blamed);
        self.refused = refused;
        self.refused.insert(blamed.to_owned());
    }

    /// It takes nothing of a response, and goes on with what it had.
    pub(super) fn reject(&mut self, response: &Response, now: Duration) {
        let whole = response.resources.iter().filter(|r| !r.is_heartbeat());
        let whole: Vec<String> = whole.map(|r| r.name().to_string()).collect();
        let removed = response.removed.iter().map(ToString::to_string);
        // Where nothing else could be at fault, what was refreshed goes again as a whole.
        let suspects = if whole.is_empty() && response.removed.is_empty() {
            response
                .resources
                .iter()
                .map(|r| r.name().to_string())
                .collect()
        } else {
            whole
        };
        if suspects.len() + response.removed.len() > 1 && !suspects.is_empty() {
            self.doubted.extend(suspects.into_iter().chain(removed));
        }
        // What is gone by it the client still has.
        for (name, has) in std::mem::take(&mut self.gone) {
            let lasts = self.until.get(&name).is_none_or(|until| *until > now);
            self.clings.insert(name.clone());
            self.has
                .extend(has.filter(|_| lasts).map(|has| (name, has)));
        }
        for resource in &**response.resources {
            let name = resource.name().to_string();
            if self
                .took
                .get(&name)
                .is_some_and(|took| **took == **resource.version())
            {
                // That it has no more, by its own word.
                self.keeps.remove(&name);
            }
            if resource.is_heartbeat() {
                self.unsure.insert(name.clone());
            }
            self.refuse(&name, now);
        }
    }

    /// It goes on with what it had of a name.
    fn refuse(&mut self, name: &str, now: Duration) {
        let name = name.to_owned();
        let (has, until) = self.before.remove(&name).unwrap_or_default();
        let has = has.filter(|_| until.is_none_or(|until| until > now));
        if has.is_some() || self.took.contains_key(&name) {
            self.behind.insert(name.clone());
        } else {
            self.behind.remove(&name);
        }
        match has {
            Some(has) => drop(self.has.insert(name.clone(), has)),
            None => drop(self.has.remove(&name)),
        }
        match until {
            Some(until) => drop(self.until.insert(name.clone(), until)),
            None => drop(self.until.remove(&name)),
        }
        self.refused.insert(name);
    }

    /// Gives the names whose content differs from what was sent before. `full`: what is left out is gone; `current`: the version
    /// that the server has of a name.
    pub(super) fn receive(
        &mut self,
        response: Response,
        now: Duration,
        full: bool,
        current: impl Fn(&str) -> Option<Arc<str>>,
    ) -> Vec<String> {
        let mut updated = Vec::new();
        assert!(self.open.is_none(), "two in flight: {response:?}");
        assert!(!response.version.is_empty(), "{response:?}");
        let mut seen = BTreeSet::new();
        self.gone.clear();
        let names = response.resources.iter().map(|r| r.name().to_string());
        self.before = names
            .map(|name| {
                let had = (self.has.get(&name).cloned(), self.until.get(&name).copied());
                (name, had)
            })
            .collect();
        for resource in &**response.resources {
            let (name, version) = (resource.name().to_string(), resource.version().to_string());
            assert!(seen.insert(name.clone()), "{name} twice in {response:?}");
            if resource.is_heartbeat() {
                assert_eq!(
                    self.has.get(&name),
                    Some(&version),
                    "a heartbeat of what the client does not have: {response:?}"
                );
                self.until.insert(name, now + TTL);
                continue;
            }
            // Whole, and not by a heartbeat: where there are none, when it is due; else only what the client forgot.
            let early = match response.mode {
                Mode::Delta if !self.unsure.contains(&name) => Duration::ZERO,
                Mode::Delta | Mode::Sotw => TTL * 2 / 3,
            };
            let until = self.until.get(&name);
            let refresh =
                resource.ttl().is_some() && until.is_some_and(|until| *until <= now + early);
            // What it took before it rejected what is current.
            let newer = current(&name).is_none_or(|current| *current != *version);
            let again = self.refused.contains(&name) && self.took.get(&name) == Some(&version);
            // In a full list that may be all that it is, also where the server is back at it.
            if again && (newer || full) {
                assert!(full || refresh, "{name}@{version} again: {response:?}");
                self.until
                    .extend(resource.ttl().map(|ttl| (name.clone(), now + ttl)));
                if self.doubted.remove(&name) || !newer {
                    updated.push(name.clone());
                }
                self.has.insert(name, version);
                continue;
            }
            // Only refreshed, perhaps, while the change back to it waits for another type: then that may come, or what was
            // rejected be there again, which does not.
            if again && refresh {
                self.until
                    .extend(resource.ttl().map(|ttl| (name.clone(), now + ttl)));
                self.excused.insert(name.clone());
                updated.push(name.clone());
                self.has.insert(name, version);
                continue;
            }
            let before = self.sent.insert(name.clone(), Some(version.clone()));
            let same = before.flatten().as_ref() == Some(&version);
            let follows = self.follows.remove(&name) && !self.refused.contains(&name);
            let doubted = self.doubted.remove(&name);
            let excused = follows || refresh || doubted || self.excused.contains(&name);
            assert!(
                !same || full || excused,
                "{name}@{version} again without reason: {response:?}"
            );
            // What it did not say that it took counts as new.
            let untold = self.untold.contains(&name);
            if !same || doubted || untold || self.refused.contains(&name) {
                updated.push(name.clone());
            }
            self.excused.remove(&name);
            self.refused.remove(&name);
            self.clings.remove(&name);
            match resource.ttl() {
                Some(ttl) => drop(self.until.insert(name.clone(), now + ttl)),
                None => drop(self.until.remove(&name)),
            }
            self.has.insert(name, version);
        }
        for name in response.removed.iter().map(ToString::to_string) {
            assert!(seen.insert(name.clone()), "{name} twice in {response:?}");
            let before = self.sent.insert(name.clone(), None);
            let doubted = self.doubted.remove(&name);
            assert!(
                before != Some(None) || doubted || self.excused.contains(&name),
                "-{name} again without reason: {response:?}"
            );
            self.excused.remove(&name);
            let has = self.has.remove(&name);
            if has.is_some() || before.flatten().is_some() {
                self.gone.insert(name.clone(), has);
            }
            self.took.remove(&name);
            self.keeps.remove(&name);
        }
        if full {
            let known = self.has.keys().chain(self.sent.keys());
            let left: BTreeSet<_> = known.filter(|name| !seen.contains(*name)).collect();
            let left = left.into_iter().cloned().map(|name| {
                let has = self.has.get(&name).cloned();
                (name, has)
            });
            self.gone.extend(left);
            self.has.retain(|name, _| seen.contains(name));
            self.sent.retain(|name, _| seen.contains(name));
            self.took.retain(|name, _| seen.contains(name));
            self.keeps.retain(|name| seen.contains(name));
        }
        self.open = Some(response);
        updated
    }
}
