//! What it takes the whole of EMS to bring a change to many Envoys: from the HTTP write over the store, which makes it
//! durable, to the last stream that wants it.
//!
//! Clients are those of `bench xds`, and say of themselves what an Envoy says that `ems bootstrap` configured. EMS is
//! started anew in each round, on the data of the first.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Instant,
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

/// Runs the measurement and prints it.
pub(crate) fn run(arguments: lexopt::Parser) -> Result<()> {
    let options = parse(arguments)?;
    let runtime = runtime(options.streams)?;
    let counts = if options.scale {
        SCALE.to_vec()
    } else {
        vec![options.services]
    };
    let mut columns = Vec::with_capacity(counts.len());
    for services in &counts {
        columns.push(column(&runtime, &options, *services)?);
    }
    let mut table = Table::new(counts.iter().map(|n| format!("{n} services")));
    for round in 0..options.rounds {
        let cells = columns.iter().filter_map(|column| column.get(round));
        table.add(cells.cloned().collect());
    }
    println!(
        "whole EMS, write to last stream: {} streams that want all services, {} endpoints each, delta; \
         {} rounds, the change {} times; median (least-most)\n{}",
        options.streams,
        options.endpoints,
        options.rounds,
        options.repeat,
        table.text()
    );
    if options.json {
        let object = json!({
            "streams": options.streams,
            "endpoints": options.endpoints,
            "rounds": options.rounds,
            "repeat": options.repeat,
            "figures": table.json(),
        });
        println!("{object}");
    }
    Ok(())
}

/// All rounds with this many services.
fn column(runtime: &Runtime, options: &Options, services: u64) -> Result<Vec<Figures>> {
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
    (1..=options.rounds)
        .map(|round| {
            eprintln!("{services} services: round {round} of {}", options.rounds);
            ems.stop();
            ems.start_again()?;
            measure(runtime, &mut ems, options, services)
        })
        .collect()
}

fn measure(runtime: &Runtime, ems: &mut Ems, options: &Options, services: u64) -> Result<Figures> {
    let pid = ems.process().id();
    let ems = &*ems;
    let names: Vec<String> = (0..services)
        .map(|n| format!("{}.{REGION}", service(n)))
        .collect();
    let wants = |type_url| Subscription {
        type_url,
        names: names.clone(),
    };
    let orders = Orders {
        streams: options.streams,
        server: ems.xds_address().parse().context("no xDS address")?,
        mode: Mode::Delta,
        metadata: Some(metadata()),
        subscriptions: vec![wants(CLUSTERS), wants(ENDPOINTS)],
    };
    let before = settled(pid)?;
    usage::forget_peak(pid)?;
    let (fleet, receipts) = Fleet::connect(runtime, orders, services)?;
    let mut figures = connected(pid, before, &receipts)?;
    let port = AtomicU64::new(20_000);
    let answered = AtomicU64::new(0);
    let change = || {
        cost(&fleet, pid, 1, || {
            let begin = Instant::now();
            // The ports of the round before are others: each write says something new.
            let port = 1_024 + (port.fetch_add(1, Relaxed) + u64::from(pid) * 97) % 60_000;
            put_endpoint(ems, 0, 0, port)?;
            let took = u64::try_from(begin.elapsed().as_micros())?;
            answered.fetch_add(took, Relaxed);
            Ok(())
        })
    };
    change()?;
    answered.store(0, Relaxed);
    let costs: Vec<_> = (0..options.repeat)
        .map(|_| change())
        .collect::<Result<_>>()?;
    figures.extend(of_change("1 changes", &costs));
    figures.push((
        "1 changes: write answered, ms".to_owned(),
        answered.load(Relaxed) as f64 / 1e3 / options.repeat as f64,
    ));
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
fn metadata() -> Struct {
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
    let isthmus = Struct {
        fields: fields
            .map(|(name, value)| (name.to_owned(), text(value)))
            .into(),
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
