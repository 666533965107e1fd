//! As whom the cloud is asked.

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use kubeapi::user::User;

use crate::jwt;

/// Says to the relay that the node itself asks.
pub(crate) const NODE: &str = "causeway-caller";

/// Who asks, with what he showed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub name: String,
    /// `None`: the node itself, whose session it is.
    token: Option<HeaderValue>,
    /// Unix seconds.
    expires: i64,
}

impl Caller {
    /// `headers` are those of a request that was authenticated as `user`.
    pub(crate) fn of(user: &User, headers: &HeaderMap) -> Caller {
        let token = headers.get(AUTHORIZATION).cloned();
        let expires = token.as_ref().map_or(i64::MAX, |token| {
            let text = token.to_str().ok().and_then(|text| text.split_once(' '));
            text.and_then(|(_, token)| jwt::expiry(token.trim())).unwrap_or(0)
        });
        Caller { name: user.name.clone(), token, expires }
    }

    /// The node itself.
    pub(crate) fn node(name: String) -> Caller {
        Caller { name, token: None, expires: i64::MAX }
    }

    /// What he showed in `Authorization`.
    pub(crate) fn token(&self) -> Option<&HeaderValue> {
        self.token.as_ref()
    }

    pub(crate) fn is_node(&self) -> bool {
        self.token.is_none()
    }

    /// True until what he showed expires. `now` in Unix seconds.
    pub(crate) fn is_good(&self, now: i64) -> bool {
        now < self.expires
    }

    /// Says in `headers` who asks, and nothing else of it.
    pub(crate) fn show(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        headers.remove(NODE);
        match &self.token {
            Some(token) => headers.insert(AUTHORIZATION, token.clone()),
            None => headers.insert(NODE, HeaderValue::from_static("node")),
        };
    }
}
