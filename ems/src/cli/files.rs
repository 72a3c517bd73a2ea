//! `-f FILE…`: `ems apply`, `ems diff` and `ems validate`.

use std::{
    cell::Cell,
    future::ready,
    io::{self, Read},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, stream};
use tonic::Code;

use super::{
    client::{Client, Server},
    diff::Difference,
    document::{self, Record},
};

/// Files of records
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Files {
    /// Files to read; - is the standard input
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
}

/// Arguments of `ems validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = document::HELP)]
pub(super) struct Validate {
    #[command(flatten)]
    files: Files,
}

/// Arguments of `ems apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = document::HELP)]
pub(super) struct Apply {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    server: Server,
}

/// Arguments of `ems diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = document::HELP)]
pub(super) struct Diff {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    server: Server,
}

impl Files {
    fn read(&self) -> Result<Vec<Record>> {
        let mut texts = Vec::new();
        for path in &self.files {
            let text = if path.as_os_str() == "-" {
                let mut text = String::new();
                io::stdin()
                    .read_to_string(&mut text)
                    .map(|_| text)
                    .map(|text| ("stdin".into(), text))
            } else {
                std::fs::read_to_string(path).map(|text| (path.display().to_string(), text))
            };
            texts.push(text.with_context(|| format!("cannot read {}", path.display()))?);
        }
        document::read(&texts).or_else(|faults| {
            let lines: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            let count = faults.len();
            let errors = if count == 1 { "error" } else { "errors" };
            bail!("{count} {errors}:{}", lines.concat())
        })
    }
}

/// Checks files and says what is in them.
pub(super) fn validate(args: &Validate) -> Result<String> {
    let records = args.files.read()?;
    let lines = records.iter().map(|record| {
        let title = record.title();
        let warnings = record.warnings();
        let warnings = warnings
            .iter()
            .map(|warning| format!("warning: {title}: {warning}\n"));
        format!("{title} is valid\n{}", warnings.collect::<String>())
    });
    Ok(lines.collect())
}

/// Records written at a time: the way to another continent and back is not waited for once per record.
const AT_ONCE: usize = 8;

/// Writes what is in files, after all of it was checked, and says of each record what happened as it happens, in the
/// order of the files. After an error no other write is begun; those that were under way are waited for and told.
pub(super) fn apply(args: &Apply, mut say: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let records = args.files.read().context("nothing was written")?;
    args.server.run(|client| async move {
        let mut failed = None;
        let mut written = 0;
        // Others may need what goes before.
        for alike in records.chunk_by(|a, b| a.rank() == b.rank()) {
            let going_on = Cell::new(true);
            let mut outcomes = stream::iter(alike)
                .take_while(|_| ready(going_on.get()))
                .map(|record| client.clone().apply(record.clone()))
                .buffered(AT_ONCE);
            while let Some(outcome) = outcomes.next().await {
                match outcome {
                    Ok(line) => {
                        written += 1;
                        say(&line)?;
                    }
                    Err(error) => {
                        going_on.set(false);
                        failed.get_or_insert(error);
                    }
                }
            }
            if failed.is_some() {
                break;
            }
        }
        let all = records.len();
        match failed {
            Some(error) => Err(error.context(format!("{written} of {all} records were written"))),
            None => Ok(()),
        }
    })
}

/// Says of each record in files what [`apply`] would do with it. True: something.
pub(super) fn diff(args: &Diff, mut say: impl FnMut(&str) -> Result<()>) -> Result<bool> {
    let records = args.files.read()?;
    args.server.run(|mut client| async move {
        let mut differs = false;
        for record in records {
            let stored = client.stored(&record).await?;
            let difference = Difference::of(stored.as_ref(), &record)?;
            differs |= !difference.is_none();
            say(&difference.to_string())?;
        }
        Ok(differs)
    })
}

impl Client {
    /// Writes a record and tells what that did.
    async fn apply(mut self, record: Record) -> Result<String> {
        let title = record.title();
        let before = self.stored(&record).await?;
        let before = before.map(|mut stored| *stored.version_mut());
        let after = self.put(record).await?;
        let what = match before {
            None => "created",
            Some(before) if before == after => "unchanged",
            Some(_) => "changed",
        };
        Ok(format!("{title} {what} (version {after})\n"))
    }

    /// The record as the server has it; `None`: it has none.
    async fn stored(&mut self, record: &Record) -> Result<Option<Record>> {
        use isthmus_proto::v1::{EndpointRef, RegionRef, ServiceRef};
        let found = match record {
            Record::Region(region) => {
                let region = region.name.clone();
                let found = self.registry.get_region(RegionRef { region }).await;
                found.map(|found| Record::Region(found.into_inner()))
            }
            Record::Service(service) => {
                let service = service.name.clone();
                let found = self.registry.get_service(ServiceRef { service }).await;
                found.map(|found| Record::Service(Box::new(found.into_inner())))
            }
            Record::Endpoint(endpoint) => {
                let (service, id) = (endpoint.service.clone(), endpoint.id.clone());
                let found = self
                    .registry
                    .get_endpoint(EndpointRef { service, id })
                    .await;
                found.map(|found| Record::Endpoint(found.into_inner()))
            }
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.error(&record.title(), &status)),
        }
    }

    /// Writes a record and gives the version that it has then.
    async fn put(&mut self, record: Record) -> Result<u64> {
        let title = record.title();
        let version = match record {
            Record::Region(region) => self
                .registry
                .put_region(region)
                .await
                .map(|r| r.into_inner().version),
            Record::Service(service) => self
                .registry
                .put_service(*service)
                .await
                .map(|r| r.into_inner().version),
            Record::Endpoint(endpoint) => self
                .registry
                .put_endpoint(endpoint)
                .await
                .map(|r| r.into_inner().version),
        };
        version.map_err(|status| self.error(&title, &status))
    }
}
