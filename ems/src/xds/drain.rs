//! When each stream is sent away from a server that stops.
//!
//! Whoever is sent away comes back, to another server or to the next on this one: all at once they would be a storm. So
//! each has a moment of its own. The moments of any streams that joined one after the other are spread evenly, and those
//! of neighbours lie far apart; no chance is in it.

use std::time::Duration;

use super::hub::StreamId;

/// 2³² divided by the golden ratio: its multiples, past 2³² from the beginning again, fall into the widest gap each time.
const STRIDE: u32 = 0x9e37_79b9;

/// The moment of a stream, in a time over which all shall be gone. It comes before the end of that time.
pub(super) fn moment(stream: StreamId, over: Duration) -> Duration {
    let share = u128::from(stream.wrapping_mul(STRIDE));
    let nanos = (over.as_nanos() * share) >> u32::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_first() {
        let check = |stream, over, want| {
            let moment = moment(stream, Duration::from_millis(over));
            assert_eq!(moment.as_millis(), want, "stream {stream} over {over} ms");
        };
        check(0, 1_000, 0);
        check(1, 1_000, 618);
        check(2, 1_000, 236);
        check(3, 1_000, 854);
        check(4, 1_000, 472);
        check(1, 60_000, 37_082);
        check(1, 0, 0);
        check(StreamId::MAX, 1_000, 381);
    }

    /// However many there are and wherever their numbers begin: each tenth of the time has its share, and nobody comes too
    /// late.
    #[test]
    fn any_crowd_is_spread_evenly() {
        for over in [1, 2_000, u64::from(u32::MAX) * 1_000].map(Duration::from_millis) {
            for (first, count) in [(0, 10), (7, 100), (0, 10_000), (123_456, 10_000)] {
                let mut tenths = [0_u32; 10];
                for stream in first..first + count {
                    let moment = moment(stream, over);
                    assert!(moment < over, "stream {stream} over {over:?}");
                    let tenth = moment.as_nanos() * 10 / over.as_nanos();
                    tenths[tenth as usize] += 1;
                }
                let share = count / 10;
                for in_tenth in tenths {
                    let off = in_tenth.abs_diff(share);
                    assert!(off <= 2, "{count} from {first} over {over:?}: {tenths:?}");
                }
            }
        }
    }
}
