//! From the bytes of the plugin configuration to a checked config.

use isthmus_model::{Config, RawConfig};

/// Reads a config.
///
/// # Errors
/// Every reason why it is none, each with the path of the field; what is not even JSON of the right shape is found one at
/// a time.
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
    let raw: RawConfig =
        serde_path_to_error::deserialize(&mut json).map_err(|error| vec![error.to_string()])?;
    json.end().map_err(|error| vec![error.to_string()])?;
    Config::check(raw).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests;
