//! Steady load in the background, which counts what fails: "without a failed request" is then a number.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::wait;

/// How many failures are kept in full.
const KEPT: usize = 20;

/// Callers that ask again and again, at a steady pace, until stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<LoadReport>>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What became of the requests so far.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Answers, by whoever gave them.
    pub answered: BTreeMap<String, u64>,
    /// Requests that failed.
    pub failed: u64,
    /// Why, for the first of them.
    pub failures: Vec<String>,
    /// The slowest answer.
    pub slowest: Duration,
}

impl Load {
    /// Starts `workers` callers; each makes a request every `pace`, or as soon as the last is answered. The request
    /// says who answered, or what went wrong.
    pub fn start<F>(workers: usize, pace: Duration, request: F) -> Load
    where
        F: Fn() -> Result<String> + Send + Sync + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(LoadReport::default()));
        let request = Arc::new(request);
        let threads = (0..workers)
            .map(|_| {
                let (stop, report) = (Arc::clone(&stop), Arc::clone(&report));
                let request = Arc::clone(&request);
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let begin = Instant::now();
                        let outcome = request();
                        let took = begin.elapsed();
                        lock(&report).record(outcome, took);
                        thread::sleep(pace.saturating_sub(took));
                    }
                })
            })
            .collect();
        Load {
            stop,
            report,
            threads,
        }
    }

    /// How it stands.
    pub fn report(&self) -> LoadReport {
        lock(&self.report).clone()
    }

    /// Waits until `more` further requests were answered, so that what was done before had load upon it.
    pub fn answered_more(&self, more: u64) -> Result<()> {
        let goal = self.report().total() + more;
        wait::eventually(&format!("{more} more answers"), || {
            let report = self.report();
            let total = report.total();
            if total >= goal {
                Ok(())
            } else {
                Err(anyhow!("{} missing; {report:?}", goal - total))
            }
        })
    }

    /// Ends the load and says what became of it.
    pub fn finish(mut self) -> LoadReport {
        self.end();
        self.report()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl LoadReport {
    /// All answers.
    pub fn total(&self) -> u64 {
        self.answered.values().sum()
    }

    /// Answers by one.
    pub fn by(&self, who: &str) -> u64 {
        self.answered.get(who).copied().unwrap_or_default()
    }

    fn record(&mut self, outcome: Result<String>, took: Duration) {
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok(who) => *self.answered.entry(who).or_default() += 1,
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < KEPT {
                    self.failures.push(format!("{error:#}"));
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
