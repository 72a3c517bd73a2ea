//! What `ems apply` would do with a record, field by field. Pure: what is stored and what a file says in, text out.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::document::{self, Record};

/// Values that are longer show only their length: a bundle of certificates would hide everything else.
const SHOWN: usize = 100;

/// What writing a record would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    title: String,
    what: What,
    fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Same,
    Created,
    Changed,
    Refused { written: u64, stored: u64 },
}

/// A field that would be other than it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    path: String,
    before: Option<String>,
    after: Option<String>,
}

impl Difference {
    /// Compares by the rules of a write: a version that is not given is the next one, what only the server says is
    /// not compared, a drain stays until the file speaks of it, and the own region keeps its own roots.
    ///
    /// # Errors
    /// None, unless the build is broken.
    pub(super) fn of(stored: Option<&Record>, wanted: &Record) -> anyhow::Result<Self> {
        let mut after = wanted.clone();
        let mut before = stored.cloned();
        settle(&mut after, before.as_ref());
        let written = std::mem::take(after.version_mut());
        let version = before
            .as_mut()
            .map(|record| std::mem::take(record.version_mut()));
        let mut fields = fields(before.as_ref(), &after)?;
        let what = match version {
            None => What::Created,
            Some(stored) if fields.is_empty() && [0, stored].contains(&written) => What::Same,
            Some(stored) if written > stored => {
                fields.push(Field {
                    path: "version".to_owned(),
                    before: Some(stored.to_string()),
                    after: Some(written.to_string()),
                });
                What::Changed
            }
            Some(_) if written == 0 => What::Changed,
            Some(stored) => What::Refused { written, stored },
        };
        let title = wanted.title();
        Ok(Self {
            title,
            what,
            fields,
        })
    }

    /// Whether nothing would happen.
    pub(super) fn is_none(&self) -> bool {
        self.what == What::Same
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, .. } = self;
        match self.what {
            What::Same => writeln!(f, "{title} would stay as it is")?,
            What::Created => writeln!(f, "{title} would be created")?,
            What::Changed => writeln!(f, "{title} would be changed")?,
            What::Refused { written, stored } => writeln!(
                f,
                "{title} would be refused: its version {written} is not greater than the stored {stored}"
            )?,
        }
        for Field {
            path,
            before,
            after,
        } in &self.fields
        {
            match (before, after) {
                (Some(before), Some(after)) => writeln!(f, "  ~ {path}: {before} -> {after}")?,
                (Some(before), None) => writeln!(f, "  - {path}: {before}")?,
                (None, Some(after)) => writeln!(f, "  + {path}: {after}")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

/// Makes of what a file says what the server would keep.
fn settle(wanted: &mut Record, stored: Option<&Record>) {
    match (wanted, stored) {
        (Record::Service(wanted), Some(Record::Service(stored))) => {
            // The same, but perhaps not in lower case.
            wanted.name.clone_from(&stored.name);
            wanted.rejected.clone_from(&stored.rejected);
        }
        (Record::Region(wanted), Some(Record::Region(stored))) => {
            wanted.name.clone_from(&stored.name);
            wanted.local = stored.local;
            wanted.rejected.clone_from(&stored.rejected);
            if stored.local && stored.trust_bundle.starts_with(&wanted.trust_bundle) {
                wanted.trust_bundle.clone_from(&stored.trust_bundle);
            }
        }
        (Record::Endpoint(wanted), Some(Record::Endpoint(stored))) => {
            wanted.service.clone_from(&stored.service);
            wanted.expires_at = stored.expires_at;
            let said = wanted.draining.take();
            let mut heartbeat = wanted.clone();
            heartbeat.version = stored.version;
            heartbeat.draining = stored.draining;
            if said.is_none() && heartbeat == *stored && wanted.version <= stored.version {
                *wanted = heartbeat;
            } else if said == Some(true) {
                wanted.draining = said;
            }
        }
        (Record::Region(wanted), _) => {
            wanted.local = false;
            wanted.rejected.clear();
        }
        (Record::Endpoint(wanted), _) => wanted.expires_at = None,
        (Record::Service(wanted), _) => wanted.rejected.clear(),
    }
}

fn fields(before: Option<&Record>, after: &Record) -> anyhow::Result<Vec<Field>> {
    let mut paths: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
    if let Some(before) = before {
        for (path, value) in leaves(before)? {
            paths.entry(path).or_default().0 = Some(value);
        }
    }
    for (path, value) in leaves(after)? {
        paths.entry(path).or_default().1 = Some(value);
    }
    let differ = paths.into_iter().filter(|(_, (a, b))| a != b);
    let fields = differ.map(|(path, (before, after))| Field {
        path,
        before: before.map(shown),
        after: after.map(shown),
    });
    Ok(fields.collect())
}

fn leaves(record: &Record) -> anyhow::Result<Vec<(String, String)>> {
    let mut value = document::to_json(record)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("kind");
    }
    let mut leaves = Vec::new();
    walk("", &value, &mut leaves);
    Ok(leaves)
}

fn walk(path: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                walk(&format!("{path}{dot}{name}"), value, leaves);
            }
        }
        Value::Array(entries) if !entries.is_empty() => {
            for (at, value) in entries.iter().enumerate() {
                walk(&format!("{path}[{at}]"), value, leaves);
            }
        }
        leaf => leaves.push((path.to_owned(), leaf.to_string())),
    }
}

fn shown(value: String) -> String {
    match value.len() {
        0..=SHOWN => value,
        length => format!("({length} bytes)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        let files = [("t".to_owned(), text.to_owned())];
        document::read(&files).unwrap().remove(0)
    }

    #[test]
    fn differences_are_those_of_a_write() {
        let service = "kind: Service\nname: pay\nprotocol: grpc\nretries: {attempts: 1}\n";
        let endpoint = "kind: Endpoint\nservice: pay\nid: a\naddress: 10.0.0.1\nport: 80\n";
        let drained = format!("{endpoint}draining: true\nversion: 3\n");
        let region = "kind: Region\nname: us\nlocal: true\nversion: 2\n";
        for (stored, wanted, expect) in [
            (
                None,
                "kind: Service\nname: pay\nprotocol: grpc\n".to_owned(),
                "service pay would be created\n  + name: \"pay\"\n  + protocol: \"grpc\"\n",
            ),
            (
                Some(format!("{service}version: 2\n")),
                service.replace("pay", "PAY"),
                "service PAY would stay as it is\n",
            ),
            (
                Some(format!("{service}version: 2\n")),
                format!("{service}version: 2\n"),
                "service pay would stay as it is\n",
            ),
            (
                Some(format!("{service}version: 2\n")),
                format!("{service}version: 5\n"),
                "service pay would be changed\n  ~ version: 2 -> 5\n",
            ),
            (
                Some(format!("{service}version: 2\n")),
                "kind: Service\nname: pay\nprotocol: http2\nconnectTimeout: 1s\n".to_owned(),
                "service pay would be changed\n  + connectTimeout: \"1s\"\n  ~ protocol: \"grpc\" -> \"http2\"\n  - \
                 retries.attempts: 1\n",
            ),
            (
                Some(format!("{service}version: 2\n")),
                "kind: Service\nname: pay\nprotocol: grpc\nversion: 2\n".to_owned(),
                "service pay would be refused: its version 2 is not greater than the stored 2\n  - retries.attempts: \
                 1\n",
            ),
            // A heartbeat ends no drain, whatever version it carries from before; to say so does.
            (
                Some(drained.clone()),
                format!("{endpoint}version: 2\n"),
                "endpoint pay/a would stay as it is\n",
            ),
            (
                Some(drained.clone()),
                format!("{endpoint}draining: false\n"),
                "endpoint pay/a would be changed\n  - draining: true\n",
            ),
            (
                Some(format!("{region}trustBundle: own\n")),
                "kind: Region\nname: us\n".to_owned(),
                "region us would stay as it is\n",
            ),
        ] {
            let stored = stored.map(|text| match text.contains("trustBundle: own") {
                // No certificate: for the server to keep, not for a file to say.
                true => match record(&text.replace("trustBundle: own\n", "")) {
                    Record::Region(mut region) => {
                        region.trust_bundle = "own".to_owned();
                        Record::Region(region)
                    }
                    other => other,
                },
                false => record(&text),
            });
            let found = Difference::of(stored.as_ref(), &record(&wanted)).unwrap();
            assert_eq!(found.to_string(), expect, "{wanted}");
            assert_eq!(found.is_none(), expect.contains("stay as it is"));
        }
    }
}
