//! Which of several resources a rejection is about. The protocol does not say; Envoy's words often do.

/// How Envoy begins when it lists the clusters or listeners that it did not take: `a: what is wrong, b: what is wrong`.
const ENVOYS: [&str; 2] = [
    "Error adding/updating cluster(s) ",
    "Error adding/updating listener(s) ",
];

/// Whether a client says so that it took what came beside what it names. Only by these words: a resource that Envoy cannot
/// read is named, too, if its text is in what Envoy says about it, and then it took nothing.
pub(super) fn took_the_rest(error: &str) -> bool {
    ENVOYS.iter().any(|words| error.starts_with(words))
}

/// Whether an error text speaks of this name. A longer name that contains it does not count, nor does a word of the
/// explanation where it is known what is name and what is explanation.
pub(super) fn mentions(error: &str, name: &str) -> bool {
    let list = ENVOYS.iter().find_map(|words| error.strip_prefix(words));
    let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    let text = list.unwrap_or(error);
    text.match_indices(name).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + name.len()..).unwrap_or_default();
        if name.is_empty() {
            return false;
        }
        if list.is_some() {
            let begins = before.is_empty() || before.ends_with(", ") || before.ends_with("; ");
            return begins && after.starts_with(':');
        }
        let mut after = after.chars();
        let ends = match after.next() {
            Some('.') => !after.next().is_some_and(part),
            Some(next) => !part(next),
            None => true,
        };
        !before.chars().next_back().is_some_and(part) && ends
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
            ("Error adding/updating cluster(s) a: bad, b: bad", "b", true),
            (
                "Error adding/updating listener(s) a: bad; b: bad",
                "b",
                true,
            ),
            (
                "Error adding/updating cluster(s) a: there is no such one",
                "one",
                false,
            ),
            ("Error adding/updating cluster(s) : bad", "", false),
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
