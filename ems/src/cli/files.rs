//! `-f FILE…`: `ems apply` and `ems validate`.

use std::{
    io::{self, Read},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use tonic::Code;

use super::{
    client::{Client, Server},
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
    let lines = records
        .iter()
        .map(|record| format!("{} is valid\n", record.title()));
    Ok(lines.collect())
}

/// Writes what is in files, after all of it was checked, and says of each record what happened as it happens.
pub(super) fn apply(args: &Apply, mut say: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let records = args.files.read().context("nothing was written")?;
    args.server.run(|mut client| async move {
        for record in records {
            let title = record.title();
            let before = client.version(&record).await?;
            let after = client.put(record).await?;
            let what = match before {
                None => "created",
                Some(before) if before == after => "unchanged",
                Some(_) => "changed",
            };
            say(&format!("{title} {what} (version {after})\n"))?;
        }
        Ok(())
    })
}

impl Client {
    /// The version that the server has; `None`: it has no such record.
    async fn version(&mut self, record: &Record) -> Result<Option<u64>> {
        use isthmus_proto::v1::{EndpointRef, RegionRef, ServiceRef};
        let version = match record {
            Record::Region(region) => {
                let region = region.name.clone();
                let found = self.registry.get_region(RegionRef { region }).await;
                found.map(|found| found.into_inner().version)
            }
            Record::Service(service) => {
                let service = service.name.clone();
                let found = self.registry.get_service(ServiceRef { service }).await;
                found.map(|found| found.into_inner().version)
            }
            Record::Endpoint(endpoint) => {
                let (service, id) = (endpoint.service.clone(), endpoint.id.clone());
                let found = self
                    .registry
                    .get_endpoint(EndpointRef { service, id })
                    .await;
                found.map(|found| found.into_inner().version)
            }
        };
        match version {
            Ok(version) => Ok(Some(version)),
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
