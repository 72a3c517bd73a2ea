//! Which root a stream is of, asked of Envoy.
//!
//! The ABI has no such question: a stream's context may not read its plugin's configuration. But an expression that
//! Envoy keeps for the filter (`expr_create`, `expr_evaluate`) is kept by the root that made it, and a stream evaluates
//! those of its own root. So each root makes one that says its id; the first one of each root has the same token.

use crate::abi::{self, HostError, HostResult};

/// The token of the expression, as Envoy writes it.
pub(crate) type Mark = [u8; 4];

/// Not a status of the host: the answer is not what it should be.
const UNEXPECTED: HostError = HostError(u32::MAX);

/// Makes the root that is being configured known by its id. Once for each root.
///
/// # Errors
/// Envoy has no expressions, or this root's has another token than `earlier` ones have.
pub(crate) fn mark(root: u32, earlier: Option<Mark>) -> HostResult<Mark> {
    let text = format!("'{root}'");
    let token = abi::call_foreign_function("expr_create", text.as_bytes())?;
    let mark = Mark::try_from(token).map_err(|_| UNEXPECTED)?;
    match earlier {
        Some(earlier) if earlier != mark => Err(UNEXPECTED),
        _ => Ok(mark),
    }
}

/// The root of the stream at hand.
pub(crate) fn root(mark: Mark) -> Option<u32> {
    let id = abi::call_foreign_function("expr_evaluate", &mark).ok()?;
    str::from_utf8(&id).ok()?.parse().ok()
}
