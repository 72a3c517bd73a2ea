//! What changed together and in which order, for types that wait for each other: the order of the protocol is "make before
//! break".
//!
//! Every change that a stream is told of is a wave. A resource keeps the waves that it changed with from the first that was
//! not sent to the last. What is sent is always what there is now, so it may point at what came with its last wave or
//! before: that has to be there. From the first wave on others wait for it. So a resource that changes without pause holds
//! up others no longer than until it was answered once; but one that changes together with what it waits for, again before
//! each answer, waits as long as that goes on.

/// The waves that something changed with, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::xds) struct Waves {
    pub(in crate::xds) first: u64,
    pub(in crate::xds) last: u64,
}

impl Waves {
    /// No change: waits for nothing, and nothing for it.
    pub(in crate::xds) const NONE: Self = Self {
        first: u64::MAX,
        last: 0,
    };

    pub(in crate::xds) fn of(wave: u64) -> Self {
        Self {
            first: wave,
            last: wave,
        }
    }

    /// Nobody knows since when: all of them up to this one.
    pub(in crate::xds) fn until(wave: u64) -> Self {
        Self {
            first: 1,
            last: wave,
        }
    }

    /// Whether something of the one may have changed together with something of the other.
    pub(in crate::xds) fn meet(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    pub(in crate::xds) fn and(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// What of a type has not reached the client.
#[derive(Clone, Copy, Debug)]
pub(in crate::xds) struct Making {
    /// The waves of what was sent and not answered.
    pub(super) sent: Waves,
    /// The first wave of what was not sent.
    pub(super) unsent: u64,
}

impl Making {
    /// Whether changes of another type have to wait, which may point at it. What did not change together need only come
    /// later: a client that does not answer about one type holds back no more of the others than it must.
    pub(super) fn holds(self, waves: Waves) -> bool {
        waves.last >= self.unsent || waves.meet(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_together_meets() {
        let one = Waves::of(5);
        assert_eq!(one.and(Waves::NONE), one);
        assert!(Waves::NONE.last < Waves::until(1).first);
        for (other, meets) in [
            (Waves::NONE, false),
            (Waves::of(4), false),
            (Waves::of(6), false),
            (Waves::of(4).and(Waves::of(6)), true),
            (Waves::until(5), true),
        ] {
            assert_eq!(
                (one.meet(other), other.meet(one)),
                (meets, meets),
                "{other:?}"
            );
        }
        assert!(!Waves::NONE.meet(Waves::NONE));
    }

    #[test]
    fn what_holds() {
        let making = Making {
            sent: Waves { first: 3, last: 5 },
            unsent: 8,
        };
        for (waves, held) in [
            (Waves::of(2), false),
            (Waves::of(3), true),
            // It came later than all that was sent, and than that only.
            (Waves::of(6), false),
            (Waves::of(8), true),
            (Waves { first: 2, last: 9 }, true),
            (Waves::NONE, false),
        ] {
            assert_eq!(making.holds(waves), held, "{waves:?}");
        }
    }
}
