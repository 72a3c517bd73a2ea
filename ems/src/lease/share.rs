//! Max-min fairness: nobody gets more than it asks for as long as somebody else has less than that and wants more.
//!
//! The usual way to it is filling a vessel with water: all get the same, up to a level at which the budget is used up;
//! those that ask for less keep dry what they do not need. What is left when all have what they ask for is divided evenly,
//! with one share kept back for who comes next.

/// What the one at `at` gets of a budget that these ask for. Nothing, if there is nobody there.
#[must_use]
pub fn share(budget: u64, demands: &[u64], at: usize) -> u64 {
    let Some(&mine) = demands.get(at) else {
        return 0;
    };
    let mut sorted = demands.to_vec();
    sorted.sort_unstable();
    let mut left = budget;
    let mut waiting = count(sorted.len());
    for demand in sorted {
        let level = left.checked_div(waiting).unwrap_or(0);
        if demand > level {
            // Neither this one nor those after it can have what they ask for.
            return mine.min(level);
        }
        left -= demand;
        waiting -= 1;
    }
    mine + left / (count(demands.len()) + 1)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(budget: u64, demands: &[u64]) -> Vec<u64> {
        let all = 0..demands.len();
        all.map(|at| share(budget, demands, at)).collect()
    }

    #[test]
    fn table() {
        for (budget, demands, want) in [
            // Enough for all: what is left is divided, and one share kept back.
            (100, &[][..], &[][..]),
            (100, &[0], &[50]),
            (100, &[10, 30], &[30, 50]),
            (100, &[40, 60], &[40, 60]),
            // Not enough: the small ones have what they ask for, the others the same.
            (100, &[200], &[100]),
            (100, &[10, 60, 70], &[10, 45, 45]),
            (100, &[70, 10, 60], &[45, 10, 45]),
            (100, &[u64::MAX, 20, 200], &[40, 20, 40]),
            // Fractions are kept back.
            (10, &[9, 9, 9], &[3, 3, 3]),
            (2, &[9, 9, 9], &[0, 0, 0]),
            (0, &[0, 5], &[0, 0]),
        ] {
            assert_eq!(shares(budget, demands), want, "{budget} among {demands:?}");
        }
        assert_eq!(share(100, &[1], 1), 0);
    }

    proptest! {
        #[test]
        fn fair(budget in 0..1_000_000_u64, demands in prop::collection::vec(0..500_000_u64, 1..20)) {
            let got = shares(budget, &demands);
            prop_assert!(got.iter().sum::<u64>() <= budget);
            let most = got.iter().zip(&demands).filter(|(got, want)| got < want).map(|(got, _)| got).max();
            for (mine, want) in got.iter().zip(&demands) {
                // Who has less than it wants has no less than anybody who is in the same place, but for a fraction.
                if mine < want {
                    prop_assert!(mine + 1 >= *most.unwrap());
                    prop_assert!(got.iter().all(|other| *other <= mine + 1), "{got:?} of {demands:?}");
                }
            }
            // Nothing is kept from those who want it, but for fractions.
            if got.iter().zip(&demands).any(|(got, want)| got < want) {
                prop_assert!(got.iter().sum::<u64>() + u64::try_from(got.len()).unwrap() > budget);
            }
        }
    }
}
