//! The Docker stack, for real: base images where none can be pulled, the unmodified Dockerfile and compose file, checks
//! against what runs, and nothing left behind.

mod base;
mod checks;
mod stack;
mod system;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail};

use crate::interrupt::Interrupt;
use crate::{setup, shell};
use base::BaseImages;
use stack::Stack;

/// What base images, the build and the stack take of a disk at most, in MiB: 5,000 were seen.
const ROOM_MIB: u64 = 6_000;

/// Why the stack cannot be tested on this machine, if it cannot.
pub(crate) fn obstacle() -> Option<String> {
    let mut info = Command::new("docker");
    let Ok(root) = shell::output(info.args(["info", "--format", "{{.DockerRootDir}}"])) else {
        return Some("there is no Docker engine on this machine".into());
    };
    let root = root.trim();
    // An engine elsewhere has a disk of its own, which we cannot look at.
    let free = free_mib(root.as_ref())?;
    (free < ROOM_MIB).then(|| {
        format!(
            "it takes {ROOM_MIB} MiB of disk and {root}, where Docker keeps its images, has {free}"
        )
    })
}

/// Free space of the disk that a folder is on.
fn free_mib(folder: &Path) -> Option<u64> {
    let mut df = Command::new("df");
    df.args(["--output=avail", "--block-size=1M"]).arg(folder);
    shell::output(&mut df)
        .ok()?
        .lines()
        .nth(1)?
        .trim()
        .parse()
        .ok()
}

/// Waits until no other clone tests the stack on this machine: images and containers have the same names in all. The turn
/// ends with the file that is given.
fn turn(path: &Path, interrupt: &Interrupt) -> Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if told => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("compose-test: waiting for another run on this machine to end");
                told = true;
            }
        }
        interrupt.check()?;
        thread::sleep(Duration::from_millis(500));
    }
}

/// Builds the stack, checks it, removes it.
pub(crate) fn test(keep_images: bool) -> Result<()> {
    let start = Instant::now();
    let interrupt = Interrupt::catch()?;
    setup::compose_test()?;
    if let Some(why) = obstacle() {
        bail!("the Docker stack cannot be tested here: {why}");
    }
    let lock = env::temp_dir().join("isthmus-compose-test.lock");
    let _turn = turn(&lock, &interrupt)?;
    // Removed in the opposite order: the stack, then what its images are made from.
    let _images = BaseImages::provide(keep_images, &interrupt)?;
    interrupt.check()?;
    let stack = Stack::up(keep_images)?;
    let up = start.elapsed();
    checks::all(&stack, &interrupt).inspect_err(|_| stack.show())?;
    eprintln!(
        "compose-test: all checks passed ({:.0} s until it was up, {:.0} s in all)",
        up.as_secs_f32(),
        start.elapsed().as_secs_f32()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{free_mib, turn};
    use crate::interrupt::Interrupt;

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let (patient, impatient) = (Interrupt::default(), Interrupt::default());
        impatient.set();
        let first = turn(&lock, &patient).unwrap();
        let error = turn(&lock, &impatient).expect_err("the first one is not over");
        assert_eq!(error.to_string(), "interrupted");
        drop(first);
        turn(&lock, &impatient).unwrap();
    }

    #[test]
    fn a_folder_has_room_and_an_absent_one_says_nothing() {
        assert!(free_mib("/".as_ref()).is_some());
        assert_eq!(free_mib("/no/such/folder".as_ref()), None);
    }
}
