//! `ems status`: every connected Envoy, what it has, and what it rejected and why.

use std::{
    io::IsTerminal,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use isthmus_proto::v1::{self, ListNodesRequest, node_resource::State};

use super::{
    client::Server,
    rejections,
    table::{plain, table},
};
use crate::json;

/// Arguments of `ems status`.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Only this node, with each of its resources
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// How to print it
    #[arg(short, long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Table,
    /// As `GET /v1/nodes`
    Json,
}

/// Prints the connected nodes.
pub(super) fn status(args: &Status) -> Result<String> {
    let request = ListNodesRequest {
        node: args.node.clone().unwrap_or_default(),
    };
    let nodes = args.server.run(|mut client| async move {
        let nodes = client.registry.list_nodes(request).await;
        nodes.map_err(|status| client.error("cannot get the nodes", &status))
    })?;
    let nodes = nodes.into_inner();
    if let Some(id) = &args.node
        && nodes.nodes.is_empty()
    {
        bail!("no node {id} is connected; `ems status` lists those that are");
    }
    match args.output {
        Output::Table => {
            let colour = std::io::stdout().is_terminal();
            let mut text = render(&nodes, SystemTime::now(), colour);
            if args.node.is_some() {
                text.push('\n');
                text.push_str(&resources(&nodes));
            }
            Ok(text)
        }
        Output::Json => Ok(serde_json::to_string_pretty(&json::write(&nodes)?)? + "\n"),
    }
}

/// A line for each node, then one for each resource that one rejected, then one for each that all did.
fn render(list: &v1::NodeList, now: SystemTime, colour: bool) -> String {
    let rows: Vec<_> = list
        .nodes
        .iter()
        .map(|node| {
            let counts = node.counts.unwrap_or_default();
            [
                node.id.clone(),
                node.kind.clone(),
                node.service.clone(),
                node.user_agent.clone(),
                age(node, now),
                counts.acked.to_string(),
                counts.sent.to_string(),
                counts.absent.to_string(),
                counts.rejected.to_string(),
            ]
        })
        .collect();
    let header = [
        "NODE", "KIND", "SERVICE", "VERSION", "UP", "ACKED", "SENT", "ABSENT", "REJECTED",
    ];
    let mut text = match rows.is_empty() {
        true => "no Envoy is connected\n".to_owned(),
        false => table(header, &rows),
    };
    for node in &list.nodes {
        let resources = node.resources.iter();
        let mut more = node.counts.unwrap_or_default().rejected;
        for resource in resources.filter(|resource| resource.state() == State::Rejected) {
            more = more.saturating_sub(1);
            let kind = rejections::kind(&resource.type_url);
            let (on, off) = if colour {
                ("\x1b[31m", "\x1b[0m")
            } else {
                ("", "")
            };
            let error = resource.error.trim().replace('\n', "\n    ");
            text.push_str(&format!(
                "\n{on}{} rejected {kind} {} (version {}){off}\n    {error}\n",
                plain(&node.id),
                plain(&resource.name),
                plain(&resource.version)
            ));
        }
        if more > 0 {
            let id = plain(&node.id);
            text.push_str(&format!(
                "\n{id} rejected {more} more: see ems status --node {id}\n"
            ));
        }
    }
    if !list.rejected.is_empty() {
        text.push('\n');
        text.push_str(&rejections::lines(&list.rejected));
    }
    text
}

/// A line for each resource.
fn resources(list: &v1::NodeList) -> String {
    let resources = list.nodes.iter().flat_map(|node| &node.resources);
    let rows: Vec<_> = resources
        .map(|resource| {
            [
                rejections::kind(&resource.type_url),
                resource.name.clone(),
                resource.version.clone(),
                resource.state().as_str_name().to_owned(),
            ]
        })
        .collect();
    table(["TYPE", "RESOURCE", "VERSION", "STATE"], &rows)
}

/// How long a node is connected, in its greatest unit.
fn age(node: &v1::Node, now: SystemTime) -> String {
    let Some(at) = &node.connected_at else {
        return String::new();
    };
    let since = UNIX_EPOCH + Duration::from_secs(u64::try_from(at.seconds).unwrap_or_default());
    match now.duration_since(since).unwrap_or_default().as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::ResourceType;

    fn resource(name: &str, state: State, error: &str) -> v1::NodeResource {
        v1::NodeResource {
            type_url: ResourceType::Cluster.type_url().into(),
            name: name.into(),
            version: "1".into(),
            state: state.into(),
            error: error.into(),
        }
    }

    #[test]
    fn table_and_rejections() {
        let node = v1::Node {
            id: "n1".into(),
            kind: "sidecar".into(),
            user_agent: "envoy/1.40.0".into(),
            connected_at: Some(prost_types::Timestamp {
                seconds: 1_000,
                nanos: 0,
            }),
            resources: vec![
                resource("a", State::Acked, ""),
                resource("b", State::Rejected, "bad\nworse"),
                resource("c", State::Absent, ""),
            ],
            counts: Some(v1::ResourceCounts {
                acked: 1,
                rejected: 1,
                absent: 1,
                ..Default::default()
            }),
            ..Default::default()
        };
        let list = v1::NodeList {
            nodes: vec![node.clone()],
            ..Default::default()
        };
        let now = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(
            render(&list, now(1_065), false),
            "NODE  KIND     SERVICE  VERSION       UP  ACKED  SENT  ABSENT  REJECTED\n\
             n1    sidecar  -        envoy/1.40.0  1m  1      0     1       1\n\
             \n\
             n1 rejected cluster b (version 1)\n    bad\n    worse\n"
        );
        assert!(render(&list, now(0), true).contains("\x1b[31mn1 rejected"));
        assert_eq!(
            resources(&list),
            "TYPE     RESOURCE  VERSION  STATE\n\
             cluster  a         1        acked\n\
             cluster  b         1        rejected\n\
             cluster  c         1        absent\n"
        );
        let mut long = list.clone();
        long.nodes[0].counts = Some(v1::ResourceCounts {
            sent: 5_000,
            rejected: 31,
            ..Default::default()
        });
        let text = render(&long, now(0), false);
        assert!(text.contains("0      5000  0       31"), "{text}");
        assert!(
            text.ends_with("\nn1 rejected 30 more: see ems status --node n1\n"),
            "{text}"
        );
        let mut empty = v1::NodeList::default();
        assert_eq!(render(&empty, now(0), true), "no Envoy is connected\n");
        empty.rejected.push(v1::Rejection::default());
        assert!(render(&empty, now(0), true).contains("rejected by every client"));
        for (at, expected) in [(0, "0s"), (1_059, "59s"), (4_600, "1h"), (1_000_000, "11d")] {
            assert_eq!(age(&node, now(at)), expected);
        }
    }
}
