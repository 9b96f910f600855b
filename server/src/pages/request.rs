//! Request: what a method and an address ask for.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proto_spec::{FRAMES_PATH, WEBSOCKET_PATH};
use thiserror::Error;

use super::files::{self, Asset};

/// Digits of a session's id: 128 bits, six in each.
const ID_DIGITS: usize = 22;

/// The id of a session of long polling. Whoever has it speaks as its device, so it is as random as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Something of long polling.
    Frames(Frames),
    /// A file of the web page.
    Asset(&'static Asset),
}

/// What is asked for at [`FRAMES_PATH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// A new session; the body is the beginning of the client's stream.
    Open,
    /// The body stands at this place of the client's stream.
    Say(SessionId, u64),
    /// The server's stream from this place on.
    Hear(SessionId, u64),
    /// Which requests a page of another origin may make.
    Preflight,
}

/// Why nothing is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoRequest {
    /// WebSocket, on a connection that has asked for something else before.
    #[error("not_now: WebSocket is spoken on a connection that begins with it; ask again, on a new one")]
    Used,
    /// Another path.
    #[error("nothing is here; WebSocket is at {WEBSOCKET_PATH} and long polling at {FRAMES_PATH}")]
    Path,
    /// Another method.
    #[error("the method must be GET or POST")]
    Method,
    /// The query is not `session` and `at`.
    #[error("the address must end with ?session=ID&at=NUMBER, or with nothing for a new session")]
    Query,
}

impl NoRequest {
    /// As HTTP says it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Used => 503,
            Self::Path => 404,
            Self::Method => 405,
            Self::Query => 400,
        }
    }
}

impl SessionId {
    /// As it stands in addresses.
    #[must_use]
    pub fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        let is_whole = text.len() == ID_DIGITS && URL_SAFE_NO_PAD.decode_slice(text, &mut id) == Ok(id.len());
        is_whole.then_some(Self(id))
    }
}

/// What a request asks for. `has_page`: the web page is served.
///
/// # Errors
/// Nothing that is here.
pub fn request(method: &str, path: &str, query: Option<&str>, has_page: bool) -> Result<Request, NoRequest> {
    if path == WEBSOCKET_PATH {
        return Err(NoRequest::Used);
    }
    if path != FRAMES_PATH {
        let asset = files::find(path).filter(|_| has_page).ok_or(NoRequest::Path)?;
        return if ["GET", "HEAD"].contains(&method) { Ok(Request::Asset(asset)) } else { Err(NoRequest::Method) };
    }
    frames(method, query).map(Request::Frames)
}

fn frames(method: &str, query: Option<&str>) -> Result<Frames, NoRequest> {
    let place = || place(query.unwrap_or_default()).ok_or(NoRequest::Query);
    match (method, query) {
        ("POST", None | Some("")) => Ok(Frames::Open),
        ("POST", Some(_)) => place().map(|(session, at)| Frames::Say(session, at)),
        ("GET", _) => place().map(|(session, at)| Frames::Hear(session, at)),
        ("OPTIONS", _) => Ok(Frames::Preflight),
        _ => Err(NoRequest::Method),
    }
}

/// Session and place, each once, in any order. What else is there is passed over, as parameters that are added to defeat caches.
fn place(query: &str) -> Option<(SessionId, u64)> {
    let value = |name: &str| {
        let mut values = query.split('&').filter_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        values.next().filter(|_| values.next().is_none())
    };
    let at = value("at").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((SessionId::parse(value("session")?)?, at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId([0xab; 16]);

    #[test]
    fn an_id_is_read_as_it_was_written() {
        assert_eq!(SessionId::parse(&ID.text()), Some(ID));
        assert_eq!(ID.text().len(), ID_DIGITS);
    }

    #[test]
    fn requests_are_told_apart_by_method_and_address() {
        let query = |at: &str| format!("session={}&at={at}", ID.text());
        let ask = |method, query: &str| frames(method, Some(query));
        assert_eq!(frames("POST", None), Ok(Frames::Open));
        assert_eq!(ask("POST", &query("7")), Ok(Frames::Say(ID, 7)));
        assert_eq!(ask("GET", &query("18446744073709551615")), Ok(Frames::Hear(ID, u64::MAX)));
        assert_eq!(ask("GET", &format!("_=1&at=0&session={}", ID.text())), Ok(Frames::Hear(ID, 0)));
        assert_eq!(ask("OPTIONS", &query("7")), Ok(Frames::Preflight));
        assert_eq!(ask("PUT", ""), Err(NoRequest::Method));
    }

    #[test]
    fn the_page_is_found_where_it_is_served_and_only_read() {
        let page = |method, path, has_page| match request(method, path, None, has_page) {
            Ok(Request::Asset(asset)) => Ok(asset.path),
            Ok(Request::Frames(_)) => panic!("{path} is no file"),
            Err(error) => Err(error),
        };
        assert_eq!(page("GET", "/", true), Ok("/app/index.html"));
        assert_eq!(page("HEAD", "/app/main.js", true), Ok("/app/main.js"));
        assert_eq!(page("POST", "/", true), Err(NoRequest::Method));
        assert_eq!(page("GET", "/", false), Err(NoRequest::Path));
        assert_eq!(page("GET", "/v1/frames/", true), Err(NoRequest::Path));
        assert_eq!(page("GET", "/v1/ws", true), Err(NoRequest::Used));
        assert!(matches!(request("GET", "/v1/frames", None, false), Err(NoRequest::Query)));
    }

    #[test]
    fn an_address_that_is_not_whole_is_refused() {
        let id = ID.text();
        for query in [
            String::new(),
            format!("session={id}"),
            "at=7".to_owned(),
            format!("session={id}&at="),
            format!("session={id}&at=-1"),
            format!("session={id}&at=+1"),
            format!("session={id}&at=18446744073709551616"),
            format!("session={id}&at=7&at=8"),
            format!("session={id}&session={id}&at=7"),
            format!("session={}&at=7", &id[1..]),
            format!("session={}=&at=7", &id[1..]),
            format!("session={id}x&at=7"),
        ] {
            assert_eq!(frames("GET", Some(&query)), Err(NoRequest::Query), "{query}");
        }
    }
}
