//! Who may have a certificate: the holder of a join token, or the node that has one already.

use hyper::StatusCode;
use message::NodeName;
use pki::token::Claims;
use pki::{Authority, EdgeSubject, NODES_GROUP, SigningRequest, Subject, edge_common_name};

use super::RegisterRefusal;

/// What lets a request through.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// The node's own certificate, in force or expired not too long ago.
    Certificate,
    /// A join token; whether it was used before is not looked at here.
    Token(Claims),
}

fn unauthorized(text: impl ToString) -> RegisterRefusal {
    RegisterRefusal(StatusCode::UNAUTHORIZED, text.to_string())
}

/// Judges a request for `node`'s certificate. `certificate` is of a trusted CA but may have expired;
/// `renew_expired_for` is how long after (seconds).
pub(super) fn admit(
    node: &NodeName,
    certificate: Option<&[u8]>,
    bearer: &str,
    authority: &Authority,
    renew_expired_for: i64,
    now: i64,
) -> Result<Admitted, RegisterRefusal> {
    let Some(certificate) = certificate else {
        let jwt = bearer.strip_prefix("Bearer ");
        let jwt = jwt.ok_or_else(|| unauthorized("a join token is needed: Authorization: Bearer <token>"))?;
        let claims = pki::token::verify(authority, jwt, now).map_err(unauthorized)?;
        claims.check_node(node.as_str()).map_err(unauthorized)?;
        return Ok(Admitted::Token(claims));
    };
    let subject = EdgeSubject::of(certificate).map_err(unauthorized)?;
    if subject.node != node.as_str() {
        let text = format!("certificate of node {} may not be exchanged for one of {node}", subject.node);
        return Err(unauthorized(text));
    }
    let end = Subject::of(certificate).map_err(unauthorized)?.not_after;
    let late = now.saturating_sub(end);
    if late > renew_expired_for.max(0) {
        let (late, limit) = (hours(late), hours(renew_expired_for));
        return Err(unauthorized(format!(
            "certificate of node {node} expired {late} h ago, renewed are those of up to {limit} h \
             (modules.cloudHub.renewExpiredFor); join again with a token of keadm gettoken"
        )));
    }
    Ok(Admitted::Certificate)
}

fn hours(seconds: i64) -> String {
    format!("{:.1}", seconds as f64 / 3600.0)
}

/// Checks that a signing request is for the node's own name and nothing else.
pub(super) fn check_request(node: &NodeName, request: &SigningRequest) -> Result<(), RegisterRefusal> {
    let forbidden = |text: String| Err(RegisterRefusal(StatusCode::FORBIDDEN, text));
    let wanted = edge_common_name(node.as_str());
    let named = request.common_name().unwrap_or_default();
    if named != wanted || request.organization() != Some(NODES_GROUP) {
        return forbidden(format!(
            "the request is for {named:?}, only {wanted:?} in {NODES_GROUP} is signed for node {node}"
        ));
    }
    if request.asks_for_names() {
        return forbidden("an edge certificate has no alternative names".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::{DAY, Profile, Usage};

    const NOW: i64 = 1_800_000_000;

    fn setting() -> (Authority, NodeName) {
        pki::install_provider();
        (Authority::generate(None, NOW).unwrap(), NodeName::new("e1").unwrap())
    }

    fn bearer(token: &str) -> String {
        format!("Bearer {}", token.split_once('.').unwrap().1)
    }

    #[test]
    fn a_certificate_is_renewed_for_its_own_node_and_after_its_end_only_as_long_as_allowed() {
        let (ca, node) = setting();
        let profile = Profile {
            common_name: edge_common_name("e1"),
            organizations: vec![NODES_GROUP.to_owned()],
            names: Vec::new(),
            usage: Usage::Client,
            lifetime: DAY,
        };
        let identity = ca.issue(&profile, NOW).unwrap();
        let come = |node: &NodeName, allowed: i64, now: i64| {
            admit(node, Some(identity.certificate()), "", &ca, allowed, now)
                .map_err(|RegisterRefusal(_, text)| text)
        };
        assert_eq!(come(&node, 0, NOW + DAY), Ok(Admitted::Certificate));
        let error = come(&node, 0, NOW + DAY + 1).unwrap_err();
        assert!(error.contains("renewExpiredFor") && error.contains("keadm gettoken"), "{error}");
        assert_eq!(come(&node, 3600, NOW + DAY + 3600), Ok(Admitted::Certificate));
        assert!(come(&node, 3600, NOW + DAY + 3601).is_err());
        assert!(come(&NodeName::new("e2").unwrap(), 3600, NOW).is_err());
    }

    #[test]
    fn a_token_counts_for_the_nodes_it_names() {
        let (ca, node) = setting();
        let come = |token: &str| {
            admit(&node, None, &bearer(token), &ca, 0, NOW)
                .map_err(|RegisterRefusal(status, _)| status.as_u16())
        };
        let plain = Claims::until(NOW + 9);
        assert_eq!(come(&pki::token::mint(&ca, NOW + 9)), Ok(Admitted::Token(plain.clone())));
        let claims = Claims { nodes: Some("store-*".into()), ..plain.clone() };
        assert_eq!(come(&pki::token::mint_with(&ca, &claims)), Err(401));
        let claims = Claims { nodes: Some("e*".into()), ..plain };
        assert_eq!(come(&pki::token::mint_with(&ca, &claims)), Ok(Admitted::Token(claims)));
        assert!(admit(&node, None, "", &ca, 0, NOW).is_err());
    }
}
