//! What many streams send alike, held once.
//!
//! A change that reaches a thousand streams gives each of them the same resources to send. Each resource counts who holds
//! it, and the processors pass every count to and fro: with a list of its own for each stream that was a large part of
//! what a change cost.

use std::{
    collections::VecDeque,
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{Resource, stream::Mode};

/// How many are kept for the streams that have yet to send them.
const KEPT: usize = 16;

/// The resources of a response, sorted by name.
#[derive(Default)]
pub struct Bundle {
    /// Held apart from the joined bytes by those who wait for an answer: who does not answer keeps what every other stream
    /// that has these shares with it, and no copy.
    resources: Arc<[Arc<Resource>]>,
    version: OnceLock<Arc<str>>,
    delta_len: usize,
    sotw_len: usize,
    delta: OnceLock<Bytes>,
    sotw: OnceLock<Bytes>,
}

/// Those made lately.
#[derive(Debug, Default)]
pub struct Bundles(Mutex<VecDeque<(u128, Arc<Bundle>)>>);

impl Bundles {
    /// The bundle of these, which is the very same for all who ask for the same resources within a short time.
    pub(super) fn share<'a>(
        &self,
        resources: impl Iterator<Item = &'a Arc<Resource>> + Clone,
    ) -> Arc<Bundle> {
        let addresses = resources.clone().map(|r| Arc::as_ptr(r).addr());
        let addresses: Vec<u8> = addresses.flat_map(usize::to_ne_bytes).collect();
        // Of few the count is not worth a look at what others have.
        if addresses.len() < 2 * size_of::<usize>() {
            return Arc::new(resources.cloned().collect());
        }
        let key = xxh3_128(&addresses);
        let find = |kept: &VecDeque<(u128, Arc<Bundle>)>| {
            // Equal keys of different resources would be found out here.
            let same = |bundle: &Bundle| {
                let addresses = resources.clone().map(Arc::as_ptr);
                bundle.iter().map(Arc::as_ptr).eq(addresses)
            };
            let found = kept
                .iter()
                .rev()
                .find(|(other, bundle)| *other == key && same(bundle));
            found.map(|(_, bundle)| bundle.clone())
        };
        if let Some(found) = find(&self.lock()) {
            return found;
        }
        let bundle: Arc<Bundle> = Arc::new(resources.clone().cloned().collect());
        let mut kept = self.lock();
        // Another stream may have come first.
        if let Some(found) = find(&kept) {
            return found;
        }
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((key, bundle.clone()));
        bundle
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(u128, Arc<Bundle>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bundle {
    /// What is in it, without the bytes that are made of it.
    pub(super) fn list(&self) -> &Arc<[Arc<Resource>]> {
        &self.resources
    }

    /// A hash of all names and versions.
    pub(super) fn version(&self) -> &Arc<str> {
        self.version.get_or_init(|| {
            let mut digests = Vec::with_capacity(8 * self.len());
            for resource in &**self {
                digests.extend(resource.digest.to_le_bytes());
            }
            format!("{:016x}", xxh3_64(&digests)).into()
        })
    }

    /// Bytes of all of them as entries of a response.
    pub(super) fn entries_len(&self, mode: Mode) -> usize {
        match mode {
            Mode::Delta => self.delta_len,
            Mode::Sotw => self.sotw_len,
        }
    }

    /// All of them as `resources` entries of a response. Who comes second waits while it is made.
    pub(super) fn entries(&self, mode: Mode) -> Bytes {
        let made = match mode {
            Mode::Delta => &self.delta,
            Mode::Sotw => &self.sotw,
        };
        let make = || match &**self {
            [one] => one.entry(mode),
            all => {
                let mut bytes = BytesMut::with_capacity(self.entries_len(mode));
                for resource in all {
                    bytes.put_slice(&resource.entry(mode));
                }
                bytes.freeze()
            }
        };
        made.get_or_init(make).clone()
    }
}

impl Deref for Bundle {
    type Target = [Arc<Resource>];

    fn deref(&self) -> &Self::Target {
        &self.resources
    }
}

impl FromIterator<Arc<Resource>> for Bundle {
    fn from_iter<I: IntoIterator<Item = Arc<Resource>>>(resources: I) -> Self {
        let resources: Arc<[_]> = resources.into_iter().collect();
        let len = |mode| resources.iter().map(|r| r.entry_len(mode)).sum();
        Self {
            delta_len: len(Mode::Delta),
            sotw_len: len(Mode::Sotw),
            resources,
            ..Self::default()
        }
    }
}

/// The same resources.
impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        self.resources == other.resources
    }
}

impl Eq for Bundle {}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.resources.fmt(f)
    }
}

impl<'a> IntoIterator for &'a Bundle {
    type Item = &'a Arc<Resource>;
    type IntoIter = std::slice::Iter<'a, Arc<Resource>>;

    fn into_iter(self) -> Self::IntoIter {
        self.resources.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::ResourceType;

    fn resources(names: &[&str]) -> Vec<Arc<Resource>> {
        let make = |name: &&str| Resource::new(ResourceType::Cluster, *name, b"content");
        names.iter().map(make).map(Arc::new).collect()
    }

    #[test]
    fn the_same_resources_are_one_bundle() {
        let bundles = Bundles::default();
        let all = resources(&["a", "b", "c"]);
        let first = bundles.share(all.iter());
        assert!(Arc::ptr_eq(&first, &bundles.share(all.iter())));
        assert!(!Arc::ptr_eq(&first, &bundles.share(all.iter().skip(1))));
        assert!(!Arc::ptr_eq(&first, &bundles.share(all.iter().rev())));
        // Equal, but not the same: what clients say of them may differ.
        let equal = bundles.share(resources(&["a", "b", "c"]).iter());
        assert_eq!(first, equal);
        assert!(!Arc::ptr_eq(&first, &equal));
        assert_eq!(Arc::strong_count(&all[1]), 1 + 3, "one for each bundle");
    }

    #[test]
    fn only_the_last_are_kept() {
        let bundles = Bundles::default();
        for few in [&[][..], &["a"]] {
            assert_eq!(bundles.share(resources(few).iter()).len(), few.len());
        }
        assert_eq!(bundles.lock().len(), 0, "not worth it");
        for _ in 0..2 * KEPT {
            bundles.share(resources(&["a", "b"]).iter());
        }
        assert_eq!(bundles.lock().len(), KEPT);
    }

    #[test]
    fn entries_are_joined_once_for_each_variant() {
        let bundle: Bundle = resources(&["a", "b"]).into_iter().collect();
        for mode in [Mode::Delta, Mode::Sotw] {
            let joined = bundle.entries(mode);
            assert_eq!(joined.len(), bundle.entries_len(mode));
            assert_eq!(
                joined,
                bundle
                    .iter()
                    .map(|r| r.entry(mode))
                    .collect::<Vec<_>>()
                    .concat()
            );
            assert_eq!(joined.as_ptr(), bundle.entries(mode).as_ptr());
        }
        assert_ne!(bundle.entries(Mode::Delta), bundle.entries(Mode::Sotw));
    }
}
