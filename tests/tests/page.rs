//! The web page as the server gives it to a browser.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{io::Read as _, net::SocketAddr, net::TcpListener};

use flate2::read::GzDecoder;
use server::config::Page;
use tests::{
    http::{self, Answer},
    process::{Installation, Server},
};

fn serving(page: Page) -> (Server, SocketAddr) {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    // The address is this test's own, so nobody else takes the port meanwhile.
    let address = TcpListener::bind((installation.config.listen.ip(), 0)).unwrap().local_addr().unwrap();
    installation.config.websocket.listen = Some(address);
    installation.config.web.page = page;
    (installation.start(), address)
}

fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    http::ask(address, "GET", path, headers, b"")
}

/// What of the server a text names between quotes.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split(['"', '\'']);
    quoted.filter(|path| path.starts_with("/app/"))
}

#[test]
fn a_browser_gets_the_page_with_all_that_it_names_and_may_run_nothing_else() {
    let (_server, address) = serving(Page::Loopback);
    let page = get(address, "/", "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !text.contains("style=\"") && !text.contains("<script>"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let files: Vec<_> = named(&text).collect();
    assert!(files.len() > 3, "{files:?}");
    for path in files {
        let file = get(address, path, "");
        assert!(file.status == 200 && !file.body.is_empty(), "{path}: {}", file.head);
        for more in named(&file.text()) {
            assert_eq!(get(address, more, "").status, 200, "{more}, which {path} names");
        }
    }
    for path in ["/app/test/serve.js", "/app/README.md", "/client/index.js", "/app/../Cargo.toml", "/%61pp/main.js"] {
        assert_eq!(get(address, path, "").status, 404, "{path}");
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again_and_what_it_can_unpack_is_sent_packed() {
    let (_server, address) = serving(Page::Loopback);
    let whole = get(address, "/app/main.js", "");
    let packed = get(address, "/app/main.js", "Accept-Encoding: br, gzip;q=0.8\r\n");
    assert_eq!((packed.header("content-encoding"), whole.header("content-encoding")), (Some("gzip"), None));
    assert!(packed.body.len() * 2 < whole.body.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, whole.body);
    assert_eq!(get(address, "/app/main.js", "Accept-Encoding: gzip;q=0\r\n").body, whole.body);
    let tag = whole.header("etag").unwrap();
    let again = get(address, "/app/main.js", &format!("If-None-Match: W/\"x\", {tag}\r\n"));
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(get(address, "/app/style.css", &format!("If-None-Match: {tag}\r\n")).status, 200);
    let head = http::ask(address, "HEAD", "/app/main.js", "", b"");
    assert_eq!((head.status, head.header("content-length")), (200, whole.header("content-length")));
    assert_eq!(http::ask(address, "POST", "/", "", b"x").status, 405);
}

#[test]
fn where_the_page_is_off_there_is_none_and_browsers_connect_all_the_same() {
    let (_server, address) = serving(Page::Off);
    let answer = get(address, "/", "");
    assert!(answer.status == 404 && answer.text().contains("/v1/ws"), "{}", answer.text());
    assert_eq!(http::ask(address, "POST", "/v1/frames", "", b"").status, 201);
}

#[test]
fn a_connection_that_was_used_does_not_become_a_websocket_and_that_of_a_proxy_is_used_once() {
    let (_server, address) = serving(Page::Loopback);
    let mut socket = http::connect(address);
    let mut ask = |path: &str, headers: &str| {
        http::send(&mut socket, address, ("GET", path, headers), b"");
        http::read(&mut socket)
    };
    assert_eq!(ask("/", "").header("connection"), None, "a browser asks for the rest on the same one");
    let refused = ask("/v1/ws", "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    assert!(refused.status == 503 && refused.header("connection") == Some("close"), "{refused:?}");
    assert!(refused.text().starts_with("not_now: "), "{}", refused.text());
    let proxied = get(address, "/", "X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!((proxied.status, proxied.header("connection")), (200, Some("close")));
}
