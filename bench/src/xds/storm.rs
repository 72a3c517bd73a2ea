//! What those that are there notice of ten thousand others that come at once, as when another server has stopped.
//!
//! The resource that changes is wanted by those that were there alone: what it takes to bring a change to more clients is
//! measured elsewhere.

use std::{thread, time::Duration};

use anyhow::{Result, anyhow, ensure};
use isthmus_tests::WorkDir;
use tokio::runtime::Runtime;

use super::{
    fleet::{Fleet, Orders, Receipts},
    message::{ENDPOINTS, Subscription},
    run::{Plan, at, connected, last},
    server::{Kind, Server, Set, settled},
};
use crate::{
    figures::{Figures, Table},
    summary::{median, percentile},
    usage,
};

/// Clients that are there.
pub(crate) const THERE: usize = 100;
/// Between a change that everybody has and the next, so that changes alone are no load.
const PAUSE: Duration = Duration::from_millis(20);

/// The plan's streams come while there are changes, then there are as many changes without anybody coming.
pub(crate) fn table(runtime: &Runtime, dir: &WorkDir, plan: &Plan, rounds: usize) -> Result<Table> {
    ensure!(
        plan.resources > 1,
        "--resources must be 2 or more: one for those that are there, others for those that come"
    );
    let mut table = Table::new(["storm", "quiet"]).compared();
    for round in 1..=rounds {
        eprintln!("{} streams come: round {round} of {rounds}", plan.streams);
        table.add(measure(runtime, dir, plan)?);
    }
    Ok(table)
}

fn measure(runtime: &Runtime, dir: &WorkDir, plan: &Plan) -> Result<Vec<Figures>> {
    let server = Server::start(dir, Kind::Engine)?;
    let mut set = Set {
        resources: plan.resources,
        endpoints: plan.endpoints,
        version: 1,
        change: plan.resources,
    };
    server.set(set)?;
    let orders = |streams, wanted: std::ops::Range<u64>| Orders {
        streams,
        server: server.xds(),
        mode: plan.mode,
        metadata: None,
        subscriptions: vec![Subscription {
            type_url: ENDPOINTS,
            names: wanted.map(|n| format!("cluster-{n}")).collect(),
        }],
    };
    let (there, _) = Fleet::connect(runtime, orders(THERE, 0..1), 1)?;
    set.change = 1;
    let mut change = || {
        set.version += 1;
        let receipts = there.change(1, || server.set(set))?;
        thread::sleep(PAUSE);
        anyhow::Ok(receipts)
    };
    change()?;

    let before = settled(server.pid())?;
    usage::forget_peak(server.pid())?;
    let crowd = orders(plan.streams, 1..plan.resources);
    let mut during = Vec::new();
    let (crowd, receipts) = thread::scope(|scope| {
        let coming = scope.spawn(|| Fleet::connect(runtime, crowd, plan.resources - 1));
        while !coming.is_finished() {
            during.push(change()?);
        }
        coming.join().map_err(|_| anyhow!("connecting panicked"))?
    })?;
    let mut storm = of_changes(&during);
    storm.extend(connected(server.pid(), before, &receipts)?);

    let after: Vec<_> = during.iter().map(|_| change()).collect::<Result<_>>()?;
    there.check()?;
    crowd.check()?;
    Ok(vec![storm, of_changes(&after)])
}

fn of_changes(changes: &[Receipts]) -> Figures {
    let lasts = || changes.iter().map(last);
    let figures = [
        ("1 changes: worst, ms", percentile(lasts(), 1.0)),
        ("1 changes: last, ms", median(lasts())),
        (
            "1 changes: p50, ms",
            median(changes.iter().map(|one| at(one, 0.5))),
        ),
        ("changes", changes.len() as f64),
    ];
    figures.map(|(name, value)| (name.to_owned(), value)).into()
}
