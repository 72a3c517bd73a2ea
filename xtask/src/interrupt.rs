//! Ctrl-C as a flag: whoever started something looks at it, stops, and lets the guards clean up.
//!
//! Without this the process would die on the spot and what it started would live on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether somebody asked us to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on Ctrl-C, SIGTERM and a closed terminal only set the flag.
    pub(crate) fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .context("cannot catch signals")?;
        }
        Ok(Self(flag))
    }

    #[cfg(test)]
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once somebody asked us to stop: for use between steps.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_set() {
            bail!("interrupted")
        } else {
            Ok(())
        }
    }

    /// Returns when somebody asks us to stop.
    pub(crate) fn wait(&self) {
        // A signal handler may do nothing but set the flag, so the flag is looked at now and then.
        while !self.is_set() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
