//! The Docker stack, for real: base images where none can be pulled, the unmodified Dockerfile and compose file, checks
//! against what runs, and nothing left behind.

mod base;
mod system;

use anyhow::Result;

use crate::interrupt::Interrupt;
use crate::setup;
use base::BaseImages;

/// Builds the stack, checks it, removes it.
pub(crate) fn test() -> Result<()> {
    let interrupt = Interrupt::catch()?;
    setup::compose_test()?;
    let images = BaseImages::provide(&base::dockerfile()?, &interrupt)?;
    drop(images);
    Ok(())
}
