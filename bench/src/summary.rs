//! Median, least and most of some measurements.

/// What is shown of several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The middle one.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
}

impl Summary {
    /// Sums up; all zero for no measurements.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let values = sorted(values);
        Self {
            median: middle(&values),
            min: values.first().copied().unwrap_or_default(),
            max: values.last().copied().unwrap_or_default(),
        }
    }
}

/// The middle of some values.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    middle(&sorted(values))
}

/// The value below which a share of the values lies (nearest rank); 0 of none.
pub(crate) fn percentile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let values = sorted(values);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values
        .get(rank.saturating_sub(1))
        .or(values.last())
        .copied()
        .unwrap_or_default()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    let upper = sorted.get(sorted.len() / 2);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2);
    match (lower, upper) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up() {
        let check = |values: &[f64], median, min, max| {
            let want = Summary { median, min, max };
            assert_eq!(Summary::of(values.iter().copied()), want, "{values:?}");
        };
        check(&[], 0.0, 0.0, 0.0);
        check(&[3.0], 3.0, 3.0, 3.0);
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0);
    }

    #[test]
    fn percentiles() {
        let check = |count: u32, share, want| {
            let values = (1..=count).rev().map(f64::from);
            assert_eq!(percentile(values, share), want, "{count} {share}");
        };
        check(0, 0.5, 0.0);
        check(1, 0.99, 1.0);
        check(100, 0.0, 1.0);
        check(100, 0.5, 50.0);
        check(100, 0.99, 99.0);
        check(1_000, 0.99, 990.0);
        check(10, 0.99, 10.0);
        check(10, 1.0, 10.0);
    }
}
