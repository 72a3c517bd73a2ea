//! A child process that is stopped with its guard, whatever happens to the program that started it.
//!
//! | the program … | the child is stopped by |
//! |---|---|
//! | drops the guard, or panics | `Drop`: SIGTERM, then SIGKILL |
//! | exits with a guard in a static | an `atexit` handler |
//! | is killed | the kernel (`PR_SET_PDEATHSIG`, Linux) |
//!
//! The kernel's signal comes when the *thread* that forked ends, and a test's thread ends with the test: so one thread,
//! which lives as long as the program, starts every child.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, Once, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{wait, workdir, workdir::WorkDir};

/// How long a child may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How much of a log is shown.
const TAIL: u64 = 6_000;

static LIVE: Mutex<Vec<libc::pid_t>> = Mutex::new(Vec::new());

/// A running child. Its output goes to `<name>.log` in the work folder; the end of it is shown when a test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    // Holds the folder of the log.
    _dir: WorkDir,
}

impl Process {
    /// Starts a command, with its output appended to `<name>.log`.
    pub fn start(name: &str, dir: &WorkDir, mut command: Command) -> Result<Process> {
        at_exit();
        let log = dir.path().join(format!("{name}.log"));
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let program = command.get_program().to_owned();
        let child = spawn(command)?
            .with_context(|| format!("cannot start {name} ({})", program.display()))?;
        live().push(pid(&child));
        Ok(Process {
            name: name.to_owned(),
            child,
            log,
            _dir: dir.clone(),
        })
    }

    /// Its name, as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its output.
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// Everything it has written so far.
    pub fn log_text(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Fails when the child has ended; the error shows how, and the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}\n{}", self.name, self.log_tail()),
        }
    }

    /// Waits until `ready` succeeds. Gives up when the child ends or time runs out, and then shows the end of its log.
    pub fn wait_ready(&mut self, mut ready: impl FnMut() -> Result<()>) -> Result<()> {
        let mut ended = None;
        wait::eventually("the process to be ready", || {
            match self.child.try_wait()? {
                // Nothing to wait for any longer; what is left of the error is made below.
                Some(status) => {
                    ended = Some(status);
                    Ok(())
                }
                None => ready(),
            }
        })
        .with_context(|| {
            format!(
                "{} did not become ready; the end of its log:\n{}",
                self.name,
                tail(&self.log).unwrap_or_default()
            )
        })?;
        match ended {
            Some(status) => bail!(
                "{} ended while it started: {status}; the end of its log:\n{}",
                self.name,
                self.log_tail()
            ),
            None => Ok(()),
        }
    }

    /// Sends a signal, such as `libc::SIGTERM`.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        // SAFETY: kill touches no memory. The pid is ours until it is waited for, which takes `&mut self`.
        if unsafe { libc::kill(pid(&self.child), signal) } != 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot signal {}", self.name));
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    pub fn wait_end(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let name = format!("{} to end", self.name);
        let status = wait::within(limit, &name, || self.child.try_wait().ok().flatten())?;
        forget(&self.child);
        Ok(status)
    }

    /// SIGTERM, some patience, SIGKILL.
    pub fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.signal(libc::SIGTERM);
            if self.wait_end(GRACE).is_err() {
                self.kill();
            }
        }
        forget(&self.child);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        forget(&self.child);
    }

    /// Prints the end of its log, for somebody who looks at a failed test.
    pub fn show(&self) {
        eprintln!("--- end of {} ---\n{}", self.log.display(), self.log_tail());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            self.show();
        }
    }
}

/// Runs a command to its end and returns what it printed; its errors are part of the error.
pub fn output(mut command: Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}\n{stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

fn spawn(mut command: Command) -> Result<io::Result<Child>> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    // A group of its own: Ctrl-C then goes to the program alone, which stops its children in good order.
    command.process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec only an async-signal-safe call is made.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        );
    }
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    let (reply, answer) = mpsc::channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .map_err(|_| anyhow!("the thread that starts processes is gone"))?;
    answer
        .recv()
        .context("the thread that starts processes is gone")
}

/// Has the children and folders that statics own go when the program exits.
pub(crate) fn at_exit() {
    static ONCE: Once = Once::new();
    extern "C" fn end() {
        // A lock that is held means that a thread is in the middle of it; the kernel's signal covers that.
        if let Ok(live) = LIVE.try_lock() {
            for pid in live.iter() {
                // SAFETY: kill and waitpid touch no memory but what is passed; these children were not waited for.
                unsafe {
                    libc::kill(*pid, libc::SIGKILL);
                    libc::waitpid(*pid, std::ptr::null_mut(), 0);
                }
            }
        }
        workdir::remove_all();
    }
    ONCE.call_once(|| {
        // SAFETY: the handler is a plain function without captures, valid for the life of the program.
        unsafe { libc::atexit(end) };
    });
}

fn live() -> std::sync::MutexGuard<'static, Vec<libc::pid_t>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget(child: &Child) {
    let ended = pid(child);
    live().retain(|pid| *pid != ended);
}

fn pid(child: &Child) -> libc::pid_t {
    // Process ids fit: the kernel's own type is signed.
    child.id().cast_signed()
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn exists(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn dropping_the_guard_stops_even_who_ignores_sigterm() {
        let dir = WorkDir::new("process").unwrap();
        for script in ["sleep 60", "trap '' TERM; while :; do sleep 0.1; done"] {
            let process = Process::start("child", &dir, shell(script)).unwrap();
            let id = process.id();
            assert!(exists(id), "{script}");
            drop(process);
            assert!(!exists(id), "{script}");
        }
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let dir = WorkDir::new("process").unwrap();
        let asking = dir.clone();
        let mut process =
            thread::spawn(move || Process::start("child", &asking, shell("sleep 60")).unwrap())
                .join()
                .unwrap();
        process.check_running().unwrap();
    }

    #[test]
    fn a_failed_start_shows_the_log() {
        let dir = WorkDir::new("process").unwrap();
        let mut process =
            Process::start("child", &dir, shell("echo no such thing >&2; exit 3")).unwrap();
        let error = process.wait_ready(|| bail!("not yet")).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("no such thing"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn output_is_returned_and_errors_are_told() {
        assert_eq!(output(shell("echo hello")).unwrap(), "hello\n");
        let error = output(shell("echo bad luck >&2; false")).unwrap_err();
        assert!(error.to_string().contains("bad luck"), "{error}");
    }
}
