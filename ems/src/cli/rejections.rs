//! What no Envoy could use, in words for people. Pure.

use isthmus_proto::v1;

use super::table::plain;
use crate::xds::ResourceType;

/// A line for each, and Envoy's words below.
pub(super) fn lines(rejections: &[v1::Rejection]) -> String {
    rejections.iter().map(line).collect()
}

fn line(rejection: &v1::Rejection) -> String {
    let served = match rejection.former_served {
        true => "those that have nothing else get the version before",
        false => "no version before it was good",
    };
    format!(
        "{} {} (version {}) was rejected by every client that answered; {served}\n    {}\n",
        kind(&rejection.type_url),
        plain(&rejection.name),
        plain(&rejection.version),
        rejection.error.trim().replace('\n', "\n    ")
    )
}

/// The short name of a type, if it has one.
pub(super) fn kind(type_url: &str) -> String {
    ResourceType::from_type_url(type_url).map_or(type_url.to_owned(), |kind| kind.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let rejection = v1::Rejection {
            type_url: ResourceType::Cluster.type_url().into(),
            name: "pay.us".into(),
            version: "1f".into(),
            error: "no such\nchecker\n".into(),
            former_served: true,
        };
        assert_eq!(
            lines(&[rejection]),
            "cluster pay.us (version 1f) was rejected by every client that answered; those that have nothing else get the version before\n    \
             no such\n    checker\n"
        );
        assert_eq!(kind("unheard/of"), "unheard/of");
    }
}
