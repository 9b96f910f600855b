//! `[web]`: the web page that is in the server, and who is shown it.

use super::{
    Config,
    key::{Key, Slot, Words},
};

/// The web page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Web {
    /// Who is shown it.
    pub page: Page,
}

/// Who is shown the web page, of those who ask where browsers connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// Everybody, if browsers connect from this machine alone.
    #[default]
    Loopback,
    /// Everybody.
    Everywhere,
    /// Nobody.
    Off,
}

impl Words for Page {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Loopback, "loopback"), (Self::Everywhere, "everywhere"), (Self::Off, "off")];
}

impl Web {
    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { page } = self;
        vec![Key { name: "web.page", slot: Slot::Choice(page) }]
    }
}

impl Config {
    /// Whether the web page is served where browsers connect.
    #[must_use]
    pub fn shows_page(&self) -> bool {
        let browsers = self.listeners().into_iter().filter(|listener| listener.transport.is_websocket());
        match self.web.page {
            Page::Loopback => browsers.into_iter().all(|listener| listener.address.ip().is_loopback()),
            Page::Everywhere => true,
            Page::Off => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{parse, problems};

    #[test]
    fn the_page_is_served_beyond_loopback_if_the_operator_says_so() {
        let tls = "[tls]\ncert_file = \"c\"\nkey_file = \"k\"\n[websocket]\nlisten = \"127.0.0.1:7680\"\n";
        let beyond = format!("{tls}tls_listen = \"0.0.0.0:7681\"\n");
        for (text, is_shown) in [
            (tls.to_owned(), true),
            (format!("{tls}[web]\npage = \"off\""), false),
            (beyond.clone(), false),
            (format!("{beyond}[web]\npage = \"everywhere\""), true),
        ] {
            assert_eq!(parse(&text).unwrap().shows_page(), is_shown, "{text}");
        }
        let found = problems("[web]\npage = true");
        assert!(found.len() == 1 && found[0].key == "web.page", "{found:?}");
    }
}
