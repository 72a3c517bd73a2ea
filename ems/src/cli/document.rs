//! Records in files: YAML or JSON documents that say what they are by `kind`, read with every error and its place.
//!
//! Pure: text in, records or faults out.

use std::{collections::HashMap, fmt};

use isthmus_proto::v1;
use serde::Serialize;
use serde_json::{Map, Value};

use super::rejections;
use crate::{
    json::{self, Draft},
    record::{self, Invalid},
};

/// What `--help` says of files.
pub(super) const HELP: &str = "\
Files hold YAML or JSON; several YAML documents are parted by lines of ---. Each says what it is:

  kind: Service            kind: Endpoint           kind: Region
  name: payments           service: payments        name: eu
  protocol: grpc           id: pod-1                gateways:
  retries:                 address: 10.0.0.7        - address: gateway.eu.example.com
    attempts: 1            port: 8080                 port: 15443

The other fields are those of the HTTP API (/openapi.json). A field that does not exist is an error.";

/// A record as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Region(v1::Region),
    Service(Box<v1::Service>),
    Endpoint(v1::Endpoint),
}

impl Record {
    /// The words by which people call it. Unique among records.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Region(region) => format!("region {}", region.name),
            Self::Service(service) => format!("service {}", service.name),
            Self::Endpoint(endpoint) => format!("endpoint {}/{}", endpoint.service, endpoint.id),
        }
    }

    /// Its version; 0: none is given.
    pub(super) fn version_mut(&mut self) -> &mut u64 {
        match self {
            Self::Region(region) => &mut region.version,
            Self::Service(service) => &mut service.version,
            Self::Endpoint(endpoint) => &mut endpoint.version,
        }
    }

    /// What no Envoy could use of it.
    pub(super) fn rejected(&self) -> &[v1::Rejection] {
        match self {
            Self::Region(region) => &region.rejected,
            Self::Service(service) => &service.rejected,
            Self::Endpoint(_) => &[],
        }
    }

    /// What is allowed, and most likely not what was meant.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Self::Service(raw) = self else {
            return Vec::new();
        };
        let Ok(service) = record::Service::parse(raw) else {
            return Vec::new();
        };
        let limits = &service.rate_limits;
        let name = |at: usize| limits.get(at).map(ToString::to_string).unwrap_or_default();
        isthmus_model::limit::never_binding(limits)
            .into_iter()
            .map(|(idle, strict)| {
                format!(
                    "rateLimits[{idle}] ({}) can never refuse anything: rateLimits[{strict}] ({}) always does so first",
                    name(idle),
                    name(strict),
                )
            })
            .collect()
    }

    /// Records that others need go first.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Region(_) => 0,
            Self::Service(_) => 1,
            Self::Endpoint(_) => 2,
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Region(raw) => record::Region::parse(raw).map(drop),
            Self::Service(raw) => record::Service::parse(raw).map(drop),
            Self::Endpoint(raw) => record::Endpoint::parse(raw).map(drop),
        }
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    place: String,
    detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.detail)
    }
}

/// What a file of one's own may hold: a backup of a large region, and more. The parser's own bounds are for strangers.
fn large() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 10_000_000,
            max_events: 1_000_000_000,
            max_nodes: 1_000_000_000,
            max_total_scalar_bytes: 4 << 30,
        },
    }
}

/// Reads files, each with its name, into checked records in the order in which they can be written.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn read(files: &[(String, String)]) -> Result<Vec<Record>, Vec<Fault>> {
    let mut records = Vec::new();
    let mut faults = Vec::new();
    let mut places: HashMap<String, String> = HashMap::new();
    for (file, text) in files {
        let documents: Vec<Value> = match serde_saphyr::from_multiple_with_options(text, large()) {
            Ok(documents) => documents,
            Err(error) => {
                faults.push(Fault {
                    place: file.clone(),
                    detail: format!("is neither YAML nor JSON: {error}"),
                });
                continue;
            }
        };
        if documents.is_empty() {
            faults.push(Fault {
                place: file.clone(),
                detail: "holds no document".to_owned(),
            });
        }
        let several = documents.len() > 1;
        for (at, document) in documents.into_iter().enumerate() {
            let place = match several {
                true => format!("{file}, document {}", at + 1),
                false => file.clone(),
            };
            match document_to_record(document) {
                Ok(record) => match places.insert(record.title(), place.clone()) {
                    None => records.push(record),
                    Some(earlier) => faults.push(Fault {
                        place,
                        detail: format!("{} is in {earlier} already", record.title()),
                    }),
                },
                Err((title, invalid)) => {
                    let place = match title {
                        Some(title) => format!("{place} ({title})"),
                        None => place,
                    };
                    faults.extend(invalid.fields().iter().map(|error| Fault {
                        place: place.clone(),
                        detail: error.to_string(),
                    }));
                }
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    records.sort_by_key(Record::rank);
    Ok(records)
}

fn document_to_record(document: Value) -> Result<Record, (Option<String>, Invalid)> {
    let Value::Object(mut fields) = document else {
        return Err((None, Invalid::one("", "is no mapping of fields")));
    };
    let kind = match fields.remove("kind") {
        Some(Value::String(kind)) => kind,
        _ => String::new(),
    };
    let title = title_of(&kind, &fields);
    let named = |invalid| (title.clone(), invalid);
    let fields = Value::Object(fields);
    let mut draft = match &*kind {
        "Service" => Draft::from_value(fields).map(|d| d.map(|m| Record::Service(Box::new(m)))),
        "Endpoint" => Draft::from_value(fields).map(|d| d.map(Record::Endpoint)),
        "Region" => Draft::from_value(fields).map(|d| d.map(Record::Region)),
        _ => {
            let detail = "must be Service, Endpoint or Region";
            return Err((None, Invalid::one("kind", detail)));
        }
    }
    .map_err(named)?;
    if let Err(more) = draft.message.check() {
        draft.add(&more);
    }
    draft.finish().map_err(named)
}

/// What a document that cannot be read is about, as far as it says.
fn title_of(kind: &str, fields: &Map<String, Value>) -> Option<String> {
    let text = |field: &str| fields.get(field).and_then(Value::as_str);
    match kind {
        "Endpoint" => Some(format!("endpoint {}/{}", text("service")?, text("id")?)),
        _ => Some(format!("{} {}", kind.to_lowercase(), text("name")?)),
    }
}

/// A record as a document that [`read`] takes: for people, and for another server.
///
/// What only this server can say is left out: whether a region is its own, and how far its own region is from itself;
/// the version as it counts them and what no Envoy could use are comments.
///
/// # Errors
/// None, unless the build is broken.
pub(super) fn to_yaml(record: &Record) -> anyhow::Result<String> {
    let rejected = rejections::lines(record.rejected());
    let rejected: String = rejected.lines().map(|line| format!("# {line}\n")).collect();
    let mut record = record.clone();
    let version = match &mut record {
        Record::Region(region) => {
            if std::mem::take(&mut region.local) {
                region.distance = None;
            }
            region.rejected.clear();
            std::mem::take(&mut region.version)
        }
        Record::Service(service) => {
            service.rejected.clear();
            std::mem::take(&mut service.version)
        }
        Record::Endpoint(endpoint) => {
            endpoint.expires_at = None;
            std::mem::take(&mut endpoint.version)
        }
    };
    let body = serde_saphyr::to_string(&Ordered(to_fields(&record)?))?;
    Ok(format!("# version {version}\n{rejected}{body}"))
}

/// A record as the JSON document that [`read`] takes, with all that the server said.
///
/// # Errors
/// None, unless the build is broken.
pub(super) fn to_json(record: &Record) -> anyhow::Result<Value> {
    Ok(Value::Object(to_fields(record)?.into_iter().collect()))
}

/// The fields of a document, those first that say what it is.
fn to_fields(record: &Record) -> Result<Vec<(String, Value)>, Invalid> {
    let (kind, value) = match record {
        Record::Region(region) => ("Region", json::write(region)?),
        Record::Service(service) => ("Service", json::write(&**service)?),
        Record::Endpoint(endpoint) => ("Endpoint", json::write(endpoint)?),
    };
    let mut fields = vec![("kind".to_owned(), Value::from(kind))];
    if let Value::Object(mut rest) = value {
        for name in ["name", "service", "id"] {
            fields.extend(rest.remove_entry(name));
        }
        fields.extend(rest);
    }
    Ok(fields)
}

struct Ordered(Vec<(String, Value)>);

impl Serialize for Ordered {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests;
