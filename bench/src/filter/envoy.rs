//! The two Envoys of the measurement: one that answers at once, and the one that is measured.

use std::path::{Path, PathBuf};

use isthmus_tests::Port;
use serde_json::{Map, Value, json};

const CONNECTION_MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const LUA: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
const LOCAL_RATE_LIMIT: &str =
    "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const STRING: &str = "type.googleapis.com/google.protobuf.StringValue";

/// The filter's job in Lua: names checked, the region known, internal headers not from the caller.
const SCRIPT: &str = r#"
local regions = { us = true, eu = true }
function envoy_on_request(request)
  local headers = request:headers()
  local service = headers:get("x-mesh-service")
  local region = headers:get("x-mesh-region") or "us"
  if not service or not service:match("^[a-z0-9][a-z0-9.-]*$") or not regions[region] then
    request:respond({ [":status"] = "400" }, "bad request")
    return
  end
  headers:remove("x-mesh-hops")
  headers:remove("x-mesh-receipt")
  headers:replace("x-mesh-destination", service .. "." .. region)
  headers:replace("x-mesh-caller", "us/orders")
  request:clearRouteCache()
end
"#;

/// An Envoy that answers every request itself.
pub(crate) fn upstream(admin: &Port, listen: &Port) -> Value {
    let route = json!({
        "match": { "prefix": "/" },
        "direct_response": { "status": 200, "body": { "inline_string": "ok\n" } },
    });
    json!({
        "admin": { "address": address(admin.number()) },
        "static_resources": { "listeners": [listener("upstream", listen, &route, None)] },
    })
}

/// What a listener of the measured Envoy has in front of its router.
pub(crate) enum Filter {
    /// Nothing; the route is fixed.
    Bare,
    /// This module, which does nothing; the route is fixed.
    Noop(PathBuf),
    /// A build of ours.
    Isthmus {
        /// The build.
        file: PathBuf,
        /// Whether requests meet a rate limit, which refuses nothing.
        limited: bool,
        /// So many other services have a limit as well.
        others: usize,
    },
    /// Envoy's own rate limit of one Envoy, which refuses nothing; the route is fixed.
    LocalRateLimit,
    /// The script.
    Lua,
}

/// The Envoy that is measured: a listener for each filter, and one more that the guard waits for.
pub(crate) fn proxy<'a>(
    admin: &Port,
    listen: &Port,
    filters: impl Iterator<Item = (&'a str, &'a Filter, &'a Port)>,
    upstream: u16,
) -> Value {
    let fixed = json!({
        "match": { "prefix": "/" },
        "route": { "cluster": "payments.eu" },
    });
    let chosen = json!({
        "match": { "prefix": "/" },
        "route": { "cluster_header": "x-mesh-destination" },
    });
    let mut listeners = vec![listener("ready", listen, &fixed, None)];
    listeners.extend(filters.map(|(name, filter, port)| {
        let (route, filter) = match filter {
            Filter::Bare => (&fixed, None),
            Filter::Noop(file) => (&fixed, Some(wasm(name, file, 0, ""))),
            Filter::Isthmus {
                file,
                limited,
                others,
            } => {
                let config = config(*limited, *others);
                (&chosen, Some(wasm(name, file, *others, &config)))
            }
            Filter::LocalRateLimit => (&fixed, Some(local_rate_limit())),
            Filter::Lua => (&chosen, Some(lua())),
        };
        listener(name, port, route, filter)
    }));
    json!({
        "admin": { "address": address(admin.number()) },
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "payments.eu",
                "connect_timeout": "1s",
                "load_assignment": {
                    "cluster_name": "payments.eu",
                    "endpoints": [{
                        "lb_endpoints": [{ "endpoint": { "address": address(upstream) } }],
                    }],
                },
            }],
        },
    })
}

/// A service that requests are not for, and that has a limit.
pub(crate) fn other(number: usize) -> String {
    format!("other-{number}")
}

/// Limits are those of the own region, so the filter is in the one that requests are for, also without.
fn config(limited: bool, others: usize) -> String {
    let limit = json!({ "per": "caller", "requests": 1_000_000, "unit": "second" });
    let limits = |limit: Option<&Value>| json!({ "limits": Vec::from_iter(limit) });
    let services = (0..others).map(|number| (other(number), limits(Some(&limit))));
    let services = services.chain([
        ("ledger".to_owned(), json!({ "allow": ["us/payments"] })),
        ("payments".to_owned(), limits(limited.then_some(&limit))),
    ]);
    json!({
        "version": "1",
        "region": "eu",
        "regions": ["eu", "us"],
        "caller": "us/orders",
        "services": services.collect::<Map<_, _>>(),
    })
    .to_string()
}

fn local_rate_limit() -> Value {
    let always = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    json!({
        "name": "local_ratelimit",
        "typed_config": {
            "@type": LOCAL_RATE_LIMIT,
            "stat_prefix": "local_ratelimit",
            "token_bucket": {
                "max_tokens": 1_000_000,
                "tokens_per_fill": 1_000_000,
                "fill_interval": "1s",
            },
            "filter_enabled": always,
            "filter_enforced": always,
        },
    })
}

/// A build has one VM for all its configurations of so many other services: code that was translated twice, or lies
/// elsewhere in memory, can cost more than what is to be told apart. What a VM knows of limits it keeps, so those of many
/// and of few are not together.
fn wasm(name: &str, file: &Path, others: usize, configuration: &str) -> Value {
    let build = file.to_string_lossy();
    json!({
        "name": name,
        "typed_config": {
            "@type": WASM,
            "config": {
                "name": name,
                "vm_config": {
                    "vm_id": format!("{build}-{others}"),
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": file } },
                },
                "configuration": { "@type": STRING, "value": configuration },
            },
        },
    })
}

fn lua() -> Value {
    json!({
        "name": "lua",
        "typed_config": { "@type": LUA, "default_source_code": { "inline_string": SCRIPT } },
    })
}

fn listener(name: &str, port: &Port, route: &Value, filter: Option<Value>) -> Value {
    let router = json!({ "name": "router", "typed_config": { "@type": ROUTER } });
    let filters: Vec<Value> = filter.into_iter().chain([router]).collect();
    json!({
        "name": name,
        "address": address(port.number()),
        "filter_chains": [{
            "filters": [{
                "name": "http",
                "typed_config": {
                    "@type": CONNECTION_MANAGER,
                    "stat_prefix": name,
                    "http_filters": filters,
                    "route_config": {
                        "virtual_hosts": [{
                            "name": "all",
                            "domains": ["*"],
                            "routes": [route],
                        }],
                    },
                },
            }],
        }],
    })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
