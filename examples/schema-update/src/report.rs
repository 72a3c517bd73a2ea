//! What became of a schema update, as a table for people or JSON for programs.

use serde::Serialize;
use tonic::Code;

use crate::fan_out::Outcome;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The database asked for.
    pub database: String,
    /// The region asked for.
    pub region: String,
    /// `local`, `gateway`, or `-` when the receipt does not tell.
    pub path: &'static str,
    /// `ok`, or the gRPC status.
    pub status: String,
    /// What the database or the mesh said.
    pub answer: String,
    /// Milliseconds.
    pub latency_ms: u64,
    /// What each Envoy on the way decided; empty unless asked for.
    pub receipts: Vec<String>,
}

impl Row {
    /// The line of an outcome.
    pub fn new(outcome: &Outcome) -> Row {
        let (status, answer) = match &outcome.answer {
            Ok(answer) => {
                let did = if answer.changed { "applied" } else { "had" };
                let who = format!("{} in {}", answer.instance, answer.region);
                (
                    "ok".to_owned(),
                    format!("{who} {did} version {}", answer.version),
                )
            }
            Err(status) => (code(status.code()), status.message().to_owned()),
        };
        Row {
            database: outcome.target.database.clone(),
            region: outcome.target.region.clone(),
            path: path(&outcome.receipts),
            status,
            answer,
            latency_ms: u64::try_from(outcome.latency.as_millis()).unwrap_or(u64::MAX),
            receipts: outcome.receipts.clone(),
        }
    }
}

/// The way a request went, by its receipts.
fn path(receipts: &[String]) -> &'static str {
    let says = |part: &str| receipts.iter().any(|receipt| receipt.contains(part));
    if says("kind=remote") || says("mode=gateway") {
        "gateway"
    } else if says("kind=local") {
        "local"
    } else {
        "-"
    }
}

/// The status as gRPC documents spell it, such as `NOT_FOUND`.
fn code(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// All rows, in columns as wide as they need. Each further receipt has a line of its own.
pub fn table(rows: &[Row]) -> String {
    let header = [
        "DATABASE", "REGION", "PATH", "STATUS", "LATENCY", "ANSWER", "RECEIPT",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    for row in rows {
        let mut receipts = row.receipts.iter().cloned();
        lines.push([
            row.database.clone(),
            row.region.clone(),
            row.path.to_owned(),
            row.status.clone(),
            format!("{} ms", row.latency_ms),
            row.answer.clone(),
            receipts.next().unwrap_or_default(),
        ]);
        lines.extend(receipts.map(|receipt| {
            let mut line = header.map(|_| String::new());
            let [.., last] = &mut line;
            *last = receipt;
            line
        }));
    }
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let width =
                |line: &[String; 7]| line.get(column).map_or(0, |cell| cell.chars().count());
            lines.iter().map(width).max().unwrap_or_default()
        })
        .collect();
    lines
        .iter()
        .map(|line| {
            let cells: Vec<String> = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_read_from_the_receipts() {
        let local = r#""us";mode=outbound;config="7";rule="open";kind=local;destination="a.us""#;
        let remote = r#""us";mode=outbound;config="7";rule="open";kind=remote;destination="a.eu""#;
        let any = r#""us";mode=outbound;config="7";rule="open";kind=any;destination="a.any""#;
        let gateway = r#""eu";mode=gateway;config="9";rule="open";kind=local;destination="a.eu""#;
        for (receipts, expected) in [
            (vec![local], "local"),
            (vec![remote], "gateway"),
            (vec![any, gateway], "gateway"),
            (vec![], "-"),
        ] {
            let receipts: Vec<String> = receipts.into_iter().map(str::to_owned).collect();
            assert_eq!(path(&receipts), expected, "{receipts:?}");
        }
    }

    #[test]
    fn statuses_are_spelled_as_grpc_does() {
        for (given, expected) in [
            (Code::NotFound, "NOT_FOUND"),
            (Code::Unavailable, "UNAVAILABLE"),
            (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        ] {
            assert_eq!(code(given), expected);
        }
    }

    #[test]
    fn columns_line_up() {
        let row = Row {
            database: "orders-db".to_owned(),
            region: "eu".to_owned(),
            path: "gateway",
            status: "ok".to_owned(),
            answer: "1 in eu applied version 3".to_owned(),
            latency_ms: 7,
            receipts: vec!["one".to_owned(), "two".to_owned()],
        };
        assert_eq!(
            table(&[row]),
            [
                "DATABASE   REGION  PATH     STATUS  LATENCY  ANSWER                     RECEIPT",
                "orders-db  eu      gateway  ok      7 ms     1 in eu applied version 3  one",
                "                                                                        two",
                "",
            ]
            .join("\n")
        );
    }
}
