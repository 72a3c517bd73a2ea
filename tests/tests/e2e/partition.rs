//! Regions stand alone: what happens between them, or to the other one, is not felt within.

use isthmus_tests::{Mesh, eventually};
use serde_json::json;

use crate::stage::{self, none_failed};

#[test]
fn a_cut_between_the_regions() {
    let mesh = Mesh::start().unwrap();
    let (us, eu) = (&mesh.us, &mesh.eu);
    let _us = stage::service(us, "shop", json!({}), "shop-us");
    let _eu = stage::service(eu, "shop", json!({}), "shop-eu");
    for region in ["us", "eu"] {
        stage::reaches(&us.host, "shop", region, &format!("shop-{region}"));
    }
    let here = stage::load(&us.host, "shop", "us");
    let anywhere = stage::load(&us.host, "shop", "any");
    mesh.us_to_eu.cut();
    mesh.eu_to_us.cut();
    eventually("the other region to be out of reach", || {
        us.host
            .get("shop", "eu")
            .is_ok_and(|reply| reply.status == 503)
    })
    .unwrap();
    // New names and new services need nobody else.
    let _new = stage::service(us, "new-shop", json!({}), "new-us");
    here.answered_more(50).unwrap();
    anywhere.answered_more(50).unwrap();
    mesh.us_to_eu.mend();
    mesh.eu_to_us.mend();
    stage::reaches(&us.host, "shop", "eu", "shop-eu");
    none_failed(here);
    none_failed(anywhere);
}
