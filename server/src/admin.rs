//! Admin endpoint: GET /metrics, /health and /ready over HTTP/1.1, one request a connection.
//!
//! Runs as one future on the main thread, so that a scrape costs the cores nothing, and spawns nothing: at most
//! [`ADMIN_CONNECTIONS_MAX`] connections are served, the others wait in the kernel. What is served comes from closures.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_REQUEST_BYTES_MAX, ADMIN_REQUEST_MS, SMALL_FILE_BYTES_MAX};

/// How long accepting rests after it failed, in milliseconds. It fails for want of descriptors, which come back.
pub(crate) const ACCEPT_PAUSE_MS: u64 = 100;

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether clients should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not now, for this reason.
    NotReady(&'static str),
}

/// Serves until it is dropped. `metrics` is the whole text of the metrics page.
///
/// # Errors
/// The runtime does not take the listener.
pub async fn serve(
    listener: std::net::TcpListener,
    metrics: impl Fn() -> String,
    readiness: impl Fn() -> Readiness,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let respond = |request: &[u8]| respond(request, &metrics, &readiness);
    const { assert!(ADMIN_CONNECTIONS_MAX == 4) };
    let worker = || serve_one_by_one(&listener, &respond);
    tokio::join!(worker(), worker(), worker(), worker());
    Ok(())
}

async fn serve_one_by_one(listener: &TcpListener, respond: &impl Fn(&[u8]) -> Vec<u8>) {
    loop {
        match listener.accept().await {
            // Whoever is too slow or goes away gets nothing; there is nobody to tell.
            Ok((stream, _)) => _ = timeout(Duration::from_millis(ADMIN_REQUEST_MS), exchange(stream, respond)).await,
            Err(_) => sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await,
        }
    }
}

async fn exchange(mut stream: TcpStream, respond: &impl Fn(&[u8]) -> Vec<u8>) -> io::Result<()> {
    let request = read_request(&mut stream).await?;
    stream.write_all(&respond(&request)).await?;
    stream.shutdown().await
}

/// The bytes of a request: whole, or cut off by the end of the stream or by the limit.
pub(crate) async fn read_request(stream: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut reader = stream.take(ADMIN_REQUEST_BYTES_MAX as u64);
    while !is_whole(&request) && reader.read_buf(&mut request).await? > 0 {}
    Ok(request)
}

/// Whether the empty line that ends the head is there. What follows it, a GET does not need.
fn is_whole(request: &[u8]) -> bool {
    request.windows(4).any(|bytes| bytes == b"\r\n\r\n")
}

/// Method, path and query of a request.
///
/// # Errors
/// It is none; the response to that.
pub(crate) fn parse_request(request: &[u8]) -> Result<(&str, &str, &str), Vec<u8>> {
    if !is_whole(request) {
        return Err(match request.len() {
            ADMIN_REQUEST_BYTES_MAX.. => response("431 Request Header Fields Too Large", TEXT, "too long\n"),
            _ => response("400 Bad Request", TEXT, "not a whole request\n"),
        });
    }
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next().unwrap_or_default(), words.next());
    if !version.is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err(response("400 Bad Request", TEXT, "not HTTP/1.1\n"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok((method.unwrap_or_default(), path, query))
}

/// The response to a request: whole, or cut off by the end of the stream or by the limit.
fn respond(request: &[u8], metrics: impl Fn() -> String, readiness: impl Fn() -> Readiness) -> Vec<u8> {
    let (method, path, _) = match parse_request(request) {
        Ok(parsed) => parsed,
        Err(response) => return response,
    };
    if method != "GET" {
        return response("405 Method Not Allowed", TEXT, "only GET\n");
    }
    match (path, readiness()) {
        ("/metrics", _) => response("200 OK", PROMETHEUS, &metrics()),
        // Alive, whatever it is ready for: when a core dies, the whole process does.
        ("/health", _) => response("200 OK", TEXT, "alive\n"),
        ("/ready", Readiness::Ready) => response("200 OK", TEXT, "ready\n"),
        ("/ready", Readiness::NotReady(why)) => response("503 Service Unavailable", TEXT, &format!("{why}\n")),
        _ => response("404 Not Found", TEXT, "there are /metrics, /health and /ready\n"),
    }
}

pub(crate) fn response(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
    let size = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\n{allow}Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Asks the endpoint of another process for a page; blocks. The body of the response.
///
/// # Errors
/// It does not answer in time, or with anything but the page.
pub fn fetch(address: SocketAddr, path: &str) -> io::Result<String> {
    let patience = Duration::from_millis(ADMIN_REQUEST_MS);
    let mut stream = std::net::TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut response = String::new();
    stream.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut response)?;
    match response.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other("this is not the answer of a server's admin endpoint")),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn answer(request: &str, readiness: Readiness) -> String {
        String::from_utf8(respond(request.as_bytes(), || "ringpost_up 1\n".to_owned(), || readiness)).unwrap()
    }

    fn get(path: &str) -> String {
        answer(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"), Readiness::Ready)
    }

    #[test]
    fn the_three_pages_are_served() {
        assert_eq!(
            get("/metrics"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 14\r\n\
             Connection: close\r\n\r\nringpost_up 1\n"
        );
        assert!(get("/metrics?name=x").ends_with("ringpost_up 1\n"));
        let with_body = answer("GET /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", Readiness::Ready);
        assert!(with_body.ends_with("ringpost_up 1\n"));
        assert!(get("/health").ends_with("alive\n"));
        assert!(get("/ready").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn a_server_that_is_not_ready_says_why_and_is_alive() {
        let stopping = Readiness::NotReady("stopping");
        let ready = answer("GET /ready HTTP/1.1\r\n\r\n", stopping);
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("stopping\n"), "{ready}");
        assert!(answer("GET /health HTTP/1.1\r\n\r\n", stopping).starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn what_is_no_request_for_a_page_is_refused() {
        for (request, status) in [
            ("GET /etc/passwd HTTP/1.1\r\n\r\n".to_owned(), "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n".to_owned(), "405"),
            ("GET /metrics HTTP/2.0\r\n\r\n".to_owned(), "400"),
            ("GET /metrics\r\n\r\n".to_owned(), "400"),
            ("\r\n\r\n".to_owned(), "400"),
            ("GET /metr".to_owned(), "400"),
            (String::new(), "400"),
            ("x".repeat(ADMIN_REQUEST_BYTES_MAX), "431"),
        ] {
            let answer = answer(&request, Readiness::Ready);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        }
    }

    /// A server on a thread of its own, for as long as this process lives.
    fn start() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, || "ringpost_up 1\n".to_owned(), || Readiness::Ready)).unwrap();
        });
        address
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        for piece in request.chunks(7) {
            stream.write_all(piece).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_scraper_is_answered_while_others_say_nothing() {
        let address = start();
        let silent: Vec<_> =
            (1..ADMIN_CONNECTIONS_MAX).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        for _ in 0..3 {
            assert!(ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("ringpost_up 1\n"));
        }
        drop(silent);
    }

    #[test]
    fn a_request_without_end_is_cut_off() {
        let address = start();
        assert!(ask(address, &[b'x'; ADMIN_REQUEST_BYTES_MAX]).starts_with("HTTP/1.1 431"));
    }
}
