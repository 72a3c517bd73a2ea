//! A running Redis.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{port::Port, process::Process, workdir::WorkDir};

/// A running Redis, which keeps its data in memory only.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    dir: WorkDir,
    port: Port,
}

impl Redis {
    /// Starts a Redis on a free port of loopback and waits until it answers.
    pub fn start(dir: &WorkDir) -> Result<Redis> {
        let port = Port::reserve()?;
        let process = launch(dir, &port)?;
        let mut redis = Redis {
            process,
            dir: dir.clone(),
            port,
        };
        redis.wait_ready()?;
        Ok(redis)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it at once, as a crash would, with all that it knows.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on its port, empty.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.dir, &self.port)?;
        self.wait_ready()
    }

    /// Sends a command without blanks in its words, and gives the first line of the answer.
    pub fn ask(&self, command: &str) -> Result<String> {
        ask(&self.port, command)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let port = &self.port;
        self.process.wait_ready(|| {
            let answer = ask(port, "PING")?;
            ensure!(answer == "+PONG", "{answer}");
            Ok(())
        })
    }
}

fn ask(port: &Port, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect(port.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    let answer = String::from_utf8(answer)?;
    Ok(answer.trim_end().to_owned())
}

fn launch(dir: &WorkDir, port: &Port) -> Result<Process> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.number().to_string()])
        .args(["--bind", "127.0.0.1"])
        .args(["--save", ""])
        .args(["--appendonly", "no"])
        .arg("--dir")
        .arg(dir.path());
    Process::start("redis", dir, command)
        .context("redis-server cannot be started; run: cargo xtask setup")
}
