//! Programs whose gRPC library speaks xDS itself: grpcio, as its users install it, against a real EMS and no Envoy.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use isthmus_tests::{
    Ems, Load, Port, Process, Reply, WorkDir, artifact, eventually, http, process,
};
use isthmus_upstream::Upstream;
use serde_json::{Value, json};

use crate::stage::none_failed;

/// A program that runs as `us/orders`, and its EMS.
struct Program {
    ems: Ems,
    _process: Process,
    _port: Port,
    url: String,
    client: ureq::Agent,
}

impl Program {
    fn start() -> Program {
        let dir = WorkDir::new("grpc").unwrap();
        let ems = Ems::start(&dir, "us").unwrap();
        let xds = ems.xds_address();
        let bootstrap = ems
            .run(
                ["bootstrap", "--kind", "grpc", "--service", "orders"]
                    .into_iter()
                    .chain(["--region", "us", "--node-id", "program", "--xds", &xds]),
            )
            .unwrap();
        let bootstrap = dir.write("grpc.json", &bootstrap).unwrap();
        let root = artifact::workspace().unwrap();
        let port = Port::reserve().unwrap();
        let mut python = artifact::python().unwrap();
        python
            .env("GRPC_XDS_BOOTSTRAP", bootstrap)
            .arg(root.join("tests/tests/e2e/proxyless/caller.py"))
            .arg(port.to_string())
            .arg(root.join("tests/upstream/proto"));
        let mut process = Process::start("caller", &dir, python).unwrap();
        let url = format!("http://{}", port.address());
        let client = http::agent(Duration::from_secs(30));
        let ready = http::Call::on(&client, "GET", format!("{url}/"));
        process.wait_ready(|| ready.send()?.ok().map(drop)).unwrap();
        Program {
            ems,
            _process: process,
            _port: port,
            url,
            client,
        }
    }

    fn calling(&self, target: &str, more: &str) -> http::Call {
        let url = format!("{}/call?target=xds:///{target}{more}", self.url);
        http::Call::on(&self.client, "GET", url)
    }

    /// What one call came to.
    fn call(&self, target: &str) -> Value {
        self.calling(target, "").send().unwrap().json()
    }

    fn reaches(&self, target: &str, id: &str) {
        eventually(&format!("{target} to be answered by {id}"), || {
            let found = self.call(target);
            ensure!(found["upstream"] == id, "{found}");
            Ok(())
        })
        .unwrap();
    }

    fn is_told(&self, target: &str, why: &str) {
        eventually(&format!("{target} to be refused: {why}"), || {
            let found = self.call(target);
            let details = found["details"].as_str().unwrap_or_default();
            ensure!(
                found["code"] == "UNAVAILABLE" && details.contains(why),
                "{found}"
            );
            Ok(())
        })
        .unwrap();
    }

    fn endpoint(&self, service: &str, id: &str) -> Upstream {
        let upstream = Upstream::start(id).unwrap();
        self.ems.put_endpoint(service, id, upstream.port()).unwrap();
        upstream
    }

    fn load(&self, target: &str) -> Load {
        let call = self.calling(target, "");
        Load::start(2, Duration::from_millis(10), move || {
            let found = call.send()?.json();
            let who = found["upstream"].as_str().map(str::to_owned);
            who.with_context(|| found.to_string())
        })
    }

    /// EMS knows the program, and the program took everything.
    fn took_everything(&self) {
        let nodes = self.ems.nodes().unwrap();
        assert_eq!(nodes.len(), 1, "{nodes:?}");
        let node = &nodes[0];
        assert_eq!(node["kind"], "grpc", "{node}");
        assert!(
            node["rejections"].is_null() || node["rejections"] == "0",
            "{node}"
        );
        let agent = node["userAgent"].as_str().unwrap();
        assert!(agent.starts_with("gRPC C-core"), "{agent}");
    }
}

#[test]
fn calls_follow_the_endpoints() {
    let program = Program::start();
    let ems = &program.ems;
    ems.put_service("shop", json!({"protocol": "grpc"}))
        .unwrap();
    let first = program.endpoint("shop", "one");
    assert_eq!(
        program.call("shop"),
        json!({"upstream": "one"}),
        "the first call"
    );
    assert_eq!(program.call("shop.us"), json!({"upstream": "one"}));

    let load = program.load("shop");
    load.answered_more(20).unwrap();
    let second = program.endpoint("shop", "two");
    eventually("the second endpoint to be used", || {
        load.report().by("two") > 0
    })
    .unwrap();
    ems.drain_endpoint("shop", "one").unwrap();
    eventually("the first to be left alone", || {
        let before = first.requests();
        load.answered_more(20)?;
        ensure!(first.requests() == before, "it still gets requests");
        Ok(())
    })
    .unwrap();
    ems.delete_endpoint("shop", "one").unwrap();
    first.finish().unwrap();
    load.answered_more(20).unwrap();
    none_failed(load);

    ems.drain_endpoint("shop", "two").unwrap();
    program.is_told("shop", "shop.us");
    let _third = program.endpoint("shop", "three");
    program.reaches("shop", "three");
    drop(second);
    program.took_everything();
}

#[test]
fn what_cannot_be_reached_is_told_at_once_and_found_when_it_comes() {
    let program = Program::start();
    let ems = &program.ems;
    ems.put_region(
        "eu",
        json!({"gateways": [{"address": "127.0.0.1", "port": 1}]}),
    )
    .unwrap();
    // Once only: the first call is the one that would wait.
    for (target, why) in [
        ("ghost", "unknown_service: region us has no service ghost"),
        ("shop.eu", "shop.eu is not in region us"),
        ("shop.any", "shop.any is not in region us"),
        ("Shop", "write shop.us in lower case"),
    ] {
        let found = program.call(target);
        let details = found["details"].as_str().unwrap_or_default();
        assert_eq!(found["code"], "UNAVAILABLE", "{target}: {found}");
        assert!(details.contains(why), "{target}: {found}");
        let patient = program.calling(target, "&wait=1").send().unwrap().json();
        assert_eq!(patient, found, "not even who would wait has to");
    }

    ems.put_service("ghost", json!({})).unwrap();
    let _ghost = program.endpoint("ghost", "ghost-1");
    program.reaches("ghost", "ghost-1");
    ems.delete_service("ghost").unwrap();
    program.is_told("ghost", "unknown_service");

    ems.put_service("vault", json!({"access": {"allow": ["us/billing"]}}))
        .unwrap();
    let vault = program.endpoint("vault", "vault-1");
    program.is_told("vault", "denied: vault.us");
    ems.put_service("vault", json!({"access": {"allow": ["us/orders"]}}))
        .unwrap();
    program.reaches("vault", "vault-1");
    ems.put_service("vault", json!({"access": {"allow": []}}))
        .unwrap();
    program.is_told("vault", "denied: vault.us");
    let before = vault.requests();
    program.is_told("vault", "denied: vault.us");
    assert_eq!(vault.requests(), before);
    program.took_everything();
}

#[test]
fn ems_may_come_and_go() {
    let mut program = Program::start();
    program.ems.put_service("shop", json!({})).unwrap();
    let _one = program.endpoint("shop", "one");
    program.reaches("shop", "one");
    let load = program.load("shop");
    for crash in [false, true] {
        if crash {
            program.ems.kill();
        } else {
            program.ems.stop();
        }
        load.answered_more(20).unwrap();
        program.ems.start_again().unwrap();
        eventually("the program to come back", || {
            program.ems.nodes().is_ok_and(|nodes| !nodes.is_empty())
        })
        .unwrap();
        load.answered_more(20).unwrap();
    }
    let _two = program.endpoint("shop", "two");
    eventually("calls to follow again", || load.report().by("two") > 0).unwrap();
    none_failed(load);
    program.took_everything();
}

#[test]
fn grpcio_takes_every_policy() {
    let program = Program::start();
    let ems = &program.ems;
    let rich = |balance: &str| {
        json!({
            "protocol": "grpc",
            "loadBalancing": balance,
            "connectTimeout": "2s",
            "retries": {"attempts": 3, "on": ["connect-failure", "unavailable", "cancelled"]},
            "circuitBreakers": {"maxRequests": 50, "maxConnections": 3},
            "outlierDetection": {"consecutiveErrors": 3, "interval": "1s"},
            "healthCheck": {"interval": "1s", "grpc": {}},
            "maxStreamDuration": "4s",
            "allowVersionPins": true,
        })
    };
    let policies = [
        "least_request",
        "round_robin",
        "random",
        "ring_hash",
        "maglev",
    ];
    let mut upstreams = Vec::new();
    for balance in policies {
        let service = balance.replace('_', "-");
        let mut record = rich(balance);
        if matches!(balance, "ring_hash" | "maglev") {
            record["hashPolicy"] = json!([{"header": "x-user"}, {"cookie": "c"}]);
        }
        ems.put_service(&service, record).unwrap();
        for n in 1..=3 {
            upstreams.push(program.endpoint(&service, &format!("{service}-{n}")));
        }
        eventually("every endpoint to be called", || {
            // Someone new each time, so that hashes differ.
            let user = format!(
                "&user={}",
                upstreams.iter().map(Upstream::requests).sum::<u64>()
            );
            let found = program.calling(&service, &user).send()?.json();
            let mut own = upstreams.iter().rev().take(3);
            ensure!(own.all(|one| one.requests() > 0), "{service}: {found}");
            Ok(())
        })
        .unwrap();
    }

    let slow = program.calling("round-robin", "&delay_ms=10000");
    let found = slow.send().unwrap().json();
    assert_eq!(found["code"], "DEADLINE_EXCEEDED", "{found}");

    let answers = |user: usize| -> Result<BTreeSet<String>> {
        let call = program.calling("maglev", &format!("&user={user}"));
        let replies = (0..5).map(|_| call.send()?.ok());
        let replies: Vec<Reply> = replies.collect::<Result<_>>()?;
        let who = |reply: &Reply| reply.json()["upstream"].as_str().map(str::to_owned);
        replies
            .iter()
            .map(who)
            .collect::<Option<_>>()
            .context("a call failed")
    };
    let mut all = BTreeSet::new();
    for user in 0..30 {
        let who = answers(user).unwrap();
        assert_eq!(who.len(), 1, "user {user} stays with one: {who:?}");
        all.extend(who);
    }
    assert!(all.len() > 1, "users are spread: {all:?}");

    ems.put_service("weighed", json!({"loadBalancing": "round_robin"}))
        .unwrap();
    let [light, heavy] = ["light", "heavy"].map(|id| Upstream::start(id).unwrap());
    for (upstream, weight) in [(&light, 1), (&heavy, 19)] {
        let record = json!({"address": "127.0.0.1", "port": upstream.port(), "weight": weight});
        ems.put_endpoint_record("weighed", upstream.id(), record)
            .unwrap();
    }
    program.reaches("weighed", "heavy");
    program.reaches("weighed", "light");
    let before = (light.requests(), heavy.requests());
    for _ in 0..60 {
        program.call("weighed");
    }
    let (light, heavy) = (light.requests() - before.0, heavy.requests() - before.1);
    // Even shares would be 30 each. That 19 of 20 come to less than 40 of 60 does not happen.
    assert!(heavy > 40 && light + heavy == 60, "{light}, {heavy}");

    ems.put_service("named", json!({})).unwrap();
    let named = Upstream::start("named-1").unwrap();
    let record = json!({"address": "localhost", "port": named.port()});
    ems.put_endpoint_record("named", "n", record).unwrap();
    program.reaches("named", "named-1");
    program.took_everything();
}

#[test]
fn a_library_that_says_to_be_an_envoy_is_told_what_to_do() {
    let dir = WorkDir::new("grpc").unwrap();
    let ems = Ems::start(&dir, "us").unwrap();
    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": ems.xds_address(),
            "channel_creds": [{"type": "insecure"}],
        }],
        "node": {"id": "x", "metadata": {"isthmus": {"kind": "sidecar"}}},
    });
    let bootstrap = dir.write("wrong.json", &bootstrap.to_string()).unwrap();
    let mut python = artifact::python().unwrap();
    let script = "import grpc; \
                  grpc.insecure_channel('xds:///a').unary_unary('/a/b')(b'', timeout=12)";
    python
        .env("GRPC_XDS_BOOTSTRAP", bootstrap)
        .args(["-c", script]);
    let error = process::output(python).unwrap_err().to_string();
    assert!(error.contains("ems bootstrap --kind grpc"), "{error}");
}
