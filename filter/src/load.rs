//! From the bytes of the plugin configuration to a checked config.

mod shape;

use isthmus_model::{Config, RawConfig, config::is_within};
use serde_json::de::SliceRead;

/// Reads a config.
///
/// # Errors
/// Every reason why it is none, each with the path of the field; of what is not even JSON, the first.
pub(crate) fn load(bytes: &[u8]) -> Result<Config, Vec<String>> {
    // What Envoy is given as a google.protobuf.Struct it passes on in its binary form.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(vec![
            "the plugin configuration is no JSON object: give it as a google.protobuf.StringValue with at least \
             {\"region\": \"…\"} in it"
                .to_owned(),
        ]);
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let raw = parse(&mut json)
        .map_err(|error| error.to_string())
        .and_then(|raw| json.end().map(|()| raw).map_err(|error| error.to_string()));
    match raw {
        Ok(raw) => {
            Config::check(raw).map_err(|errors| errors.iter().map(ToString::to_string).collect())
        }
        Err(first) => Err(faults(bytes, first)),
    }
}

fn parse(
    json: &mut serde_json::Deserializer<SliceRead<'_>>,
) -> Result<RawConfig, serde_path_to_error::Error<serde_json::Error>> {
    serde_path_to_error::deserialize(json)
}

/// What is wrong with a config that has not the right shape, where the parser says no more than what it met first.
fn faults(bytes: &[u8], first: String) -> Vec<String> {
    let Ok(value) = serde_json::from_slice(bytes) else {
        return vec![first];
    };
    let (mut faults, rest) = shape::sift(value);
    // Such as a field that is there twice: the value has it once.
    if faults.is_empty() {
        return vec![first];
    }
    if let Some(Err(more)) = rest.map(Config::check) {
        let shape = faults.len();
        for error in more {
            // Limits are compared with each other.
            let limits = error.path.rsplit_once('[').map(|(list, _)| list);
            let limits = limits.filter(|list| list.ends_with(".limits"));
            let follows = |path: &str| {
                is_within(&error.path, path)
                    || limits.is_some_and(|limits| is_within(path, limits))
                    // Whether a region is one of the regions cannot be said without them.
                    || error.path == "default_region" && is_within(path, "regions")
            };
            if !faults.iter().take(shape).any(|fault| follows(&fault.path)) {
                faults.push(error);
            }
        }
    }
    faults.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
