//! Whether the cost of a change grows with what there is beside it, ten thousand streams in one process, and what others
//! notice when these come.

use anyhow::Result;
use isthmus_tests::WorkDir;
use serde_json::json;
use tokio::runtime::Runtime;

use super::{
    beside_the_floor,
    run::{self, Plan},
    server::Kind,
    storm,
};
use crate::figures::Table;

/// Clients of the large case.
pub(crate) const STREAMS: usize = 10_000;
/// Clients where the resources are many: each wants all of them.
const FEW: usize = 100;
/// Endpoints of each then: ten thousand resources have to reach every client before the measurement begins.
const ENDPOINTS: u64 = 2;
const RESOURCES: [u64; 3] = [100, 1_000, 10_000];

/// Measures all three and prints them. Of the plan, what is repeated and the variant count.
pub(crate) fn run(
    runtime: &Runtime,
    dir: &WorkDir,
    plan: &Plan,
    rounds: usize,
    as_json: bool,
) -> Result<()> {
    let mut services = Table::new(RESOURCES.map(|n| format!("{n} resources")));
    for round in 1..=rounds {
        let columns = RESOURCES.map(|resources| {
            eprintln!("{resources} resources: round {round} of {rounds}");
            let plan = Plan {
                streams: FEW,
                resources,
                endpoints: ENDPOINTS,
                changes: vec![1],
                ..plan.clone()
            };
            run::measure(runtime, dir, Kind::Engine, &plan)
        });
        services.add(columns.into_iter().collect::<Result<_>>()?);
    }
    println!(
        "EMS's engine: {FEW} streams that want all resources, {ENDPOINTS} endpoints each, one changes; \
         {rounds} rounds; median (least-most)\n{}\n",
        services.text()
    );
    let plan = Plan {
        streams: STREAMS,
        changes: vec![1],
        ..plan.clone()
    };
    let streams = beside_the_floor(runtime, dir, &plan, rounds)?;
    println!(
        "{STREAMS} streams, {} resources of {} endpoints, one changes; {rounds} rounds; median (least-most)\n{}",
        plan.resources,
        plan.endpoints,
        streams.text()
    );
    let storm = storm::table(runtime, dir, &plan, rounds)?;
    println!(
        "\n{STREAMS} streams come at once where {} are, and a resource changes that only these want; {rounds} rounds; \
         median (least-most)\n{}",
        storm::THERE,
        storm.text()
    );
    if as_json {
        let object = json!({
            "resources": services.json(),
            "streams": streams.json(),
            "storm": storm.json(),
        });
        println!("{object}");
    }
    Ok(())
}
