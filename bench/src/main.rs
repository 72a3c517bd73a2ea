//! Measurements of Isthmus on real parts. Each prints a table, and with `--json` one object on the last line.

use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

mod ems;
mod figures;
mod filter;
mod ratelimit;
mod summary;
mod usage;
mod xds;

const USAGE: &str = "\
usage: isthmus-bench <measurement> [--json] [options]

measurements:
  filter   CPU time of Envoy per request: bare, no-op filter, Isthmus, with a limit, with one of 1000, Lua
             --rounds N    how often each is measured (7)
             --seconds N   how long one measurement takes (2)
             --also FILE   another build of the filter, for comparison, with and without limits; any number
  xds      a change of endpoints reaching many streams: EMS's engine beside the floor, a server without protocol
             --streams N    clients, each on a connection of its own (1000)
             --resources N  endpoint resources, of which every client wants all (100)
             --endpoints N  endpoints of each (20)
             --change N     how many change at a time (all, and 1); any number of times
             --mode MODE    delta or sotw (delta)
             --rounds N     how often both are started and measured (5)
             --repeat N     how often each change is made in a round (5)
             --scale        instead: 100, 1000 and 10000 resources of which one changes; 10000 streams; a change
                            while these come
  ems      the same through the whole of EMS: from the HTTP write of an endpoint or a service over the store to the last
           stream
             --streams N    clients that want everything (1000; with --scale 100)
             --services N   services (100)
             --endpoints N  endpoints of each (20; with --scale 2)
             --rounds N     how often EMS is started and measured (3)
             --repeat N     how often the change is made in a round (5)
             --scale        instead of --services: 100, 1000 and 10000
  ratelimit  answers about limits of the region at 1 and 64 in flight: in memory, with Redis, with Redis when most is
             refused, and the floor, a server that counts nothing; and how long it takes until a changed limit holds
             --rounds N     how often each is measured (3)
             --seconds N    how long one measurement takes (3)

--json prints one object as the last line";

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(Value(name)) if name == "filter" => filter::run(arguments),
        Some(Value(name)) if name == "xds" => xds::run(arguments),
        Some(Value(name)) if name == "ems" => ems::run(arguments),
        Some(Value(name)) if name == "ratelimit" => ratelimit::run(arguments),
        Some(Long("help") | Short('h')) => {
            println!("{USAGE}");
            Ok(())
        }
        Some(Value(name)) => bail!("no measurement is called {name:?}\n\n{USAGE}"),
        Some(other) => Err(other.unexpected().into()),
        None => bail!("name a measurement\n\n{USAGE}"),
    }
}
