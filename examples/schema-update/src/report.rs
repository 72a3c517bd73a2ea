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
    /// The mesh's receipt; empty unless asked for.
    pub receipt: String,
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
        let receipt = outcome.receipt.clone().unwrap_or_default();
        Row {
            database: outcome.target.database.clone(),
            region: outcome.target.region.clone(),
            path: path(&receipt),
            status,
            answer,
            latency_ms: u64::try_from(outcome.latency.as_millis()).unwrap_or(u64::MAX),
            receipt,
        }
    }
}

/// The way a request went, by its receipt: a list with one item for each Envoy that decided something.
fn path(receipt: &str) -> &'static str {
    if receipt.contains("kind=remote") || receipt.contains("mode=gateway") {
        "gateway"
    } else if receipt.contains("kind=local") {
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

/// All rows, in columns as wide as they need.
pub fn table(rows: &[Row]) -> String {
    let header = [
        "DATABASE", "REGION", "PATH", "STATUS", "LATENCY", "ANSWER", "RECEIPT",
    ];
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.database.clone(),
            row.region.clone(),
            row.path.to_owned(),
            row.status.clone(),
            format!("{} ms", row.latency_ms),
            row.answer.clone(),
            row.receipt.clone(),
        ]
    }));
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
    fn the_path_is_read_from_the_receipt() {
        for (receipt, expected) in [
            (
                r#""us";mode=outbound;config="7";rule="open";kind=local;destination="a.us""#,
                "local",
            ),
            (
                r#""us";mode=outbound;config="7";rule="open";kind=remote;destination="a.eu""#,
                "gateway",
            ),
            (
                r#""eu";mode=gateway;kind=local;destination="a.eu", "us";mode=outbound;kind=any"#,
                "gateway",
            ),
            ("", "-"),
        ] {
            assert_eq!(path(receipt), expected, "{receipt}");
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
            receipt: String::new(),
        };
        assert_eq!(
            table(&[row]),
            "DATABASE   REGION  PATH     STATUS  LATENCY  ANSWER                     RECEIPT\n\
             orders-db  eu      gateway  ok      7 ms     1 in eu applied version 3\n"
        );
    }
}
