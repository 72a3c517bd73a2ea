//! How long it takes until a changed limit holds: from the write to the first request that is held to it, by a real Envoy
//! that is asked again and again.
//!
//! Every request that may pass has passed, so all are refused; then one more may. Nobody is behind the service: a request
//! that no limit refuses is one that finds nobody.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use isthmus_tests::{Call, Ems, Envoy, ems::Node, eventually, http};
use serde_json::{Value, json};

use crate::summary::{Summary, median};

/// Changes of each limit.
const CHANGES: u32 = 20;
/// No change may take so long.
const MOST: Duration = Duration::from_secs(1);

/// How long the changes of a limit took, in milliseconds.
pub(super) struct Changes {
    pub(super) scope: &'static str,
    took: Vec<f64>,
}

impl Changes {
    pub(super) fn text(&self) -> String {
        let Summary { median, max, .. } = Summary::of(self.took.iter().copied());
        format!(
            "{}: from the write to the first request held to it: p50 {median:.1} ms, most {max:.1} ms of {CHANGES} changes",
            self.scope
        )
    }

    pub(super) fn json(&self) -> Value {
        let Summary { max, .. } = Summary::of(self.took.iter().copied());
        json!({ "p50_ms": median(self.took.iter().copied()), "max_ms": max })
    }
}

/// Changes limits of either scope.
pub(super) fn measure(ems: &Ems) -> Result<Vec<Changes>> {
    let envoy = ems.envoy(&Node::host("client"))?;
    ["local", "region"]
        .into_iter()
        .map(|scope| of_scope(ems, &envoy, scope))
        .collect()
}

fn of_scope(ems: &Ems, envoy: &Envoy, scope: &'static str) -> Result<Changes> {
    // Nothing refills meanwhile.
    let limit = |most: u32| match scope {
        "local" => json!({ "per": "caller", "requests": 1, "burst": most, "unit": "day" }),
        // So that a limiter which cannot be asked is not taken for one that lets a request pass.
        _ => json!({
            "per": "caller", "requests": most, "unit": "day", "scope": "region", "onError": "deny"
        }),
    };
    // One of its own: what refuses first shall be this limit.
    let service = format!("changing-{scope}");
    let put = |most| ems.put_service(&service, json!({ "rateLimits": [limit(most)] }));
    let client = http::agent(MOST);
    let url = format!("http://{}/", envoy.address());
    let call = Call::on(&client, "GET", url).service(&service);
    let passes = || match call.send()?.status {
        429 => Ok(false),
        503 => Ok(true),
        other => bail!("{scope}: a request was answered with {other}"),
    };
    put(1)?;
    eventually("the limit to refuse", || {
        passes().is_ok_and(|passes| !passes)
    })?;
    let mut took = Vec::new();
    for more in 1..=CHANGES {
        let begin = Instant::now();
        put(1 + more)?;
        while !passes()? {
            ensure!(
                begin.elapsed() < MOST,
                "{scope}: the change does not hold after {MOST:?}"
            );
        }
        took.push(begin.elapsed().as_secs_f64() * 1e3);
        ensure!(!passes()?, "{scope}: more than one more passes");
    }
    Ok(Changes { scope, took })
}
