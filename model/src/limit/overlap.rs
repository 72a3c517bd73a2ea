//! Limits that can never refuse anything, because another limit of the service always does so first. They are allowed, and
//! most likely not what was meant.

use super::{Limit, LimitMode, Part, Scope};

/// The limits, by their places, that never bind, each with one that is in its way.
///
/// One limit makes another idle when it counts every request that the other counts, in budgets that are at least as coarse,
/// and lets no more of them pass, neither at once nor in the long run. Of two that do this to each other the second is
/// idle. A shadow limit is in nobody's way, and none is in that of one of another scope: a local one lets as much pass at each
/// Envoy, and how many there are is not known here; a limit of the region is asked about only what local ones let pass.
#[must_use]
pub fn never_binding(limits: &[Limit]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, idle) in limits.iter().enumerate() {
        let blocks = |(other, strict): &(usize, &Limit)| {
            let mutual = is_idle_beside(strict, idle);
            *other != at && is_idle_beside(idle, strict) && (!mutual || *other < at)
        };
        if let Some((other, _)) = limits.iter().enumerate().find(blocks) {
            found.push((at, other));
        }
    }
    found
}

fn is_idle_beside(idle: &Limit, strict: &Limit) -> bool {
    let all_its_requests = strict.method.is_none() || strict.method == idle.method;
    let coarser = strict.per.iter().all(|part| is_fixed(part, idle));
    strict.mode == LimitMode::Enforce && all_its_requests && coarser && is_stricter(strict, idle)
}

/// Whether all that one lets pass the other does too, and the other hears of nothing else.
fn is_stricter(strict: &Limit, idle: &Limit) -> bool {
    match (strict.scope, idle.scope) {
        (Scope::Local, Scope::Local) => strict.rate.is_within(idle.rate),
        // In a window of the one are so many of the other, and one more that it cuts.
        (Scope::Region, Scope::Region) => {
            let cut = idle.unit.seconds().div_ceil(strict.unit.seconds()) + 1;
            strict.requests.saturating_mul(cut) <= idle.requests
        }
        // Elsewhere as much may pass again; what the region refuses was charged to the local one already; or an Envoy may have
        // less of the whole than it needs.
        (Scope::Local, Scope::Region)
        | (Scope::Region, Scope::Local)
        | (Scope::Lease, _)
        | (_, Scope::Lease) => false,
    }
}

/// Whether requests that share a budget of the limit are equal in this part.
fn is_fixed(part: &Part, limit: &Limit) -> bool {
    limit.per.contains(part)
        || match part {
            Part::CallerRegion => limit.per.contains(&Part::Caller),
            Part::Method => limit.method.is_some(),
            Part::Caller | Part::Header(_) => false,
        }
}

#[cfg(test)]
mod tests;
