//! What a route changes in the request's headers. Each change is a call into the host, the dearest thing the filter
//! does, so nothing is removed that is not there, and nothing set that is right already: Envoy may set and strip headers
//! before the filter, and then there is nothing left to do but the destination.

use isthmus_model::{
    Field, Headers, Request, Route,
    limit::{OnError, lease, question},
};

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
    question: String,
    /// In which header the question goes, if there is one.
    asked: Option<OnError>,
    lease: String,
    /// In which header the name of the leased budget goes, if there is one.
    leased: Option<OnError>,
}

impl Texts {
    /// Notes what EMS is to be asked about a request that is sent on, and which leased budget it draws on, and says whether
    /// there is anything.
    pub(crate) fn ask<'h>(
        &mut self,
        route: &Route<'_>,
        is_grpc: bool,
        headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    ) -> bool {
        self.question.clear();
        self.asked = question::write(&mut self.question, route, is_grpc, headers);
        self.lease.clear();
        self.leased = lease::write(&mut self.lease, route);
        self.asked.or(self.leased).is_some()
    }

    /// The name of a leased budget that belongs in a header.
    fn lease(&self, header: OnError) -> Option<&str> {
        (self.leased == Some(header)).then_some(self.lease.as_str())
    }

    /// The question that belongs in a header.
    fn question(&self, header: OnError) -> Option<&str> {
        (self.asked == Some(header)).then_some(self.question.as_str())
    }

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

/// The changes, in any order. What is to be asked the texts know already.
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
    let ask = |on_error| {
        correct(
            question::header(on_error),
            request.question(on_error),
            texts.question(on_error),
        )
    };
    let draw = |on_error| {
        correct(
            lease::header(on_error),
            request.lease(on_error),
            texts.lease(on_error),
        )
    };
    [
        Some(Edit::Set(&names.destination, texts.destination.as_str())),
        ask(OnError::Allow),
        ask(OnError::Deny),
        draw(OnError::Allow),
        draw(OnError::Deny),
        correct(&names.caller, request.caller(), caller),
        correct(&names.hops, request.hops(), hops),
        correct(&names.receipt, request.receipt(), None),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests;
