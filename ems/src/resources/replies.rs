//! Envoy's own refusals in the words of the request contract: a service that does not exist is `unknown_service`, one
//! that nobody answers for, or that has too much to do, is `no_healthy_endpoint`, one whose endpoint broke off is
//! `endpoint_failed`, one that EMS did not speak of is `unresolved`.
//!
//! gRPC callers have mappers of their own: theirs sets `grpc-status`, which plain HTTP callers must not see.

use envoy_types::pb::envoy::{
    config::{
        accesslog::v3::{
            AccessLogFilter, AndFilter, ComparisonFilter, HeaderFilter, ResponseFlagFilter,
            StatusCodeFilter, access_log_filter::FilterSpecifier, comparison_filter::Op,
        },
        core::v3::{
            HeaderValue, HeaderValueOption, RuntimeUInt32, SubstitutionFormatString,
            header_value_option::HeaderAppendAction, substitution_format_string::Format,
        },
        route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
    },
    extensions::filters::network::http_connection_manager::v3::{LocalReplyConfig, ResponseMapper},
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};
use isthmus_model::{Headers, refusal::Code};

use super::{
    encode::{inline, u32_value},
    leases,
};

/// One refusal that Envoy itself makes.
struct Refusal {
    /// Envoy's response flags for it.
    flags: &'static [&'static str],
    code: Code,
    message: &'static str,
}

/// What EMS refused for the sake of a limit of the region. It has its words from EMS.
const OVER_LIMIT: &[&str] = &["RL"];

/// What Envoy's quota filter refuses. It sets no flag in time, but notes what it charges.
const LEASED: Refusal = Refusal {
    flags: &[],
    code: Code::RateLimited,
    message: "over a leased limit, try again in 1 s",
};

const REFUSALS: [Refusal; 6] = [
    Refusal {
        // A cluster that drops everything because EMS says so: see `cluster::unknown`.
        flags: &["UDO"],
        code: Code::UnknownService,
        message: "no such service",
    },
    Refusal {
        // No cluster: EMS, which has one for every name that is asked for, did not answer. To say that there is no such
        // service would be a guess, and callers do not try again after a 404.
        flags: &["NC"],
        code: Code::Unresolved,
        message: "the control plane does not say where this is",
    },
    Refusal {
        // No healthy host, or none that could be connected to: in both cases nobody saw the request.
        flags: &["UH", "UF"],
        code: Code::NoHealthyEndpoint,
        message: "nobody can take requests for it now",
    },
    Refusal {
        // A limit of `circuitBreakers`. Nobody saw the request, unless the policy lets be repeated what was seen.
        flags: &["UO"],
        code: Code::NoHealthyEndpoint,
        message: "its circuit breakers let no more requests through now",
    },
    Refusal {
        // Nobody says whether a limit of the region is kept, and it has `onError: deny`. What is over a limit has its
        // words from EMS.
        flags: &["RLSE"],
        code: Code::RateLimited,
        message: "whether it is over a limit cannot be said now, try again in 1 s",
    },
    Refusal {
        // An endpoint, or a gateway, closed the connection, reset the stream or spoke another protocol. Somebody may have
        // seen the request. A gateway that does not believe the caller's certificate looks the same with TLS 1.3.
        flags: &["UC", "UR", "UPE"],
        code: Code::EndpointFailed,
        message: "no proper answer came back; does the endpoint speak the protocol of the service's record?",
    },
];

/// The mappers of every listener.
pub(super) fn local_replies(headers: &Headers) -> LocalReplyConfig {
    let both = |refusal, when: AccessLogFilter| {
        let grpc = grpc(refusal, when.clone(), headers);
        [grpc, http(refusal, when, headers)]
    };
    let flags = REFUSALS.iter();
    let flagged = flags.flat_map(|refusal| both(refusal, flagged(refusal.flags)));
    // The first mapper that fits is the one. A request that drew on a lease may be over another limit.
    let as_it_is = ResponseMapper {
        filter: Some(self::flagged(OVER_LIMIT)),
        ..Default::default()
    };
    let leased = both(&LEASED, all(vec![leases::charged(), has_status(429)]));
    LocalReplyConfig {
        mappers: flagged.chain([as_it_is]).chain(leased).collect(),
        body_format: None,
    }
}

/// A matcher for a header with exactly this value.
pub(super) fn header_is(name: &str, value: &str) -> HeaderMatcher {
    matcher(name, MatchPattern::Exact(value.to_owned()))
}

/// A matcher for a header that ends so.
pub(super) fn header_ends(name: &str, end: &str) -> HeaderMatcher {
    matcher(name, MatchPattern::Suffix(end.to_owned()))
}

fn matcher(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(pattern),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn grpc(refusal: &Refusal, when: AccessLogFilter, headers: &Headers) -> ResponseMapper {
    let content_type = matcher(
        "content-type",
        // The filter's own rule: gRPC-Web is not gRPC.
        MatchPattern::SafeRegex(RegexMatcher {
            regex: r"application/grpc(\+.*)?".to_owned(),
            ..Default::default()
        }),
    );
    let is_grpc = filter(FilterSpecifier::HeaderFilter(HeaderFilter {
        header: Some(content_type),
    }));
    ResponseMapper {
        filter: Some(all(vec![when, is_grpc])),
        status_code: u32_value(u32::from(refusal.code.http_status())),
        // Becomes `grpc-message`.
        body_format_override: Some(format(
            format!("{}: {}", refusal.message, destination(headers)),
            "text/plain",
        )),
        headers_to_add: [overwrite(
            "grpc-status",
            &refusal.code.grpc_status().to_string(),
        )]
        .into_iter()
        .chain(common(refusal, headers))
        .collect(),
        ..Default::default()
    }
}

fn http(refusal: &Refusal, when: AccessLogFilter, headers: &Headers) -> ResponseMapper {
    // The destination is the filter's and made of valid names, so nothing in it needs escaping.
    let body = format!(
        "{{\"error\":\"{}\",\"message\":\"{}: {}\"}}\n",
        refusal.code,
        refusal.message,
        destination(headers)
    );
    ResponseMapper {
        filter: Some(when),
        status_code: u32_value(u32::from(refusal.code.http_status())),
        body_format_override: Some(format(body, "application/json")),
        headers_to_add: common(refusal, headers).collect(),
        ..Default::default()
    }
}

/// The headers that both forms have.
fn common(refusal: &Refusal, headers: &Headers) -> impl Iterator<Item = HeaderValueOption> {
    let error = overwrite(&headers.error, refusal.code.as_str());
    // As the filter has it for a budget that is not known.
    let wait = (refusal.code == Code::RateLimited).then(|| overwrite("retry-after", "1"));
    std::iter::once(error).chain(wait)
}

/// Envoy's placeholder for where the request was to go.
fn destination(headers: &Headers) -> String {
    format!("%REQ({})%", headers.destination)
}

fn flagged(flags: &[&str]) -> AccessLogFilter {
    filter(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter {
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
    }))
}

fn has_status(status: u32) -> AccessLogFilter {
    let value = RuntimeUInt32 {
        default_value: status,
        // Envoy wants a name by which its runtime could set another one.
        runtime_key: "isthmus.leases.status".to_owned(),
    };
    filter(FilterSpecifier::StatusCodeFilter(StatusCodeFilter {
        comparison: Some(ComparisonFilter {
            op: Op::Eq.into(),
            value: Some(value),
        }),
    }))
}

fn all(filters: Vec<AccessLogFilter>) -> AccessLogFilter {
    filter(FilterSpecifier::AndFilter(AndFilter { filters }))
}

fn filter(specifier: FilterSpecifier) -> AccessLogFilter {
    AccessLogFilter {
        filter_specifier: Some(specifier),
    }
}

fn format(text: String, content_type: &str) -> SubstitutionFormatString {
    SubstitutionFormatString {
        content_type: content_type.to_owned(),
        format: inline(text).map(Format::TextFormatSource),
        ..Default::default()
    }
}

fn overwrite(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}
