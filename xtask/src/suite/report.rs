//! What ran, how long it took, how it ended, and how many tests there were.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How a step ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed,
    Failed(String),
    /// Not run, and why.
    LeftOut(String),
}

/// Passed and failed tests, summed over every test binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    steps: Vec<(String, Outcome, Duration)>,
    tally: Tally,
}

impl Tally {
    /// Counts a closing line of a test binary: `test result: ok. 3 passed; 0 failed; …`. Other lines count nothing.
    pub(super) fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (
                words.next().and_then(|word| word.parse::<usize>().ok()),
                words.next(),
            ) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Report {
    /// Runs a step, keeps how it ended, and says whether one can go on.
    pub(super) fn time(
        &mut self,
        name: &str,
        step: impl FnOnce(&mut Tally) -> Result<Outcome>,
    ) -> bool {
        let start = Instant::now();
        let outcome =
            step(&mut self.tally).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(why) => eprintln!("FAILED: {name}: {why}"),
            Outcome::LeftOut(why) => eprintln!("LEFT OUT: {name}: {why}"),
        }
        let passed = !matches!(outcome, Outcome::Failed(_));
        self.steps.push((name.to_owned(), outcome, start.elapsed()));
        passed
    }

    /// Notes what was not run at all.
    pub(super) fn leave_out(&mut self, name: &str, why: &str) {
        self.steps.push((
            name.to_owned(),
            Outcome::LeftOut(why.to_owned()),
            Duration::ZERO,
        ));
    }

    pub(super) fn failed(&self) -> bool {
        self.tally.failed > 0
            || self
                .steps
                .iter()
                .any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)))
    }

    /// The tests of all steps. A step that failed without counting a failed test (it did not compile, say) is one.
    pub(super) fn tally(&self) -> Tally {
        let failed_steps = self
            .steps
            .iter()
            .filter(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)))
            .count();
        Tally {
            failed: self.tally.failed.max(failed_steps),
            ..self.tally
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .steps
            .iter()
            .map(|(name, ..)| name.len())
            .max()
            .unwrap_or_default();
        for (name, outcome, time) in &self.steps {
            let seconds = time.as_secs_f32();
            match outcome {
                Outcome::Passed => writeln!(f, "  {name:width$}  {seconds:6.1} s  ok")?,
                Outcome::Failed(why) => {
                    writeln!(f, "  {name:width$}  {seconds:6.1} s  FAILED: {why}")?
                }
                Outcome::LeftOut(why) => writeln!(f, "  {name:width$}         -  LEFT OUT: {why}")?,
            }
        }
        let total: Duration = self.steps.iter().map(|(_, _, time)| *time).sum();
        write!(f, "  {:width$}  {:6.1} s", "total", total.as_secs_f32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: &str) {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line));
        assert_eq!(tally.to_string(), expected, "{lines:?}");
    }

    #[test]
    fn closing_lines_are_summed() {
        check(&[], "0 passed, 0 failed");
        check(
            &["test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out"],
            "3 passed, 0 failed",
        );
        check(
            &[
                "test result: FAILED. 3 passed; 2 failed; 0 ignored",
                "test a ... ok",
                "test result: ok. 4 passed; 0 failed",
            ],
            "7 passed, 2 failed",
        );
    }

    #[test]
    fn a_step_that_does_not_compile_is_a_failure() {
        let mut report = Report::default();
        report.time("build", |_| anyhow::bail!("no such crate"));
        assert!(report.failed());
        assert_eq!(report.tally().to_string(), "0 passed, 1 failed");
        assert!(report.to_string().contains("FAILED: no such crate"));
    }

    #[test]
    fn what_is_left_out_is_said_and_no_failure() {
        let mut report = Report::default();
        report.leave_out("Docker stack", "no engine");
        assert!(!report.failed());
        assert!(report.to_string().contains("LEFT OUT: no engine"));
    }
}
