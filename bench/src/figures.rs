//! A table of named figures, measured in rounds, with a column for each thing that is compared.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::summary::{Summary, median};

/// What one round found of one column, in the order of rows: name (with its unit at the end) and value.
pub(crate) type Figures = Vec<(String, f64)>;

/// All rounds.
#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<String>,
    /// By round, then by column.
    rounds: Vec<Vec<Figures>>,
    /// Whether the first column is to be compared with the second.
    compare: bool,
}

impl Table {
    /// A table of these columns.
    pub(crate) fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rounds: Vec::new(),
            compare: false,
        }
    }

    /// Says how many times the second column the first is.
    pub(crate) fn compared(self) -> Self {
        Self {
            compare: true,
            ..self
        }
    }

    /// Adds a round: the figures of each column, in order.
    pub(crate) fn add(&mut self, round: Vec<Figures>) {
        self.rounds.push(round);
    }

    /// For people: median (least-most).
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{:<30}", "");
        let _ = self
            .columns
            .iter()
            .try_for_each(|column| write!(text, " {column:>26}"));
        if let (true, [first, second, ..]) = (self.compare, self.columns.as_slice()) {
            let _ = write!(text, " {:>12}", format!("{first}/{second}"));
        }
        for name in self.names() {
            let _ = write!(text, "\n{name:<30}");
            for column in 0..self.columns.len() {
                let shown = self.summary(column, name).map_or("-".to_owned(), |figure| {
                    let Summary { median, min, max } = figure;
                    format!("{} ({}-{})", short(median), short(min), short(max))
                });
                let _ = write!(text, " {shown:>26}");
            }
            if let Some(ratio) = self.ratio(name) {
                let _ = write!(text, " {ratio:>12.2}");
            }
        }
        text
    }

    /// For programs: an object with an entry for each row, in it one for each column.
    pub(crate) fn json(&self) -> Value {
        let rows = self.names().map(|name| {
            let columns = self.columns.iter().enumerate().filter_map(|(at, column)| {
                let Summary { median, min, max } = self.summary(at, name)?;
                Some((
                    column.clone(),
                    json!({ "median": median, "min": min, "max": max }),
                ))
            });
            let mut row: Map<String, Value> = columns.collect();
            if let Some(ratio) = self.ratio(name) {
                row.insert("ratio".to_owned(), json!(ratio));
            }
            (name.to_owned(), Value::Object(row))
        });
        Value::Object(rows.collect())
    }

    /// The median of one cell.
    pub(crate) fn median(&self, column: &str, name: &str) -> Option<f64> {
        let column = self.columns.iter().position(|known| known == column)?;
        Some(self.summary(column, name)?.median)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.rounds.iter().flatten().flatten() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names.into_iter()
    }

    fn summary(&self, column: usize, name: &str) -> Option<Summary> {
        let values: Vec<f64> = self
            .rounds
            .iter()
            .filter_map(|round| figure(round, column, name))
            .collect();
        (!values.is_empty()).then(|| Summary::of(values.into_iter()))
    }

    /// Compared round by round, as the machine's speed drifts.
    fn ratio(&self, name: &str) -> Option<f64> {
        let ratios: Vec<f64> = self
            .rounds
            .iter()
            .filter_map(|round| Some(figure(round, 0, name)? / figure(round, 1, name)?))
            .filter(|ratio| ratio.is_finite())
            .collect();
        (self.compare && !ratios.is_empty()).then(|| median(ratios.into_iter()))
    }
}

fn figure(round: &[Figures], column: usize, name: &str) -> Option<f64> {
    let figures = round.get(column)?;
    let (_, value) = figures.iter().find(|(known, _)| known == name)?;
    Some(*value)
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.1.. => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: &[(&str, f64)]) -> Figures {
        values.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect()
    }

    fn table() -> Table {
        let mut table = Table::new(["ems", "floor"]).compared();
        for (ems, floor) in [(12.0, 10.0), (30.0, 20.0), (15.0, 15.0)] {
            table.add(vec![
                figures(&[("last ms", ems), ("only s", 0.05)]),
                figures(&[("last ms", floor)]),
            ]);
        }
        table
    }

    #[test]
    fn rows_and_columns() {
        let text = table().text();
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(words[0], ["ems", "floor", "ems/floor"]);
        // The median of the ratios, not the ratio of the medians: 1.2, 1.5, 1.
        let row = [
            "last",
            "ms",
            "15.0",
            "(12.0-30.0)",
            "15.0",
            "(10.0-20.0)",
            "1.20",
        ];
        assert_eq!(words[1], row);
        assert_eq!(words[2], ["only", "s", "0.0500", "(0.0500-0.0500)", "-"]);
        assert_eq!(words.len(), 3);
    }

    #[test]
    fn as_json() {
        let json = table().json();
        assert_eq!(json.pointer("/last ms/ems/max"), Some(&json!(30.0)));
        assert_eq!(json.pointer("/last ms/ratio"), Some(&json!(1.2)));
        assert_eq!(json.pointer("/only s/floor"), None);
        assert_eq!(json.pointer("/only s/ratio"), None);
        assert_eq!(table().median("ems", "last ms"), Some(15.0));
        assert_eq!(table().median("floor", "only s"), None);
        assert_eq!(table().median("other", "last ms"), None);
    }
}
