//! Mutual TLS between regions: what goes over the wire, and who gets in.

use std::fs;

use isthmus_tests::{Envoy, Region, Reply, WorkDir, artifact, eventually};
use isthmus_upstream::ECHO_SERVICE;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};

use crate::stage::shared;

/// An Envoy that talks to a gateway directly, passing every header on as it comes: what somebody could do who has
/// (or has not) an identity of the mesh, and does not play by its rules.
pub(crate) struct Insider {
    pub(crate) envoy: Envoy,
}

impl Insider {
    /// With an identity of `home`, as service `insider`.
    pub(crate) fn of(home: &Region, target: &Region) -> Insider {
        Insider::through(home, target.gateway.port(), "insider")
    }

    /// With an identity of `home`, as a service of that name, through the gateway on a port.
    pub(crate) fn through(home: &Region, gateway: u16, name: &str) -> Insider {
        Insider::start(home, gateway, name, ISSUED)
    }

    /// With a certificate that the root of `home` made, and EMS would not: it has all these URIs.
    fn forger(home: &Region, target: &Region, name: &str, uris: &[&str]) -> Insider {
        let ca = home.dir().path().join(format!("{}-ems-data", home.name));
        let ca = fs::read_to_string(ca.join("development-ca.pem")).unwrap();
        let (key, root) = ca.split_at(ca.find("-----BEGIN CERTIFICATE-----").unwrap());
        let issuer = Issuer::from_ca_cert_pem(root, KeyPair::from_pem(key).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        let names = uris
            .iter()
            .map(|&uri| SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names = names.collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let file = |suffix: &str, text: &str| {
            let path = home.dir().write(&format!("{name}.{suffix}"), text).unwrap();
            path.display().to_string()
        };
        let certificate = format!(
            "tls_certificates: [{{ certificate_chain: {{ filename: {} }}, private_key: {{ filename: {} }} }}]",
            file("pem", &certificate),
            file("key", &key.serialize_pem()),
        );
        Insider::start(home, target.gateway.port(), name, &certificate)
    }

    /// Knows the way, but shows no certificate.
    fn anonymous(home: &Region, target: &Region) -> Insider {
        Insider::start(
            home,
            target.gateway.port(),
            "anonymous",
            "alpn_protocols: [h2]",
        )
    }

    fn start(home: &Region, gateway: u16, name: &str, certificate: &str) -> Insider {
        let dir = WorkDir::new(name).unwrap();
        let envoy = Envoy::with_bootstrap(&dir, name, |admin, listen| {
            Ok(BOOTSTRAP
                .replace("{name}", name)
                .replace("{home}", &home.name)
                .replace("{filter}", &artifact::filter()?.display().to_string())
                .replace("{admin}", &admin.to_string())
                .replace("{listen}", &listen.to_string())
                .replace("{xds}", &home.ems.xds_address().replace("127.0.0.1:", ""))
                .replace("{gateway}", &gateway.to_string())
                .replace("{certificate}", certificate))
        })
        .unwrap();
        Insider { envoy }
    }

    fn ask(&self) -> Reply {
        self.envoy.get("payments", "eu").unwrap()
    }
}

/// A certificate as EMS gives it to its node.
const ISSUED: &str = "tls_certificate_sds_secret_configs: [{ name: identity, sds_config: { resource_api_version: V3, \
    api_config_source: { api_type: GRPC, transport_api_version: V3, \
    grpc_services: [{ envoy_grpc: { cluster_name: ems } }] } } }]";

const BOOTSTRAP: &str = r#"
node:
  id: {name}-{listen}
  cluster: {name}
  metadata:
    isthmus: { kind: sidecar, service: {name}, region: {home}, listen: "127.0.0.1:{listen}", filter: "{filter}" }
admin: { address: { socket_address: { address: 127.0.0.1, port_value: {admin} } } }
static_resources:
  listeners:
    - name: direct
      address: { socket_address: { address: 127.0.0.1, port_value: {listen} } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: direct
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
                route_config:
                  virtual_hosts: [{ name: all, domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: gateway } }] }]
  clusters:
    - name: ems
      type: STATIC
      typed_extension_protocol_options: &http2
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: { http2_protocol_options: {} }
      load_assignment: { cluster_name: ems, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: {xds} } } } }] }] }
    - name: gateway
      type: STATIC
      typed_extension_protocol_options: *http2
      load_assignment: { cluster_name: gateway, endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: {gateway} } } } }] }] }
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: {home}.mesh.internal
          common_tls_context:
            tls_params: { tls_maximum_protocol_version: TLSv1_3 } # a client's default is 1.2, which no gateway takes
            {certificate}
"#;

#[test]
fn what_goes_between_regions_is_encrypted() {
    const SECRET: &str = "nobody-on-the-wire-may-read-this";
    let stage = shared();
    let (us, eu, link) = (&stage.mesh.us, &stage.mesh.eu, &stage.mesh.us_to_eu);
    let reply = us
        .host
        .call("POST", "/")
        .service("payments")
        .region("eu")
        .header("x-secret", SECRET)
        .body(SECRET)
        .send()
        .unwrap();
    assert_eq!(reply.json()["upstream"], "eu-1", "{reply:?}");
    assert_eq!(reply.json()["body"], SECRET);

    let seen = link.seen();
    assert!(
        seen.starts_with(&[22, 3]),
        "not a TLS handshake: {:?}",
        &seen[..8]
    );
    for plain in [SECRET, "x-secret", "payments", ECHO_SERVICE] {
        let found = seen
            .windows(plain.len())
            .any(|window| window == plain.as_bytes());
        assert!(!found, "{plain} is in the bytes between the regions");
    }
    assert!(us.host.stat("cluster.payments.eu.ssl.handshake").unwrap() > 0);
    assert!(eu.gateway.stat_sum(".ssl.handshake").unwrap() > 0);
    assert!(eu.gateway.stat_sum(".ssl.versions.TLSv1.3").unwrap() > 0);
}

#[test]
fn an_identity_of_a_known_region_gets_in() {
    let stage = shared();
    let insider = Insider::of(&stage.mesh.us, &stage.mesh.eu);
    let reply = insider.ask();
    assert_eq!(reply.json()["upstream"], "eu-1", "{reply:?}");
}

/// Who has the keys of region us is any service of it, and none of another region.
#[test]
fn a_region_does_not_speak_for_another() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let own = "spiffe://mesh.internal/region/us/service/insider";
    let other = "spiffe://mesh.internal/region/eu/service/orders";

    let reply = Insider::forger(us, eu, "own-first", &[own, other]).ask();
    assert_eq!(reply.json()["upstream"], "eu-1", "{reply:?}");
    assert_eq!(reply.json()["headers"]["x-mesh-caller"], "us/insider");

    let reply = Insider::forger(us, eu, "other-first", &[other, own]).ask();
    assert_eq!(
        (reply.status, reply.error()),
        (403, Some("denied")),
        "{reply:?}"
    );

    let reply = Insider::forger(us, eu, "other-alone", &[other]).ask();
    assert_eq!(reply.status, 503, "the handshake fails: {reply:?}");
}

#[test]
fn without_a_certificate_nobody_gets_in() {
    let stage = shared();
    let (us, eu) = (&stage.mesh.us, &stage.mesh.eu);
    let before = eu.gateway.stat_sum("ssl.fail_verify_no_cert").unwrap();
    let anonymous = Insider::anonymous(us, eu);
    let reply = anonymous.ask();
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.json()["upstream"].is_null(), "{reply:?}");
    eventually("the gateway to count it", || {
        eu.gateway
            .stat_sum("ssl.fail_verify_no_cert")
            .is_ok_and(|now| now > before)
    })
    .unwrap();
}

/// A second EMS that says to be region `us`, with a root of its own: its certificates have all the right names.
#[test]
fn a_foreign_certificate_does_not_get_in() {
    let stage = shared();
    let eu = &stage.mesh.eu;
    let impostor = Region::start("us").unwrap();
    eu.introduce_to(&impostor).unwrap();
    let before = eu.gateway.stat_sum("ssl.fail_verify_error").unwrap();
    let reply = impostor.host.get("payments", "eu").unwrap();
    // With TLS 1.3 the gateway may say no before the request is sent, or break off after it.
    assert!(
        matches!(
            reply.error(),
            Some("no_healthy_endpoint" | "endpoint_failed")
        ),
        "{reply:?}"
    );
    let direct = Insider::of(&impostor, eu).ask();
    assert_eq!(direct.status, 503, "{direct:?}");
    eventually("the gateway to count it", || {
        eu.gateway
            .stat_sum("ssl.fail_verify_error")
            .is_ok_and(|now| now > before)
    })
    .unwrap();
}

/// The other way round: who has no root in common with a gateway does not send it anything.
#[test]
fn a_foreign_gateway_is_not_believed() {
    let stage = shared();
    let us = &stage.mesh.us;
    let name = "nirvana";
    let impostor = Region::start(name).unwrap();
    // The record has the way to the impostor's gateway, but another region's roots.
    let mut record = stage.mesh.eu.ems.get_region("eu").unwrap();
    let fields = record.as_object_mut().unwrap();
    fields.retain(|field, _| field == "trustBundle");
    fields.insert(
        "gateways".to_owned(),
        serde_json::json!([{"address": "127.0.0.1", "port": impostor.gateway.port()}]),
    );
    us.ems.put_region(name, record).unwrap();
    us.introduce_to(&impostor).unwrap();
    eventually("the host to know the region", || {
        us.host
            .get("payments", name)
            .is_ok_and(|reply| reply.error() != Some("unknown_region"))
    })
    .unwrap();
    let reply = us.host.get("payments", name).unwrap();
    assert_eq!(reply.status, 503, "{reply:?}");
    let refused = us
        .host
        .stat(&format!("cluster.payments.{name}.ssl.fail_verify_error"))
        .unwrap();
    assert!(refused > 0, "refused for another reason: {reply:?}");
    us.ems
        .call("DELETE", &format!("/v1/regions/{name}"))
        .send()
        .unwrap()
        .ok()
        .unwrap();
}
