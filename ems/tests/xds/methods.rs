//! Every method of every discovery service, by the names that the protocol's files give them: as Envoy calls them.

use envoy_types::pb::envoy::service::{
    cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient as Clusters,
    extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient as Extensions,
    listener::v3::listener_discovery_service_client::ListenerDiscoveryServiceClient as Listeners,
    route::v3::route_discovery_service_client::RouteDiscoveryServiceClient as Routes,
    secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient as Secrets,
};

use super::*;

/// Asks for a name by each variant. The request does not say its type where a service has one only.
macro_rules! asked {
    ($fixture:expr, $kind:expr, $client:ident, $sotw:ident, $delta:ident, $url:expr) => {{
        let names = vec!["a".to_owned()];
        let request = DiscoveryRequest {
            type_url: $url.into(),
            resource_names: names.clone(),
            ..Default::default()
        };
        let (requests, queue) = mpsc::channel(1);
        requests.send(request).await.unwrap();
        let mut client = $client::new($fixture.channel().await);
        let responses = client.$sotw(ReceiverStream::new(queue)).await.unwrap();
        let response = timeout(DEADLINE, responses.into_inner().message()).await;
        let response = response.unwrap().unwrap().unwrap();
        assert_eq!(response.type_url, $kind.type_url());
        assert_eq!(response.resources[0].value, $kind.type_url().as_bytes());

        let request = DeltaDiscoveryRequest {
            type_url: $url.into(),
            resource_names_subscribe: names,
            ..Default::default()
        };
        let (requests, queue) = mpsc::channel(1);
        requests.send(request).await.unwrap();
        let mut client = $client::new($fixture.channel().await);
        let responses = client.$delta(ReceiverStream::new(queue)).await.unwrap();
        let response = timeout(DEADLINE, responses.into_inner().message()).await;
        let response = response.unwrap().unwrap().unwrap();
        assert_eq!(response.type_url, $kind.type_url());
        let body = response.resources[0].resource.as_ref().unwrap();
        assert_eq!(body.value, $kind.type_url().as_bytes());
    }};
}

#[tokio::test]
async fn every_method_answers() {
    let fixture = Fixture::new(Limits::default()).await;
    for kind in ResourceType::ALL {
        fixture.put(kind, &["a"], kind.type_url());
    }
    use AggregatedDiscoveryServiceClient as Aggregated;
    use EndpointDiscoveryServiceClient as Endpoints;
    use ResourceType as T;
    for kind in T::ALL {
        asked!(
            fixture,
            kind,
            Aggregated,
            stream_aggregated_resources,
            delta_aggregated_resources,
            kind.type_url()
        );
    }
    asked!(
        fixture,
        T::Cluster,
        Clusters,
        stream_clusters,
        delta_clusters,
        ""
    );
    asked!(
        fixture,
        T::Endpoints,
        Endpoints,
        stream_endpoints,
        delta_endpoints,
        ""
    );
    asked!(
        fixture,
        T::Listener,
        Listeners,
        stream_listeners,
        delta_listeners,
        ""
    );
    asked!(fixture, T::Route, Routes, stream_routes, delta_routes, "");
    asked!(
        fixture,
        T::Secret,
        Secrets,
        stream_secrets,
        delta_secrets,
        ""
    );
    asked!(
        fixture,
        T::ExtensionConfig,
        Extensions,
        stream_extension_configs,
        delta_extension_configs,
        ""
    );
}
