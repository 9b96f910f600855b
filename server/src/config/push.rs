//! `[push]`: whom people are notified by while they are away. Owns its keys, defaults and bounds. Which provider is used is which of them
//! has what it needs; without any nobody is notified.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use push::{
    ProviderKind,
    hosts::{HostRule, KNOWN},
    limits::SERVICES_MAX,
    settings::ServiceUrl,
};

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
    /// Processes of their own that talk to the providers instead of this server.
    pub services: Services,
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

/// Push services that are processes of their own. The address is read by such a process, the key by both, and the rest by servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// Where the processes are; none: this server talks to the providers itself.
    pub urls: Vec<String>,
    /// File of the key that servers prove themselves to them with.
    pub key_file: PathBuf,
    /// The providers that they talk to.
    pub providers: Vec<String>,
    /// The public part of their key of Web Push, as they tell it.
    pub web_push_key: String,
    /// Where such a process listens.
    pub listen: SocketAddr,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            key_file: PathBuf::new(),
            providers: Vec::new(),
            web_push_key: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7602)),
        }
    }
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
            services: Services::default(),
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

fn check_url(text: &str) -> Result<(), Refusal> {
    text.parse::<ServiceUrl>().map(drop).map_err(|bad| Refusal::because(bad.to_string()))
}

fn check_provider(text: &str) -> Result<(), Refusal> {
    match ProviderKind::named(text) {
        Some(_) => Ok(()),
        None => Err(Refusal::because(format!("{text:?} is no provider"))),
    }
}

impl Push {
    /// Whether anybody is notified.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.has_provider() || !self.services.urls.is_empty()
    }

    /// Whether this process is to talk to a provider.
    #[must_use]
    pub fn has_provider(&self) -> bool {
        let Self { web_push, webhook, fcm, apns, .. } = self;
        !web_push.contact.is_empty() || !webhook.url.is_empty() || is_set(&fcm.account_file) || is_set(&apns.key_file)
    }

    /// The file of the key of Web Push, if it is not the data folder's own.
    #[must_use]
    pub fn web_push_key_file(&self) -> Option<&Path> {
        Some(&*self.web_push.key_file).filter(|path| is_set(path))
    }

    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { delay_ms, web_push, webhook, fcm, apns, services } = self;
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
            Key {
                name: "push.services.urls",
                slot: Slot::Texts {
                    value: &mut services.urls,
                    check: check_url,
                    what: "URLs, each with http or https, a host and perhaps a port",
                    example: "http://10.0.0.5:7602",
                },
            },
            Key {
                name: "push.services.key_file",
                slot: file(
                    &mut services.key_file,
                    "/etc/ringpost/push-services.key",
                    "that there are no such processes",
                ),
            },
            Key {
                name: "push.services.providers",
                slot: Slot::Texts {
                    value: &mut services.providers,
                    check: check_provider,
                    what: "providers: \"web_push\", \"webhook\", \"fcm\", \"apns\"",
                    example: "web_push",
                },
            },
            Key {
                name: "push.services.web_push_key",
                slot: text(
                    &mut services.web_push_key,
                    "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM",
                ),
            },
            Key { name: "push.services.listen", slot: Slot::Address(&mut services.listen) },
        ]
    }

    /// How the values go together for a server.
    pub(super) fn check(&self, check: &mut Check<'_>) {
        self.check_providers(check);
        let Self { web_push, services, .. } = self;
        let is_cluster = check.config.cluster.name().is_some() || check.config.cluster.file().is_some();
        check.that(
            !is_cluster || web_push.contact.is_empty() || is_set(&web_push.key_file),
            &["push.web_push.key_file", "push.web_push.contact"],
            || "is needed in a cluster: browsers subscribe with one key, whichever node they come to".to_owned(),
        );
        let has_services = !services.urls.is_empty();
        check.that(!has_services || !self.has_provider(), &["push.services.urls"], || {
            "are not used beside providers of this server's own: name these in the file of `ringpost push-service`"
                .to_owned()
        });
        check.that(services.urls.len() <= SERVICES_MAX, &["push.services.urls"], || {
            format!("are more than {SERVICES_MAX}")
        });
        check.that(
            !has_services || is_set(&services.key_file),
            &["push.services.key_file", "push.services.urls"],
            || "is needed with push.services.urls: they take what is signed with it".to_owned(),
        );
        check.that(
            has_services != services.providers.is_empty(),
            &["push.services.providers", "push.services.urls"],
            || "push.services.providers and push.services.urls need each other".to_owned(),
        );
        let by_web_push = services.providers.iter().any(|provider| provider == ProviderKind::WebPush.name());
        check.that(
            by_web_push != services.web_push_key.is_empty(),
            &["push.services.web_push_key", "push.services.providers"],
            || {
                "is needed with the provider \"web_push\", and with it alone: `ringpost push-service` tells it at its start"
                    .to_owned()
            },
        );
    }

    /// How the values go together for a push service that is a process of its own.
    pub(super) fn check_process(&self, check: &mut Check<'_>) {
        self.check_providers(check);
        let Self { web_push, services, .. } = self;
        check.that(self.has_provider(), &["push.web_push.contact"], || {
            "there is no provider: name one in [push.web_push], [push.webhook], [push.fcm] or [push.apns]".to_owned()
        });
        check.that(is_set(&services.key_file), &["push.services.key_file"], || {
            "is needed: what is not signed with it is not taken".to_owned()
        });
        let is_meant = check.config.allow_plain_tcp_beyond_loopback;
        check.that(services.listen.ip().is_loopback() || is_meant, &["push.services.listen"], || {
            "texts would go over the network in plain: have a proxy on this machine speak https to servers, or write \
             allow_plain_tcp_beyond_loopback = true, if that network is yours"
                .to_owned()
        });
        check.that(services.urls.is_empty(), &["push.services.urls"], || {
            "is for servers: a push service hands nothing on".to_owned()
        });
        check.that(
            web_push.contact.is_empty() || is_set(&web_push.key_file),
            &["push.web_push.key_file", "push.web_push.contact"],
            || "is needed: browsers subscribe with one key, whichever push service sends to them".to_owned(),
        );
    }

    fn check_providers(&self, check: &mut Check<'_>) {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        ConfigError, Draft,
        tests::{parse, problems},
    };

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
    fn a_server_has_providers_or_push_services_with_all_that_these_need() {
        let whole = "urls = [\"http://10.0.0.5:7602\", \"https://push.chat.example\"]\nkey_file = \"k\"\n\
                     providers = [\"web_push\", \"fcm\"]\nweb_push_key = \"x\"\n";
        assert!(parse(&format!("[push.services]\n{whole}")).unwrap().push.is_on());
        for (from, to, key) in [
            ("key_file = \"k\"\n", "", "push.services.key_file"),
            ("\"web_push\", \"fcm\"", "", "push.services.providers"),
            ("\"web_push\", ", "", "push.services.web_push_key"),
            ("web_push_key = \"x\"\n", "", "push.services.web_push_key"),
            (
                "web_push_key = \"x\"\n",
                "web_push_key = \"x\"\n[push.fcm]\naccount_file = \"f\"\n",
                "push.services.urls",
            ),
            ("http://10.0.0.5:7602", "10.0.0.5:7602", "push.services.urls"),
            ("\"fcm\"", "\"gcm\"", "push.services.providers"),
            ("urls = [", "listen = \"x\"\nurls = [", "push.services.listen"),
        ] {
            assert!(whole.contains(from));
            let found = problems(&format!("[push.services]\n{}", whole.replacen(from, to, 1)));
            assert!(found.len() == 1 && found[0].key == key, "{to}: {found:?}");
        }
        let many = "\"http://10.0.0.5:7602\",".repeat(SERVICES_MAX + 1);
        let found = problems(&format!("[push.services]\n{}", whole.replace("\"http://10.0.0.5:7602\",", &many)));
        assert!(found.len() == 1 && found[0].reason.contains("more than 64"), "{found:?}");
    }

    #[test]
    fn a_push_service_needs_a_provider_a_secret_and_keys_that_all_of_them_have() {
        let whole = "[push.services]\nkey_file = \"k\"\n[push.web_push]\ncontact = \"mailto:a@chat.example\"\nkey_file = \"w\"\n";
        let push_service = |text: &str| Draft::parse(text, Path::new("x.toml")).finish_push_service();
        assert!(push_service(whole).unwrap().has_provider());
        for (from, to, key) in [
            ("key_file = \"k\"", "", "push.services.key_file"),
            ("key_file = \"w\"", "", "push.web_push.key_file"),
            ("contact = \"mailto:a@chat.example\"\nkey_file = \"w\"", "", "push.web_push.contact"),
            ("key_file = \"k\"", "key_file = \"k\"\nlisten = \"0.0.0.0:7602\"", "push.services.listen"),
            ("key_file = \"k\"", "key_file = \"k\"\nurls = [\"http://10.0.0.5\"]", "push.services.urls"),
        ] {
            assert!(whole.contains(from));
            let Err(ConfigError::Invalid(found)) = push_service(&whole.replacen(from, to, 1)) else { panic!("{to}") };
            assert!(found.len() == 1 && found[0].key == key, "{to}: {found:?}");
        }
        let meant = whole.replace("key_file = \"k\"", "key_file = \"k\"\nlisten = \"0.0.0.0:7602\"");
        push_service(&format!("allow_plain_tcp_beyond_loopback = true\n{meant}")).unwrap();
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
