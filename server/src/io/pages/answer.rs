//! Answer: what a request of HTTP is told.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use tokio::{task::spawn_local, time::timeout};

use super::{
    Polled, World,
    session::{Outcome, Session},
};
use crate::{
    access::upgrade::Pages as Origins,
    limits::{PAGE_BODY_MS, POLL_BODY_BYTES_MAX, POLLS_MAX, RETRY_BUSY_MS},
    pages::{
        files::{Asset, PAGE_POLICY},
        request::{self as asked, Frames, NoRequest, SessionId},
    },
};

type Answer = Response<Full<Bytes>>;

/// By these a proxy is known. It would use its connection for somebody else's request next, who may ask for WebSocket: so it is closed.
const OF_PROXIES: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// A page of another origin asks in vain.
const STRANGE_ORIGIN: &str =
    "pages of this origin may not ask; the operator of the server names those that may (websocket.origins)";

const NO_SESSION: &str = "there is no such session, or all that it said has been told: begin a new one";

/// The answer to one request.
pub(super) async fn answer(
    world: &Rc<World>,
    from: (SocketAddr, bool),
    request: Request<Incoming>,
    is_stopping: bool,
) -> Answer {
    let (method, uri) = (request.method().as_str(), request.uri());
    let is_proxied = OF_PROXIES.iter().any(|name| request.headers().contains_key(*name));
    let answer = match asked::request(method, uri.path(), uri.query(), world.has_page) {
        Ok(asked::Request::Asset(asset)) => page(asset, request.headers()),
        Ok(asked::Request::Frames(frames)) => world.poll(from, frames, request, is_stopping).await,
        Err(error) => {
            let mut answer = said(status(error.status()), &error.to_string());
            if error == NoRequest::Method {
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
            }
            if error == NoRequest::Used { closing(answer) } else { answer }
        }
    };
    if is_proxied { closing(answer) } else { answer }
}

impl World {
    /// What a request of long polling is told.
    async fn poll(
        self: &Rc<Self>,
        (client, is_tls): (SocketAddr, bool),
        frames: Frames,
        request: Request<Incoming>,
        is_stopping: bool,
    ) -> Answer {
        let Ok(origin) = origin_of(self, is_tls, &request) else { return said(StatusCode::FORBIDDEN, STRANGE_ORIGIN) };
        let mut answer = match frames {
            Frames::Preflight => preflight(),
            Frames::Hear(id, at) => match self.session(id) {
                Some(session) => outcome(session.hear(at).await),
                None => said(StatusCode::GONE, NO_SESSION),
            },
            Frames::Say(id, at) => match (body_of(request.into_body()).await, self.session(id)) {
                (Err(refused), _) => refused,
                (Ok(body), Some(session)) => outcome(session.say(at, &body).await),
                (Ok(_), None) => said(StatusCode::GONE, NO_SESSION),
            },
            Frames::Open => match body_of(request.into_body()).await {
                Err(refused) => refused,
                Ok(_) if is_stopping => not_now("stopping: the server is stopping"),
                Ok(body) => self.open(client, &body).await,
            },
        };
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        }
        answer
    }

    fn session(&self, id: SessionId) -> Option<Rc<Session>> {
        self.sessions.borrow().get(&id).cloned()
    }

    /// A new session, which a core takes in.
    async fn open(self: &Rc<Self>, client: SocketAddr, body: &[u8]) -> Answer {
        if self.sessions.borrow().len() >= POLLS_MAX {
            return not_now("overloaded: too many sessions of long polling");
        }
        let Ok((session, from, socket)) = Session::open() else {
            return not_now("overloaded: no descriptor is free for another session");
        };
        let next = self.next.get();
        self.next.set((next + 1) % self.doors.len());
        if self.doors[next].try_send(Polled { socket, client }).is_err() {
            return not_now("overloaded: too many sessions begin");
        }
        let id = SessionId(rand::random());
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        let world = Rc::clone(self);
        let living = Rc::clone(&session);
        spawn_local(async move {
            living.live(from).await;
            world.sessions.borrow_mut().remove(&id);
        });
        match session.say(0, body).await {
            Outcome::Taken(bytes) => {
                told(StatusCode::CREATED, "text/plain; charset=utf-8", format!("{} {bytes}", id.text()))
            }
            other => outcome(other),
        }
    }
}

/// What comes of a request to a session, as HTTP says it.
fn outcome(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Taken(bytes) => told(StatusCode::OK, "text/plain; charset=utf-8", bytes.to_string()),
        Outcome::Bytes(bytes) => told(StatusCode::OK, "application/octet-stream", bytes),
        Outcome::Nothing => empty(StatusCode::NO_CONTENT),
        Outcome::Astray(astray) => said(StatusCode::CONFLICT, &astray.to_string()),
        Outcome::Over => said(StatusCode::GONE, NO_SESSION),
    }
}

/// The origin of the page that asks, if it is another one than the server's own and may ask.
///
/// # Errors
/// It may not.
fn origin_of(world: &World, is_tls: bool, request: &Request<Incoming>) -> Result<Option<HeaderValue>, ()> {
    let origin = one(request.headers(), header::ORIGIN)?;
    let Some(origin) = origin else { return Ok(None) };
    let host = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let host = match host {
        Some(host) => host,
        None => one(request.headers(), header::HOST)?.ok_or(())?.as_bytes(),
    };
    let origins = Origins { origins: &world.origins, is_tls };
    if !origins.may_connect(origin.as_bytes(), host) {
        return Err(());
    }
    Ok((!world.origins.is_empty()).then(|| origin.clone()))
}

/// A header that is there once at most.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(()),
    }
}

/// The body of a request.
///
/// # Errors
/// It is too long, or does not come: with the answer to that.
async fn body_of(body: Incoming) -> Result<Bytes, Answer> {
    let whole = Limited::new(body, POLL_BODY_BYTES_MAX).collect();
    match timeout(Duration::from_millis(PAGE_BODY_MS), whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let words = format!("a body has at most {POLL_BODY_BYTES_MAX} bytes; cut the stream into more requests");
            Err(closing(said(StatusCode::PAYLOAD_TOO_LARGE, &words)))
        }
        Ok(Err(_)) => Err(closing(said(StatusCode::BAD_REQUEST, "the body can not be read"))),
        Err(_) => Err(closing(said(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))),
    }
}

/// A file of the web page. Browsers keep it, and ask each time whether it is still that.
fn page(asset: &'static Asset, asked: &HeaderMap) -> Answer {
    let lists = |name, what: &str| asked.get_all(name).iter().any(|value| is_listed(value.as_bytes(), what));
    let (mut answer, is_packed) = if lists(header::IF_NONE_MATCH, asset.tag) {
        (empty(StatusCode::NOT_MODIFIED), false)
    } else if lists(header::ACCEPT_ENCODING, "gzip") && asset.packed.len() < asset.bytes.len() {
        (told(StatusCode::OK, asset.kind, asset.packed), true)
    } else {
        (told(StatusCode::OK, asset.kind, asset.bytes), false)
    };
    let headers = answer.headers_mut();
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in [
        (header::ETAG, asset.tag),
        (header::VARY, "Accept-Encoding"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Whether a header that is a list has this in it, with whatever behind a semicolon but that it is not wanted.
fn is_listed(list: &[u8], what: &str) -> bool {
    list.split(|&byte| byte == b',').any(|one| {
        let mut parts = one.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let name = name.strip_prefix(b"W/").unwrap_or(name);
        name.eq_ignore_ascii_case(what.as_bytes())
            && !parts.any(|part| matches!(part, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"))
    })
}

fn preflight() -> Answer {
    let mut answer = empty(StatusCode::NO_CONTENT);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn not_now(words: &str) -> Answer {
    let mut answer = said(StatusCode::SERVICE_UNAVAILABLE, words);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_BUSY_MS.div_ceil(1_000)));
    answer
}

/// An answer in words, on a line.
fn said(status: StatusCode, words: &str) -> Answer {
    told(status, "text/plain; charset=utf-8", format!("{words}\n"))
}

fn told(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// The connection ends behind this answer.
fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status of HTTP")
}
