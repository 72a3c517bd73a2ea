//! Mutual TLS between regions: transport sockets, and the secrets that they name.
//!
//! The roots of a region vouch for names of that region only. On the way out that is plain: the cluster names both the
//! root and the one identity it expects. On the way in a gateway has a filter chain for each region, told apart by the
//! server name that the caller's side sends. One of the peer's URIs has to be of that region; the filter, which goes by
//! the first of them, sees to it that this one is. So no region can speak for another.

use envoy_types::pb::envoy::{
    config::core::v3::TransportSocket,
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
        Secret, SubjectAltNameMatcher, TlsCertificate, TlsParameters, UpstreamTlsContext,
        common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
        secret,
        subject_alt_name_matcher::SanType,
        tls_parameters::TlsProtocol,
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use isthmus_model::RegionName;

use super::encode::{ads, bool_value, inline, inline_bytes, transport_socket};
use crate::identity::{Issued, SpiffeId};

/// SDS name of a node's own certificate and key.
pub(super) const IDENTITY: &str = "identity";

/// SDS name of all known roots together, for whoever wants to know them.
pub(super) const TRUST: &str = "trust";

/// SDS name of one region's roots.
pub(super) fn trust_name(region: &RegionName) -> String {
    format!("{TRUST}.{region}")
}

/// The region of such a name.
pub(super) fn trust_region(name: &str) -> Option<RegionName> {
    name.strip_prefix(TRUST)?.strip_prefix('.')?.parse().ok()
}

/// The server name that says which region a caller is of.
pub(crate) fn server_name(caller_region: &RegionName, trust_domain: &str) -> String {
    format!("{caller_region}.{trust_domain}")
}

/// Towards the gateways of `to`.
pub(super) fn to_gateway(
    from: &RegionName,
    to: &RegionName,
    trust_domain: &str,
) -> TransportSocket {
    let expected = SpiffeId::gateway(trust_domain, to).to_string();
    transport_socket(
        "envoy.transport_sockets.tls",
        &UpstreamTlsContext {
            common_tls_context: Some(common(to, MatchPattern::Exact(expected), &[])),
            sni: server_name(from, trust_domain),
            ..Default::default()
        },
    )
}

/// At a gateway, for callers of `from`: the server name that selects it, and the socket.
pub(super) fn at_gateway(from: &RegionName, trust_domain: &str) -> (String, TransportSocket) {
    let prefix = SpiffeId::region_prefix(trust_domain, from);
    let socket = transport_socket(
        "envoy.transport_sockets.tls",
        &DownstreamTlsContext {
            common_tls_context: Some(common(
                from,
                MatchPattern::Prefix(prefix),
                &["h2", "http/1.1"],
            )),
            require_client_certificate: bool_value(true),
            ..Default::default()
        },
    );
    (server_name(from, trust_domain), socket)
}

fn common(peer: &RegionName, san: MatchPattern, alpn: &[&str]) -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv13.into(),
            tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![sds(IDENTITY)],
        alpn_protocols: alpn.iter().map(|&name| name.to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
                        san_type: SanType::Uri.into(),
                        matcher: Some(StringMatcher {
                            match_pattern: Some(san),
                            ..Default::default()
                        }),
                        ..Default::default()
                    }],
                    ..Default::default()
                }),
                validation_context_sds_secret_config: Some(sds(&trust_name(peer))),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

fn sds(name: &str) -> SdsSecretConfig {
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: ads(),
    }
}

/// A node's own certificate and key.
pub(super) fn identity_secret(issued: &Issued) -> Secret {
    Secret {
        name: IDENTITY.to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline_bytes(issued.chain_pem.as_bytes()),
            private_key: inline_bytes(issued.key_pem.as_bytes()),
            ..Default::default()
        })),
    }
}

/// Roots; `None` where there are none, as Envoy refuses an empty set.
pub(super) fn trust_secret(name: &str, roots_pem: &str) -> Option<Secret> {
    (!roots_pem.trim().is_empty()).then(|| Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::ValidationContext(
            CertificateValidationContext {
                trusted_ca: inline(roots_pem),
                ..Default::default()
            },
        )),
    })
}
