//! The caller of the example: watches a schema file, and tells every database in every region of a new version.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use schema_update::{
    fan_out::{FanOut, Target},
    report::{Row, table},
    schema::Schema,
};
use tonic::transport::Endpoint;

/// Tells every database in every region of a new schema.
#[derive(Debug, Parser)]
struct Options {
    /// Schema file; its first line is `-- version: <number>`
    #[arg(long, env = "SCHEMA")]
    schema: PathBuf,
    /// The Envoy beside this program
    #[arg(long, env = "ENVOY", default_value = "http://127.0.0.1:10000")]
    envoy: String,
    /// Service names of the databases
    #[arg(long, env = "DATABASES", value_delimiter = ',', required = true)]
    databases: Vec<String>,
    /// Regions they run in
    #[arg(long, env = "REGIONS", value_delimiter = ',', required = true)]
    regions: Vec<String>,
    /// Requests at a time
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
    /// Limit of each request, in milliseconds
    #[arg(long, default_value_t = 5_000)]
    deadline_ms: u64,
    /// Asks the mesh which way each request went
    #[arg(long)]
    receipts: bool,
    /// Prints one JSON array for each update in place of a table
    #[arg(long)]
    json: bool,
    /// Tells the databases once and exits; the exit code says whether all of them took it
    #[arg(long)]
    once: bool,
    /// Seconds between two looks at the file
    #[arg(long, default_value_t = 1)]
    interval: u64,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let targets = targets(&options.databases, &options.regions);
    let fan_out = FanOut {
        envoy: Endpoint::from_shared(options.envoy.clone())
            .with_context(|| format!("--envoy {} is no URL", options.envoy))?,
        concurrency: options.concurrency,
        deadline: Duration::from_millis(options.deadline_ms),
        receipts: options.receipts,
    };
    if options.once {
        let complete = update(&options, &fan_out, &targets, &read(&options)?).await?;
        return Ok(if complete {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let mut applied = None;
    loop {
        match read(&options) {
            // Databases that missed it are told again with the next look: applying twice does no harm.
            Ok(schema) if schema.is_newer_than(applied) => {
                if update(&options, &fan_out, &targets, &schema).await? {
                    applied = Some(schema.version);
                }
            }
            Ok(_) => {}
            // The file may be half written; the next look will tell.
            Err(error) => eprintln!("{error:#}"),
        }
        tokio::time::sleep(Duration::from_secs(options.interval)).await;
    }
}

fn targets(databases: &[String], regions: &[String]) -> Vec<Target> {
    let pair = |database: &String, region: &String| Target {
        database: database.clone(),
        region: region.clone(),
    };
    databases
        .iter()
        .flat_map(|database| regions.iter().map(move |region| pair(database, region)))
        .collect()
}

fn read(options: &Options) -> Result<Schema> {
    let path = options.schema.display();
    let text =
        fs::read_to_string(&options.schema).with_context(|| format!("cannot read {path}"))?;
    Schema::parse(&text).with_context(|| format!("{path} is no schema"))
}

/// Tells all, prints what became of it, and returns whether every database took it.
async fn update(
    options: &Options,
    fan_out: &FanOut,
    targets: &[Target],
    schema: &Schema,
) -> Result<bool> {
    let outcomes = fan_out.tell(targets, schema).await;
    let rows: Vec<Row> = outcomes.iter().map(Row::new).collect();
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        print!("schema version {}\n{}", schema.version, table(&rows));
    }
    Ok(outcomes.iter().all(|outcome| outcome.answer.is_ok()))
}
