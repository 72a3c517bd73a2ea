//! What it takes the whole of EMS to bring a change to many Envoys: from the HTTP write over the store, which makes it
//! durable, to the last stream that wants it.
//!
//! Clients are those of `bench xds`, and say of themselves what an Envoy says that `ems bootstrap` configured: one that
//! was asked for each service by a caller, or one that has all of them (`--eager`). EMS is started anew in each round, on
//! the data of the first.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use isthmus_tests::{Ems, WorkDir, ems::EmsOptions};
use lexopt::prelude::*;
use prost_types::{Struct, Value, value::Kind};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{
    figures::{Figures, Table},
    usage,
    xds::{
        fleet::{Fleet, Orders},
        message::{CLUSTERS, ENDPOINTS, Mode, Subscription},
        run::{connected, cost, of_change},
        runtime,
        server::{settled, sibling},
    },
};

const REGION: &str = "us";
/// Writers that fill the registry; EMS writes what waits together.
const WRITERS: usize = 16;
/// Services of `--scale`.
const SCALE: [u64; 3] = [100, 1_000, 10_000];

#[derive(Clone, Debug)]
struct Options {
    streams: usize,
    services: u64,
    endpoints: u64,
    rounds: usize,
    repeat: usize,
    scale: bool,
    json: bool,
}

/// How clients subscribe to clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// Each by its name.
    Names,
    /// Whatever there is.
    Everything,
}

impl Wants {
    fn word(self) -> &'static str {
        match self {
            Self::Names => "by name",
            Self::Everything => "by wildcard",
        }
    }
}

/// Runs the measurement and prints it.
pub(crate) fn run(arguments: lexopt::Parser) -> Result<()> {
    let options = parse(arguments)?;
    let runtime = runtime(options.streams)?;
    let counts = if options.scale {
        SCALE.to_vec()
    } else {
        vec![options.services]
    };
    let mut tables = [Wants::Names, Wants::Everything].map(|wants| {
        let columns = counts.iter().map(|n| format!("{n} services"));
        (wants, Table::new(columns))
    });
    let mut columns = Vec::with_capacity(counts.len());
    for services in &counts {
        columns.push(column(&runtime, &options, *services)?);
    }
    for (wants, table) in &mut tables {
        for round in 0..options.rounds {
            let rounds = columns.iter().filter_map(|column| column.get(round));
            let cells = rounds.flatten().filter(|(of, _)| of == wants);
            table.add(cells.map(|(_, figures)| figures.clone()).collect());
        }
        println!(
            "whole EMS, write to last stream: {} streams that want all services, clusters {}, {} endpoints each, \
             delta; {} rounds, each change {} times; median (least-most)\n{}\n",
            options.streams,
            wants.word(),
            options.endpoints,
            options.rounds,
            options.repeat,
            table.text()
        );
    }
    if options.json {
        let [(_, names), (_, everything)] = &tables;
        let object = json!({
            "streams": options.streams,
            "endpoints": options.endpoints,
            "rounds": options.rounds,
            "repeat": options.repeat,
            "figures": names.json(),
            "wildcard": everything.json(),
        });
        println!("{object}");
    }
    Ok(())
}

/// What one round found, with either kind of clients.
type Round = Vec<(Wants, Figures)>;

/// All rounds with this many services.
fn column(runtime: &Runtime, options: &Options, services: u64) -> Result<Vec<Round>> {
    let dir = WorkDir::new("bench-ems")?;
    let mut ems = Ems::with(
        &dir,
        EmsOptions {
            region: REGION.to_owned(),
            binary: Some(sibling("ems")?),
            ..EmsOptions::default()
        },
    )?;
    eprintln!("registering {services} services");
    let begin = Instant::now();
    fill(&ems, services, options.endpoints)?;
    eprintln!("registered ({:.1} s)", begin.elapsed().as_secs_f32());
    let serial = Cell::new(0);
    let mut rounds = Vec::with_capacity(options.rounds);
    for round in 1..=options.rounds {
        eprintln!("{services} services: round {round} of {}", options.rounds);
        let mut both = Round::new();
        for wants in [Wants::Names, Wants::Everything] {
            ems.stop();
            ems.start_again()?;
            let figures = measure(runtime, &mut ems, options, services, wants, &serial)?;
            both.push((wants, figures));
        }
        rounds.push(both);
    }
    Ok(rounds)
}

/// `serial` is the number of the last write: each says something new.
fn measure(
    runtime: &Runtime,
    ems: &mut Ems,
    options: &Options,
    services: u64,
    wants: Wants,
    serial: &Cell<u64>,
) -> Result<Figures> {
    let pid = ems.process().id();
    let ems = &*ems;
    let names: Vec<String> = (0..services)
        .map(|n| format!("{}.{REGION}", service(n)))
        .collect();
    let clusters = Subscription {
        type_url: CLUSTERS,
        names: match wants {
            Wants::Names => names.clone(),
            Wants::Everything => Vec::new(),
        },
    };
    let endpoints = Subscription {
        type_url: ENDPOINTS,
        names,
    };
    let orders = Orders {
        streams: options.streams,
        server: ems.xds_address().parse().context("no xDS address")?,
        mode: Mode::Delta,
        metadata: Some(metadata(wants)),
        subscriptions: vec![clusters, endpoints],
    };
    let before = settled(pid)?;
    usage::forget_peak(pid)?;
    // A cluster and endpoints of each.
    let (fleet, receipts) = Fleet::connect(runtime, orders, 2 * services)?;
    let mut figures = connected(pid, before, &receipts)?;

    let mut measure = |change: &str, resources, write: &dyn Fn(u64) -> Result<()>| {
        let mut costs = Vec::with_capacity(options.repeat);
        let mut answered = Duration::ZERO;
        // What is not yet in its caches is no part of any one change.
        for round in 0..=options.repeat {
            serial.set(serial.get() + 1);
            let mut took = Duration::ZERO;
            let cost = cost(&fleet, pid, resources, || {
                let begin = Instant::now();
                write(serial.get())?;
                took = begin.elapsed();
                Ok(())
            })?;
            if round > 0 {
                costs.push(cost);
                answered += took;
            }
        }
        figures.extend(of_change(change, &costs));
        let mean = answered.as_secs_f64() * 1e3 / options.repeat as f64;
        figures.push((format!("{change}: write answered, ms"), mean));
        anyhow::Ok(())
    };
    measure("1 changes", 1, &|serial| {
        put_endpoint(ems, 0, 0, 1_025 + serial % 60_000)
    })?;
    // Endpoints follow their cluster when it changes: Envoy waits for them.
    measure("1 service put", 2, &|serial| {
        let timeout = format!("{}.{:03}s", 1 + serial / 1_000, serial % 1_000);
        let record = json!({ "connectTimeout": timeout });
        ems.put_service(&service(0), record).map(drop)
    })?;
    figures.push(("in the end: RSS, MiB".to_owned(), usage::memory(pid)?.now));
    Ok(figures)
}

/// Registers everything, several writers at a time.
fn fill(ems: &Ems, services: u64, endpoints: u64) -> Result<()> {
    let next = AtomicU64::new(0);
    let write = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Relaxed);
            if index >= services {
                return Ok(());
            }
            ems.put_service(&service(index), json!({}))?;
            for endpoint in 0..endpoints {
                put_endpoint(ems, index, endpoint, 1_024)?;
            }
        }
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        writers.into_iter().try_for_each(|writer| {
            let ended = writer.join();
            ended.map_err(|_| anyhow!("a writer panicked"))?
        })
    })
}

fn put_endpoint(ems: &Ems, index: u64, endpoint: u64, port: u64) -> Result<()> {
    let address = format!("10.0.{}.{}", endpoint / 250, 1 + endpoint % 250);
    let record = json!({ "address": address, "port": port });
    ems.put_endpoint_record(&service(index), &format!("e{endpoint}"), record)
        .map(drop)
}

fn service(index: u64) -> String {
    format!("service-{index}")
}

/// What `envoy-configs/host.yaml` has under `metadata`.
fn metadata(wants: Wants) -> Struct {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = [
        ("kind", "host"),
        ("service", "bench"),
        ("region", REGION),
        ("listen", "127.0.0.1:10000"),
        ("filter", "/etc/isthmus/isthmus.wasm"),
    ];
    let eager = Value {
        kind: Some(Kind::BoolValue(wants == Wants::Everything)),
    };
    let fields = fields.map(|(name, value)| (name.to_owned(), text(value)));
    let isthmus = Struct {
        fields: fields
            .into_iter()
            .chain([("eager".to_owned(), eager)])
            .collect(),
    };
    let isthmus = Value {
        kind: Some(Kind::StructValue(isthmus)),
    };
    Struct {
        fields: [("isthmus".to_owned(), isthmus)].into(),
    }
}

fn parse(mut arguments: lexopt::Parser) -> Result<Options> {
    let (mut streams, mut services, mut endpoints) = (None, None, None);
    let (mut rounds, mut repeat, mut scale, mut json) = (3, 5, false, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("json") => json = true,
            Long("scale") => scale = true,
            Long("streams") => streams = Some(arguments.value()?.parse()?),
            Long("services") => services = Some(arguments.value()?.parse()?),
            Long("endpoints") => endpoints = Some(arguments.value()?.parse()?),
            Long("rounds") => rounds = arguments.value()?.parse()?,
            Long("repeat") => repeat = arguments.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    ensure!(
        !(scale && services.is_some()),
        "--services and --scale exclude each other"
    );
    // With many services, fewer streams and endpoints: what shall be seen is whether the number of services matters.
    let options = Options {
        streams: streams.unwrap_or(if scale { 100 } else { 1_000 }),
        services: services.unwrap_or(100),
        endpoints: endpoints.unwrap_or(if scale { 2 } else { 20 }),
        rounds,
        repeat,
        scale,
        json,
    };
    ensure!(
        options.streams > 0
            && options.services > 0
            && options.endpoints > 0
            && rounds > 0
            && repeat > 0,
        "--streams, --services, --endpoints, --rounds and --repeat must be 1 or more"
    );
    Ok(options)
}
