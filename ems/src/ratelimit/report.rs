//! What is to be seen of the limits: their counts, the busiest budgets, and what is left of these.

use std::time::Duration;

use futures::{StreamExt, stream};
use isthmus_model::{
    Outcome,
    limit::{Question, question::Ask},
};
use isthmus_proto::v1;

use super::{
    Claim, State,
    book::{Entry, Page},
    busiest::Busy,
    server::Limiter,
};

/// Most budgets of a limit that are shown.
const MOST: usize = 10;

/// Services looked at at a time: if a store does not answer, that is not waited for once per service.
const AT_ONCE: usize = 256;

impl Limiter {
    /// All limits, or those of a service.
    pub async fn report(&self, service: &str) -> Vec<v1::LimitState> {
        let mut pages = self.book().pages();
        pages.retain(|page| service.is_empty() || page.service().as_str() == service);
        let pages = stream::iter(pages).map(|page| async move { self.of_page(&page).await });
        let states: Vec<_> = pages.buffered(AT_ONCE).collect().await;
        states.concat()
    }

    /// The budgets that a request needs, as the filter would ask for them.
    pub async fn needs(&self, question: &Question<'_>) -> Vec<v1::ExplainLimit> {
        let Some(page) = self.book().page(question.service) else {
            return Vec::new();
        };
        let claim = |ask: Ask<'_>| {
            let entry = page.find(ask.token)?;
            Some((ask.key.to_owned(), entry))
        };
        let needed: Vec<_> = question.asks().filter_map(claim).collect();
        let mut claims: Vec<_> = needed
            .iter()
            .map(|(key, entry)| asked(entry, key))
            .collect();
        self.look(question.service, &mut claims).await;
        let now = self.now();
        let limit = |claim: &Claim<'_>| v1::ExplainLimit {
            limit: claim.entry.limit().to_string(),
            requests: claim.entry.limit().requests(),
            budget: Some(budget(claim, now)),
        };
        claims.iter().map(limit).collect()
    }

    async fn of_page(&self, page: &Page) -> Vec<v1::LimitState> {
        let now = self.now();
        let busiest: Vec<_> = page
            .entries()
            .iter()
            .map(|entry| (entry, entry.busiest(MOST, now)))
            .collect();
        let mut claims: Vec<_> = busiest
            .iter()
            .flat_map(|(entry, keys)| keys.iter().map(|busy| asked(entry, &busy.key)))
            .collect();
        self.look(page.service().as_str(), &mut claims).await;
        let now = self.now();
        let mut claims = claims.iter();
        busiest
            .iter()
            .map(|(entry, keys)| {
                let keys = keys.iter().zip(claims.by_ref());
                let keys = keys.map(|(busy, claim)| key(busy, claim, now)).collect();
                state(page, entry, keys)
            })
            .collect()
    }
}

fn asked<'a>(entry: &'a Entry, key: &'a str) -> Claim<'a> {
    Claim {
        entry,
        key,
        state: State::Unknown,
    }
}

fn state(page: &Page, entry: &Entry, busiest: Vec<v1::LimitKey>) -> v1::LimitState {
    v1::LimitState {
        service: page.service().to_string(),
        limit: entry.limit().to_string(),
        requests: entry.limit().requests(),
        window: duration(entry.window()),
        allowed: entry.counted(Outcome::Allowed),
        denied: entry.counted(Outcome::Denied),
        shadow_denied: entry.counted(Outcome::ShadowDenied),
        errors: entry.counted(Outcome::Unchecked),
        busiest,
    }
}

fn key(busy: &Busy, claim: &Claim<'_>, now: u64) -> v1::LimitKey {
    let mut key = v1::LimitKey {
        requests: busy.requests,
        error: busy.error,
        ..budget(claim, now)
    };
    if !busy.is_whole {
        key.key.push('…');
        // Nobody has a budget of that name.
        (key.left, key.resets_in) = (None, None);
    }
    key
}

fn budget(claim: &Claim<'_>, now: u64) -> v1::LimitKey {
    let (left, resets_in) = match claim.state {
        State::Unknown => (None, None),
        State::Known(window) if window.is_over(now) => (Some(claim.entry.requests()), None),
        State::Known(window) => (
            Some(claim.entry.requests().saturating_sub(window.used)),
            duration(window.ends - now),
        ),
    };
    v1::LimitKey {
        key: Ask::parse(claim.key).map_or_else(|| claim.key.to_owned(), |ask| ask.whose()),
        left,
        resets_in,
        ..v1::LimitKey::default()
    }
}

fn duration(milliseconds: u64) -> Option<prost_types::Duration> {
    Duration::from_millis(milliseconds).try_into().ok()
}
