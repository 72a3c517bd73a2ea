//! The embedded store: one file, one process.
//!
//! One thread of its own owns the file, since commits block until they are on the disk. It takes what has queued up
//! meanwhile into one commit, so many small writes cost about as much as one; each still has its own revision and
//! stands or falls by its own guards.

use std::{fs, path::Path, thread};

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::{
    Change, Edit, Event, Guard, Snapshot, Store, StoreError, Stored, Transaction, Watch, Write,
};

/// Key to revision and value.
const RECORDS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("records");
/// `schema` and `revision`.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Of what is in the file, not of redb's own format.
const SCHEMA: u64 = 1;
const FILE: &str = "ems.redb";

/// Commands that wait for the thread.
const QUEUE: usize = 1024;
/// Transactions in one commit.
const BATCH: usize = 256;
/// Events that a watcher may be behind before it has to watch again.
const BEHIND: usize = 4096;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Command {
    Watch(Reply<Watch>),
    Commit(Transaction, Reply<u64>),
    Renew(Vec<String>),
}

/// A store in a file.
#[derive(Debug)]
pub struct RedbStore {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl RedbStore {
    /// Opens the store in a directory, both of which are made where they do not exist. Blocks.
    ///
    /// # Errors
    /// The file cannot be opened: another process has it, a newer EMS wrote it, or it is damaged.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let file = Engine::open(directory)?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || file.run(queue))
            .map_err(|error| StoreError::Open(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    async fn send(&self, command: Command) -> Result<(), StoreError> {
        let sent = match &self.commands {
            Some(commands) => commands.send(command).await.is_ok(),
            None => false,
        };
        if sent { Ok(()) } else { Err(stopped()) }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// Waits for the thread, so that the file is closed and free to open again.
impl Drop for RedbStore {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn watch(&self) -> Result<Watch, StoreError> {
        self.ask(Command::Watch).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<u64, StoreError> {
        self.ask(|reply| Command::Commit(transaction, reply)).await
    }

    async fn renew(&self, keys: Vec<String>) -> Result<(), StoreError> {
        self.send(Command::Renew(keys)).await
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("it has stopped".to_owned())
}

/// The thread's side: the file and who watches it.
struct Engine {
    database: Database,
    watchers: Vec<mpsc::Sender<Event>>,
}

impl Engine {
    fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        fs::create_dir_all(directory).map_err(|error| {
            StoreError::Open(format!("cannot make {}: {error}", directory.display()))
        })?;
        let database = Database::create(&path).map_err(|error| cannot_open(&path, &error))?;
        let engine = Self {
            database,
            watchers: Vec::new(),
        };
        let schema = engine.prepare().map_err(|error| {
            StoreError::Open(format!("cannot read {}: {error}", path.display()))
        })?;
        if schema == SCHEMA {
            Ok(engine)
        } else {
            Err(StoreError::Open(format!(
                "{} has schema {schema} and this ems knows {SCHEMA}: use the ems that wrote it, or a newer one",
                path.display()
            )))
        }
    }

    /// Makes the tables of a new file. Returns the schema of the file.
    fn prepare(&self) -> Result<u64, redb::Error> {
        let transaction = self.database.begin_write()?;
        let schema = {
            transaction.open_table(RECORDS)?;
            let mut meta = transaction.open_table(META)?;
            let schema = meta.get("schema")?.map(|schema| schema.value());
            match schema {
                Some(schema) => schema,
                None => {
                    meta.insert("schema", SCHEMA)?;
                    meta.insert("revision", 0)?;
                    SCHEMA
                }
            }
        };
        transaction.commit()?;
        Ok(schema)
    }

    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(first) = queue.blocking_recv() {
            let mut commits = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Commit(transaction, reply) => commits.push((transaction, reply)),
                    Command::Renew(keys) => self.tell(&Event::Renewed(keys)),
                    Command::Watch(reply) => {
                        self.commit_all(std::mem::take(&mut commits));
                        // Whoever asked may be gone by now.
                        let _ = reply.send(self.watch());
                    }
                }
                next = (commits.len() < BATCH)
                    .then(|| queue.try_recv().ok())
                    .flatten();
            }
            self.commit_all(commits);
        }
    }

    fn watch(&mut self) -> Result<Watch, StoreError> {
        let snapshot = self.snapshot().map_err(|error| unavailable(&error))?;
        let (watcher, events) = mpsc::channel(BEHIND);
        self.watchers.push(watcher);
        Ok(Watch { snapshot, events })
    }

    fn snapshot(&self) -> Result<Snapshot, redb::Error> {
        let transaction = self.database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let revision = meta.get("revision")?.map_or(0, |revision| revision.value());
        let mut records = Vec::new();
        for entry in transaction.open_table(RECORDS)?.iter()? {
            let (key, record) = entry?;
            let (revision, value) = record.value();
            records.push(Stored {
                key: key.value().to_owned(),
                revision,
                value: Bytes::copy_from_slice(value),
            });
        }
        Ok(Snapshot { revision, records })
    }

    /// Commits transactions together, tells the watchers, then those who asked: who hears of a success can be sure
    /// that every watcher has been sent the change.
    fn commit_all(&mut self, commits: Vec<(Transaction, Reply<u64>)>) {
        if commits.is_empty() {
            return;
        }
        let (transactions, replies): (Vec<_>, Vec<_>) = commits.into_iter().unzip();
        match self.write_all(transactions) {
            Ok(results) => {
                for change in results.iter().flatten() {
                    self.tell(&Event::Changed(change.clone()));
                }
                for (reply, result) in replies.into_iter().zip(results) {
                    let _ = reply.send(result.map(|change| change.revision));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(unavailable(&error)));
                }
            }
        }
    }

    fn write_all(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<Change, StoreError>>, redb::Error> {
        let batch = self.database.begin_write()?;
        let mut results = Vec::new();
        {
            let mut meta = batch.open_table(META)?;
            let mut records = batch.open_table(RECORDS)?;
            let mut revision = meta.get("revision")?.map_or(0, |revision| revision.value());
            for transaction in transactions {
                if let Some(key) = failed_guard(&records, &transaction.guards)? {
                    results.push(Err(StoreError::Conflict(key)));
                    continue;
                }
                revision += 1;
                let edits = write(&mut records, transaction.writes, revision)?;
                results.push(Ok(Change { revision, edits }));
            }
            meta.insert("revision", revision)?;
        }
        batch.commit()?;
        Ok(results)
    }

    /// A watcher that is gone, or too far behind, is dropped; it notices by the end of its events.
    fn tell(&mut self, event: &Event) {
        self.watchers
            .retain(|watcher| watcher.try_send(event.clone()).is_ok());
    }
}

type Records<'a> = Table<'a, &'static str, (u64, &'static [u8])>;

/// The key of the first guard that does not hold.
fn failed_guard(records: &Records<'_>, guards: &[Guard]) -> Result<Option<String>, redb::Error> {
    for guard in guards {
        let (Guard::Absent(key) | Guard::Exists(key) | Guard::At(key, _)) = guard;
        let found = records.get(key.as_str())?.map(|record| record.value().0);
        let holds = match guard {
            Guard::Absent(_) => found.is_none(),
            Guard::Exists(_) => found.is_some(),
            Guard::At(_, revision) => found == Some(*revision),
        };
        if !holds {
            return Ok(Some(key.clone()));
        }
    }
    Ok(None)
}

fn write(
    records: &mut Records<'_>,
    writes: Vec<Write>,
    revision: u64,
) -> Result<Vec<Edit>, redb::Error> {
    let mut edits = Vec::new();
    for write in writes {
        match write {
            Write::Put(key, value) => {
                records.insert(key.as_str(), (revision, value.as_ref()))?;
                edits.push(Edit::Put { key, value });
            }
            Write::Delete(key) => {
                if records.remove(key.as_str())?.is_some() {
                    edits.push(Edit::Deleted { key });
                }
            }
            Write::DeletePrefix(prefix) => {
                let mut keys = Vec::new();
                for entry in records.range(prefix.as_str()..)? {
                    let key = entry?.0.value().to_owned();
                    if !key.starts_with(&prefix) {
                        break;
                    }
                    keys.push(key);
                }
                for key in keys {
                    records.remove(key.as_str())?;
                    edits.push(Edit::Deleted { key });
                }
            }
        }
    }
    Ok(edits)
}

fn cannot_open(path: &Path, error: &DatabaseError) -> StoreError {
    let path = path.display();
    StoreError::Open(match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => format!(
            "{path} is open in another process: stop the other ems, or give this one a --data-dir of its own"
        ),
        error => format!("cannot open {path}: {error}"),
    })
}

fn unavailable(error: &redb::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests;
