//! Writes: what is asked for, and what the store would have to do for it.
//!
//! The version rules are in [`judge`], once for every kind of record. Planning changes nothing; a plan that loses the
//! race in the store is made again from what is known then.

mod rejection;

use bytes::Bytes;
use isthmus_model::{RegionName, ServiceName};
use isthmus_proto::v1;
use prost::Message;

pub use rejection::Rejection;

use super::{Due, EndpointEntry, Key, Now, RegionEntry, Registry};
use crate::{
    record::{Endpoint, EndpointId, Region, Service},
    store::{Guard, Transaction, Write},
};

/// What a write comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned<M> {
    /// What to do in the store.
    pub effect: Effect,
    /// What that means for the record.
    pub outcome: Outcome,
    /// What to answer once it is done.
    pub answer: M,
}

/// What to do in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// Renew the lease of this key.
    Renew(String),
    /// Commit this.
    Commit(Transaction),
}

/// What a write means for its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was none.
    Created,
    /// It has a new version.
    Updated,
    /// It is as it was.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// What a valid write means under the version rules.
enum Verdict {
    Unchanged,
    Write(u64),
}

/// The stored side of a write: its version, and whether the content is the same but for that.
struct Standing {
    version: u64,
    same: bool,
}

/// Without a version a write gets the next one, unless it would change nothing. With one it must be greater than the
/// stored one; equal is right only for the same content, so that a repeated write is answered like the first.
fn judge(key: &Key, written: u64, stored: Option<&Standing>) -> Result<Verdict, Rejection> {
    let Some(stored) = stored else {
        return Ok(Verdict::Write(written.max(1)));
    };
    let repeated = written == 0 || written == stored.version;
    match written {
        _ if repeated && stored.same => Ok(Verdict::Unchanged),
        0 => Ok(Verdict::Write(stored.version.saturating_add(1))),
        _ if written > stored.version => Ok(Verdict::Write(written)),
        _ => Err(Rejection::Stale {
            record: key.to_string(),
            written,
            stored: stored.version,
        }),
    }
}

impl Registry {
    /// Creates or replaces a service.
    ///
    /// # Errors
    /// Fields at fault, or a version that is not greater than the stored one.
    pub fn put_service(&self, mut message: v1::Service) -> Result<Planned<v1::Service>, Rejection> {
        self.loaded()?;
        let checked = Service::parse(&message)?;
        message.name = checked.name.to_string();
        message.rejected.clear();
        let stored = self.service(&checked.name).map(|entry| {
            let version = entry.message.version;
            let same = v1::Service {
                version,
                ..message.clone()
            } == entry.message;
            Standing { version, same }
        });
        let key = Key::Service(checked.name);
        match judge(&key, message.version, stored.as_ref())? {
            Verdict::Unchanged => {
                message.version = stored.map_or(1, |stored| stored.version);
                Ok(unchanged(message, Effect::Nothing))
            }
            Verdict::Write(version) => {
                message.version = version;
                Ok(self.write(&key, message, Vec::new()))
            }
        }
    }

    /// Deletes a service and all of its endpoints.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn delete_service(&self, name: &ServiceName) -> Result<Planned<v1::Deleted>, Rejection> {
        self.loaded()?;
        let version = self.service(name).map(|entry| entry.message.version);
        let endpoints = Write::DeletePrefix(Key::endpoints(name));
        self.delete_record(&Key::Service(name.clone()), version, vec![endpoints])
    }

    /// Registers an endpoint. One that is there already and says nothing new is a heartbeat: its lease is renewed,
    /// and nothing else happens. See `Endpoint.draining` in the schema for what that means for a drain.
    ///
    /// # Errors
    /// Fields at fault, no such service, or a version that is not greater than the stored one.
    pub fn put_endpoint(
        &self,
        mut message: v1::Endpoint,
        now: Now,
    ) -> Result<Planned<v1::Endpoint>, Rejection> {
        self.loaded()?;
        let checked = Endpoint::parse(&message)?;
        if self.service(&checked.service).is_none() {
            let service = Key::Service(checked.service);
            return Err(Rejection::NotFound {
                record: service.to_string(),
                advice: "put the service first, then its endpoints",
            });
        }
        message.service = checked.service.to_string();
        message.expires_at = None;
        let said = message.draining.take();
        let entry = self.endpoint(&checked.service, &checked.id);
        let ending = self.leases.is_ending(&checked.service, &checked.id);
        let service = Guard::Exists(Key::Service(checked.service.clone()).to_string());
        let key = Key::Endpoint(checked.service, checked.id);
        let stored = entry.map(|entry| Standing {
            version: entry.message.version,
            same: same_but_draining(&message, entry),
        });
        let drained = entry.is_some_and(|entry| entry.checked.draining);

        // The drain gave the record a version that the client does not know, so its heartbeats carry an older one.
        let heartbeat_of_drained = drained
            && said.is_none()
            && stored
                .as_ref()
                .is_some_and(|stored| stored.same && message.version <= stored.version);
        let draining = said.unwrap_or(heartbeat_of_drained);
        message.draining = draining.then_some(true);
        let stored = stored.map(|stored| Standing {
            same: stored.same && draining == drained,
            ..stored
        });
        let verdict = if heartbeat_of_drained {
            Verdict::Unchanged
        } else {
            judge(&key, message.version, stored.as_ref())?
        };
        let planned = match verdict {
            Verdict::Unchanged => {
                message.version = stored.map_or(1, |stored| stored.version);
                match checked.ttl {
                    // Too late to renew: the same record again, which is a revision that its removal does not name.
                    Some(_) if ending => Planned {
                        outcome: Outcome::Unchanged,
                        ..self.write(&key, message, vec![service])
                    },
                    Some(_) => unchanged(message, Effect::Renew(key.to_string())),
                    None => unchanged(message, Effect::Nothing),
                }
            }
            Verdict::Write(version) => {
                message.version = version;
                self.write(&key, message, vec![service])
            }
        };
        let expires_at = checked.ttl.map(|ttl| (now.wall + ttl).into());
        Ok(Planned {
            answer: v1::Endpoint {
                expires_at,
                ..planned.answer
            },
            ..planned
        })
    }

    /// Takes an endpoint out of rotation.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn drain_endpoint(
        &self,
        service: &ServiceName,
        id: &EndpointId,
        now: Now,
    ) -> Result<Planned<v1::Endpoint>, Rejection> {
        self.loaded()?;
        let key = Key::Endpoint(service.clone(), id.clone());
        let Some(entry) = self.endpoint(service, id) else {
            return Err(Rejection::missing(&key));
        };
        if entry.checked.draining {
            let answer = self.present_endpoint(entry, now);
            return Ok(unchanged(answer, Effect::Nothing));
        }
        let message = v1::Endpoint {
            draining: Some(true),
            version: entry.message.version.saturating_add(1),
            ..entry.message.clone()
        };
        let planned = self.write(&key, message, Vec::new());
        // A write begins the lease anew.
        let expires_at = entry.checked.ttl.map(|ttl| (now.wall + ttl).into());
        Ok(Planned {
            answer: v1::Endpoint {
                expires_at,
                ..planned.answer
            },
            ..planned
        })
    }

    /// Deletes an endpoint.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn delete_endpoint(
        &self,
        service: &ServiceName,
        id: &EndpointId,
    ) -> Result<Planned<v1::Deleted>, Rejection> {
        self.loaded()?;
        let version = self
            .endpoint(service, id)
            .map(|entry| entry.message.version);
        let key = Key::Endpoint(service.clone(), id.clone());
        self.delete_record(&key, version, Vec::new())
    }

    /// Creates or replaces a region. That of this EMS always carries its own roots, whatever else is written.
    ///
    /// # Errors
    /// Fields at fault, or a version that is not greater than the stored one.
    pub fn put_region(&self, mut message: v1::Region) -> Result<Planned<v1::Region>, Rejection> {
        self.loaded()?;
        let checked = Region::parse(&message)?;
        message.name = checked.name.to_string();
        message.local = false;
        message.rejected.clear();
        let home = checked.name == self.home.region;
        if home {
            add_bundle(&mut message.trust_bundle, &self.home.trust_bundle);
        }
        let stored = self.region(&checked.name).map(|entry| {
            let version = entry.message.version;
            let same = v1::Region {
                version,
                ..message.clone()
            } == entry.message;
            Standing { version, same }
        });
        let key = Key::Region(checked.name);
        let planned = match judge(&key, message.version, stored.as_ref())? {
            Verdict::Unchanged => {
                message.version = stored.map_or(1, |stored| stored.version);
                unchanged(message, Effect::Nothing)
            }
            Verdict::Write(version) => {
                message.version = version;
                self.write(&key, message, Vec::new())
            }
        };
        Ok(Planned {
            answer: v1::Region {
                local: home,
                ..planned.answer
            },
            ..planned
        })
    }

    /// Makes the record of the own region, or adds the own roots to it.
    ///
    /// # Errors
    /// None, unless the own roots are no certificates.
    pub fn put_home(&self) -> Result<Planned<v1::Region>, Rejection> {
        let message = match self.region(&self.home.region) {
            Some(entry) => v1::Region {
                version: 0,
                ..entry.message.clone()
            },
            None => v1::Region {
                name: self.home.region.to_string(),
                ..v1::Region::default()
            },
        };
        self.put_region(message)
    }

    /// Deletes a region.
    ///
    /// # Errors
    /// There is none of this name, or it is that of this EMS.
    pub fn delete_region(&self, name: &RegionName) -> Result<Planned<v1::Deleted>, Rejection> {
        self.loaded()?;
        if *name == self.home.region {
            return Err(Rejection::Home(name.clone()));
        }
        let version = self.region(name).map(|entry| entry.message.version);
        self.delete_record(&Key::Region(name.clone()), version, Vec::new())
    }

    /// Removes endpoints whose leases have lapsed, each only if nobody wrote it meanwhile. From now on a heartbeat of
    /// one of them is a write, so that one of the two finds that the other was first.
    #[must_use]
    pub fn expire(&mut self, due: &Due) -> Vec<Transaction> {
        self.leases.mark(due);
        let mut transactions = Vec::new();
        for (service, ids) in &due.lapsed {
            for chunk in ids.chunks(EXPIRED_AT_ONCE) {
                let mut transaction = Transaction::default();
                for id in chunk {
                    let Some(entry) = self.endpoint(service, id) else {
                        continue;
                    };
                    let key = Key::Endpoint(service.clone(), id.clone()).to_string();
                    transaction
                        .guards
                        .push(Guard::At(key.clone(), entry.revision));
                    transaction.writes.push(Write::Delete(key));
                }
                transactions.push(transaction);
            }
        }
        transactions
    }

    /// An endpoint as it is read, with the end of its lease.
    #[must_use]
    pub fn present_endpoint(&self, entry: &EndpointEntry, now: Now) -> v1::Endpoint {
        let Endpoint { service, id, .. } = &entry.checked;
        let left = self.leases.left(service, id, now.steady);
        v1::Endpoint {
            expires_at: left.map(|left| (now.wall + left).into()),
            ..entry.message.clone()
        }
    }

    /// A region as it is read: the own one says so.
    #[must_use]
    pub fn present_region(&self, entry: &RegionEntry) -> v1::Region {
        v1::Region {
            local: entry.checked.name == self.home.region,
            ..entry.message.clone()
        }
    }

    /// Refuses before the first load, when what is not there may only be not there yet.
    ///
    /// # Errors
    /// Nothing is loaded yet.
    pub fn loaded(&self) -> Result<(), Rejection> {
        self.revision.map(|_| ()).ok_or(Rejection::Loading)
    }

    fn write<M: Message>(&self, key: &Key, message: M, mut guards: Vec<Guard>) -> Planned<M> {
        let text = key.to_string();
        let outcome = match self.revision_of(key) {
            Some(_) => Outcome::Updated,
            None => Outcome::Created,
        };
        guards.push(match self.revision_of(key) {
            Some(revision) => Guard::At(text.clone(), revision),
            None => Guard::Absent(text.clone()),
        });
        let value = Bytes::from(message.encode_to_vec());
        Planned {
            effect: Effect::Commit(Transaction {
                guards,
                writes: vec![Write::Put(text, value)],
            }),
            outcome,
            answer: message,
        }
    }

    fn delete_record(
        &self,
        key: &Key,
        version: Option<u64>,
        others: Vec<Write>,
    ) -> Result<Planned<v1::Deleted>, Rejection> {
        let Some(revision) = self.revision_of(key) else {
            return Err(Rejection::missing(key));
        };
        let text = key.to_string();
        let mut writes = vec![Write::Delete(text.clone())];
        writes.extend(others);
        Ok(Planned {
            effect: Effect::Commit(Transaction {
                guards: vec![Guard::At(text, revision)],
                writes,
            }),
            outcome: Outcome::Deleted,
            // A record that was set aside has a version that nobody could read.
            answer: v1::Deleted {
                version: version.unwrap_or(0),
            },
        })
    }

    /// The revision that a write of this key must name: that of the record that is set aside, if there is one.
    fn revision_of(&self, key: &Key) -> Option<u64> {
        if let Some(record) = self.quarantined.get(&key.to_string()) {
            return Some(record.revision);
        }
        match key {
            Key::Service(name) => self.service(name).map(|entry| entry.revision),
            Key::Endpoint(service, id) => self.endpoint(service, id).map(|entry| entry.revision),
            Key::Region(name) => self.region(name).map(|entry| entry.revision),
        }
    }
}

/// As many as a transaction of any store takes: etcd's default limit is 128.
const EXPIRED_AT_ONCE: usize = 100;

fn unchanged<M>(answer: M, effect: Effect) -> Planned<M> {
    Planned {
        effect,
        outcome: Outcome::Unchanged,
        answer,
    }
}

/// `message` has no `draining` and no `expires_at`.
fn same_but_draining(message: &v1::Endpoint, entry: &EndpointEntry) -> bool {
    let stored = v1::Endpoint {
        draining: None,
        version: message.version,
        ..entry.message.clone()
    };
    stored == *message
}

fn add_bundle(bundle: &mut String, own: &str) {
    if !bundle.contains(own.trim()) {
        if !bundle.is_empty() && !bundle.ends_with('\n') {
            bundle.push('\n');
        }
        bundle.push_str(own);
    }
}
