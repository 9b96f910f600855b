//! `[push]`: whom people are notified by while they are away. Owns its keys, defaults and bounds. Which provider is used is which of them
//! has what it needs; without any nobody is notified.

use std::path::{Path, PathBuf};

use push::hosts::{HostRule, KNOWN};

use super::{
    Check, file,
    key::{Key, Refusal, Slot, millis},
};

/// Whom people are notified by while they are away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// How long a message of somebody who is connected waits to be acknowledged, in milliseconds.
    pub delay_ms: u64,
    /// Web Push, to browsers.
    pub web_push: WebPush,
    /// The operator's gateway.
    pub webhook: Webhook,
    /// Firebase Cloud Messaging.
    pub fcm: Fcm,
    /// The Apple Push Notification service.
    pub apns: Apns,
}

/// Web Push, to browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebPush {
    /// Whom push services write to when something is wrong: a `mailto:` or `https:` URL; empty: there is no Web Push.
    pub contact: String,
    /// PEM file of the key by which push services know this server; empty: the data folder's own.
    pub key_file: PathBuf,
    /// Hosts that endpoints may name, if their addresses are public.
    pub hosts: Vec<String>,
    /// Hosts that endpoints may name whatever their addresses are.
    pub inside_hosts: Vec<String>,
}

/// The operator's gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Webhook {
    /// Where notices are posted to; empty: there is no gateway.
    pub url: String,
    /// File of the key that they are signed with.
    pub key_file: PathBuf,
}

/// Firebase Cloud Messaging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fcm {
    /// JSON file of the service account; empty: there is no FCM.
    pub account_file: PathBuf,
}

/// The Apple Push Notification service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apns {
    /// File of the key, `AuthKey_….p8`; empty: there is no APNs.
    pub key_file: PathBuf,
    /// What Apple calls the key.
    pub key_id: String,
    /// What Apple calls the team.
    pub team_id: String,
    /// The app's bundle id.
    pub topic: String,
    /// Whether the app is one that is being developed.
    pub sandbox: bool,
}

impl Default for WebPush {
    fn default() -> Self {
        let hosts = KNOWN.map(str::to_owned).to_vec();
        Self { contact: String::new(), key_file: PathBuf::new(), hosts, inside_hosts: Vec::new() }
    }
}

impl Default for Push {
    fn default() -> Self {
        Self {
            delay_ms: 5_000,
            web_push: WebPush::default(),
            webhook: Webhook::default(),
            fcm: Fcm::default(),
            apns: Apns::default(),
        }
    }
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// Hosts as they are named in a list.
fn hosts<'a>(value: &'a mut Vec<String>, example: &'static str) -> Slot<'a> {
    let what = "hosts, each as a name or \"*.\" and a name, with \":PORT\" if it is not 443";
    Slot::Texts { value, check: check_host, what, example }
}

fn check_host(text: &str) -> Result<(), Refusal> {
    let Err(bad) = text.parse::<HostRule>() else { return Ok(()) };
    let refusal = Refusal::because(bad.to_string());
    // An endpoint instead of its host.
    let name = text.trim_start_matches("https://").split('/').next().unwrap_or_default().to_ascii_lowercase();
    Err(if name.parse::<HostRule>().is_ok() { refusal.meant(format!("[\"{name}\"]")) } else { refusal })
}

impl Push {
    /// Whether anybody is notified.
    #[must_use]
    pub fn is_on(&self) -> bool {
        let Self { web_push, webhook, fcm, apns, .. } = self;
        !web_push.contact.is_empty() || !webhook.url.is_empty() || is_set(&fcm.account_file) || is_set(&apns.key_file)
    }

    /// The file of the key of Web Push, if it is not the data folder's own.
    #[must_use]
    pub fn web_push_key_file(&self) -> Option<&Path> {
        Some(&*self.web_push.key_file).filter(|path| is_set(path))
    }

    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { delay_ms, web_push, webhook, fcm, apns } = self;
        let text = |value, example| Slot::Text { value, example };
        vec![
            Key { name: "push.delay_ms", slot: millis(delay_ms, 0..=600_000).into() },
            Key { name: "push.web_push.contact", slot: text(&mut web_push.contact, "mailto:admin@chat.example") },
            Key {
                name: "push.web_push.key_file",
                slot: file(&mut web_push.key_file, "/etc/ringpost/push-key.pem", "the data folder's own key"),
            },
            Key { name: "push.web_push.hosts", slot: hosts(&mut web_push.hosts, "push.example.org") },
            Key {
                name: "push.web_push.inside_hosts",
                slot: hosts(&mut web_push.inside_hosts, "ntfy.example.org:8443"),
            },
            Key { name: "push.webhook.url", slot: text(&mut webhook.url, "https://gateway.example/notices") },
            Key {
                name: "push.webhook.key_file",
                slot: file(&mut webhook.key_file, "/etc/ringpost/webhook.key", "that there is no gateway"),
            },
            Key {
                name: "push.fcm.account_file",
                slot: file(&mut fcm.account_file, "/etc/ringpost/fcm.json", "that FCM is not used"),
            },
            Key {
                name: "push.apns.key_file",
                slot: file(&mut apns.key_file, "/etc/ringpost/AuthKey.p8", "that APNs is not used"),
            },
            Key { name: "push.apns.key_id", slot: text(&mut apns.key_id, "ABC123DEFG") },
            Key { name: "push.apns.team_id", slot: text(&mut apns.team_id, "DEF123GHIJ") },
            Key { name: "push.apns.topic", slot: text(&mut apns.topic, "example.chat") },
            Key { name: "push.apns.sandbox", slot: Slot::Switch(&mut apns.sandbox) },
        ]
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        let Self { web_push, webhook, apns, .. } = self;
        check.that(
            !is_set(&web_push.key_file) || !web_push.contact.is_empty(),
            &["push.web_push.key_file", "push.web_push.contact"],
            || "needs push.web_push.contact: push services want to know whom to write to".to_owned(),
        );
        check.that(
            !web_push.hosts.is_empty() || !web_push.inside_hosts.is_empty(),
            &["push.web_push.hosts", "push.web_push.inside_hosts"],
            || {
                "names no host, nor does push.web_push.inside_hosts: an empty push.web_push.contact turns Web Push off"
                    .to_owned()
            },
        );
        check.that(
            webhook.url.is_empty() != is_set(&webhook.key_file),
            &["push.webhook.url", "push.webhook.key_file"],
            || "push.webhook.url and push.webhook.key_file need each other: what is posted is signed".to_owned(),
        );
        let parts = [&apns.key_id, &apns.team_id, &apns.topic];
        check.that(
            !is_set(&apns.key_file) || parts.iter().all(|part| !part.is_empty()),
            &["push.apns.key_file", "push.apns.key_id", "push.apns.team_id", "push.apns.topic"],
            || "needs push.apns.key_id, push.apns.team_id and push.apns.topic".to_owned(),
        );
        let is_cluster = check.config.cluster.name().is_some() || check.config.cluster.file().is_some();
        check.that(
            !is_cluster || web_push.contact.is_empty() || is_set(&web_push.key_file),
            &["push.web_push.key_file", "push.web_push.contact"],
            || "is needed in a cluster: browsers subscribe with one key, whichever node they come to".to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{parse, problems};

    #[test]
    fn who_has_what_it_needs_is_used() {
        assert!(!parse("").unwrap().push.is_on());
        assert!(!parse("[push]\ndelay_ms = \"2 s\"").unwrap().push.is_on());
        for text in [
            "[push.web_push]\ncontact = \"mailto:a@chat.example\"",
            "[push.webhook]\nurl = \"http://127.0.0.1:1\"\nkey_file = \"k\"",
            "[push.fcm]\naccount_file = \"f\"",
            "[push.apns]\nkey_file = \"k\"\nkey_id = \"a\"\nteam_id = \"b\"\ntopic = \"c\"",
        ] {
            assert!(parse(text).unwrap().push.is_on(), "{text}");
        }
    }

    #[test]
    fn what_lacks_a_part_is_told_which() {
        for (text, key) in [
            ("[push.web_push]\nkey_file = \"k\"", "push.web_push.key_file"),
            ("[push.webhook]\nurl = \"http://127.0.0.1:1\"", "push.webhook.url"),
            ("[push.webhook]\nkey_file = \"k\"", "push.webhook.url"),
            ("[push.apns]\nkey_file = \"k\"\nkey_id = \"a\"", "push.apns.key_file"),
            ("[push]\ndelay_ms = 700000", "push.delay_ms"),
            ("[push.web_push]\nhosts = []", "push.web_push.hosts"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].key == key, "{text}: {found:?}");
        }
    }

    #[test]
    fn hosts_are_names_and_what_is_none_is_told_with_what_was_meant() {
        let parsed = parse("[push.web_push]\nhosts = []\ninside_hosts = [\"*.home:8443\", \"10.0.0.1\"]").unwrap();
        assert_eq!(parsed.push.web_push.inside_hosts, ["*.home:8443", "10.0.0.1"]);
        for (list, said, meant) in [
            ("[\"https://push.example.org/up\"]", "is no host", "hosts = [\"push.example.org\"]"),
            (
                "[\"fcm.googleapis.com\", \"Push.example.org\"]",
                "\"Push.example.org\" is no host",
                "[\"push.example.org\"]",
            ),
            ("[\"*\"]", "\"*\" is no host", "*.push.apple.com"),
            ("[7]", "something in the list is no text", "*.push.apple.com"),
            ("\"push.example.org\"", "brackets make it a list", "hosts = [\"push.example.org\"]"),
        ] {
            let found = problems(&format!("[push.web_push]\nhosts = {list}"));
            assert!(found.len() == 1 && found[0].key == "push.web_push.hosts", "{list}: {found:?}");
            let text = found[0].to_string();
            assert!(text.contains(said) && text.contains(meant), "{text}");
        }
    }
}
