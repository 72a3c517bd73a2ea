//! Running other programs: what is run is shown, and what fails is named with its exit code.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The clone that this xtask was built from.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// The git-ignored folder for tools of the clone.
pub(crate) fn tools() -> PathBuf {
    root().join(".tools")
}

/// The cargo that runs us, in the clone.
pub(crate) fn cargo(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    // Cargo sets CARGO for what it runs; the toolchain is then the same one.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // What cargo told us about this package is no business of the next cargo: build scripts that look at it would run
    // anew each time, compared with a cargo that somebody started by hand.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&variable);
        }
    }
    command
}

/// The same command at a lower priority: it takes what others leave of the processors, and a little more.
pub(crate) fn yielding(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.arg("-n5")
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        nice.current_dir(folder);
    }
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(variable, value),
            None => nice.env_remove(variable),
        };
    }
    nice
}

/// A program of this name in PATH, or where administrators' programs are, which are not in everybody's PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Shows the command, runs it, and fails if it fails. Its standard output goes to our standard error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_to(command.stdout(std::io::stderr()))
}

/// The same, with standard output passed on: for programs whose output is the result.
pub(crate) fn run_to(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| missing(command))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs quietly and returns standard output; standard error becomes part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    output_of(command.stdin(Stdio::null()))
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| missing(command))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}: {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Shows the command, runs it, and hands every line of standard output to `each` besides printing it.
pub(crate) fn run_watched(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| missing(command))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cannot read what the program prints")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            each(&line);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs quietly two programs, the second of which reads what the first one writes. What the second one says comes first
/// in the error: when it gives up, the first one fails for want of a reader.
pub(crate) fn pipe(mut from: Command, mut into: Command) -> Result<()> {
    let mut writer = from
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| missing(&from))?;
    let stream = writer.stdout.take().context("a pipe has no reading end")?;
    let read = output_of(into.stdin(stream));
    // It holds the reading end as well, and while anybody does the writer waits for a reader instead of failing.
    drop(into);
    let wrote = writer.wait()?;
    read?;
    if !wrote.success() {
        bail!("{} failed: {wrote}", shown(&from));
    }
    Ok(())
}

/// Removes what was made, as well as it goes: a failure is told and not passed on. Ctrl-C does not reach it.
pub(crate) fn clean_up(command: &mut Command) {
    if let Err(error) = output(command.process_group(0)) {
        eprintln!("cannot clean up: {error:#}");
    }
}

/// The command as one could type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn missing(command: &Command) -> String {
    format!("cannot run {}", command.get_program().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::pipe;

    #[test]
    fn a_reader_that_gives_up_does_not_keep_the_writer() {
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let result = pipe(Command::new("yes"), Command::new("false"));
            let _ = done.send(result.map_err(|error| error.to_string()));
        });
        let result = wait
            .recv_timeout(Duration::from_secs(60))
            .expect("it ends by itself");
        let error = result.expect_err("the reader failed");
        assert!(error.starts_with("false failed"), "{error}");
    }

    #[test]
    fn a_writer_that_fails_is_named() {
        let error = pipe(Command::new("false"), Command::new("cat")).expect_err("it failed");
        assert!(error.to_string().starts_with("false failed"), "{error}");
        pipe(Command::new("true"), Command::new("cat")).expect("both succeed");
    }
}
