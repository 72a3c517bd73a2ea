//! From what a config says of limits to limits that make sense. EMS and the filter run the same rules, so what EMS takes
//! the filter takes too.

use crate::{config::ConfigError, name::ServiceName};

use super::{
    Limit, LimitMode, MOST_LEASED, MOST_LIMITS, MOST_REQUESTS, NANOSECONDS, Part, Rate, RawLimit,
    Scope, Unit, question,
};

/// Words of `per` that a limit of the region may have: the filter asks for them in one header.
const MOST_PARTS: usize = 8;
const LONGEST_METHOD: usize = 256;

/// The limits of a service.
///
/// # Errors
/// Everything that is wrong with them; paths begin with the place in the list, such as `[1].per[0]`.
pub fn check_service(
    service: &ServiceName,
    raw: &[RawLimit],
) -> Result<Vec<Limit>, Vec<ConfigError>> {
    let (limits, errors) = check_limits(service, raw);
    if errors.is_empty() {
        Ok(limits)
    } else {
        Err(errors)
    }
}

/// The limits that are right, and what is wrong with the others.
pub(crate) fn check_limits(
    service: &ServiceName,
    raw: &[RawLimit],
) -> (Vec<Limit>, Vec<ConfigError>) {
    let mut errors = Vec::new();
    if raw.len() > MOST_LIMITS {
        errors.push(error(
            "",
            format!("has {} limits; {MOST_LIMITS} are the most", raw.len()),
        ));
    }
    let mut limits: Vec<Limit> = Vec::with_capacity(raw.len());
    // The places of those in `limits`.
    let mut places = Vec::with_capacity(raw.len());
    for (at, raw) in raw.iter().enumerate() {
        let before = errors.len();
        let limit = check_limit(service, raw, &mut |field: &str, problem: String| {
            errors.push(error(&format!("[{at}]{field}"), problem));
        });
        let Some(limit) = limit.filter(|_| errors.len() == before) else {
            continue;
        };
        let same = limits
            .iter()
            .position(|other| other.identity == limit.identity);
        if let Some(twin) = same.and_then(|same| places.get(same)) {
            errors.push(error(
                &format!("[{at}]"),
                format!(
                    "is about the same as [{twin}]: limits must differ in per, method, unit, scope or mode"
                ),
            ));
            continue;
        }
        let leased = |limit: &&Limit| limit.scope == Scope::Lease;
        if leased(&&limit) && limits.iter().filter(leased).count() >= MOST_LEASED {
            errors.push(error(
                &format!("[{at}]"),
                format!(
                    "is leased, and {MOST_LEASED} of a service's limits may be: leave lease out"
                ),
            ));
            continue;
        }
        limits.push(limit);
        places.push(at);
    }
    (limits, errors)
}

fn error(path: &str, problem: String) -> ConfigError {
    ConfigError {
        path: path.to_owned(),
        problem,
    }
}

fn check_limit(
    service: &ServiceName,
    raw: &RawLimit,
    wrong: &mut impl FnMut(&str, String),
) -> Option<Limit> {
    let mut per = Vec::with_capacity(raw.per.len());
    if raw.per.is_empty() {
        wrong(
            ".per",
            "is empty: write service for one budget that all callers share".to_owned(),
        );
    }
    for (at, text) in raw.per.iter().enumerate() {
        match Part::parse(text) {
            Ok(Some(part)) if per.contains(&part) => {
                wrong(&format!(".per[{at}]"), format!("{part} is listed twice"))
            }
            Ok(part) => per.extend(part),
            Err(problem) => wrong(&format!(".per[{at}]"), problem.to_string()),
        }
    }
    per.sort();
    match raw.scope {
        Scope::Local => {}
        Scope::Region => check_region(raw, wrong),
        Scope::Lease => check_lease(raw, &per, wrong),
    }
    if let Some(method) = &raw.method {
        check_method(method, wrong);
    }
    let within = 1..=MOST_REQUESTS;
    let burst = raw.burst.unwrap_or(raw.requests);
    if !within.contains(&raw.requests) {
        let problem = match raw.requests {
            // As the API has what was left out.
            0 => format!("must be given, and be 1 to {MOST_REQUESTS}"),
            requests => format!("must be 1 to {MOST_REQUESTS}, and is {requests}"),
        };
        wrong(".requests", problem);
        return None;
    }
    if !within.contains(&burst) {
        wrong(
            ".burst",
            format!("must be 1 to {MOST_REQUESTS}, and is {burst}"),
        );
        return None;
    }
    let Some(rate) = Rate::new(
        raw.requests,
        u64::from(raw.unit.seconds()) * NANOSECONDS,
        burst,
    ) else {
        let days = Rate::LONGEST / NANOSECONDS / 86_400;
        wrong(
            ".burst",
            format!("takes more than {days} days to refill: allow less at once, or more requests"),
        );
        return None;
    };
    let identity = identity(service, &per, raw);
    let token = question::token(&per, raw);
    Some(Limit {
        per,
        method: raw.method.clone(),
        requests: raw.requests,
        unit: raw.unit,
        burst,
        scope: raw.scope,
        mode: raw.mode,
        on_error: raw.on_error,
        rate,
        identity,
        token,
    })
}

fn check_region(raw: &RawLimit, wrong: &mut impl FnMut(&str, String)) {
    if raw.burst.is_some() {
        wrong(
            ".burst",
            "is for scope local and for leases: a limit of the region counts in windows of one unit, so all of its requests may come \
             at once; leave it out"
                .to_owned(),
        );
    }
    if raw.per.len() > MOST_PARTS {
        wrong(
            ".per",
            format!(
                "has {} words; {MOST_PARTS} are the most with scope region",
                raw.per.len()
            ),
        );
    }
}

/// Envoy keeps a bucket for each budget that it ever met, and copies all of them for each new one.
fn check_lease(raw: &RawLimit, per: &[Part], wrong: &mut impl FnMut(&str, String)) {
    let made_up = |part: &&Part| matches!(part, Part::Header(_) | Part::Method);
    if let Some(part) = per.iter().find(made_up) {
        wrong(
            ".per",
            format!(
                "has {part}, of which callers can make up values: that cannot be leased; leave lease out"
            ),
        );
    }
    if matches!(raw.unit, Unit::Hour | Unit::Day) {
        wrong(
            ".unit",
            format!(
                "{} is too long to be leased: write second or minute, or leave lease out",
                raw.unit.as_str()
            ),
        );
    }
    if raw.mode == LimitMode::Shadow {
        wrong(
            ".mode",
            "shadow cannot be leased: leave lease out".to_owned(),
        );
    }
}

fn check_method(method: &str, wrong: &mut impl FnMut(&str, String)) {
    if !method.starts_with('/') {
        wrong(
            ".method",
            "must start with /: /<package>.<Service>/<Method> for gRPC, else a path".to_owned(),
        );
    }
    if method.len() > LONGEST_METHOD {
        wrong(".method", format!("is longer than {LONGEST_METHOD} bytes"));
    }
    // It is shown between quotes, and compared with a path whose query was cut off.
    if let Some(bad) = method
        .chars()
        .find(|c| !c.is_ascii_graphic() || "\"\\?#,".contains(*c))
    {
        wrong(
            ".method",
            format!("has {bad:?}, which no path has that limits can be for"),
        );
    }
}

/// What makes a limit the same after a change of its numbers.
fn identity(service: &ServiceName, per: &[Part], raw: &RawLimit) -> String {
    let mut text = service.as_str().to_owned();
    for part in per {
        text.push('\0');
        text.push_str(&part.to_string());
    }
    text.push('\0');
    text.push_str(raw.method.as_deref().unwrap_or_default());
    for word in [raw.unit.as_str(), raw.mode.as_str()] {
        text.push('\0');
        text.push_str(word);
    }
    if raw.scope != Scope::Local {
        text.push('\0');
        text.push_str(raw.scope.as_str());
    }
    text
}
