//! The Docker stack, for real: base images where none can be pulled, the unmodified Dockerfile and compose file, checks
//! against what runs, and nothing left behind.

mod base;
mod checks;
mod stack;
mod system;

use std::time::Instant;

use anyhow::Result;

use crate::interrupt::Interrupt;
use crate::setup;
use base::BaseImages;
use stack::Stack;

/// Builds the stack, checks it, removes it.
pub(crate) fn test(keep_images: bool) -> Result<()> {
    let start = Instant::now();
    let interrupt = Interrupt::catch()?;
    setup::compose_test()?;
    // Removed in the opposite order: the stack, then what its images are made from.
    let _images = BaseImages::provide(keep_images, &interrupt)?;
    interrupt.check()?;
    let stack = Stack::up(keep_images)?;
    let up = start.elapsed();
    checks::all(&stack, &interrupt).inspect_err(|_| stack.show())?;
    eprintln!(
        "compose-test: all checks passed ({:.0} s until it was up, {:.0} s in all)",
        up.as_secs_f32(),
        start.elapsed().as_secs_f32()
    );
    Ok(())
}
