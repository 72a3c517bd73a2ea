//! `ems limits`: what the limits of the region let pass and refused, and whose budgets are asked for most; once, or again and
//! again.

use std::{io::IsTerminal, thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use isthmus_proto::v1::{ExplainLimit, LimitKey, LimitList, LimitState, LimitsRequest};

use super::{client::Server, table::table};
use crate::json;

/// Arguments of `ems limits`.
#[derive(Debug, clap::Args)]
pub(super) struct Limits {
    /// Only those of this service
    #[arg(long)]
    service: Option<String>,
    /// Most budgets to print of each limit, up to 10
    #[arg(long, value_name = "N", default_value_t = 3)]
    keys: usize,
    /// Print again every so many seconds, until stopped: in place on a terminal, else one table after the other
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    watch: Option<f64>,
    /// Print JSON, as the server says it; with --watch an object on each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// To the upper left; there is something in its way, and after it.
const HOME: &str = "\x1b[H";
const CLEAR: &str = "\x1b[2J";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Prints the limits.
pub(super) fn limits(args: &Limits, print: impl Fn(&str) -> Result<()>) -> Result<()> {
    let Some(seconds) = args.watch else {
        return print(&args.text()?);
    };
    ensure!(
        (0.1..=86_400.0).contains(&seconds),
        "--watch {seconds}: expected 0.1 to 86400 seconds"
    );
    let in_place = std::io::stdout().is_terminal() && !args.json;
    // Whoever mistyped something is told at once.
    let mut text = args.text()?;
    if in_place {
        print(CLEAR)?;
    }
    loop {
        match in_place {
            true => print(&over(&text))?,
            false if args.json => print(&text)?,
            false => print(&format!("{text}\n"))?,
        }
        sleep(Duration::from_secs_f64(seconds));
        // A server that is started anew is waited for.
        text = match args.text() {
            Ok(text) => text,
            Err(error) if in_place => format!("{error:#}\n"),
            Err(error) => {
                eprintln!("error: {error:#}");
                continue;
            }
        };
    }
}

/// A text over what a terminal shows.
fn over(text: &str) -> String {
    let text = text.replace('\n', &format!("{CLEAR_LINE}\n"));
    format!("{HOME}{text}{CLEAR_BELOW}")
}

impl Limits {
    fn text(&self) -> Result<String> {
        let list = self.ask()?;
        if !self.json {
            return Ok(render(&list, self.keys));
        }
        let value = json::write(&list)?;
        Ok(match self.watch {
            None => serde_json::to_string_pretty(&value)?,
            Some(_) => value.to_string(),
        } + "\n")
    }

    fn ask(&self) -> Result<LimitList> {
        let service = self.service.clone().unwrap_or_default();
        let list = self.server.run(|mut client| async move {
            let list = client.registry.list_limits(LimitsRequest { service }).await;
            list.map_err(|status| client.error("cannot get the limits", &status))
        })?;
        Ok(list.into_inner())
    }
}

/// A line for each limit with its busiest budget, then one for each further budget.
fn render(list: &LimitList, keys: usize) -> String {
    if list.limits.is_empty() {
        return "no service has a limit of the region: see rateLimits with scope: region\n"
            .to_owned();
    }
    let rows: Vec<_> = list
        .limits
        .iter()
        .flat_map(|limit| lines(limit, keys))
        .collect();
    let header = [
        "SERVICE",
        "LIMIT",
        "ALLOWED",
        "DENIED",
        "SHADOW",
        "ERRORS",
        "BUSIEST",
        "ASKED",
        "LEFT",
        "RESETS IN",
    ];
    table(header, &rows)
}

fn lines(limit: &LimitState, keys: usize) -> Vec<[String; 10]> {
    let counts = [
        limit.service.clone(),
        limit.limit.clone(),
        limit.allowed.to_string(),
        limit.denied.to_string(),
        limit.shadow_denied.to_string(),
        limit.errors.to_string(),
    ];
    let nothing = || [const { String::new() }; 4];
    let mut budgets = limit.busiest.iter().take(keys).map(|key| {
        let [whose, left, resets] = budget(key, limit.requests);
        [whose, asked(key), left, resets]
    });
    let first = budgets.next().unwrap_or_else(nothing);
    let mut rows = vec![joined(counts, first)];
    rows.extend(budgets.map(|budget| joined(BLANK.map(str::to_owned), budget)));
    rows
}

/// Not empty, which would be said.
const BLANK: [&str; 6] = [" "; 6];

fn joined(counts: [String; 6], budget: [String; 4]) -> [String; 10] {
    let [a, b, c, d, e, f] = counts;
    let [g, h, i, j] = budget;
    [a, b, c, d, e, f, g, h, i, j]
}

/// How often; the count is at most so much too high.
fn asked(key: &LimitKey) -> String {
    match key.error {
        0 => key.requests.to_string(),
        error => format!("{} (-{error})", key.requests),
    }
}

/// A budget that a request would need, as a row.
pub(super) fn needed(limit: &ExplainLimit) -> [String; 5] {
    let key = limit.budget.clone().unwrap_or_default();
    let [whose, left, resets] = budget(&key, limit.requests);
    let is_shadow = limit.limit.ends_with(" shadow");
    let now = match key.left {
        Some(0) if is_shadow => "passes: a shadow",
        Some(0) => "refused",
        Some(_) => "passes",
        None if is_shadow => "passes: a shadow",
        None => "as its onError says",
    };
    [limit.limit.clone(), whose, left, resets, now.to_owned()]
}

/// Whose, how much is left, and when it is full again.
fn budget(key: &LimitKey, requests: u32) -> [String; 3] {
    let whose = match key.key.as_str() {
        "" => "(all)".to_owned(),
        whose => whose.to_owned(),
    };
    let left = key
        .left
        .map_or("unknown".to_owned(), |left| format!("{left} of {requests}"));
    let resets = key.resets_in.as_ref().map_or(String::new(), |wait| {
        let up = u8::from(wait.nanos > 0);
        format!("{}s", wait.seconds.saturating_add(i64::from(up)))
    });
    [whose, left, resets]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str, requests: u64, error: u64, left: Option<u64>) -> LimitKey {
        LimitKey {
            key: key.into(),
            requests,
            error,
            left,
            resets_in: left
                .filter(|left| *left < 5)
                .map(|_| prost_types::Duration {
                    seconds: 41,
                    nanos: 1,
                }),
        }
    }

    #[test]
    fn a_table() {
        assert!(render(&LimitList::default(), 3).contains("scope: region"));
        let list = LimitList {
            limits: vec![
                LimitState {
                    service: "pay".into(),
                    limit: "caller 5/minute region".into(),
                    requests: 5,
                    allowed: 12,
                    denied: 3,
                    busiest: vec![
                        key("us/orders", 9, 0, Some(0)),
                        key("us/web", 5, 1, Some(5)),
                        key("us/x", 1, 0, None),
                    ],
                    ..LimitState::default()
                },
                LimitState {
                    service: "pay".into(),
                    limit: "service 9/second region".into(),
                    requests: 9,
                    ..LimitState::default()
                },
            ],
        };
        let blank = " ".repeat(67);
        assert_eq!(
            render(&list, 2),
            format!(
                "SERVICE  LIMIT                    ALLOWED  DENIED  SHADOW  ERRORS  BUSIEST    ASKED   LEFT    RESETS IN\n\
                 pay      caller 5/minute region   12       3       0       0       us/orders  9       0 of 5  42s\n\
                 {blank}us/web     5 (-1)  5 of 5  -\n\
                 pay      service 9/second region  0        0       0       0       -          -       -       -\n"
            )
        );
        let last = render(&list, 9);
        assert!(last.contains("us/x       1       unknown  -"), "{last}");
    }

    #[test]
    fn what_a_request_would_meet() {
        for (limit, left, now) in [
            ("caller 5/minute region", Some(2), "passes"),
            ("caller 5/minute region", Some(0), "refused"),
            ("caller 5/minute region", None, "as its onError says"),
            ("caller 5/minute region shadow", Some(0), "passes: a shadow"),
            ("caller 5/minute region shadow", None, "passes: a shadow"),
        ] {
            let row = needed(&ExplainLimit {
                limit: limit.into(),
                requests: 5,
                budget: Some(key("us/orders", 1, 0, left)),
            });
            assert_eq!(
                row.last().map(String::as_str),
                Some(now),
                "{limit} {left:?}"
            );
        }
    }

    #[test]
    fn over_what_is_shown() {
        assert_eq!(over("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
