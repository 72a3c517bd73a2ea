//! When Envoy's quota filter is there, and what it is told.

use isthmus_model::limit::{RawLimit, check_service};
use prost::Message;

use super::*;
use crate::{
    registry::Affected,
    resources::tests::world::{World, put_service, service},
    xds::{ResourceType, View},
};

fn limited(world: &World, name: &str, scope: &str) -> Vec<String> {
    let mut service = service(name);
    let raw =
        format!(r#"{{"per": "service", "requests": 9, "unit": "second", "scope": "{scope}"}}"#);
    let raw: RawLimit = serde_json::from_str(&raw).unwrap();
    service.rate_limits = check_service(&service.name, &[raw]).unwrap();
    put_service(&world.maps, service);
    world.apply(Affected::Service(name.parse().unwrap()))
}

fn config(view: &dyn View) -> TypedExtensionConfig {
    let resource = view.get(ResourceType::ExtensionConfig, LEASES).unwrap();
    TypedExtensionConfig::decode(resource.body()).unwrap()
}

fn is_there(view: &dyn View) -> bool {
    let url = config(view).typed_config.unwrap().type_url;
    assert!(place_takes(&url), "{url}");
    url == RateLimitQuotaFilterConfig::type_url()
}

fn place_takes(url: &str) -> bool {
    let Some(http_filter::ConfigType::ConfigDiscovery(discovery)) = place().config_type else {
        panic!("not discovered");
    };
    discovery.type_urls.iter().any(|known| known == url)
}

/// Envoys are told when it comes and when it goes, and not of what changes meanwhile.
#[test]
fn only_as_long_as_a_limit_is_leased() {
    let world = World::new();
    let views = [world.host(), world.view("gateway", &[], false)];
    let there = || views.each_ref().map(|view| is_there(&**view));
    let told = |names: &[String]| names.iter().any(|name| name.ends_with(" isthmus.leases"));
    assert_eq!(there(), [false, false]);
    assert!(!told(&limited(&world, "payments", "region")));
    assert_eq!(there(), [false, false]);
    assert!(told(&limited(&world, "payments", "lease")));
    assert_eq!(there(), [true, true]);
    assert!(!told(&limited(&world, "ledger", "lease")));
    assert!(!told(&limited(&world, "payments", "local")));
    assert_eq!(there(), [true, true]);
    assert!(told(&limited(&world, "ledger", "local")));
    assert_eq!(there(), [false, false]);
}

/// Of whatever bytes: it has to be a header, and Envoy would fill in what is between percent signs.
#[test]
fn nodes_are_known_again_by_their_ids() {
    let said = |id| filter(id).rlqs_server.unwrap().initial_metadata.remove(0);
    let plain = |id| said(id).value.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(plain("a%b%") && plain("sidecar ü\n") && plain(""));
    assert_eq!(said("a"), said("a"));
    assert_ne!(said("a"), said("b"));
}
