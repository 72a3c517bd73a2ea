//! How many bytes of names a stream keeps: what a client asks for is bounded by its weight too, not by the number alone.

use crate::xds::{
    limits::{Limits, Refusal},
    stream::{Action, Stream},
};

/// Bytes of the names that a stream follows; never too few.
#[derive(Debug, Default)]
pub(super) struct Load(usize);

impl Load {
    /// Takes what a request did to its stream.
    ///
    /// # Errors
    /// The names take more than they may.
    pub(super) fn check(
        &mut self,
        done: &[Action],
        stream: &Stream,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        for action in done {
            match action {
                Action::Follow(_, name) => self.0 += name.len(),
                Action::Unfollow(_, name) => self.0 = self.0.saturating_sub(name.len()),
                _ => {}
            }
        }
        let limit = limits.all_names_bytes;
        if self.0 > limit {
            // A name that a wildcard covers is taken up again when it is asked for, and given up once.
            self.0 = stream.followed().map(|(_, name)| name.len()).sum();
        }
        if self.0 > limit {
            return Err(Refusal::NamesTooLong { limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use super::*;
    use crate::xds::{
        Resource, ResourceType, View,
        stream::{Ask, Mode, Request},
    };

    /// Has one name that a wildcard may cover, and nothing of it.
    struct Few;

    impl View for Few {
        fn get(&self, _: ResourceType, _: &str) -> Option<Arc<Resource>> {
            None
        }

        fn wildcard(&self, _: ResourceType) -> Vec<Arc<str>> {
            Vec::new()
        }

        fn wildcard_within(&self, _: ResourceType) -> Option<Vec<Arc<str>>> {
            Some(vec!["four".into()])
        }
    }

    #[test]
    fn names_count_as_long_as_they_are_wanted() {
        let limits = Limits {
            all_names_bytes: 10,
            ..Limits::default()
        };
        let mut stream = Stream::new(Mode::Delta, None, Arc::new(limits.clone()));
        let mut load = Load::default();
        let mut check = |kind: ResourceType, subscribe: &[&str], unsubscribe: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let request = Request {
                type_url: kind.type_url().to_owned(),
                ask: Ask::Delta {
                    subscribe: names(subscribe),
                    unsubscribe: names(unsubscribe),
                    initial: HashMap::new(),
                },
                ..Request::default()
            };
            let done = stream.on_request(request, &Few).unwrap();
            load.check(&done, &stream, &limits)
        };
        let (cds, eds) = (ResourceType::Cluster, ResourceType::Endpoints);
        // Ten bytes of two types will do.
        assert_eq!(check(cds, &["12345"], &[]), Ok(()));
        assert_eq!(check(eds, &["12345"], &[]), Ok(()));
        // Who goes on asking for the same wants no more.
        assert_eq!(check(eds, &["12345"], &[]), Ok(()));
        // Room is made by what is given up.
        assert_eq!(check(eds, &["1234", "5"], &["12345"]), Ok(()));
        assert_eq!(check(eds, &[], &["1234"]), Ok(()));
        // However often a name that the wildcard covers is asked for besides: it counts once.
        assert_eq!(check(eds, &["*"], &[]), Ok(()));
        for _ in 0..9 {
            assert_eq!(check(eds, &["four"], &[]), Ok(()));
            assert_eq!(check(eds, &[], &["four"]), Ok(()));
        }
        let refused = Err(Refusal::NamesTooLong { limit: 10 });
        assert_eq!(check(cds, &["x"], &[]), refused);
    }
}
