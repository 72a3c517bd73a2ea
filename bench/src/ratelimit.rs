//! How many questions about limits of the region EMS answers, and how long an answer takes: over real gRPC, with budgets
//! in memory, in a Redis, and in a Redis when most is refused, so that EMS knows the answer without asking.
//!
//! And how long it takes until a changed limit holds ([`change`]).
//!
//! Beside it the floor: the same answer by a server on the same libraries that counts nothing. Servers and clients share
//! the processors, and all of them take turns, so that whatever else the machine does hits all alike.

mod change;
mod client;
mod question;

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use isthmus_tests::{Ems, Process, Redis, WorkDir, ems::EmsOptions};
use lexopt::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    figures::{Figures, Table},
    summary::percentile,
    usage,
    xds::server::{address, sibling},
};
use client::{Orders, Tally, ask};
use question::{TOKEN, questions};

const REGION: &str = "us";
/// In flight.
const LOADS: [usize; 2] = [1, 64];
/// Connections: as many as an Envoy of two workers has.
const CONNECTIONS: usize = 2;
/// Before the clock starts.
const WARM_UP: Duration = Duration::from_millis(500);
/// What the figures are of.
const COLUMNS: [&str; 4] = ["memory", "floor", "redis", "redis_cached"];

/// A service, whose limit is one per caller and second.
struct Target {
    service: &'static str,
    callers: usize,
    /// How much each caller may.
    requests: u32,
}

/// Nothing is refused.
const AMPLE: Target = Target {
    service: "ample",
    callers: 1_000,
    requests: 1_000_000,
};

/// Nearly everything is: a hundred requests a second pass.
const TIGHT: Target = Target {
    service: "tight",
    callers: 100,
    requests: 1,
};

struct Options {
    seconds: f64,
    rounds: usize,
    json: bool,
}

/// Runs the measurement and prints it.
pub(crate) fn run(arguments: lexopt::Parser) -> Result<()> {
    let options = parse(arguments)?;
    let dir = WorkDir::new("bench-ratelimit")?;
    let redis = Redis::start(&dir)?;
    let mut in_memory = ems("bench-memory", vec![])?;
    let mut on_redis = ems("bench-redis", vec!["--redis".to_owned(), redis.url()])?;
    let (floor, floor_address) = floor(&dir)?;
    let measured = Duration::try_from_secs_f64(options.seconds).context("--seconds")?;

    let ample = questions(AMPLE.service, AMPLE.callers);
    let of_floor = |load| {
        let (figures, _) = measure(floor_address, &ample, load, measured, floor.id())?;
        anyhow::Ok(figures)
    };
    let mut table = Table::new(COLUMNS).compared();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let mut columns = vec![Figures::new(); COLUMNS.len()];
        for load in LOADS {
            let found = [
                of_ems(&mut in_memory, &AMPLE, load, measured)?,
                of_floor(load)?,
                of_ems(&mut on_redis, &AMPLE, load, measured)?,
                of_ems(&mut on_redis, &TIGHT, load, measured)?,
            ];
            for (column, figures) in columns.iter_mut().zip(found) {
                column.extend(figures);
            }
        }
        table.add(columns);
    }
    println!(
        "EMS's rate limit service over gRPC, beside the floor, a server that answers the same and counts nothing; \
         {} rounds of {} s; median (least-most)\n{}",
        options.rounds,
        options.seconds,
        table.text()
    );
    eprintln!("changing limits");
    let changes = change::measure(&in_memory)?;
    for change in &changes {
        println!("{}", change.text());
    }
    if options.json {
        let mut object = object(&table);
        let changes = changes
            .iter()
            .map(|change| (change.scope.to_owned(), change.json()));
        object.insert("change".to_owned(), Value::Object(changes.collect()));
        println!("{}", Value::Object(object));
    }
    Ok(())
}

/// An EMS with both services.
fn ems(name: &str, arguments: Vec<String>) -> Result<Ems> {
    let ems = Ems::with(
        &WorkDir::new(name)?,
        EmsOptions {
            region: REGION.to_owned(),
            arguments,
            binary: Some(sibling("ems")?),
        },
    )?;
    for Target {
        service, requests, ..
    } in [AMPLE, TIGHT]
    {
        let limit =
            json!({ "per": "caller", "requests": requests, "unit": "second", "scope": "region" });
        ems.put_service(service, json!({ "rateLimits": [limit] }))?;
    }
    Ok(ems)
}

fn floor(dir: &WorkDir) -> Result<(Process, SocketAddr)> {
    const NAME: &str = "ratelimit-floor";
    let mut process = Process::start(NAME, dir, Command::new(sibling(NAME)?))?;
    let log = dir.path().join(format!("{NAME}.log"));
    let mut found = None;
    process.wait_ready(|| {
        found = Some(address(&fs::read_to_string(&log)?, "grpc ")?);
        Ok(())
    })?;
    let found = found.context("it does not say where it listens")?;
    Ok((process, found))
}

/// Measures an EMS, and holds what it counted against what was asked.
fn of_ems(ems: &mut Ems, target: &Target, load: usize, measured: Duration) -> Result<Figures> {
    let server = ems.xds_address().parse().context("no address")?;
    let pid = ems.process().id();
    let before = Counted::of(ems, target)?;
    let messages = questions(target.service, target.callers);
    let (figures, tally) = measure(server, &messages, load, measured, pid)?;
    let after = Counted::of(ems, target)?;
    let decided = after.decided - before.decided;
    let unchecked = after.unchecked - before.unchecked;
    let answers = tally.answers() as f64;
    ensure!(
        decided + unchecked >= answers,
        "EMS answered {answers} questions and counted {decided}"
    );
    ensure!(
        unchecked * 100.0 <= answers,
        "the Redis did not answer {unchecked} of {answers} questions in time: the machine has too much to do"
    );
    let is_tight = target.requests == TIGHT.requests;
    ensure!(
        is_tight == (tally.refused > tally.passed),
        "{} requests of {} passed and {} were refused, which is another load than this is about; \
         the machine may have too much else to do",
        tally.passed,
        target.service,
        tally.refused,
    );
    Ok(figures)
}

/// What an EMS counted of a service's limit.
struct Counted {
    decided: f64,
    unchecked: f64,
}

impl Counted {
    fn of(ems: &Ems, target: &Target) -> Result<Self> {
        let service = target.service;
        let count = |outcome| {
            let labels = format!("service=\"{service}\",limit=\"{TOKEN}\",outcome=\"{outcome}\"");
            ems.metric("ems_limit_requests_total", &labels)
        };
        Ok(Self {
            decided: count("allowed")? + count("denied")?,
            unchecked: count("unchecked")?,
        })
    }
}

/// Asks for a while.
fn measure(
    server: SocketAddr,
    messages: &[Bytes],
    load: usize,
    measured: Duration,
    pid: u32,
) -> Result<(Figures, Tally)> {
    let begin = Instant::now() + WARM_UP;
    let connections = load.min(CONNECTIONS);
    let orders = Orders {
        server,
        messages,
        in_flight: load / connections,
        begin,
        end: begin + measured,
    };
    let (tally, spent) = thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| scope.spawn(move || ask(orders)))
            .collect();
        thread::sleep(begin.saturating_duration_since(Instant::now()));
        let before = usage::cpu_seconds(pid)?;
        let mut tally = Tally::default();
        for client in clients {
            let ended = client.join().map_err(|_| anyhow!("a client panicked"))?;
            tally.add(ended?);
        }
        anyhow::Ok((tally, usage::cpu_seconds(pid)? - before))
    })?;
    let answers = tally.answers() as f64;
    let took = |share| {
        let nanoseconds = tally.took.iter().copied().map(f64::from);
        percentile(nanoseconds, share) / 1e6
    };
    let figures = [
        (RATE, answers / measured.as_secs_f64()),
        (MEDIAN, took(0.5)),
        (TAIL, took(0.99)),
        ("server CPU, µs each", spent * 1e6 / answers),
    ];
    let figures = figures.map(|(name, value)| (row(load, name), value));
    Ok((figures.into(), tally))
}

const RATE: &str = "requests/s";
const MEDIAN: &str = "p50, ms";
const TAIL: &str = "p99, ms";

fn row(load: usize, name: &str) -> String {
    format!("{load} in flight: {name}")
}

/// The medians, for programs.
fn object(table: &Table) -> Map<String, Value> {
    let columns = ["memory", "redis", "redis_cached"].map(|column| {
        let loads = LOADS.map(|load| {
            let value = |name| table.median(column, &row(load, name));
            let figures =
                json!({ "rps": value(RATE), "p50_ms": value(MEDIAN), "p99_ms": value(TAIL) });
            (load.to_string(), figures)
        });
        (column.to_owned(), Value::Object(Map::from_iter(loads)))
    });
    Map::from_iter(columns)
}

fn parse(mut arguments: lexopt::Parser) -> Result<Options> {
    let mut options = Options {
        seconds: 3.0,
        rounds: 3,
        json: false,
    };
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("json") => options.json = true,
            Long("seconds") => options.seconds = arguments.value()?.parse()?,
            Long("rounds") => options.rounds = arguments.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    ensure!(
        options.seconds > 0.0 && options.rounds > 0,
        "--seconds and --rounds must be more than 0"
    );
    Ok(options)
}
