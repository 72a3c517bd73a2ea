//! The rate limits of a service: the schema's words into the model's, which checks them as the filter will.

use isthmus_model::{
    Limit, ServiceName,
    limit::{LimitMode, OnError, RawLimit, Scope, Unit, check_service},
};
use isthmus_proto::v1::{RateLimit, rate_limit};

use crate::record::field::Errors;

pub(super) fn parse(
    service: Option<&ServiceName>,
    raw: &[RateLimit],
    errors: &mut Errors,
) -> Vec<Limit> {
    let limits: Vec<_> = raw
        .iter()
        .enumerate()
        .map(|(at, raw)| errors.within(format!("rateLimits[{at}]"), |errors| words(raw, errors)))
        .collect();
    // A service without a name is refused for that; whether its limits make sense can be said all the same.
    let stand_in = || "unnamed".parse::<ServiceName>().ok();
    let Some(service) = service.cloned().or_else(stand_in) else {
        return Vec::new();
    };
    check_service(&service, &limits).unwrap_or_else(|wrong| {
        for error in wrong {
            errors.add(&format!("rateLimits{}", error.path), error.problem);
        }
        Vec::new()
    })
}

fn words(raw: &RateLimit, errors: &mut Errors) -> RawLimit {
    let unit = match rate_limit::Unit::try_from(raw.unit) {
        Ok(rate_limit::Unit::Second) => Unit::Second,
        Ok(rate_limit::Unit::Minute) => Unit::Minute,
        Ok(rate_limit::Unit::Hour) => Unit::Hour,
        Ok(rate_limit::Unit::Day) => Unit::Day,
        Err(_) => {
            errors.add("unit", "must be second, minute, hour or day");
            Unit::Second
        }
    };
    let scope = match rate_limit::Scope::try_from(raw.scope) {
        Ok(rate_limit::Scope::Local) => Scope::Local,
        Ok(rate_limit::Scope::Region) if raw.lease => Scope::Lease,
        Ok(rate_limit::Scope::Region) => Scope::Region,
        Err(_) => {
            errors.add("scope", "must be local or region");
            Scope::Local
        }
    };
    if raw.lease && scope == Scope::Local {
        errors.add("lease", "goes with scope region: leave it out, or set that");
    }
    let mode = match rate_limit::Mode::try_from(raw.mode) {
        Ok(rate_limit::Mode::Enforce) => LimitMode::Enforce,
        Ok(rate_limit::Mode::Shadow) => LimitMode::Shadow,
        Err(_) => {
            errors.add("mode", "must be enforce or shadow");
            LimitMode::Enforce
        }
    };
    let on_error = match rate_limit::OnError::try_from(raw.on_error) {
        Ok(rate_limit::OnError::Allow) => OnError::Allow,
        Ok(rate_limit::OnError::Deny) => OnError::Deny,
        Err(_) => {
            errors.add("onError", "must be allow or deny");
            OnError::Allow
        }
    };
    RawLimit {
        per: raw.per.clone(),
        method: (!raw.method.is_empty()).then(|| raw.method.clone()),
        requests: raw.requests,
        unit,
        burst: raw.burst,
        scope,
        mode,
        on_error,
    }
}
