//! What must hold for the running stack: the same as for the demo, and that one region goes on without the other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use isthmus_tests::http::{self, Call, Reply};
use isthmus_tests::wait;

use super::stack::Stack;
use crate::interrupt::Interrupt;

/// For what has to start or heal in containers on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The longest that a caller may wait to be told that another region is away.
const QUICK: Duration = Duration::from_secs(5);

type Check = fn(&Callers) -> Result<()>;

/// Runs every check.
pub(super) fn all(stack: &Stack, interrupt: &Interrupt) -> Result<()> {
    let checks: [(&str, Check); 6] = [
        (
            "requests inside a region and between regions arrive",
            arrives,
        ),
        ("the example reaches every database", example_is_done),
        ("refusals are told apart", refuses),
        ("the way between the regions is encrypted", is_encrypted),
        (
            "only gateways are on the network between the regions",
            is_apart,
        ),
        (
            "one region goes on without the other, and they find each other again",
            survives_a_cut,
        ),
    ];
    let callers = Callers::new(stack)?;
    for (name, check) in checks {
        interrupt.check()?;
        let start = Instant::now();
        check(&callers).with_context(|| format!("check failed: {name}"))?;
        eprintln!(
            "compose-test: ok: {name} ({:.1} s)",
            start.elapsed().as_secs_f32()
        );
    }
    Ok(())
}

/// The host Envoys of both regions, as callers on this machine reach them.
struct Callers<'a> {
    stack: &'a Stack,
    eu: String,
    us: String,
}

impl<'a> Callers<'a> {
    fn new(stack: &'a Stack) -> Result<Self> {
        Ok(Self {
            stack,
            eu: stack.address("host-eu", 10000)?,
            us: stack.address("host-us", 10000)?,
        })
    }
}

fn arrives(callers: &Callers) -> Result<()> {
    for (from, host) in [("eu", &callers.eu), ("us", &callers.us)] {
        for to in ["eu", "us"] {
            for database in ["billing-db", "orders-db"] {
                arrives_at(host, database, to)
                    .with_context(|| format!("from {from} to {database} in {to}"))?;
            }
        }
    }
    Ok(())
}

fn arrives_at(host: &str, database: &str, region: &str) -> Result<()> {
    wait::within(PATIENCE, "an answer", || {
        let reply = schema(host, database, region)?.ok()?;
        let says = reply.json();
        let field = |name: &str| says.get(name)?.as_str();
        ensure!(
            field("database") == Some(database) && field("region") == Some(region),
            "somebody else answered: {}",
            reply.body
        );
        Ok(())
    })
}

fn example_is_done(callers: &Callers) -> Result<()> {
    for region in ["eu", "us"] {
        for database in ["billing-db", "orders-db"] {
            wait::within(PATIENCE, "the schema update", || {
                let says = schema(&callers.us, database, region)?.ok()?.json();
                ensure!(
                    says.get("version").and_then(|version| version.as_u64()) > Some(0),
                    "{database} in {region} has no schema yet"
                );
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn refuses(callers: &Callers) -> Result<()> {
    for (service, region, status, error) in [
        ("", "eu", 400, "missing_service"),
        ("orders db", "eu", 400, "bad_service"),
        ("orders-db", "mars", 404, "unknown_region"),
        ("nobody", "us", 404, "unknown_service"),
        ("nobody", "eu", 404, "unknown_service"),
    ] {
        let reply = schema(&callers.us, service, region)?;
        let told = (reply.status, reply.error().unwrap_or_default());
        ensure!(
            told == (status, error),
            "'{service}' in '{region}': expected {status} {error}, got {reply:?}"
        );
    }
    Ok(())
}

/// By the gateway's own count: every connection that brought a request was TLS, with a certificate of the caller.
fn is_encrypted(callers: &Callers) -> Result<()> {
    for gateway in ["gateway-eu", "gateway-us"] {
        let url = format!(
            "http://{}/stats?usedonly",
            callers.stack.address(gateway, 9901)?
        );
        let page = Call::new("GET", url).send()?.ok()?.body;
        let count = |part: &str| -> u64 {
            let lines = page
                .lines()
                .filter(|line| line.starts_with("listener.") && line.contains(part));
            lines
                .filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok())
                .sum()
        };
        ensure!(
            count(".ssl.handshake") > 0,
            "{gateway} has seen no TLS handshake"
        );
        ensure!(
            count(".ssl.no_certificate") == 0,
            "{gateway} let somebody in without a certificate"
        );
    }
    Ok(())
}

fn is_apart(callers: &Callers) -> Result<()> {
    let gateways = BTreeSet::from(["gateway-eu".to_owned(), "gateway-us".to_owned()]);
    let found = callers.stack.on_network("wan")?;
    ensure!(
        found == gateways,
        "on the network between the regions are {found:?}"
    );
    let reaches = |host: &str, port: &str| {
        let open = format!("exec 3<>/dev/tcp/{host}/{port}");
        callers
            .stack
            .succeeds_in("ems-us", &["timeout", "3", "bash", "-c", &open])
    };
    ensure!(
        reaches("host-us", "10000"),
        "ems-us does not even reach its own region"
    );
    for (host, port) in [
        ("ems-eu", "18080"),
        ("orders-db-eu", "7000"),
        ("gateway-eu", "15443"),
    ] {
        ensure!(
            !reaches(host, port),
            "ems-us reaches {host}, which is in another region"
        );
    }
    Ok(())
}

fn survives_a_cut(callers: &Callers) -> Result<()> {
    callers.stack.disconnect("wan", "gateway-us")?;
    let outcome = check_the_cut(callers);
    callers.stack.connect("wan", "gateway-us")?;
    outcome?;
    arrives_at(&callers.us, "orders-db", "eu").context("after the regions were joined again")?;
    arrives_at(&callers.eu, "orders-db", "us").context("after the regions were joined again")
}

fn check_the_cut(callers: &Callers) -> Result<()> {
    for (host, away, here) in [(&callers.us, "eu", "us"), (&callers.eu, "us", "eu")] {
        // Every worker of an Envoy has connections of its own, and the first request on each of them is what finds it
        // dead. From then on the refusal says what is the matter.
        let mut slowest = Duration::ZERO;
        wait::within(PATIENCE, "a refusal that says why", || {
            let start = Instant::now();
            let reply = schema(host, "orders-db", away);
            slowest = slowest.max(start.elapsed());
            let reply = reply?;
            let told = reply.error();
            ensure!(
                told == Some("no_healthy_endpoint"),
                "{away} is cut off, and yet: {reply:?}"
            );
            Ok(())
        })?;
        eprintln!("compose-test: {away} is cut off: refused after {slowest:.1?} at most");
        ensure!(
            slowest < QUICK,
            "a request to {away} was refused only after {slowest:?}"
        );
        let local = schema(host, "orders-db", here)?;
        ensure!(
            local.status == 200,
            "{here} does not go on by itself: {local:?}"
        );
    }
    Ok(())
}

/// Asks a database which schema is in force, over the mesh: nothing is said but service and region.
fn schema(host: &str, service: &str, region: &str) -> Result<Reply> {
    let client = http::agent(Duration::from_secs(20));
    let call = Call::on(&client, "GET", format!("http://{host}/schema")).region(region);
    if service.is_empty() {
        call.send()
    } else {
        call.service(service).send()
    }
}
