//! Which of several resources a rejection is about. The protocol does not say; Envoy's words often do.

/// Whether an error text speaks of this name, as Envoy's do of clusters and listeners. A longer name that contains it
/// does not count.
pub(super) fn mentions(error: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    error.match_indices(name).any(|(at, _)| {
        let before = error.get(..at).and_then(|text| text.chars().next_back());
        let mut after = error.get(at + name.len()..).unwrap_or_default().chars();
        let ends = match after.next() {
            Some('.') => !after.next().is_some_and(part),
            Some(next) => !part(next),
            None => true,
        };
        !name.is_empty() && !before.is_some_and(part) && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_envoys_words() {
        for (error, name, expected) in [
            (
                "Error adding/updating cluster(s) pay.eu: no such",
                "pay.eu",
                true,
            ),
            (
                "Error adding/updating cluster(s) pay.eu: no such",
                "pay",
                false,
            ),
            (
                "Error adding/updating cluster(s) pay.eu: no such",
                "eu",
                false,
            ),
            ("cluster(s) a: bad, b: bad", "b", true),
            ("unknown cluster 'pay.eu'", "pay.eu", true),
            ("something about pay.eu.", "pay.eu", true),
            ("x-pay.eu", "pay.eu", false),
            ("pay.eu@2", "pay.eu", false),
            ("Zürich: ü", "rich", false),
            ("anything", "", false),
            ("", "a", false),
        ] {
            assert_eq!(mentions(error, name), expected, "{name:?} in {error:?}");
        }
    }
}
