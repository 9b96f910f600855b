//! Admin endpoint: GET and HEAD of /metrics, /health and /ready over HTTP/1.1, one request a connection.
//!
//! Runs on a thread of its own, so that a scrape costs the cores nothing, and a health check waits for nothing that the rest of the
//! process waits for. What is served comes from closures.
//!
//! Invariant: at most [`ADMIN_CONNECTIONS_MAX`] connections are open. When one more comes, the oldest is given up: whoever sends half
//! a request, or does not read the answer, keeps nobody else from a whole one.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};

use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_REQUEST_BYTES_MAX, ADMIN_REQUEST_MS, SMALL_FILE_BYTES_MAX};

/// How long accepting rests after it failed, in milliseconds. It fails for want of descriptors, which come back.
pub(crate) const ACCEPT_PAUSE_MS: u64 = 100;

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether clients should be sent here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not now, for this reason.
    NotReady(String),
    /// Not before a restart, for this reason.
    Broken(&'static str),
}

/// Serves on a thread that ends with the process. `metrics` is the whole text of the metrics page.
///
/// # Errors
/// There is no thread to be had, or the system does not let it wait for sockets.
pub fn start(
    listener: std::net::TcpListener,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    readiness: impl Fn() -> Readiness + Send + Sync + 'static,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(async { TcpListener::from_std(listener) })?;
    let respond = Arc::new(move |request: &[u8]| respond(request, &metrics, &readiness));
    let serve = move || runtime.block_on(serve(&listener, &respond));
    thread::Builder::new().name("ringpost-admin".into()).spawn(serve)?;
    Ok(())
}

async fn serve(listener: &TcpListener, respond: &Arc<impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static>) {
    // The oldest first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            continue;
        };
        open.retain(|exchange| !exchange.is_finished());
        if open.len() == ADMIN_CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let respond = Arc::clone(respond);
        let exchange = async move {
            // Whoever is too slow or goes away gets nothing; there is nobody to tell.
            let _ = timeout(Duration::from_millis(ADMIN_REQUEST_MS), exchange(stream, &*respond)).await;
        };
        open.push_back(tokio::spawn(exchange).abort_handle());
        // A request that is there is answered before the next connection may cost this one its place.
        yield_now().await;
    }
}

async fn exchange(mut stream: TcpStream, respond: &impl Fn(&[u8]) -> Vec<u8>) -> io::Result<()> {
    let request = read_request(&mut stream).await?;
    stream.write_all(&respond(&request)).await?;
    stream.shutdown().await
}

/// The bytes of a request: whole, or cut off by the end of the stream, by the limit, or because no request has such.
pub(crate) async fn read_request(stream: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut reader = stream.take(ADMIN_REQUEST_BYTES_MAX as u64);
    // Who speaks something else, a client at the wrong port for instance, is told so at once.
    let is_text = |request: &[u8]| request.iter().all(|byte| !byte.is_ascii_control() || b"\r\n\t".contains(byte));
    while is_text(&request) && !is_whole(&request) && reader.read_buf(&mut request).await? > 0 {}
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
    match method {
        "GET" => page(path, metrics, readiness),
        "HEAD" => head(page(path, metrics, readiness)),
        _ => response("405 Method Not Allowed", TEXT, "only GET and HEAD\n"),
    }
}

fn page(path: &str, metrics: impl Fn() -> String, readiness: impl Fn() -> Readiness) -> Vec<u8> {
    match (path, readiness()) {
        ("/metrics", _) => response("200 OK", PROMETHEUS, &metrics()),
        // Alive, whatever it is ready for: when a core dies, the whole process does. It is not well when only a restart helps.
        ("/health", Readiness::Broken(why)) => {
            response("503 Service Unavailable", TEXT, &format!("a restart helps: {why}\n"))
        }
        ("/ready", Readiness::Broken(why)) => response("503 Service Unavailable", TEXT, &format!("{why}\n")),
        ("/health", Readiness::Ready) => response("200 OK", TEXT, "alive\n"),
        ("/health", Readiness::NotReady(why)) => response("200 OK", TEXT, &format!("alive: {why}\n")),
        ("/ready", Readiness::Ready) => response("200 OK", TEXT, "ready\n"),
        ("/ready", Readiness::NotReady(why)) => response("503 Service Unavailable", TEXT, &format!("{why}\n")),
        _ => response("404 Not Found", TEXT, "there are /metrics, /health and /ready\n"),
    }
}

/// A response without its body, whose size it still tells.
fn head(mut response: Vec<u8>) -> Vec<u8> {
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(response.len(), |start| start + 4);
    response.truncate(end);
    response
}

pub(crate) fn response(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
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
    use super::*;

    fn answer(request: &str, readiness: Readiness) -> String {
        String::from_utf8(respond(request.as_bytes(), || "ringpost_up 1\n".to_owned(), || readiness.clone())).unwrap()
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
        let stopping = Readiness::NotReady("stopping".to_owned());
        let ready = answer("GET /ready HTTP/1.1\r\n\r\n", stopping.clone());
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("stopping\n"), "{ready}");
        let health = answer("GET /health HTTP/1.1\r\n\r\n", stopping);
        assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("alive: stopping\n"), "{health}");
    }

    #[test]
    fn a_server_that_only_a_restart_helps_says_so_to_its_supervisor() {
        let broken = Readiness::Broken("the journal has failed");
        let ready = answer("GET /ready HTTP/1.1\r\n\r\n", broken.clone());
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("the journal has failed\n"), "{ready}");
        let health = answer("GET /health HTTP/1.1\r\n\r\n", broken);
        assert!(health.starts_with("HTTP/1.1 503"), "{health}");
        assert!(health.ends_with("a restart helps: the journal has failed\n"), "{health}");
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

    #[test]
    fn a_head_says_what_a_get_says_without_the_body() {
        let whole = get("/ready");
        let head = answer("HEAD /ready HTTP/1.1\r\nHost: x\r\n\r\n", Readiness::Ready);
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: 6\r\n"), "{head}");
        assert_eq!(whole, format!("{head}ready\n"));
        assert!(answer("HEAD /x HTTP/1.1\r\n\r\n", Readiness::Ready).starts_with("HTTP/1.1 404"));
    }

    /// Larger than all buffers between two sockets: whoever does not read it keeps its answer from being written.
    const LARGE_PAGE_BYTES: usize = 16 * 1024 * 1024;

    fn serve_a_page_of(bytes: usize) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        start(listener, move || "x".repeat(bytes), || Readiness::Ready).unwrap();
        address
    }

    fn connect(address: SocketAddr, request: &[u8]) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        stream
    }

    fn read(mut stream: std::net::TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn is_answered(address: SocketAddr) {
        for path in ["/health", "/ready"] {
            let answer = read(connect(address, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()));
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }

    #[test]
    fn a_health_check_is_answered_while_others_have_sent_half_a_request() {
        let address = serve_a_page_of(1);
        let halves: Vec<_> = (0..8).map(|_| connect(address, b"GET /ready HT")).collect();
        is_answered(address);
        // None of them has been given up for it.
        for mut half in halves {
            half.write_all(b"TP/1.1\r\n\r\n").unwrap();
            assert!(read(half).ends_with("ready\n"));
        }
    }

    #[test]
    fn who_speaks_something_else_is_told_at_once() {
        let address = serve_a_page_of(1);
        // Neither closes its side, and nothing more comes.
        for other in [&[0x16, 0x03, 0x01, 0x02][..], &[0x85, 0x01, 0x01, 0x01, b'n']] {
            assert!(read(connect(address, other)).starts_with("HTTP/1.1 400"));
        }
    }

    #[test]
    fn of_more_halves_than_there_are_places_the_oldest_are_given_up() {
        let address = serve_a_page_of(1);
        let mut halves: VecDeque<_> =
            (0..4 * ADMIN_CONNECTIONS_MAX).map(|_| connect(address, b"GET /ready HT")).collect();
        is_answered(address);
        let mut oldest = halves.pop_front().unwrap();
        assert!(!matches!(oldest.read(&mut [0]), Ok(1..)));
        let mut newest = halves.pop_back().unwrap();
        newest.write_all(b"TP/1.1\r\n\r\n").unwrap();
        assert!(read(newest).ends_with("ready\n"));
    }

    #[test]
    fn a_health_check_is_answered_while_others_do_not_read_their_answers() {
        let address = serve_a_page_of(LARGE_PAGE_BYTES);
        let mut slow: Vec<_> = (0..8).map(|_| connect(address, b"GET /metrics HTTP/1.1\r\n\r\n")).collect();
        is_answered(address);
        // None of them has been given up for it.
        assert!(read(slow.pop().unwrap()).len() > LARGE_PAGE_BYTES);
    }

    #[test]
    fn a_request_without_end_is_cut_off() {
        let address = serve_a_page_of(1);
        assert!(read(connect(address, &[b'x'; ADMIN_REQUEST_BYTES_MAX])).starts_with("HTTP/1.1 431"));
    }
}
