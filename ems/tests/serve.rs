//! `ems serve` as a process: options, ready file, signals, exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(20);

/// A server that is killed with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ems() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ems"));
    command.env_clear().arg("serve");
    command
}

fn fails(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(stdout.is_empty());
    String::from_utf8(stderr).unwrap()
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "{what}");
        sleep(Duration::from_millis(20));
    }
}

fn start(command: &mut Command, ready: &Path) -> (Serving, Value) {
    let serving = Serving(command.spawn().unwrap());
    let text = eventually("the ready file", || fs::read_to_string(ready).ok());
    (serving, serde_json::from_str(&text).unwrap())
}

#[test]
fn options_that_are_not_right_are_all_named_once() {
    let text = fails(
        ems()
            .args(["--xds-address", "x"])
            .env("EMS_LOG_FORMAT", "xml"),
    );
    for flag in ["--region: is required", "--xds-address: ", "--log-format: "] {
        assert_eq!(text.matches(flag).count(), 1, "{text}");
    }
}

#[test]
fn a_config_file_is_read_and_held_to_its_fields() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ems.yaml");
    fs::write(&file, "region: eu\nregoin: us\n").unwrap();
    let text = fails(ems().arg("--config").arg(&file));
    assert!(text.contains("regoin"), "{text}");
    let text = fails(ems().args(["--config", "/nowhere.yaml"]));
    assert!(text.contains("/nowhere.yaml"), "{text}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = fails(ems().args(["--region", "us", "--xds-address", &address]));
    assert!(
        text.contains(&address) && text.contains("--xds-address"),
        "{text}"
    );
}

#[test]
fn it_says_where_it_is_and_ends_when_told() {
    let folder = TempDir::new().unwrap();
    let (file, ready) = (folder.path().join("ems.yaml"), folder.path().join("ready"));
    let data = folder.path().join("data");
    fs::write(&file, "httpAddress: 127.0.0.1:0\nxdsAddress: 127.0.0.1:1\n").unwrap();
    for signal in ["TERM", "INT"] {
        let _ = fs::remove_file(&ready);
        let mut command = ems();
        command
            .arg("--config")
            .arg(&file)
            .arg("--ready-file")
            .arg(&ready);
        command.args(["--region", "us", "--xds-address", "127.0.0.1:0"]);
        command.stderr(Stdio::null());
        let (mut serving, addresses) = start(command.env("EMS_DATA_DIR", &data), &ready);
        let http = addresses["http"].as_str().unwrap();
        let mut page = ureq::get(format!("http://{http}/readyz")).call().unwrap();
        assert_eq!(
            page.body_mut().read_to_string().unwrap(),
            r#"{"status":"ready"}"#
        );
        assert!(data.join("ems.redb").exists());

        let id = serving.0.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .unwrap();
        assert!(sent.success());
        let status = eventually("its end", || serving.0.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{signal}");
    }
}

/// A server under a limit of open files, as the shell's `ulimit` takes it.
struct Limited {
    _serving: Serving,
    folder: TempDir,
    addresses: Value,
}

impl Limited {
    fn start(ulimit: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let ready = folder.path().join("ready");
        let mut command = Command::new("sh");
        command
            .env_clear()
            .args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")])
            .args([env!("CARGO_BIN_EXE_ems"), "serve", "--region", "us"])
            .args(["--xds-address", "127.0.0.1:0"])
            .args(["--http-address", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stderr(File::create(folder.path().join("log")).unwrap());
        let (serving, addresses) = start(&mut command, &ready);
        Self {
            _serving: serving,
            folder,
            addresses,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn connect(&self, socket: &str) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[socket].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }
}

/// Asks for something; the connection stays.
fn ask(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /nothing HTTP/1.1\r\nhost: ems\r\n\r\n")
        .unwrap();
    let mut begin = [0; 9];
    stream.read_exact(&mut begin).expect("an answer in time");
    assert_eq!(&begin, b"HTTP/1.1 ");
}

#[test]
fn a_low_soft_limit_of_open_files_is_raised() {
    let server = Limited::start("-S -n 256");
    let mut connections: Vec<_> = (0..400).map(|_| server.connect("xds")).collect();
    connections.iter_mut().for_each(ask);
    assert_eq!(connections.len(), 400);
}

#[test]
fn a_low_hard_limit_of_open_files_is_said() {
    let server = Limited::start("-n 128");
    let log = server.log();
    for part in ["may have 128 files open", "raise the hard limit", "WARN"] {
        assert!(log.contains(part), "{log}");
    }
    // Envoys cannot take the files that the other socket needs.
    let mut envoys: Vec<_> = (0..200).map(|_| server.connect("xds")).collect();
    envoys.iter_mut().take(40).for_each(ask);
    ask(&mut server.connect("http"));
}
