use proptest::prelude::*;

use super::*;
use crate::access::handshake::bye;

/// The example of RFC 6455, 1.3, as a browser would ask here.
const REQUEST: &str = "GET /v1/ws HTTP/1.1\r\n\
    Host: chat.example.org\r\n\
    Upgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: https://chat.example.org\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    Sec-WebSocket-Protocol: other, ringpost.v1\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

const SAME: Pages<'static> = Pages { origins: &[], is_tls: false };

fn ask(request: &str) -> Step {
    Upgrade::new().bytes(request.as_bytes(), SAME)
}

/// The example with something else in the place of a part of it.
fn with(part: &str, other: &str) -> Step {
    assert!(REQUEST.contains(part));
    ask(&REQUEST.replace(part, other))
}

fn refused(step: Step) -> (u16, Refusal) {
    let Step::Refused(answer, refusal) = step else { panic!("{step:?}") };
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, format!("{refusal}\n"));
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())) && head.contains("\r\nConnection: close"));
    (head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap(), refusal)
}

#[test]
fn a_good_request_is_answered_with_its_key_and_the_subprotocol_and_no_extension() {
    let Step::Upgraded(answer) = ask(REQUEST) else { panic!() };
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && answer.ends_with("\r\n\r\n"));
    assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(answer.contains("\r\nSec-WebSocket-Protocol: ringpost.v1\r\n") && !answer.contains("Extensions"));
}

#[test]
fn what_is_written_otherwise_and_means_the_same_is_taken() {
    for (part, other) in [
        ("Upgrade: websocket", "uPGRADE:WebSocket"),
        ("keep-alive, Upgrade", "upgrade"),
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
        ("Protocol: other, ringpost.v1", "Protocol: other\r\nSec-WebSocket-Protocol: ringpost.v1"),
        ("Origin: https://chat.example.org\r\n", ""),
        ("Origin: https://chat.example.org", "Origin: https://CHAT.example.org:443"),
        ("Host: chat.example.org", "Host: chat.example.org:443"),
        ("/v1/ws", "http://chat.example.org/v1/ws"),
        ("/v1/ws HTTP/1.1\r\nHost: chat.example.org", "HTTPS://chat.example.org/v1/ws HTTP/1.1\r\nHost: inside"),
        ("Version: 13", "Version:  13 "),
    ] {
        assert!(matches!(with(part, other), Step::Upgraded(_)), "{other}");
    }
}

#[test]
fn what_asks_for_something_else_is_passed_on_whole() {
    for path in ["/", "/v1/frames?session=a", "http://chat.example.org/", "ftp://chat.example.org/v1/ws", "/v1/ws/"] {
        let request = REQUEST.replace("/v1/ws", path).replace("GET", "POST") + "behind the head";
        assert_eq!(ask(&request), Step::Elsewhere(request.into_bytes()), "{path}");
    }
    let (request, mut upgrade) = ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Upgrade::new());
    let steps: Vec<_> = request.bytes().map(|byte| upgrade.bytes(&[byte], SAME)).collect();
    assert!(steps[..steps.len() - 1].iter().all(|step| *step == Step::More));
    assert_eq!(steps.last(), Some(&Step::Elsewhere(request.as_bytes().to_vec())));
}

#[test]
fn every_other_request_is_refused_with_a_reason() {
    for (part, other, status, refusal) in [
        ("GET", "POST", 405, Refusal::Method),
        ("/v1/ws", "http://chat.example.org/v1/ws?token=secret", 400, Refusal::Query),
        ("/v1/ws", "http://example.org/v1/ws", 403, Refusal::Origin),
        ("/v1/ws", "/v1/ws?token=secret", 400, Refusal::Query),
        ("HTTP/1.1", "HTTP/1.0", 400, Refusal::Malformed("its version is not 1.1")),
        ("HTTP/1.1", "HTTP/2.0", 400, Refusal::Malformed("its version")),
        ("Host: chat.example.org\r\n", "", 400, Refusal::NotOnce("Host")),
        ("Upgrade: websocket\r\n", "", 426, Refusal::NoUpgrade),
        ("Upgrade: websocket", "Upgrade: h2c", 426, Refusal::NoUpgrade),
        ("keep-alive, Upgrade", "keep-alive", 426, Refusal::NoUpgrade),
        ("Version: 13", "Version: 8", 426, Refusal::Version),
        ("Sec-WebSocket-Version: 13\r\n", "", 426, Refusal::Version),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 400, {
            Refusal::NotOnce("Sec-WebSocket-Version")
        }),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400, Refusal::Key),
        ("dGhlIHNhbXBsZSBub25jZQ==", "?", 400, Refusal::Key),
        ("Protocol: other, ringpost.v1", "Protocol: other, RINGPOST.V1", 400, Refusal::Protocol),
        ("Sec-WebSocket-Protocol: other, ringpost.v1\r\n", "", 400, Refusal::Protocol),
        ("Origin: https://chat.example.org", "Origin: https://example.org", 403, Refusal::Origin),
        ("Origin: https://chat.example.org", "Origin: https://chat.example.org:8443", 403, Refusal::Origin),
        ("Origin: https://chat.example.org", "Origin: null", 403, Refusal::Origin),
        ("Version: 13\r\n\r\n", "Version: 13\r\n\r\n\u{2}", 400, Refusal::TooSoon),
        ("Upgrade: websocket", "Upgrade websocket", 400, Refusal::Malformed("the name of a header")),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\n\n", 400, Refusal::Malformed("where a line ends")),
    ] {
        assert_eq!(refused(with(part, other)), (status, refusal), "{other}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_its_first_bytes() {
    for (bytes, words) in [
        (&b"\x16\x03\x01"[..], "this looks like TLS"),
        (b"PROXY TCP4 192.0.2.1", "looks like a PROXY header"),
        (b"\r\n\r\n\0\r\nQUIT\n", "looks like a PROXY header"),
        (b"\x47\x01", "speaks WebSocket"),
        (b"get / HTTP/1.1", "speaks WebSocket"),
    ] {
        let mut said = Vec::new();
        let whole = refused(Upgrade::new().bytes(bytes, SAME));
        assert!(whole.0 == 400 && whole.1.to_string().contains(words), "{whole:?}");
        let mut upgrade = Upgrade::new();
        for byte in bytes {
            match upgrade.bytes(&[*byte], SAME) {
                Step::More => {}
                step => {
                    said.push(refused(step));
                    break;
                }
            }
        }
        assert_eq!(said, [whole]);
    }
}

#[test]
fn a_head_that_ends_without_carriage_returns_is_answered_at_once() {
    let bare = REQUEST.replace("\r\n", "\n");
    for head in [bare.clone(), bare.replace("13\n\n", "13\n\r\n"), REQUEST.replace("13\r\n\r\n", "13\r\n\n")] {
        assert_eq!(refused(ask(&head)), (400, Refusal::Malformed("where a line ends")), "{head:?}");
    }
}

#[test]
fn who_asks_for_the_head_alone_gets_that_alone() {
    let Step::Refused(answer, Refusal::Method) = with("GET", "HEAD") else { panic!("another method") };
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 405 ") && text.contains("\r\nAllow: GET\r\n") && text.ends_with("\r\n\r\n"));
}

#[test]
fn a_list_of_origins_counts_alone() {
    let listed = ["https://app.example.org".to_owned(), "null".to_owned()];
    let pages = Pages { origins: &listed, is_tls: false };
    for (origin, may) in [
        ("https://app.example.org", true),
        ("null", true),
        ("https://chat.example.org", false),
        ("https://app.example.org.evil.example", false),
        ("http://app.example.org", false),
    ] {
        let request = REQUEST.replace("Origin: https://chat.example.org", &format!("Origin: {origin}"));
        let step = Upgrade::new().bytes(request.as_bytes(), pages);
        assert_eq!(matches!(step, Step::Upgraded(_)), may, "{origin}");
    }
}

#[test]
fn without_a_list_a_page_may_connect_to_the_host_that_it_came_from() {
    for (origin, host, is_tls, may) in [
        ("http://localhost:7680", "localhost:7680", false, true),
        ("http://localhost:7680", "localhost:7680", true, false),
        ("https://localhost:7680", "localhost:7680", false, true),
        ("https://localhost:7680", "localhost:7680", true, true),
        ("http://localhost", "localhost:80", false, true),
        ("http://localhost", "localhost:443", false, false),
        ("http://localhost:8000", "localhost:7680", false, false),
        ("http://[::1]:7680", "[::1]:7680", false, true),
        ("http://[::1]", "[::1]", false, true),
        ("file://", "localhost", false, false),
        ("", "", false, false),
    ] {
        assert_eq!(Pages { origins: &[], is_tls }.is_same(origin, host), may, "{origin} {host} {is_tls}");
    }
}

#[test]
fn the_longest_head_is_taken_and_one_byte_more_is_not() {
    let padded = |bytes: usize| {
        let cookie = "x".repeat(bytes - REQUEST.len() - "Cookie: \r\n".len());
        REQUEST.replace("Host:", &format!("Cookie: {cookie}\r\nHost:"))
    };
    assert_eq!(padded(UPGRADE_BYTES_MAX).len(), UPGRADE_BYTES_MAX);
    assert!(matches!(ask(&padded(UPGRADE_BYTES_MAX)), Step::Upgraded(_)));
    assert_eq!(refused(ask(&padded(UPGRADE_BYTES_MAX + 1))), (431, Refusal::TooLong));
    let mut upgrade = Upgrade::new();
    for _ in 1..UPGRADE_BYTES_MAX {
        assert_eq!(upgrade.bytes(b"G", SAME), Step::More);
    }
    assert_eq!(upgrade.held_bytes(), UPGRADE_BYTES_MAX - 1);
    assert_eq!(refused(upgrade.bytes(b"G", SAME)), (431, Refusal::TooLong));
    assert_eq!(upgrade.held_bytes(), 0);
    let many = REQUEST.replace("Host:", &format!("{}Host:", "A: b\r\n".repeat(UPGRADE_HEADERS_MAX)));
    assert_eq!(refused(ask(&many)), (431, Refusal::TooLong));
}

#[test]
fn a_bye_before_the_upgrade_is_said_as_http() {
    for (code, retry_after_ms, status, headers) in [
        (ErrorCode::TooManyConnections, 200, "503 Service Unavailable", "Retry-After: 1\r\n"),
        (ErrorCode::Stopping, 1_000, "503 Service Unavailable", "Retry-After: 1\r\n"),
        (ErrorCode::HandshakeTimeout, 0, "408 Request Timeout", ""),
        (ErrorCode::TlsRequired, 0, "400 Bad Request", ""),
    ] {
        let text = String::from_utf8(instead_of(&bye(code, retry_after_ms, "so it is"))).unwrap();
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Type")),
            "{text}"
        );
        assert!(text.ends_with(&format!("\r\n\r\n{}: so it is\n", code.name())), "{text}");
    }
}

proptest! {
    #[test]
    fn any_cut_of_a_head_gives_the_same(
        change in prop_oneof![Just(None), (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some)],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut head = REQUEST.as_bytes().to_vec();
        if let Some((at, byte)) = change {
            let at = at.index(head.len());
            head[at] = byte;
        }
        // What follows a head is refused only if it comes with it.
        let end = head.windows(END.len()).position(|window| window == END).map_or(head.len(), |end| end + END.len());
        head.truncate(end);
        let whole = Upgrade::new().bytes(&head, SAME);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(head.len() + 1)).chain([0, head.len()]).collect();
        cuts.sort_unstable();
        let mut upgrade = Upgrade::new();
        let mut step = Step::More;
        for range in cuts.windows(2).map(|pair| pair[0]..pair[1]) {
            step = upgrade.bytes(&head[range], SAME);
            prop_assert!(upgrade.held_bytes() < UPGRADE_BYTES_MAX);
            if step != Step::More {
                break;
            }
        }
        prop_assert_eq!(step, whole);
    }

    #[test]
    fn noise_never_panics(pieces: Vec<Vec<u8>>) {
        let mut upgrade = Upgrade::new();
        for piece in &pieces {
            if upgrade.bytes(piece, SAME) != Step::More {
                break;
            }
        }
    }
}
