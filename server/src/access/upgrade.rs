//! Upgrade: the HTTP request with which a WebSocket connection begins, and its answer. PURE: bytes and what is asked of origins in, one
//! [`Step`] out. Whoever asks for something else than WebSocket is not judged here.
//!
//! Every request is answered as soon as its head is whole or cannot become one: browsers hold back all their other attempts at the same
//! address until then. Looks at nothing but the head; who comes is asked by the hello, within the connection. Holds at most a head that
//! is not whole: `held.len() < UPGRADE_BYTES_MAX`. The deadline is the rim's.

use std::{fmt::Write as _, ops::ControlFlow};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto_spec::{Decoder, ErrorCode, ServerFrame, WEBSOCKET_PATH, WEBSOCKET_PROTOCOL, limits::SERVER_FRAME_BYTES_MAX};
use thiserror::Error;

use crate::{
    access::proxy::NO_HEADER_EXPECTED,
    limits::{UPGRADE_BYTES_MAX, UPGRADE_HEADERS_MAX},
};

/// What both sides put behind the key, so that nobody answers by chance (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How a head ends.
const END: &[u8] = b"\r\n\r\n";

/// From which pages browsers may connect. Who sends no origin is no browser, and is let in: what protects others from it is the token.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    /// These origins alone; none: those whose host is the one that they connect to.
    pub origins: &'a [String],
    /// The connection speaks TLS, so its page must too.
    pub is_tls: bool,
}

/// What came of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The head has not arrived whole.
    More,
    /// From now on the connection speaks WebSocket, behind this answer.
    Upgraded(Vec<u8>),
    /// The request is for something else than WebSocket: all that has come of it.
    Elsewhere(Vec<u8>),
    /// The connection gets this answer, and is closed.
    Refused(Vec<u8>, Refusal),
}

/// Why there is no upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The first bytes are something else.
    #[error("{0}")]
    NoRequest(&'static str),
    /// The request is none of HTTP/1.1.
    #[error("the request is not one of HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// The head does not end where it has to, or has too many lines.
    #[error("the head of the request has more than {UPGRADE_BYTES_MAX} bytes or {UPGRADE_HEADERS_MAX} headers")]
    TooLong,
    /// Another method.
    #[error("the method must be GET")]
    Method,
    /// The address has a query, where a token would be for every log to see.
    #[error("the address must not have a query: the token belongs into the hello, and nowhere else")]
    Query,
    /// A request that asks for a page.
    #[error("WebSocket alone is spoken here: `Upgrade: websocket` and `Connection: Upgrade` must be among the headers")]
    NoUpgrade,
    /// Another version of WebSocket.
    #[error("`Sec-WebSocket-Version` must be 13")]
    Version,
    /// No key, or one that is none.
    #[error("`Sec-WebSocket-Key` must be 16 bytes as base64")]
    Key,
    /// A header that must be there once.
    #[error("the header `{0}` must be there once")]
    NotOnce(&'static str),
    /// The subprotocol is not offered.
    #[error("`Sec-WebSocket-Protocol` must offer {WEBSOCKET_PROTOCOL}")]
    Protocol,
    /// A page that may not.
    #[error(
        "pages of this origin may not connect; the operator of the server names those that may (websocket.origins)"
    )]
    Origin,
    /// Something follows the request before it has been answered.
    #[error("the client must wait for the answer before it sends more")]
    TooSoon,
}

impl Refusal {
    const fn status(self) -> &'static str {
        match self {
            Self::NoRequest(_)
            | Self::Malformed(_)
            | Self::Query
            | Self::Key
            | Self::NotOnce(_)
            | Self::Protocol
            | Self::TooSoon => BAD_REQUEST,
            Self::Origin => "403 Forbidden",
            Self::Method => "405 Method Not Allowed",
            Self::NoUpgrade | Self::Version => "426 Upgrade Required",
            Self::TooLong => "431 Request Header Fields Too Large",
        }
    }

    /// What a client needs to ask again.
    const fn headers(self) -> &'static str {
        match self {
            Self::Method => "Allow: GET\r\n",
            Self::NoUpgrade | Self::Version => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        }
    }
}

const BAD_REQUEST: &str = "400 Bad Request";

/// A connection that waits for its request.
#[derive(Debug, Default)]
pub struct Upgrade {
    held: Vec<u8>,
}

impl Upgrade {
    /// At the start of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// Bytes of a head that is not whole.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes of the connection, in any cut. After another step than [`Step::More`] the upgrade is over.
    pub fn bytes(&mut self, input: &[u8], pages: Pages<'_>) -> Step {
        // What was looked at before has no end; one may have begun there.
        let looked_at = self.held.len().saturating_sub(END.len() - 1);
        let stream = if self.held.is_empty() {
            input
        } else {
            self.held.extend_from_slice(input);
            &self.held
        };
        let answer = match judge(stream, looked_at, pages) {
            Ok(None) => {
                if self.held.is_empty() {
                    self.held = input.to_vec();
                }
                return Step::More;
            }
            Ok(Some(Asked::WebSocket(answer))) => Step::Upgraded(answer),
            Ok(Some(Asked::Other)) => Step::Elsewhere(stream.to_vec()),
            Err(refusal) => {
                let mut answer = answer(refusal.status(), refusal.headers(), &refusal.to_string());
                // The answer to this method is the head alone.
                if stream.starts_with(b"HEAD ") {
                    let body = answer.windows(END.len()).position(|window| window == END);
                    answer.truncate(body.map_or(answer.len(), |body| body + END.len()));
                }
                Step::Refused(answer, refusal)
            }
        };
        self.held = Vec::new();
        answer
    }
}

/// What is said in place of a bye to who has not been upgraded yet.
#[must_use]
pub fn instead_of(bye: &[u8]) -> Vec<u8> {
    let (mut status, mut headers, mut said) = (UNAVAILABLE, String::new(), String::new());
    let decoded = Decoder::new(SERVER_FRAME_BYTES_MAX as u32).decode(bye, |raw| {
        if let Ok(ServerFrame::Bye { code, retry_after_ms, detail, .. }) = ServerFrame::decode(raw) {
            status = match code {
                ErrorCode::HandshakeTimeout => "408 Request Timeout",
                ErrorCode::Malformed | ErrorCode::TlsRequired | ErrorCode::NotNow => BAD_REQUEST,
                _ => UNAVAILABLE,
            };
            if retry_after_ms > 0 {
                headers = format!("Retry-After: {}\r\n", retry_after_ms.div_ceil(1_000));
            }
            said = format!("{}: {detail}", code.name());
        }
        ControlFlow::Continue(())
    });
    debug_assert!(decoded.is_ok() && !said.is_empty(), "before the upgrade nothing but a bye is said");
    answer(status, &headers, &said)
}

const UNAVAILABLE: &str = "503 Service Unavailable";

fn answer(status: &str, headers: &str, said: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}");
    // Writing to a String can not fail.
    let _ =
        write!(text, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{said}\n", said.len() + 1);
    text.into_bytes()
}

/// What a good request is for.
enum Asked {
    /// WebSocket, with this answer.
    WebSocket(Vec<u8>),
    /// Something else.
    Other,
}

/// What a request is for, once its head is whole.
fn judge(stream: &[u8], looked_at: usize, pages: Pages<'_>) -> Result<Option<Asked>, Refusal> {
    // A method is letters and a space behind them. What cannot become a request is not waited for.
    let behind_method = stream.iter().find(|byte| !byte.is_ascii_uppercase());
    match stream {
        [] => return Ok(None),
        [b'\r', ..] | [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => return Err(Refusal::NoRequest(NO_HEADER_EXPECTED)),
        [0x16, ..] => return Err(Refusal::NoRequest("this looks like TLS, which this listener does not speak")),
        _ if behind_method.is_some_and(|&byte| byte != b' ') || stream[0] == b' ' => {
            return Err(Refusal::NoRequest(
                "this listener speaks WebSocket: a GET request of HTTP/1.1 must come first",
            ));
        }
        _ => {}
    }
    // An end without carriage returns is none to be taken, but nothing more comes behind it.
    let ends = [&END[1..], b"\n\n"];
    let end = (looked_at..stream.len()).find_map(|at| {
        let end = ends.iter().find(|end| stream[at..].starts_with(end))?;
        Some(at + end.len())
    });
    let end = match end {
        None if stream.len() < UPGRADE_BYTES_MAX => return Ok(None),
        Some(end) if end <= UPGRADE_BYTES_MAX => end,
        None | Some(_) => return Err(Refusal::TooLong),
    };
    let (head, rest) = stream.split_at(end);
    let mut headers = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(bytes)) if bytes == head.len() && head.ends_with(END) => {}
        Ok(_) => return Err(Refusal::Malformed(words(httparse::Error::NewLine))),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLong),
        Err(error) => return Err(Refusal::Malformed(words(error))),
    }
    let (path, host) = target(request.path.unwrap_or_default());
    match path.split_once('?') {
        None if path == WEBSOCKET_PATH => {}
        Some((WEBSOCKET_PATH, _)) => return Err(Refusal::Query),
        _ => return Ok(Some(Asked::Other)),
    }
    let key = key_of(&request, host, pages)?;
    if !rest.is_empty() {
        return Err(Refusal::TooSoon);
    }
    let mut accept = String::new();
    STANDARD.encode_string(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()), &mut accept);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: {WEBSOCKET_PROTOCOL}\r\n\r\n"
    );
    Ok(Some(Asked::WebSocket(answer.into_bytes())))
}

/// The key of a request for WebSocket that is good. `host_of_target`: see [`target`].
fn key_of<'h>(
    request: &httparse::Request<'_, 'h>,
    host_of_target: Option<&str>,
    pages: Pages<'_>,
) -> Result<&'h [u8], Refusal> {
    let headers = &*request.headers;
    if request.method != Some("GET") {
        return Err(Refusal::Method);
    }
    if request.version != Some(1) {
        return Err(Refusal::Malformed("its version is not 1.1"));
    }
    let host = once(headers, "Host")?.ok_or(Refusal::NotOnce("Host"))?;
    let host = host_of_target.map_or(host, str::as_bytes);
    if !lists(headers, "Upgrade", b"websocket", <[u8]>::eq_ignore_ascii_case)
        || !lists(headers, "Connection", b"upgrade", <[u8]>::eq_ignore_ascii_case)
    {
        return Err(Refusal::NoUpgrade);
    }
    if once(headers, "Sec-WebSocket-Version")? != Some(b"13") {
        return Err(Refusal::Version);
    }
    let key = once(headers, "Sec-WebSocket-Key")?.ok_or(Refusal::Key)?;
    if !STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        return Err(Refusal::Key);
    }
    if !lists(headers, "Sec-WebSocket-Protocol", WEBSOCKET_PROTOCOL.as_bytes(), |is, wanted| is == wanted) {
        return Err(Refusal::Protocol);
    }
    if let Some(origin) = once(headers, "Origin")?
        && !pages.may_connect(origin, host)
    {
        return Err(Refusal::Origin);
    }
    Ok(key)
}

/// The path that a request is for, and the host if that stands before it: then the header does not count (RFC 9112, 3.2.2).
fn target(target: &str) -> (&str, Option<&str>) {
    let Some((scheme, rest)) = target.split_once("://") else { return (target, None) };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return (target, None);
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (path, Some(host))
}

impl Pages<'_> {
    /// Whether a page of this origin may connect to the host that its request is for.
    #[must_use]
    pub fn may_connect(&self, origin: &[u8], host: &[u8]) -> bool {
        match (std::str::from_utf8(origin), std::str::from_utf8(host)) {
            (Ok(origin), _) if !self.origins.is_empty() => {
                self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
            }
            (Ok(origin), Ok(host)) => self.is_same(origin, host),
            _ => false,
        }
    }

    /// Whether a page of this origin connects to where it came from. Before a plain listener there may be a proxy that ends TLS.
    fn is_same(&self, origin: &str, host: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let usual = match scheme {
            "http" if !self.is_tls => "80",
            "https" => "443",
            _ => return false,
        };
        let parts = |authority: &str| match authority.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                (name.to_ascii_lowercase(), port.to_owned())
            }
            _ => (authority.to_ascii_lowercase(), usual.to_owned()),
        };
        parts(authority) == parts(host)
    }
}

/// The value of a header that may be there once at most.
fn once<'h>(headers: &[httparse::Header<'h>], name: &'static str) -> Result<Option<&'h [u8]>, Refusal> {
    let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|header| header.value.trim_ascii())),
        (_, Some(_)) => Err(Refusal::NotOnce(name)),
    }
}

/// Whether a header that is a list has this in it, in whichever of its lines.
fn lists(headers: &[httparse::Header<'_>], name: &str, wanted: &[u8], is: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let lines = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    lines.flat_map(|header| header.value.split(|&byte| byte == b',')).any(|one| is(one.trim_ascii(), wanted))
}

const fn words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a header",
        httparse::Error::HeaderValue => "the value of a header",
        httparse::Error::NewLine => "where a line ends",
        httparse::Error::Version => "its version",
        httparse::Error::Token => "its first line",
        httparse::Error::Status | httparse::Error::TooManyHeaders => "its head",
    }
}

#[cfg(test)]
mod tests;
