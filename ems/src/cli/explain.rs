//! `ems explain`: what the mesh would do with a request. The server decides; this asks and prints.

use anyhow::Result;
use isthmus_proto::v1::{ExplainRequest, Explanation};

use super::{client::Server, limits, table::table};
use crate::json;

/// Arguments of `ems explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Service that is called
    #[arg(long)]
    service: Option<String>,
    /// Region that is called, or any
    #[arg(long)]
    region: Option<String>,
    /// Who calls, as REGION/SERVICE
    #[arg(long)]
    caller: Option<String>,
    /// A further request header
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// How to print it
    #[arg(short, long, default_value = "text")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Text,
    /// As the server says it
    Json,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_lowercase(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

/// Asks and prints.
pub(super) fn explain(args: &Explain) -> Result<String> {
    let request = ExplainRequest {
        service: args.service.clone().unwrap_or_default(),
        region: args.region.clone().unwrap_or_default(),
        caller: args.caller.clone().unwrap_or_default(),
        headers: args.headers.iter().cloned().collect(),
    };
    let explanation = args.server.run(|mut client| async move {
        let explanation = client.registry.explain(request).await;
        explanation.map_err(|status| client.error("cannot explain", &status))
    })?;
    let explanation = explanation.into_inner();
    match args.output {
        Output::Text => Ok(render(&explanation)),
        Output::Json => Ok(serde_json::to_string_pretty(&json::write(&explanation)?)? + "\n"),
    }
}

fn render(explanation: &Explanation) -> String {
    let steps = explanation.steps.iter();
    let steps: Vec<_> = steps
        .map(|step| [step.name.clone(), step.detail.clone()])
        .collect();
    let mut text = table(["STEP", "RESULT"], &steps);
    text.push('\n');
    match &*explanation.error {
        "" => text.push_str(&format!(
            "{}: {}\n",
            explanation.outcome, explanation.destination
        )),
        error => text.push_str(&format!("{}: {error}\n", explanation.outcome)),
    }
    if !explanation.limits.is_empty() {
        let limits: Vec<_> = explanation.limits.iter().map(limits::needed).collect();
        text.push('\n');
        text.push_str(&table(
            ["LIMIT", "BUDGET", "LEFT", "RESETS IN", "A REQUEST NOW"],
            &limits,
        ));
    }
    if !explanation.targets.is_empty() {
        let row = |target: &isthmus_proto::v1::ExplainTarget| {
            [
                target.address.clone(),
                target.kind.clone(),
                target.detail.clone(),
            ]
        };
        let targets: Vec<_> = explanation.targets.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(["ADDRESS", "KIND", "WHY"], &targets));
    }
    text
}

#[cfg(test)]
mod tests {
    use isthmus_proto::v1::{ExplainLimit, ExplainStep, ExplainTarget, LimitKey};

    use super::*;

    #[test]
    fn routed_and_refused() {
        let routed = Explanation {
            steps: vec![ExplainStep {
                name: "region".into(),
                detail: "eu, as asked".into(),
            }],
            destination: "pay.eu".into(),
            outcome: "remote".into(),
            error: String::new(),
            targets: vec![ExplainTarget {
                address: "gw:1".into(),
                kind: "gateway".into(),
                detail: String::new(),
            }],
            limits: vec![ExplainLimit {
                limit: "caller 5/minute region".into(),
                requests: 5,
                budget: Some(LimitKey {
                    key: "us/orders".into(),
                    left: Some(2),
                    ..LimitKey::default()
                }),
            }],
        };
        assert_eq!(
            render(&routed),
            "STEP    RESULT\nregion  eu, as asked\n\nremote: pay.eu\n\n\
             LIMIT                   BUDGET     LEFT    RESETS IN  A REQUEST NOW\n\
             caller 5/minute region  us/orders  2 of 5  -          passes\n\n\
             ADDRESS  KIND     WHY\ngw:1     gateway  -\n"
        );
        let refused = Explanation {
            outcome: "refused".into(),
            error: "unknown_region".into(),
            ..Explanation::default()
        };
        assert_eq!(
            render(&refused),
            "STEP  RESULT\n\nrefused: unknown_region\n"
        );
    }

    #[test]
    fn headers() {
        for (text, expected) in [
            ("X-A=b=c", Some(("x-a", "b=c"))),
            ("x-a=", Some(("x-a", ""))),
            ("=b", None),
            ("x-a", None),
        ] {
            let found = header(text).ok();
            let found = found.as_ref().map(|(name, value)| (&**name, &**value));
            assert_eq!(found, expected, "{text}");
        }
    }
}
