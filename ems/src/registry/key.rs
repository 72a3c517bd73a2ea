//! Keys of records in the store: `services/<s>`, `endpoints/<s>/<id>`, `regions/<r>`. No name has a slash.

use std::fmt;

use isthmus_model::{RegionName, ServiceName};

use crate::record::EndpointId;

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A service.
    Service(ServiceName),
    /// An endpoint of a service.
    Endpoint(ServiceName, EndpointId),
    /// A region.
    Region(RegionName),
}

impl Key {
    /// Reads a store key; `None`: it names no record.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = match text.split_once('/')? {
            ("services", name) => Self::Service(name.parse().ok()?),
            ("regions", name) => Self::Region(name.parse().ok()?),
            ("endpoints", rest) => {
                let (service, id) = rest.split_once('/')?;
                Self::Endpoint(service.parse().ok()?, EndpointId::parse(id).ok()?)
            }
            _ => return None,
        };
        // Names fold their case, and a record must not have two keys.
        (key.to_string() == text).then_some(key)
    }

    /// The start of the keys of all endpoints of a service.
    #[must_use]
    pub fn endpoints(service: &ServiceName) -> String {
        format!("endpoints/{service}/")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "services/{name}"),
            Self::Endpoint(service, id) => write!(f, "endpoints/{service}/{id}"),
            Self::Region(name) => write!(f, "regions/{name}"),
        }
    }
}
