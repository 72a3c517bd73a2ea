//! CPU time that Envoy spends on a request: without a filter, with one that does nothing, with ours, with a Lua script
//! that does the same job, with ours and a rate limit, with that one among a thousand, and with Envoy's own rate limit
//! alone.
//!
//! One Envoy with a listener for each, so that nothing but the filter differs, and measured in turns, so that whatever
//! else the machine does hits all of them alike. What counts is the process's CPU time, not latency or throughput, which
//! say more about the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use isthmus_tests::{Call, Envoy, Port, WorkDir, artifact, eventually, http, process};
use lexopt::prelude::*;
use serde_json::{Map, Value, json};

mod envoy;
mod noop;

use crate::{
    summary::{Summary, median},
    usage::cpu_seconds,
};
use envoy::Filter;

/// What a caller's request may look like; the first two decide.
const HEADERS: [&str; 8] = [
    "x-mesh-service: payments",
    "x-mesh-region: eu",
    "accept: application/json",
    "accept-encoding: gzip, deflate, br",
    "authorization: Bearer 0123456789abcdef0123456789abcdef0123456789abcdef",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "user-agent: orders/4.2 (linux; x86_64)",
    "x-request-id: 3f2b8c1e-5d2f-4d0a-9c55-0d6c1a7e8b90",
];

const ISTHMUS: &str = "isthmus";

/// Limits that a filter knows which knows many: all that have counters of their own.
const MANY: usize = 1_000;

/// Counters of each limit: one for each outcome.
const COUNTERS: usize = 4;

struct Options {
    rounds: usize,
    seconds: u32,
    json: bool,
    also: Vec<PathBuf>,
}

/// Runs the measurement and prints it.
pub(crate) fn run(arguments: lexopt::Parser) -> Result<()> {
    let options = parse(arguments)?;
    ensure!(
        Command::new("wrk").arg("--version").output().is_ok(),
        "wrk is missing; run: apt-get install wrk"
    );
    let dir = WorkDir::new("bench-filter")?;
    let upstream = Envoy::with_bootstrap(&dir, "upstream", |admin, listen| {
        Ok(envoy::upstream(admin, listen).to_string())
    })?;
    let variants = variants(&dir, &options.also)?;
    let mut proxy = Envoy::with_bootstrap(&dir, "proxy", |admin, listen| {
        let filters = variants
            .iter()
            .map(|v| (v.name.as_str(), &v.filter, &v.port));
        Ok(envoy::proxy(admin, listen, filters, upstream.port()).to_string())
    })?;
    let pid = proxy.process().id();

    eprintln!("warming up");
    for variant in &variants {
        measure(pid, &variant.port, 1)?;
        variant.meet_others()?;
    }
    known(&proxy)?;
    let mut rounds = Vec::with_capacity(options.rounds);
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let costs = variants
            .iter()
            .map(|variant| measure(pid, &variant.port, options.seconds))
            .collect::<Result<Vec<f64>>>()?;
        rounds.push(costs);
    }
    print(&variants, &rounds, options.json);
    Ok(())
}

/// One thing that is measured.
struct Variant {
    name: String,
    filter: Filter,
    port: Port,
    /// The same without a limit, if this is about what the limit costs.
    unlimited: Option<String>,
}

impl Variant {
    fn new(name: impl Into<String>, filter: Filter) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            filter,
            port: Port::reserve()?,
            unlimited: None,
        })
    }

    /// A build without and with a limit, which so many others are beside.
    fn pair([plain, limited]: [String; 2], file: &Path, others: usize) -> Result<[Self; 2]> {
        let filter = |limited| Filter::Isthmus {
            file: file.to_owned(),
            limited,
            others,
        };
        Ok([
            Self::new(&plain, filter(false))?,
            Self {
                unlimited: Some(plain),
                ..Self::new(limited, filter(true))?
            },
        ])
    }

    /// A limit is known, and counted, from the first request that it meets. Nobody is behind these services, which matters
    /// only after that.
    fn meet_others(&self) -> Result<()> {
        let others = match self.filter {
            Filter::Isthmus {
                limited: true,
                others,
                ..
            } => others,
            _ => return Ok(()),
        };
        let client = http::agent(Duration::from_secs(10));
        let url = format!("http://{}/", self.port.address());
        for number in 0..others {
            let call = Call::on(&client, "GET", url.clone());
            let reply = call.service(&envoy::other(number)).send()?;
            ensure!(reply.status == 503, "not met: {reply:?}");
        }
        Ok(())
    }
}

/// Makes sure that limits are counted each by itself: or else there are none, or fewer than were to be measured.
fn known(proxy: &Envoy) -> Result<()> {
    eventually("the counters of all limits", || {
        let stats = proxy.stats()?;
        let names = stats
            .keys()
            .filter(|name| name.starts_with("wasmcustom.isthmus.limit_requests_total."));
        let count = names.count();
        ensure!(count == MANY * COUNTERS, "there are {count}");
        Ok(())
    })
}

/// What is measured, in this order. The first is what the others are compared with.
fn variants(dir: &WorkDir, also: &[PathBuf]) -> Result<Vec<Variant>> {
    let noop = dir.path().join("noop.wasm");
    fs::write(&noop, noop::module()).context("cannot write the no-op filter")?;
    let mut all = vec![
        Variant::new("bare", Filter::Bare)?,
        Variant::new("noop", Filter::Noop(noop))?,
    ];
    all.extend(build(ISTHMUS, &artifact::filter()?)?);
    all.push(Variant::new("lua", Filter::Lua)?);
    all.push(Variant::new("local_ratelimit", Filter::LocalRateLimit)?);
    for file in also {
        let name = file.file_stem().unwrap_or(file.as_os_str());
        all.extend(build(&name.to_string_lossy(), file)?);
    }
    Ok(all)
}

/// A build of ours: with and without a limit, and so where it knows many.
fn build(name: &str, file: &Path) -> Result<Vec<Variant>> {
    let limited = match name {
        ISTHMUS => "limited".to_owned(),
        other => format!("{other}_limited"),
    };
    let few = Variant::pair([name.to_owned(), limited.clone()], file, 0)?;
    let many = [name, &limited].map(|name| format!("{name}_{MANY}"));
    let many = Variant::pair(many, file, MANY - 1)?;
    Ok(few.into_iter().chain(many).collect())
}

fn parse(mut arguments: lexopt::Parser) -> Result<Options> {
    let mut options = Options {
        rounds: 7,
        seconds: 2,
        json: false,
        also: Vec::new(),
    };
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("json") => options.json = true,
            Long("also") => options.also.push(arguments.value()?.into()),
            Long("rounds") => options.rounds = arguments.value()?.parse()?,
            Long("seconds") => options.seconds = arguments.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    ensure!(
        options.rounds > 0 && options.seconds > 0,
        "--rounds and --seconds must be 1 or more"
    );
    Ok(options)
}

/// Microseconds of the process's CPU time per request, over some seconds of load on one listener.
fn measure(pid: u32, port: &Port, seconds: u32) -> Result<f64> {
    let mut command = Command::new("wrk");
    command
        .args(["--threads", "1", "--connections", "16"])
        .args(["--duration", &format!("{seconds}s")]);
    for header in HEADERS {
        command.args(["--header", header]);
    }
    command.arg(format!("http://{}/v1/charge?id=42", port.address()));
    let before = cpu_seconds(pid)?;
    let report = process::output(command)?;
    let spent = cpu_seconds(pid)? - before;
    if report.contains("Non-2xx") || report.contains("Socket errors") {
        bail!("some requests failed, so this measures nothing:\n{report}");
    }
    let requests: f64 = report
        .lines()
        .find_map(|line| line.split_once(" requests in "))
        .and_then(|(count, _)| count.trim().parse().ok())
        .with_context(|| format!("wrk does not say how many requests it made:\n{report}"))?;
    ensure!(requests > 0.0, "wrk made no request:\n{report}");
    Ok(spent / requests * 1e6)
}

fn print(variants: &[Variant], rounds: &[Vec<f64>], as_json: bool) {
    println!(
        "{:<15} {:>10}  {:<17} {:>10}",
        "filter", "µs/request", "(min-max)", "over bare"
    );
    let column = |at: usize| {
        rounds
            .iter()
            .filter_map(move |round| round.get(at).copied())
    };
    let mut object = Map::new();
    for (at, Variant { name, .. }) in variants.iter().enumerate() {
        let summary = Summary::of(column(at));
        // Compared round by round, as the machine's speed drifts.
        let over = median(column(at).zip(column(0)).map(|(cost, bare)| cost - bare));
        println!(
            "{name:<15} {:>10.1}  {:<17} {over:>+10.1}",
            summary.median,
            format!("({:.1}-{:.1})", summary.min, summary.max),
        );
        object.insert(
            name.clone(),
            json!({
                "us_per_request": round(summary.median),
                "min": round(summary.min),
                "max": round(summary.max),
                "over_bare": round(over),
            }),
        );
    }
    for (
        at,
        Variant {
            name, unlimited, ..
        },
    ) in variants.iter().enumerate()
    {
        let Some(unlimited) = unlimited else {
            continue;
        };
        let Some(without) = variants.iter().position(|other| other.name == *unlimited) else {
            continue;
        };
        let pairs = column(at).zip(column(without));
        let over = median(pairs.map(|(with, without)| with - without));
        println!("{name} over {unlimited}, round by round: {over:+.1}");
        if let Some(Value::Object(limited)) = object.get_mut(name) {
            limited.insert(format!("over_{unlimited}"), json!(round(over)));
        }
    }
    if as_json {
        println!("{}", Value::Object(object));
    }
}

fn round(microseconds: f64) -> f64 {
    (microseconds * 100.0).round() / 100.0
}
