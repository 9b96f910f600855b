//! A link that signs in to the web page. The token is in its fragment, which browsers send to no server and the page takes out of the address.

use std::fmt::Write as _;

use hyper::Uri;
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2, types::QrError};

/// The address of a page: `http` or `https`, a host, perhaps a port, and nothing else. Without a slash at its end.
///
/// # Errors
/// It is no such address.
pub fn parse_page(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "a page has an address like https://chat.example.org or http://127.0.0.1:7680";
    let uri: Uri = text.parse().map_err(|_| WRONG)?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or(WRONG)?;
    let host = uri.authority().filter(|host| !host.as_str().contains('@')).ok_or(WRONG)?;
    // What is behind a `#` is not in a `Uri`.
    if uri.path_and_query().is_some_and(|rest| rest != "/") || text.contains('#') {
        return Err(WRONG);
    }
    Ok(format!("{scheme}://{host}"))
}

/// The link that signs in to a page with a token.
#[must_use]
pub fn link(page: &str, token: &str) -> String {
    format!("{page}/#token={token}")
}

/// A link as a code that a phone reads off a terminal, black on white whatever its colours are.
///
/// # Errors
/// The link is longer than a code can be.
pub fn code(link: &str) -> Result<String, QrError> {
    // A screen is not torn or soiled: the least correction makes the smallest code.
    let code = QrCode::with_error_correction_level(link, EcLevel::L)?;
    let mut text = String::new();
    for line in code.render::<Dense1x2>().build().lines() {
        // Writing to a String can not fail.
        let _ = writeln!(text, "\x1b[30;107m{line}\x1b[0m");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_host_of_the_web_and_nothing_else() {
        for page in ["https://chat.example.org", "http://127.0.0.1:7680", "http://[::1]:7680"] {
            assert_eq!(parse_page(page).unwrap(), page);
            assert_eq!(parse_page(&format!("{page}/")).unwrap(), page);
        }
        for text in [
            "",
            "chat.example.org",
            "ws://chat.example.org",
            "https://",
            "https://chat.example.org/app",
            "https://chat.example.org/?a",
            "https://chat.example.org/#token=a",
            "https://me@chat.example.org",
            "https://chat example.org",
        ] {
            assert!(parse_page(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_code_is_a_square_and_has_room_around_it() {
        let code = code(&link("https://chat.example.org", &"a".repeat(300))).unwrap();
        let lines: Vec<_> =
            code.lines().map(|line| line.trim_start_matches("\x1b[30;107m").trim_end_matches("\x1b[0m")).collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        // Two rows of the code are a line.
        assert_eq!(lines.len(), width.div_ceil(2));
        assert!(lines[..2].iter().all(|line| line.trim().is_empty()), "a reader needs four modules of white");
        assert!(code.len() > width && super::code(&"a".repeat(4_000)).is_err());
    }
}
