//! The receipt: one line that says what was decided here and why, for the response to a request that asked for it.
//!
//! Its form is an item of a structured field list (RFC 9651), so that the receipts of several Envoys on the way read as one
//! list: `"us";mode=outbound;config="7";rule="open";kind=remote;destination="payments.eu"`.

use std::fmt::{self, Display, Write};

use crate::{config::Config, decide::Decision, limit::Exceeded, refusal::Code};

/// Writes the receipt of a decision, and of the limit that did not let it come true, if there is one.
///
/// # Errors
/// Those of the writer.
pub fn write_receipt(
    out: &mut impl Write,
    config: &Config,
    decision: &Decision<'_>,
    exceeded: Option<&Exceeded<'_>>,
) -> fmt::Result {
    write_place(out, config)?;
    if let Some(exceeded) = exceeded {
        return write_limited(out, Some(exceeded.limit), exceeded.limits);
    }
    match decision {
        Decision::Route(route) => {
            write!(
                out,
                ";rule=\"{}\";kind={};destination=\"",
                route.granted,
                route.kind.as_str()
            )?;
            route.write_cluster(out)?;
            out.write_char('"')?;
            if let Some(caller) = &route.caller {
                write!(out, ";caller=\"{caller}\"")?;
            }
            if !route.limits.is_empty() {
                write!(out, ";limits=\"{}\"", route.limits)?;
            }
            Ok(())
        }
        Decision::Reject(refusal) => write!(out, ";refused={}", refusal.code()),
    }
}

/// Writes how a receipt begins: where this is.
///
/// # Errors
/// Those of the writer.
pub fn write_place(out: &mut impl Write, config: &Config) -> fmt::Result {
    // Everything between the quotes is a checked name or text: none of it can hold a quote.
    write!(
        out,
        "\"{}\";mode={};config=\"{}\"",
        config.region(),
        config.mode().as_str(),
        config.version()
    )
}

/// Goes on with the limit that refused, if it is known, and those that were consulted.
///
/// # Errors
/// Those of the writer.
pub fn write_limited(
    out: &mut impl Write,
    limit: Option<impl Display>,
    limits: impl Display,
) -> fmt::Result {
    write!(out, ";refused={}", Code::RateLimited)?;
    if let Some(limit) = limit {
        write!(out, ";limit=\"{limit}\"")?;
    }
    write!(out, ";limits=\"{limits}\"")
}

#[cfg(test)]
mod tests;
