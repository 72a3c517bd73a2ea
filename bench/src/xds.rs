//! What it takes EMS's engine to bring a change to many Envoys, beside what it takes to send the bytes at all.
//!
//! The servers are processes of their own, so that CPU time and memory are theirs alone; the clients are all in this one,
//! so that they and the write share a clock. Servers are started anew in each round and take turns, so that whatever else
//! the machine does hits both alike; their ratio counts, not the milliseconds.

use anyhow::{Context, Result, bail, ensure};
use isthmus_tests::WorkDir;
use lexopt::prelude::*;
use serde_json::json;
use tokio::runtime::Runtime;

pub(crate) mod fleet;
pub(crate) mod message;
pub(crate) mod run;
mod scale;
pub(crate) mod server;
mod storm;

use crate::figures::Table;
use message::Mode;
use run::Plan;
use server::Kind;

struct Options {
    plan: Plan,
    /// As many as the measurement has by itself where none are given.
    rounds: Option<usize>,
    scale: bool,
    json: bool,
}

/// Runs the measurement and prints it.
pub(crate) fn run(arguments: lexopt::Parser) -> Result<()> {
    let Options {
        plan,
        rounds,
        scale,
        json,
    } = parse(arguments)?;
    let dir = WorkDir::new("bench-xds")?;
    if scale {
        let (runtime, rounds) = (runtime(scale::STREAMS + storm::THERE)?, rounds.unwrap_or(3));
        return scale::run(&runtime, &dir, &plan, rounds, json);
    }
    let (runtime, rounds) = (runtime(plan.streams)?, rounds.unwrap_or(5));
    let table = beside_the_floor(&runtime, &dir, &plan, rounds)?;
    println!("{}", heading(&plan, rounds));
    println!("{}", table.text());
    if json {
        let object = json!({
            "streams": plan.streams,
            "resources": plan.resources,
            "endpoints": plan.endpoints,
            "mode": word(plan.mode),
            "rounds": rounds,
            "repeat": plan.repeat,
            "figures": table.json(),
        });
        println!("{object}");
    }
    Ok(())
}

/// EMS's engine and the floor in turns.
fn beside_the_floor(runtime: &Runtime, dir: &WorkDir, plan: &Plan, rounds: usize) -> Result<Table> {
    let mut table = Table::new(["ems", "floor"]).compared();
    for round in 1..=rounds {
        eprintln!("{} streams: round {round} of {rounds}", plan.streams);
        let one = |kind| run::measure(runtime, dir, kind, plan);
        // Who comes first takes turns as well.
        let (engine, floor) = if round % 2 == 1 {
            let engine = one(Kind::Engine)?;
            (engine, one(Kind::Floor)?)
        } else {
            let floor = one(Kind::Floor)?;
            (one(Kind::Engine)?, floor)
        };
        table.add(vec![engine, floor]);
    }
    Ok(table)
}

/// Room for as many connections as there are streams, and threads for their clients.
pub(crate) fn runtime(streams: usize) -> Result<Runtime> {
    let open =
        rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
    let needed = streams as u64 + 100;
    ensure!(
        open >= needed,
        "{streams} streams take {needed} open files, and {open} are allowed; raise the hard limit (ulimit -Hn)"
    );
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the clients' threads")
}

fn heading(plan: &Plan, rounds: usize) -> String {
    let Plan {
        streams,
        resources,
        endpoints,
        repeat,
        mode,
        ..
    } = plan;
    format!(
        "{streams} streams, {resources} resources of {endpoints} endpoints, {}; \
         {rounds} rounds, each change {repeat} times; median (least-most)",
        word(*mode)
    )
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Delta => "delta",
        Mode::Sotw => "sotw",
    }
}

fn parse(mut arguments: lexopt::Parser) -> Result<Options> {
    let mut plan = Plan {
        streams: 1_000,
        resources: 100,
        endpoints: 20,
        changes: Vec::new(),
        repeat: 5,
        mode: Mode::Delta,
    };
    let (mut rounds, mut scale, mut json) = (None, false, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("json") => json = true,
            Long("streams") => plan.streams = arguments.value()?.parse()?,
            Long("resources") => plan.resources = arguments.value()?.parse()?,
            Long("endpoints") => plan.endpoints = arguments.value()?.parse()?,
            Long("change") => plan.changes.push(arguments.value()?.parse()?),
            Long("scale") => scale = true,
            Long("rounds") => rounds = Some(arguments.value()?.parse()?),
            Long("repeat") => plan.repeat = arguments.value()?.parse()?,
            Long("mode") => {
                plan.mode = match arguments.value()?.string()?.as_str() {
                    "delta" => Mode::Delta,
                    "sotw" => Mode::Sotw,
                    other => bail!("--mode {other}: expected delta or sotw"),
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if plan.changes.is_empty() {
        plan.changes = vec![plan.resources, 1];
        plan.changes.dedup();
    }
    ensure!(
        plan.streams > 0 && plan.resources > 0 && rounds != Some(0) && plan.repeat > 0,
        "--streams, --resources, --rounds and --repeat must be 1 or more"
    );
    let possible = 1..=plan.resources;
    if let Some(change) = plan
        .changes
        .iter()
        .find(|change| !possible.contains(change))
    {
        bail!("--change {change}: expected 1 to {}", plan.resources);
    }
    Ok(Options {
        plan,
        rounds,
        scale,
        json,
    })
}
