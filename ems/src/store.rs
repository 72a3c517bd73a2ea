//! Where records are kept: a replicated, watched map of keys to bytes, as far as anyone outside can tell.
//!
//! A store orders all transactions by revision. A watcher gets everything there is at one revision, then every later
//! transaction in order, so it never acts on half of a load. Writes are compare-and-set: a transaction names what it
//! was planned on, and is refused when that is no longer so.
//!
//! Leases are apart from records: a renewal is no revision, reaches every watcher, and need not survive a restart
//! (then every lease gets its full time again). That a lease has run out deletes nothing here: the registry decides,
//! with a transaction like any other, so that it can hold back when too many run out at once.
//!
//! Knows nothing of what keys and values mean.

#[cfg(test)]
mod conformance;
mod redb;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

pub use redb::RedbStore;

/// Keeps records. Implementations must pass the conformance suite beside this file.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// All records at one revision, and every event after it.
    async fn watch(&self) -> Result<Watch, StoreError>;

    /// Applies all of a transaction, durably, or nothing. Returns its revision.
    async fn commit(&self, transaction: Transaction) -> Result<u64, StoreError>;

    /// Tells every watcher that the leases of these keys are renewed. Not a revision.
    async fn renew(&self, keys: Vec<String>) -> Result<(), StoreError>;
}

/// A consistent first load and what follows it.
#[derive(Debug)]
pub struct Watch {
    /// Everything at [`Snapshot::revision`].
    pub snapshot: Snapshot,
    /// What came after. It ends when the watcher was too slow or the store lost its place: watch again.
    pub events: mpsc::Receiver<Event>,
}

/// All records at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Revision of the last transaction that is part of it.
    pub revision: u64,
    /// The records, by key.
    pub records: Vec<Stored>,
}

/// One record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: String,
    /// Revision of the transaction that wrote it.
    pub revision: u64,
    /// What it holds.
    pub value: Bytes,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction was committed.
    Changed(Change),
    /// The leases of these keys were renewed.
    Renewed(Vec<String>),
}

/// What one transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its revision: greater than that of any before.
    pub revision: u64,
    /// Every key it touched.
    pub edits: Vec<Edit>,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// It was written.
    Put {
        /// The key.
        key: String,
        /// What it holds now.
        value: Bytes,
    },
    /// It was deleted.
    Deleted {
        /// The key.
        key: String,
    },
}

/// Writes that go together, and what must hold for them to be right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All of these, or nothing is written.
    pub guards: Vec<Guard>,
    /// What to write, in order.
    pub writes: Vec<Write>,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It does not exist.
    Absent(String),
    /// It exists.
    Exists(String),
    /// It was last written by the transaction of this revision.
    At(String, u64),
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates or replaces a record.
    Put(String, Bytes),
    /// Deletes a record, if it is there.
    Delete(String),
    /// Deletes all records whose keys start so.
    DeletePrefix(String),
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A guard did not hold: somebody else wrote first.
    #[error("somebody else wrote {0:?} first")]
    Conflict(String),
    /// The data cannot be opened.
    #[error("{0}")]
    Open(String),
    /// The store does not answer, or cannot write.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}
