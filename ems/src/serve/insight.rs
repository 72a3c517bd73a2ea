//! Answers of a running server about its Envoys and its decisions.
//!
//! Here the engine's words for nodes and resources become those of the API.

use std::sync::Arc;

use async_trait::async_trait;
use isthmus_model::{RegionName, ServiceName, limit::Question};
use isthmus_proto::v1::{self, node_resource};

use crate::{
    api::Insight,
    explain::{explain, lease_step},
    lease::server::Lessor,
    ratelimit::{redis::Redis, server::Limiter},
    record::Invalid,
    resources::{self, Resources},
    xds::{
        nodes::{Counts, Known},
        server::Server,
        stream::{State, Status},
    },
};

/// Looks at what this process has.
pub(super) struct Lookout {
    pub(super) envoys: Arc<Server>,
    pub(super) resources: Resources,
    pub(super) limiter: Limiter,
    pub(super) lessor: Lessor,
}

#[async_trait]
impl Insight for Lookout {
    fn nodes(&self) -> Vec<v1::Node> {
        let nodes = self.envoys.nodes().list();
        nodes.into_iter().map(describe).collect()
    }

    fn node(&self, id: &str) -> Option<v1::Node> {
        self.envoys.nodes().get(id).map(describe)
    }

    fn stopping(&self) -> bool {
        self.envoys.is_draining()
    }

    fn redis_held_back(&self) -> Option<bool> {
        self.limiter.redis().map(Redis::is_open)
    }

    fn rejections(&self) -> Vec<v1::Rejection> {
        self.resources.rejections()
    }

    fn rejections_of_service(&self, name: &ServiceName) -> Vec<v1::Rejection> {
        self.resources.rejections_of_service(name)
    }

    fn rejections_of_region(&self, name: &RegionName) -> Vec<v1::Rejection> {
        self.resources.rejections_of_region(name)
    }

    async fn explain(&self, question: &v1::ExplainRequest) -> Result<v1::Explanation, Invalid> {
        let (mut explanation, asks) = explain(question, &self.resources)?;
        if let Some((limit, bucket)) = &asks.lease {
            let step = lease_step(limit, self.lessor.lent(bucket));
            explanation.steps.push(step);
        }
        if let Some(asked) = asks.question.as_deref().and_then(Question::parse) {
            explanation.limits = self.limiter.needs(&asked).await;
        }
        Ok(explanation)
    }

    async fn limits(&self, service: &str) -> Vec<v1::LimitState> {
        self.limiter.report(service).await
    }
}

fn describe(node: Known) -> v1::Node {
    let label = |which| {
        let mut labels = node.labels.iter();
        let found = labels.find(|(known, _)| *known == which);
        found.map(|(_, text)| text.clone()).unwrap_or_default()
    };
    let since = node.connected_at;
    let Counts {
        sent,
        acked,
        rejected,
        absent,
    } = node.counts;
    v1::Node {
        kind: label(resources::KIND),
        service: label(resources::SERVICE),
        region: label(resources::REGION),
        connected_at: Some(prost_types::Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or_default(),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
        }),
        resources: node.resources.into_iter().filter_map(progress).collect(),
        rejections: node.rejections,
        counts: Some(v1::ResourceCounts {
            sent,
            acked,
            rejected,
            absent,
        }),
        user_agent: node.user_agent,
        id: node.id,
    }
}

/// How far a node is with a resource; `None`: there is nothing to say yet.
fn progress(status: Status) -> Option<v1::NodeResource> {
    let state = match status.state {
        State::Waiting => return None,
        State::Sent => node_resource::State::Sent,
        State::Acked => node_resource::State::Acked,
        State::Rejected => node_resource::State::Rejected,
        State::Absent => node_resource::State::Absent,
    };
    Some(v1::NodeResource {
        type_url: status.kind.type_url().to_owned(),
        name: (*status.name).to_owned(),
        version: status.version.as_deref().unwrap_or_default().to_owned(),
        state: state.into(),
        error: status.error.as_deref().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::xds::ResourceType;

    #[test]
    fn a_node_in_words_of_the_api() {
        let status = |name: &str, version: Option<&str>, state, error: Option<&str>| Status {
            kind: ResourceType::Cluster,
            name: name.into(),
            version: version.map(Into::into),
            state,
            error: error.map(Into::into),
        };
        let node = describe(Known {
            id: "n".into(),
            user_agent: "envoy/1.40.0".into(),
            labels: vec![
                ("kind", "sidecar".into()),
                ("region", "us".into()),
                ("service", "orders".into()),
            ],
            connected_at: Duration::new(10, 20),
            resources: vec![
                status("a", Some("1"), State::Acked, None),
                status("b", None, State::Waiting, None),
                status("c", Some("2"), State::Rejected, Some("words")),
                status("d", None, State::Absent, None),
                status("e", Some("3"), State::Sent, None),
            ],
            counts: Counts {
                sent: 1,
                acked: 2,
                rejected: 3,
                absent: 4,
            },
            rejections: 4,
        });
        let v1::Node {
            id,
            kind,
            service,
            region,
            user_agent,
            connected_at,
            resources,
            rejections,
            counts,
        } = node;
        let counts = counts.unwrap();
        let v1::ResourceCounts { sent, acked, .. } = counts;
        assert_eq!((sent, acked, counts.rejected, counts.absent), (1, 2, 3, 4));
        assert_eq!(
            [&*id, &kind, &service, &region, &user_agent],
            ["n", "sidecar", "orders", "us", "envoy/1.40.0"]
        );
        let at = connected_at.unwrap();
        assert_eq!((at.seconds, at.nanos, rejections), (10, 20, 4));
        let resources: Vec<_> = resources
            .iter()
            .map(|r| {
                assert_eq!(r.type_url, ResourceType::Cluster.type_url());
                format!(
                    "{}={} {} {}",
                    r.name,
                    r.version,
                    r.state().as_str_name(),
                    r.error
                )
            })
            .collect();
        assert_eq!(
            resources,
            [
                "a=1 acked ",
                "c=2 rejected words",
                "d= absent ",
                "e=3 sent "
            ]
        );
    }
}
