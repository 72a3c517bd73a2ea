//! The one listener of a node, and the route behind it.
//!
//! Routing is the filter's: it names a cluster, the route takes it from there, and the on-demand filter fetches what is
//! not there yet. So neither listener nor route grows with the number of services.

use std::{net::SocketAddr, time::Duration};

use envoy_types::pb::envoy::{
    config::{
        core::v3::{
            Address, CidrRange, ExtensionConfigSource, Http2ProtocolOptions, HttpProtocolOptions,
            KeepaliveSettings, SchemeHeaderTransformation, SocketAddress, TrafficDirection,
            address, scheme_header_transformation::Transformation, socket_address,
        },
        listener::v3::{
            Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter,
            listener_filter,
        },
        route::v3::{
            Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
            route::Action,
            route_action::{ClusterSpecifier, MaxStreamDuration},
            route_match::PathSpecifier,
        },
    },
    extensions::filters::{
        http::{
            on_demand::v3::{OnDemand, OnDemandCds},
            router::v3::Router,
        },
        listener::tls_inspector::v3::TlsInspector,
        network::http_connection_manager::v3::{
            HttpConnectionManager, HttpFilter, Rds,
            http_connection_manager::{
                InternalAddressConfig, PathWithEscapedSlashesAction, RouteSpecifier,
                ServerHeaderTransformation,
            },
            http_filter,
        },
    },
};
use isthmus_model::RegionName;

use super::{
    Settings,
    encode::{ads, any, bool_value, duration, u32_value},
    filter::FILTER,
    leases, limits,
    node::NodeKind,
    replies::{header_ends, local_replies},
    tls,
};

/// RDS name of the routes, and name of the one that takes everything.
pub(super) const ROUTE: &str = "mesh";

/// A stream that says nothing for so long is taken for lost. Long, because quiet streams are normal for gRPC.
const STREAM_IDLE: Duration = Duration::from_secs(3600);

/// A connection without streams is closed after this.
const CONNECTION_IDLE: Duration = Duration::from_secs(3600);

/// Headers have to be there within this time.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the on-demand filter holds a request of an unknown cluster. EMS answers at once, also with "does not exist".
const ON_DEMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// LDS name of a node's listener.
pub(super) fn listener_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Sidecar | NodeKind::Host => "outbound",
        NodeKind::Gateway => "gateway",
    }
}

/// The listener; `None` for a gateway that could believe nobody. `callers` are the regions whose roots are known.
pub(super) fn listener(
    kind: NodeKind,
    at: SocketAddr,
    callers: &[RegionName],
    settings: &Settings,
) -> Option<Listener> {
    let name = listener_name(kind);
    let chain = || connection_manager(kind, settings);
    let (filter_chains, listener_filters) = match kind {
        NodeKind::Sidecar | NodeKind::Host => {
            let chain = FilterChain {
                filters: vec![chain()],
                ..Default::default()
            };
            (vec![chain], Vec::new())
        }
        NodeKind::Gateway => {
            let chains: Vec<_> = callers
                .iter()
                .map(|region| {
                    let (server_name, socket) = tls::at_gateway(region, &settings.trust_domain);
                    FilterChain {
                        name: format!("from-{region}"),
                        filter_chain_match: Some(FilterChainMatch {
                            server_names: vec![server_name],
                            ..Default::default()
                        }),
                        filters: vec![chain()],
                        transport_socket: Some(socket),
                        transport_socket_connect_timeout: duration(HEADERS_TIMEOUT),
                        ..Default::default()
                    }
                })
                .collect();
            if chains.is_empty() {
                return None;
            }
            let inspector = ListenerFilter {
                name: "envoy.filters.listener.tls_inspector".to_owned(),
                config_type: Some(listener_filter::ConfigType::TypedConfig(any(
                    &TlsInspector::default(),
                ))),
                ..Default::default()
            };
            (chains, vec![inspector])
        }
    };
    Some(Listener {
        name: name.to_owned(),
        address: bind_address(at),
        filter_chains,
        listener_filters,
        traffic_direction: match kind {
            NodeKind::Gateway => TrafficDirection::Inbound.into(),
            NodeKind::Sidecar | NodeKind::Host => TrafficDirection::Outbound.into(),
        },
        ..Default::default()
    })
}

/// Wherever the filter says. That is one action in two routes: what a service of this region answers is no gateway's
/// answer, so the headers by which gateways speak are taken off it. `any` may be either, and is left as it is.
pub(super) fn route(settings: &Settings) -> RouteConfiguration {
    let headers = &settings.headers;
    let anywhere = RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    };
    // The names of local clusters end so, and no others do: regions have no dot.
    let to_here = RouteMatch {
        headers: vec![header_ends(
            &headers.destination,
            &format!(".{}", settings.region),
        )],
        ..anywhere.clone()
    };
    let (anywhere, to_here) = (Some(anywhere), Some(to_here));
    let action = RouteAction {
        // The router must not cut streams at its usual 15 s. Limits are the caller's (`grpc-timeout`) and the
        // service's (`maxStreamDuration`).
        timeout: duration(Duration::ZERO),
        max_stream_duration: Some(MaxStreamDuration {
            // 0: as long as the caller asks for.
            grpc_timeout_header_max: duration(Duration::ZERO),
            ..Default::default()
        }),
        cluster_specifier: Some(ClusterSpecifier::ClusterHeader(
            settings.headers.destination.clone(),
        )),
        ..Default::default()
    };
    RouteConfiguration {
        name: ROUTE.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: ROUTE.to_owned(),
            domains: vec!["*".to_owned()],
            // What Envoy adds for the edge that it plays here, and what one filter says to the next.
            request_headers_to_remove: std::iter::once("x-envoy-external-address".to_owned())
                .chain(limits::headers())
                .chain(leases::headers())
                .collect(),
            rate_limits: limits::descriptors(),
            routes: vec![
                Route {
                    name: "local".to_owned(),
                    r#match: to_here,
                    action: Some(Action::Route(action.clone())),
                    response_headers_to_remove: vec![
                        headers.error.clone(),
                        headers.receipt.clone(),
                    ],
                    ..Default::default()
                },
                Route {
                    name: ROUTE.to_owned(),
                    r#match: anywhere,
                    action: Some(Action::Route(action)),
                    ..Default::default()
                },
            ],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn connection_manager(kind: NodeKind, settings: &Settings) -> Filter {
    let gateway = kind == NodeKind::Gateway;
    let manager = HttpConnectionManager {
        stat_prefix: listener_name(kind).to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: ads(),
            route_config_name: ROUTE.to_owned(),
        })),
        http_filters: http_filters(),
        local_reply_config: Some(local_replies(&settings.headers)),
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: duration(CONNECTION_IDLE),
            // A gateway takes what a caller's Envoy let pass, and the headers that were added there.
            max_headers_count: u32_value(if gateway { 200 } else { 100 }),
            ..Default::default()
        }),
        max_request_headers_kb: u32_value(if gateway { 96 } else { 60 }),
        http2_protocol_options: Some(Http2ProtocolOptions {
            connection_keepalive: gateway.then(|| KeepaliveSettings {
                interval: duration(Duration::from_secs(30)),
                timeout: duration(Duration::from_secs(10)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        // One bad request ends its stream and not the connection that others share.
        stream_error_on_invalid_http_message: bool_value(true),
        stream_idle_timeout: duration(STREAM_IDLE),
        request_headers_timeout: duration(HEADERS_TIMEOUT),
        // The answer comes from the service, and so does its Server header.
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        // Envoy's `x-envoy-*` request headers are a remote control (timeouts, retries) that is not in the contract. As
        // the edge, with no address that counts as internal, this Envoy takes none of them from callers. Who calls is
        // in `x-mesh-caller`, so no address is added either.
        use_remote_address: bool_value(true),
        internal_address_config: Some(InternalAddressConfig {
            // Nobody has this address; without any range Envoy takes the private ones.
            cidr_ranges: vec![CidrRange {
                address_prefix: "255.255.255.255".to_owned(),
                prefix_len: u32_value(32),
            }],
            ..Default::default()
        }),
        skip_xff_append: true,
        preserve_external_request_id: true,
        // `:scheme` says how this hop is made; strict servers refuse `https` on a plain connection.
        scheme_header_transformation: Some(SchemeHeaderTransformation {
            match_upstream: true,
            transformation: None::<Transformation>,
        }),
        // Paths are the service's business: gRPC methods and object names alike must arrive as they were sent.
        normalize_path: bool_value(false),
        merge_slashes: false,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
    }
}

/// Ours names the cluster, on-demand finds it, leases are drawn on, those for limits ask EMS, the router goes there.
fn http_filters() -> Vec<HttpFilter> {
    let typed = |name: &str, config| HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let ours = HttpFilter {
        name: FILTER.to_owned(),
        // No default: without its config the listener answers 500 and lets nothing through.
        config_type: Some(http_filter::ConfigType::ConfigDiscovery(
            ExtensionConfigSource {
                config_source: ads(),
                type_urls: vec![super::filter::type_url()],
                ..Default::default()
            },
        )),
        ..Default::default()
    };
    let on_demand = OnDemand {
        odcds: Some(OnDemandCds {
            source: ads(),
            timeout: duration(ON_DEMAND_TIMEOUT),
            ..Default::default()
        }),
    };
    let router = Router {
        // Nor does a service or caller see Envoy's own headers.
        suppress_envoy_headers: true,
        ..Default::default()
    };
    let limits = limits::filters();
    let mut filters = vec![
        ours,
        typed("envoy.filters.http.on_demand", any(&on_demand)),
        leases::place(),
    ];
    filters.extend(limits.map(|(name, filter)| typed(&name, filter)));
    filters.push(typed("envoy.filters.http.router", any(&router)));
    filters
}

fn bind_address(at: SocketAddr) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(
                at.port(),
            ))),
            ..Default::default()
        })),
    })
}
