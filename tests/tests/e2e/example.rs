//! The running example, as users copy it: databases that register themselves, callers in Rust and in Python.

use std::{process::Command, time::Duration};

use isthmus_tests::{Process, Region, artifact, eventually, process};
use serde_json::Value;

use crate::stage::shared;

const DATABASES: [&str; 2] = ["example-orders-db", "example-users-db"];

fn database(region: &Region, name: &str) -> Process {
    let mut command = Command::new(artifact::example("schema-database").unwrap());
    command
        .args(["--database", name, "--region", &region.name])
        .args(["--ems", &region.ems.url()]);
    let process = Process::start(name, region.dir(), command).unwrap();
    eventually("the database to register", || {
        region
            .ems
            .get(&format!("/v1/services/{name}/endpoints/1"))
            .is_ok()
    })
    .unwrap();
    process
}

fn schema() -> String {
    let root = artifact::workspace().unwrap();
    root.join("examples/schema-update/schema.sql")
        .display()
        .to_string()
}

fn python_caller(envoy: &str) -> Command {
    let root = artifact::workspace().unwrap();
    let mut python = artifact::python().unwrap();
    python
        .arg(root.join("examples/schema-update/python/caller.py"))
        .args(["--schema", &schema(), "--envoy", envoy]);
    python
}

#[test]
fn every_database_in_both_regions_takes_the_schema() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let mut running: Vec<Process> = Vec::new();
    for region in [eu, us] {
        running.extend(DATABASES.iter().map(|name| database(region, name)));
    }
    let updater = |json: bool| {
        let mut command = Command::new(artifact::example("schema-updater").unwrap());
        command
            .args(["--schema", &schema(), "--once", "--receipts"])
            .args(["--envoy", &format!("http://{}", us.host.address())])
            .args(["--databases", &DATABASES.join(","), "--regions", "eu,us"])
            .args(json.then_some("--json"));
        process::output(command).unwrap()
    };
    let rows: Vec<Value> = serde_json::from_str(&updater(true)).unwrap();
    assert_eq!(rows.len(), 4, "{rows:?}");
    for row in &rows {
        assert_eq!(row["status"], "ok", "{row}");
        let path = if row["region"] == "eu" {
            "gateway"
        } else {
            "local"
        };
        assert_eq!(row["path"], path, "{row}");
        let receipts = row["receipts"].as_array().map(Vec::len);
        assert_eq!(
            receipts,
            Some(if path == "gateway" { 2 } else { 1 }),
            "{row}"
        );
        let answer = row["answer"].as_str().unwrap();
        let expected = format!("1 in {} applied version 1", row["region"].as_str().unwrap());
        assert_eq!(answer, expected, "{row}");
    }
    let table = updater(false);
    // A title, the header, a line for each database, and one more for each gateway on the way.
    assert_eq!(table.lines().count(), 2 + 4 + 2, "{table}");
    assert!(
        table.contains("gateway") && table.contains("had version 1"),
        "{table}"
    );

    let reply = us
        .host
        .call("GET", "/schema")
        .service(DATABASES[0])
        .region("eu")
        .send()
        .unwrap();
    assert_eq!(reply.json()["version"], 1, "for people: {reply:?}");

    let mut python = python_caller(&us.host.address());
    python.args(["--databases", &DATABASES.join(","), "--regions", "eu,us"]);
    let said = process::output(python).unwrap();
    for line in [
        "example-orders-db in eu: version 1",
        "example-users-db in us: version 1",
    ] {
        assert!(said.contains(line), "{said}");
    }

    // Stopped, a database leaves by itself.
    let mut leaving = running.remove(0);
    leaving.signal(15).unwrap();
    let status = leaving.wait_end(Duration::from_secs(20)).unwrap();
    assert!(status.success(), "{status}: {}", leaving.log_text());
    let gone = eu
        .ems
        .call("GET", &format!("/v1/services/{}/endpoints/1", DATABASES[0]))
        .send()
        .unwrap();
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[test]
fn a_refusal_reaches_a_python_caller() {
    let stage = shared();
    let mut python = python_caller(&stage.mesh.us.host.address());
    python.args(["--databases", "nobody", "--regions", "eu,mars"]);
    let error = process::output(python).unwrap_err().to_string();
    for line in ["nobody in eu: NOT_FOUND", "nobody in mars: NOT_FOUND"] {
        assert!(error.contains(line), "{error}");
    }
}
