//! Keys in little: callers can make them long, and there may be a million of them.

use std::hash::{BuildHasher, RandomState};

/// What stands for a key: 128 bits, of two hashes whose seeds nobody knows outside this process. That two keys have the same
/// is as good as impossible, and nobody can look for such.
pub type Digest = u128;

/// Makes digests; those of another one are different.
#[derive(Clone, Debug, Default)]
pub struct Digester([RandomState; 2]);

impl Digester {
    /// That of a key.
    #[must_use]
    pub fn digest(&self, key: &str) -> Digest {
        let [high, low] = &self.0;
        Digest::from(high.hash_one(key)) << 64 | Digest::from(low.hash_one(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_for_the_same_key_only() {
        let digester = Digester::default();
        let keys = ["", "a", "b", "aa", &"a".repeat(10_000)];
        let all: Vec<Digest> = keys.iter().map(|key| digester.digest(key)).collect();
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(digester.digest(key), all[at]);
            assert!(
                all.iter().skip(at + 1).all(|other| *other != all[at]),
                "{key}"
            );
            assert_ne!(Digester::default().digest(key), all[at]);
        }
    }
}
