//! The certificates that are out: made when first asked for, renewed at half their life, forgotten when nobody asks any
//! more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{Identities, Issued, Issuer, SpiffeId};

/// See the module.
pub struct Wallet {
    issuer: Arc<dyn Issuer>,
    clock: fn() -> SystemTime,
    held: Mutex<HashMap<SpiffeId, Held>>,
}

struct Held {
    issued: Arc<Issued>,
    /// Whether somebody asked since it was issued. Every connected node does: it is told when its certificate changes.
    asked: bool,
}

/// What is to be done about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing yet.
    Keep,
    /// Make the next one.
    Renew,
    /// Nobody uses it.
    Forget,
}

impl Wallet {
    /// An empty wallet.
    pub fn new(issuer: Arc<dyn Issuer>, clock: fn() -> SystemTime) -> Self {
        Self {
            issuer,
            clock,
            held: Mutex::default(),
        }
    }

    /// The roots behind its certificates, as PEM.
    #[must_use]
    pub fn trust_bundle(&self) -> &str {
        self.issuer.trust_bundle()
    }

    /// Renews what is due, and says what that was. To be called every minute or so.
    pub fn renew(&self) -> Vec<SpiffeId> {
        let now = (self.clock)();
        let mut renewed = Vec::new();
        let mut held = self.lock();
        held.retain(|id, held| match due(&held.issued, held.asked, now) {
            Due::Keep => true,
            Due::Forget => false,
            Due::Renew => {
                match self.issuer.issue(id, now) {
                    Ok(issued) => {
                        held.issued = Arc::new(issued);
                        held.asked = false;
                        renewed.push(id.clone());
                    }
                    // There is half a life left to try again.
                    Err(error) => tracing::error!(%error, "certificate not renewed"),
                }
                true
            }
        });
        renewed
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At half its life a certificate is renewed, if anybody has it.
fn due(issued: &Issued, asked: bool, now: SystemTime) -> Due {
    let life = issued
        .not_after
        .duration_since(issued.not_before)
        .unwrap_or_default();
    if now < issued.not_before + life / 2 {
        Due::Keep
    } else if asked {
        Due::Renew
    } else {
        Due::Forget
    }
}

impl Identities for Wallet {
    fn identity(&self, id: &SpiffeId) -> Option<Arc<Issued>> {
        let mut all = self.lock();
        if let Some(held) = all.get_mut(id) {
            held.asked = true;
            return Some(held.issued.clone());
        }
        match self.issuer.issue(id, (self.clock)()) {
            Ok(issued) => {
                let issued = Arc::new(issued);
                all.insert(
                    id.clone(),
                    Held {
                        issued: issued.clone(),
                        asked: true,
                    },
                );
                Some(issued)
            }
            Err(error) => {
                tracing::error!(%error, "certificate not issued");
                None
            }
        }
    }
}
