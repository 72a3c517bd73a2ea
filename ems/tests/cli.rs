//! The commands of `ems` against a served registry, as processes: what people and scripts see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    io::Write,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(20);

/// A server of a region on free ports, killed with the test.
struct Server {
    process: Child,
    url: String,
    dir: TempDir,
}

impl Server {
    fn start(region: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let process = ems()
            .args(["serve", "--region", region, "--xds-address", "127.0.0.1:0"])
            .args(["--http-address", "127.0.0.1:0", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .spawn()
            .unwrap();
        let mut server = Self {
            process,
            url: String::new(),
            dir,
        };
        let end = Instant::now() + DEADLINE;
        let addresses: serde_json::Value = loop {
            let text = std::fs::read_to_string(&ready).unwrap_or_default();
            if let Ok(addresses) = serde_json::from_str(&text) {
                break addresses;
            }
            assert!(Instant::now() < end, "the server is not ready in time");
            thread::sleep(Duration::from_millis(10));
        };
        server.url = format!("http://{}", addresses["http"].as_str().unwrap());
        server
    }

    /// Runs a command against it; what it printed, where it succeeded.
    fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same for what fails: its exit code and what it says.
    fn fails(&self, arguments: &[&str], input: &str) -> (i32, String) {
        let output = self.run(arguments, input);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut process = ems()
            .env("EMS_SERVER", &self.url)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone already.
        let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
        process.wait_with_output().unwrap()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ems() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ems"));
    // What the person who runs the tests has set must not reach them.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EMS_") {
            command.env_remove(name);
        }
    }
    command
}

const RECORDS: &str = "\
kind: Endpoint
service: payments
id: p1
address: 10.0.0.1
port: 80
---
kind: Service
name: payments
protocol: grpc
";

#[test]
fn records_from_files_and_back() {
    let server = Server::start("us");
    let file = server.file("a.yaml", RECORDS);
    let file = file.to_str().unwrap();
    let validated = server.ok(&["validate", "-f", file], "");
    assert_eq!(
        validated,
        "service payments is valid\nendpoint payments/p1 is valid\n"
    );

    assert_eq!(
        server.ok(&["apply", "-f", file], ""),
        "service payments created (version 1)\nendpoint payments/p1 created (version 1)\n"
    );
    let changed = RECORDS.replace("grpc", "http2");
    assert_eq!(
        server.ok(&["apply", "-f", "-"], &changed),
        "service payments changed (version 2)\nendpoint payments/p1 unchanged (version 1)\n"
    );

    let table = server.ok(&["get", "services"], "");
    assert!(table.contains("payments  2        http2"), "{table}");
    let yaml = server.ok(&["get", "endpoint", "payments/p1", "-o", "yaml"], "");
    assert_eq!(
        server.ok(&["apply", "-f", "-"], &yaml),
        "endpoint payments/p1 unchanged (version 1)\n"
    );
    let json = server.ok(&["get", "service", "payments", "-o", "json"], "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["kind"], &json["version"]),
        (&"Service".into(), &"2".into())
    );

    assert_eq!(
        server.ok(&["delete", "service", "payments"], ""),
        "service payments deleted\n"
    );
    let (code, words) = server.fails(&["get", "service", "payments"], "");
    assert!(code == 1 && words.contains("payments"), "{code} {words}");
    assert_eq!(server.ok(&["status"], ""), "no Envoy is connected\n");
}

#[test]
fn regions_are_exchanged_by_a_pipe() {
    let (eu, us) = (Server::start("eu"), Server::start("us"));
    let gateway = "kind: Region\nname: eu\ngateways: [{address: gw.eu, port: 15443}]\n";
    let own = eu.ok(&["get", "region", "eu", "-o", "yaml"], "");
    let bundle = &own[own.find("trustBundle").unwrap()..];
    eu.ok(&["apply", "-f", "-"], &format!("{gateway}{bundle}"));
    let told = eu.ok(&["get", "region", "eu", "-o", "yaml"], "");
    assert_eq!(
        us.ok(&["apply", "-f", "-"], &told),
        "region eu created (version 1)\n"
    );
    let known = us.ok(&["get", "regions"], "");
    assert!(known.contains("gw.eu:15443"), "{known}");
}

#[test]
fn nothing_is_written_when_something_is_wrong() {
    let server = Server::start("us");
    let bad = format!("{RECORDS}---\nkind: Service\nname: -bad\nretries: {{attempts: 900}}\n");
    let (code, words) = server.fails(&["apply", "-f", "-"], &bad);
    assert_eq!(code, 1);
    assert!(
        words.starts_with("ems: nothing was written: 2 errors:\n"),
        "{words}"
    );
    assert!(
        words.contains("stdin, document 3 (service -bad): retries.attempts: "),
        "{words}"
    );
    let (code, _) = server.fails(&["validate", "-f", "-"], &bad);
    assert_eq!(code, 1);
    assert_eq!(server.ok(&["get", "services", "-o", "json"], ""), "[]\n");

    // Wrong use is told apart from failure.
    for usage in [
        &["apply"][..],
        &["get"],
        &["get", "things"],
        &["status", "-o", "xml"],
    ] {
        assert_eq!(server.fails(usage, "").0, 2, "{usage:?}");
    }
}

/// Many are written at a time: they are told in their order all the same, and a failure hides nothing.
#[test]
fn many_records_are_told_in_order_and_counted_when_one_fails() {
    let server = Server::start("us");
    let services = |first: u32, version: u64| {
        let document = |at| format!("kind: Service\nname: s{at:03}\nversion: {version}\n");
        (first..first + 50)
            .map(document)
            .collect::<Vec<_>>()
            .join("---\n")
    };
    let told = server.ok(&["apply", "-f", "-"], &services(0, 7));
    let expected: String = (0..50)
        .map(|at| format!("service s{at:03} created (version 7)\n"))
        .collect();
    assert_eq!(told, expected);

    // s049 has a later version than the one that is to be written, and comes first.
    let endpoint = "---\nkind: Endpoint\nservice: s049\nid: a\naddress: 10.0.0.1\nport: 80\n";
    let later = services(49, 6) + endpoint;
    let output = server.run(&["apply", "-f", "-"], &later);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    let written = told.lines().count();
    assert!((0..8).contains(&written), "{told}");
    let counted = format!("ems: {written} of 51 records were written: service s049: ");
    assert!(words.starts_with(&counted), "{words}");
    let stored = server.ok(&["get", "services"], "");
    assert_eq!(stored.lines().count(), 1 + 50 + written, "{stored}");
    let endpoints = server.ok(&["get", "endpoints", "-o", "json"], "");
    assert_eq!(endpoints, "[]\n");
}

#[test]
fn diff_says_what_apply_would_do() {
    let server = Server::start("us");
    let file = server.file("a.yaml", RECORDS);
    let diff = ["diff", "-f", file.to_str().unwrap()];
    let run = |code: i32| {
        let output = server.run(&diff, "");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    };
    let said = run(1);
    assert!(
        said.starts_with("service payments would be created\n"),
        "{said}"
    );
    assert_eq!(server.ok(&["get", "services", "-o", "json"], ""), "[]\n");
    server.ok(&["apply", "-f", "-"], RECORDS);
    assert_eq!(
        run(0),
        "service payments would stay as it is\nendpoint payments/p1 would stay as it is\n"
    );
    // The own region keeps its roots, also when a file does not speak of them.
    let own = server.run(&["diff", "-f", "-"], "kind: Region\nname: us\n");
    assert_eq!(own.status.code(), Some(0), "{own:?}");
    server.ok(
        &["apply", "-f", "-"],
        "kind: Service\nname: payments\nprotocol: http2\n",
    );
    let said = run(1);
    assert!(
        said.contains("  ~ protocol: \"http2\" -> \"grpc\"\n"),
        "{said}"
    );
    // What cannot be told is not a difference.
    assert_eq!(server.fails(&["diff", "-f", "/nowhere"], "").0, 2);
}

/// Above what gRPC clients take unless they are told.
#[test]
fn long_answers_are_taken() {
    let server = Server::start("us");
    let allow: Vec<String> = (0..1000).map(|n| format!("eu/caller-{n:050}")).collect();
    for n in 0..80 {
        let url = format!("{}/v1/services/long-{n}", server.url);
        let body = serde_json::json!({ "access": { "allow": allow } });
        ureq::put(&url).send(body.to_string()).unwrap();
    }
    let printed = server.ok(&["get", "services", "-o", "json"], "");
    assert!(printed.len() > 4 * 1024 * 1024, "{}", printed.len());
}
