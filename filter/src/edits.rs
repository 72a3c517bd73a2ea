//! What a route changes in the request's headers. Each change is a call into the host, the dearest thing the filter
//! does, so nothing is removed that is not there, and nothing set that is right already: Envoy may set and strip headers
//! before the filter, and then there is nothing left to do but the destination.

use isthmus_model::{Field, Headers, Request, Route};

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit<'a> {
    /// Set to this, whatever was there, however often.
    Set(&'a str, &'a str),
    /// Take all values out.
    Remove(&'a str),
}

/// Texts that a route's edits borrow; kept from request to request, so that they allocate nothing.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    destination: String,
    caller: String,
}

impl Texts {
    fn fill(&mut self, route: &Route<'_>) {
        self.destination.clear();
        self.caller.clear();
        // Writing to a string does not fail.
        let _ = route.write_cluster(&mut self.destination);
        if let Some(caller) = &route.caller {
            self.caller.push_str(caller.region());
            self.caller.push('/');
            self.caller.push_str(caller.service());
        }
    }
}

/// The changes, in any order.
pub(crate) fn edits<'a>(
    names: &'a Headers,
    request: &Request<'_>,
    route: &Route<'_>,
    texts: &'a mut Texts,
) -> impl Iterator<Item = Edit<'a>> {
    texts.fill(route);
    let correct = |name, is: Field<'_>, should_be: Option<&'a str>| match (should_be, is) {
        (None, Field::Absent) => None,
        (None, _) => Some(Edit::Remove(name)),
        (Some(value), Field::Once(is)) if is == value.as_bytes() => None,
        (Some(value), _) => Some(Edit::Set(name, value)),
    };
    let caller = (!texts.caller.is_empty()).then_some(texts.caller.as_str());
    let hops = match route.hops {
        0 => None,
        // A gateway refuses what passed another one, so there is no second.
        _ => Some("1"),
    };
    [
        Some(Edit::Set(&names.destination, texts.destination.as_str())),
        correct(&names.caller, request.caller(), caller),
        correct(&names.hops, request.hops(), hops),
        correct(&names.receipt, request.receipt(), None),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests;
