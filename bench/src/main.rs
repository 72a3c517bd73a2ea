//! Measurements of Isthmus on real parts. Each prints a table, and with `--json` one object on the last line.

use anyhow::{Result, bail};
use lexopt::prelude::*;

mod filter;

const USAGE: &str = "\
usage: isthmus-bench <measurement> [--json] [options]

measurements:
  filter   CPU time of Envoy per request: bare, no-op filter, Isthmus, Lua
             --rounds N    how often each is measured (7)
             --seconds N   how long one measurement takes (2)
             --also FILE   another build of the filter, for comparison; any number

--json prints one object as the last line";

fn main() -> Result<()> {
    let mut arguments = lexopt::Parser::from_env();
    match arguments.next()? {
        Some(Value(name)) if name == "filter" => filter::run(arguments),
        Some(Long("help") | Short('h')) => {
            println!("{USAGE}");
            Ok(())
        }
        Some(Value(name)) => bail!("no measurement is called {name:?}\n\n{USAGE}"),
        Some(other) => Err(other.unexpected().into()),
        None => bail!("name a measurement\n\n{USAGE}"),
    }
}
