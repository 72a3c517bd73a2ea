//! What a process has used, by the kernel's account of it.

use std::fs;

use anyhow::{Context, Result};

/// Seconds of CPU time of all threads that a process has now, to the nanosecond. (`/proc/<pid>/stat` counts in steps of
/// 10 ms, which is more than some changes cost.) The threads of what is measured last as long as their process.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let folder = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let mut nanoseconds = 0_u64;
    for thread in threads {
        // One may end while we look.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let spent: Option<u64> = text.split_whitespace().next().and_then(|n| n.parse().ok());
        nanoseconds += spent.with_context(|| format!("schedstat is not as expected: {text}"))?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// MiB of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) now: f64,
    /// The most that was resident since the start, or since [`forget_peak`].
    pub(crate) peak: f64,
}

/// Resident memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_memory(&status).with_context(|| format!("{path} is not as expected"))
}

/// From now on the peak is that of what comes.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

fn parse_memory(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib / 1024.0)
    };
    Some(Memory {
        now: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_memory() {
        let status = "Name:\tx\nVmHWM:\t    3072 kB\nVmRSS:\t    2048 kB\n";
        let want = Memory {
            now: 2.0,
            peak: 3.0,
        };
        assert_eq!(parse_memory(status), Some(want));
        assert_eq!(parse_memory("Name:\tx\nVmRSS:\t 1 kB\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() > 0.0);
        let memory = memory(pid).unwrap();
        assert!(0.0 < memory.now && memory.now <= memory.peak, "{memory:?}");
    }
}
