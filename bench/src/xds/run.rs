//! One server from its start to its end: everybody connects, then changes follow one another.

use std::process;

use anyhow::Result;
use isthmus_tests::WorkDir;
use tokio::runtime::Runtime;

use super::{
    fleet::{Fleet, Orders, Receipts},
    message::{ENDPOINTS, Mode, Subscription},
    server::{Kind, Server, Set, settled},
};
use crate::{
    figures::Figures,
    summary::{median, percentile},
    usage,
};

/// What is measured of a server.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Clients.
    pub(crate) streams: usize,
    /// Endpoint resources; each client wants all of them.
    pub(crate) resources: u64,
    /// Endpoints of each.
    pub(crate) endpoints: u64,
    /// Numbers of resources that change together, one measurement each.
    pub(crate) changes: Vec<u64>,
    /// How often each is measured.
    pub(crate) repeat: usize,
    /// The variant.
    pub(crate) mode: Mode,
}

/// Measures a server that is started for it.
pub(crate) fn measure(
    runtime: &Runtime,
    dir: &WorkDir,
    kind: Kind,
    plan: &Plan,
) -> Result<Figures> {
    let server = Server::start(dir, kind)?;
    let mut set = Set {
        resources: plan.resources,
        endpoints: plan.endpoints,
        version: 1,
        change: plan.resources,
    };
    server.set(set)?;
    let before = settled(server.pid())?;
    usage::forget_peak(server.pid())?;
    let orders = Orders {
        streams: plan.streams,
        server: server.xds(),
        mode: plan.mode,
        metadata: None,
        subscriptions: vec![Subscription {
            type_url: ENDPOINTS,
            names: (0..plan.resources)
                .map(|n| format!("cluster-{n}"))
                .collect(),
        }],
    };
    let (fleet, receipts) = Fleet::connect(runtime, orders, plan.resources)?;
    let mut figures = connected(server.pid(), before, &receipts)?;
    // What is not yet in its caches is no part of any one change.
    let mut change = |count: u64| -> Result<Cost> {
        set.version += 1;
        set.change = count;
        server.prepare(set)?;
        cost(&fleet, server.pid(), count, || server.set(set))
    };
    for count in &plan.changes {
        change(*count)?;
    }
    for count in &plan.changes {
        let costs = (0..plan.repeat).map(|_| change(*count));
        let costs: Vec<Cost> = costs.collect::<Result<_>>()?;
        let of = if *count == 1 { "changes" } else { "change" };
        figures.extend(of_change(&format!("{count} {of}"), &costs));
    }
    let memory = usage::memory(server.pid())?;
    figures.push(("in the end: RSS, MiB".to_owned(), memory.now));
    Ok(figures)
}

/// The figures of everybody having connected; `before` is the CPU time until then.
pub(crate) fn connected(pid: u32, before: f64, receipts: &Receipts) -> Result<Figures> {
    let spent = settled(pid)? - before;
    let memory = usage::memory(pid)?;
    let figures = [
        ("connect: last, ms", last(receipts)),
        ("connect: server CPU, s", spent),
        ("connect: RSS after, MiB", memory.now),
        ("connect: RSS peak, MiB", memory.peak),
        ("connect: RSS peak/after", memory.peak / memory.now),
    ];
    Ok(figures.map(|(name, value)| (name.to_owned(), value)).into())
}

/// What a change cost.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    receipts: Receipts,
    server: f64,
    client: f64,
    rss: f64,
}

/// Makes a change and says what it cost, until the server has nothing left to do.
pub(crate) fn cost(
    fleet: &Fleet,
    pid: u32,
    count: u64,
    write: impl FnOnce() -> Result<()>,
) -> Result<Cost> {
    let before = settled(pid)?;
    let client = usage::cpu_seconds(process::id())?;
    let receipts = fleet.change(count, write)?;
    let rss = usage::memory(pid)?.now;
    let server = settled(pid)? - before;
    let client = usage::cpu_seconds(process::id())? - client;
    fleet.check()?;
    Ok(Cost {
        receipts,
        server,
        client,
        rss,
    })
}

/// The figures of a change that was measured several times.
pub(crate) fn of_change(change: &str, costs: &[Cost]) -> Figures {
    let row = |what: &str, value: fn(&Cost) -> f64| {
        let name = format!("{change}: {what}");
        (name, median(costs.iter().map(value)))
    };
    vec![
        row("last, ms", |cost| last(&cost.receipts)),
        row("p99, ms", |cost| at(&cost.receipts, 0.99)),
        row("p50, ms", |cost| at(&cost.receipts, 0.5)),
        row("server CPU, s", |cost| cost.server),
        row("client CPU, s", |cost| cost.client),
        row("RSS at receipt, MiB", |cost| cost.rss),
        row("sent, MiB", |cost| cost.receipts.bytes as f64 / MIB),
    ]
}

const MIB: f64 = 1024.0 * 1024.0;

/// Milliseconds until everybody had it.
pub(crate) fn last(receipts: &Receipts) -> f64 {
    at(receipts, 1.0)
}

/// Milliseconds until this share had it.
pub(crate) fn at(receipts: &Receipts, share: f64) -> f64 {
    percentile(receipts.seconds.iter().copied(), share) * 1e3
}
