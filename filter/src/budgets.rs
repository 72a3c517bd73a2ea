//! Budgets of rate limits in the data that Envoy's VMs of one id share: all worker threads draw on the same ones, and they
//! outlive configs. They are gone when Envoy restarts.
//!
//! Envoy keeps these data in a map of its own, behind one lock, and forgets no key while there is such a VM. How many keys
//! there can be, the model sees to.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

use isthmus_model::{
    Budgets, Unavailable,
    limit::{Cell, CellName, cell::LONGEST},
};

use crate::abi::{self, HostError, HostResult};

/// A version that no value has in practice (versions count up from 1): with it a value is created, and never replaced. With
/// 0, which stands for any version, two threads that find nothing would both write, and one charge would be lost.
pub(crate) const CREATE: u32 = u32::MAX;

const SEED: &[u8] = b"ist1seed";

/// What the keys of budgets are hashed with: a number that nobody knows outside this Envoy, and all its threads share.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(DefaultHasher);

impl Seeded {
    /// The seed that is there, or a new one.
    pub(crate) fn find() -> HostResult<Self> {
        let random = RandomState::new();
        let mut fresh = [0; 16];
        for (at, half) in fresh.chunks_mut(8).enumerate() {
            half.copy_from_slice(&random.hash_one(at).to_le_bytes());
        }
        // Two turns: what was created now, by this thread or another, is found the second time.
        for _ in 0..2 {
            if let Some((seed, _)) = abi::shared_data(SEED)? {
                let mut hasher = DefaultHasher::new();
                hasher.write(&seed);
                return Ok(Self(hasher));
            }
            abi::set_shared_data(SEED, &fresh, CREATE)?;
        }
        Err(HostError(abi::NOT_FOUND))
    }

    pub(crate) fn hasher(&self) -> &DefaultHasher {
        &self.0
    }
}

/// The shared data.
pub(crate) struct SharedData;

impl Budgets for SharedData {
    fn read(&mut self, name: &CellName) -> Result<(Cell, u32), Unavailable> {
        match abi::shared_data(name.as_bytes()) {
            Ok(Some((bytes, version))) => Ok((Cell::from_bytes(&bytes), version)),
            Ok(None) => Ok((Cell::default(), CREATE)),
            Err(_) => Err(Unavailable),
        }
    }

    fn write(&mut self, name: &CellName, cell: &Cell, version: u32) -> Result<bool, Unavailable> {
        let mut bytes = [0; LONGEST];
        let len = cell.to_bytes(&mut bytes);
        let bytes = bytes.get(..len).unwrap_or_default();
        abi::set_shared_data(name.as_bytes(), bytes, version).map_err(|_| Unavailable)
    }

    fn now(&mut self) -> u64 {
        abi::monotonic_time()
    }
}
