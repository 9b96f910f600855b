//! What the push service is made from: the keys and accounts that the configuration names, read and checked. Owns the server's own key of
//! Web Push in the data folder, which is made once.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use proto_spec::Provider;
use push::{
    ProviderKind, Settings, Way,
    handover::node::{News, Services},
    hosts::HostRules,
    keys::{ApnsKey, BadKey, ServiceAccount, VapidKey, WebhookKey, public_from_text},
    limits::{APNS_URL, FCM_URL},
    settings::{Apns, Fcm, Pace, ServiceUrl, TagKey, WebPush, Webhook},
};
use rustls::RootCertStore;
use thiserror::Error;
use tracing::{info, warn};

use crate::{
    config,
    files::keyfile::{self, KeyFileError},
};

/// Where APNs is for apps that are being developed.
const APNS_SANDBOX_URL: &str = "https://api.sandbox.push.apple.com";

/// The key by which push services know a server, in its data folder.
pub const WEB_PUSH_KEY: &str = "web-push-key.pem";

/// Why nobody could be notified.
#[derive(Debug, Error)]
pub enum PushFileError {
    /// A file can not be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A file holds something else.
    #[error("{path}: {error}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: BadKey,
    },
    /// What the configuration says is none of what it should be.
    #[error("{key}: {error}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong.
        error: String,
    },
    /// There is nobody whose certificates could be believed.
    #[error(
        "no certificates of authorities are found on this machine, by which push providers could be known: install those of the \
         system (ca-certificates)"
    )]
    NoRoots,
}

/// Makes the data folder's own key of Web Push, if it is the one to be used, and not there yet.
///
/// # Errors
/// It can not be written.
pub fn make_key(config: &config::Push, data: &Path) -> Result<(), KeyFileError> {
    if config.web_push.contact.is_empty() || config.web_push_key_file().is_some() {
        return Ok(());
    }
    keyfile::write_if_missing(&data.join(WEB_PUSH_KEY), VapidKey::generate_pem().as_bytes())
}

/// By whom people are notified of a node with this data folder; none: by nobody. Reads only.
///
/// # Errors
/// A file or a value can not be used.
pub fn load(config: &config::Push, data: &Path) -> Result<Option<Way>, PushFileError> {
    if !config.services.urls.is_empty() {
        return services(config).map(|services| Some(services.into()));
    }
    if config.has_provider() { own(config, data).map(|settings| Some(settings.into())) } else { Ok(None) }
}

/// The key that servers and push services of their own prove themselves with.
///
/// # Errors
/// The file can not be used.
pub fn services_key(config: &config::Push) -> Result<WebhookKey, PushFileError> {
    webhook_key(&config.services.key_file, &mut Vec::new())
}

fn services(config: &config::Push) -> Result<Services, PushFileError> {
    let config::Services { urls, providers, web_push_key, .. } = &config.services;
    let urls = urls.iter().map(|url| value("push.services.urls", url)).collect::<Result<Vec<ServiceUrl>, _>>()?;
    let server_key = match &**web_push_key {
        "" => None,
        text => Some(public_from_text(text).ok_or_else(|| PushFileError::Value {
            key: "push.services.web_push_key",
            error: format!(
                "{text:?} is no public key of P-256 in base64url: `ringpost push-service` tells it at its start"
            ),
        })?),
    };
    let roots = roots();
    if roots.is_empty() && config.services.urls.iter().any(|url| url.starts_with("https:")) {
        return Err(PushFileError::NoRoots);
    }
    Ok(Services {
        urls,
        key: services_key(config)?,
        // Each once, however often it is named.
        providers: ProviderKind::ALL
            .into_iter()
            .filter(|kind| providers.iter().any(|name| name == kind.name()))
            .collect(),
        server_key,
        hosts: host_rules(&config.web_push)?,
        roots,
        pace: Pace::default(),
        tell: |news| match news {
            News::Away { url, why } => {
                warn!(url, why, "a push service takes no notices: others do its part, or they wait until it is back");
            }
            News::Back { url } => info!(url, "a push service takes notices again"),
        },
    })
}

/// What the push service of this process is made from.
///
/// # Errors
/// A file or a value can not be used.
pub fn own(config: &config::Push, data: &Path) -> Result<Settings, PushFileError> {
    // One that all nodes have, for the tags of conversations: that of the first provider there is.
    let mut secrets = Vec::new();
    let webhook = match &*config.webhook.url {
        "" => None,
        url => {
            let key = webhook_key(&config.webhook.key_file, &mut secrets)?;
            Some(Webhook { url: value("push.webhook.url", url)?, key })
        }
    };
    let fcm = match &*config.fcm.account_file {
        path if path.as_os_str().is_empty() => None,
        path => {
            let account =
                ServiceAccount::from_json(&read(path, &mut secrets)?).map_err(|error| bad_key(path, error))?;
            Some(Fcm { account, url: value("push.fcm.account_file", FCM_URL)? })
        }
    };
    let apns = apns(&config.apns, &mut secrets)?;
    // Last, because the folder's own key may be missing before the first start.
    let web_push = web_push(config, data, &mut secrets)?;
    let tag_key = TagKey::derived_from(secrets.first().map_or(&[][..], Vec::as_slice));
    let roots = roots();
    let is_plain = config.webhook.url.starts_with("http:") && web_push.is_none() && fcm.is_none() && apns.is_none();
    if roots.is_empty() && !is_plain {
        return Err(PushFileError::NoRoots);
    }
    Ok(Settings { web_push, webhook, fcm, apns, tag_key, roots, pace: Pace::default() })
}

/// The providers that notices go to, as clients know them.
#[must_use]
pub fn providers(way: &Way) -> Vec<Provider> {
    let provider = |kind| match kind {
        ProviderKind::WebPush => Provider::WebPush,
        ProviderKind::Webhook => Provider::Webhook,
        ProviderKind::Fcm => Provider::Fcm,
        ProviderKind::Apns => Provider::Apns,
    };
    way.providers().into_iter().map(provider).collect()
}

fn webhook_key(path: &Path, secrets: &mut Vec<Vec<u8>>) -> Result<WebhookKey, PushFileError> {
    let text = read(path, secrets)?;
    let text = String::from_utf8_lossy(&text);
    WebhookKey::from_text(text.trim_end()).map_err(|error| bad_key(path, error))
}

fn web_push(config: &config::Push, data: &Path, secrets: &mut Vec<Vec<u8>>) -> Result<Option<WebPush>, PushFileError> {
    let contact = &*config.web_push.contact;
    if contact.is_empty() {
        return Ok(None);
    }
    let contact = value("push.web_push.contact", contact)?;
    let path = config.web_push_key_file().map_or_else(|| data.join(WEB_PUSH_KEY), Path::to_owned);
    let key = VapidKey::from_pem(&read(&path, secrets)?).map_err(|error| bad_key(&path, error))?;
    Ok(Some(WebPush { key, contact, hosts: host_rules(&config.web_push)? }))
}

/// Which hosts endpoints may name.
fn host_rules(config: &config::WebPush) -> Result<HostRules, PushFileError> {
    let rules = |key, hosts: &[String]| hosts.iter().map(|host| value(key, host)).collect::<Result<_, _>>();
    Ok(HostRules {
        outside: rules("push.web_push.hosts", &config.hosts)?,
        inside: rules("push.web_push.inside_hosts", &config.inside_hosts)?,
    })
}

fn apns(config: &config::Apns, secrets: &mut Vec<Vec<u8>>) -> Result<Option<Apns>, PushFileError> {
    let config::Apns { key_file, key_id, team_id, topic, sandbox } = config;
    if key_file.as_os_str().is_empty() {
        return Ok(None);
    }
    let key =
        ApnsKey::from_pem(&read(key_file, secrets)?, key_id, team_id).map_err(|error| bad_key(key_file, error))?;
    let url = if *sandbox { APNS_SANDBOX_URL } else { APNS_URL };
    Ok(Some(Apns { key, topic: value("push.apns.topic", topic)?, url: value("push.apns.sandbox", url)? }))
}

/// A file that nobody else may read; what is in it is among the secrets.
fn read(path: &Path, secrets: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, KeyFileError> {
    let bytes = keyfile::read_secret(path)?;
    secrets.push(bytes.clone());
    Ok(bytes)
}

fn bad_key(path: &Path, error: BadKey) -> PushFileError {
    PushFileError::Key { path: path.to_owned(), error }
}

fn value<T: FromStr<Err: ToString>>(key: &'static str, text: &str) -> Result<T, PushFileError> {
    text.parse().map_err(|error: T::Err| PushFileError::Value { key, error: error.to_string() })
}

/// The authorities that the system believes.
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

#[cfg(test)]
mod tests {
    use push::hosts::{BadEndpoint, Reach};

    use super::*;

    #[test]
    fn only_what_the_operator_calls_inside_may_have_any_address() {
        let usual = config::WebPush::default();
        assert_eq!(host_rules(&usual).unwrap(), HostRules::default());
        let (hosts, inside_hosts) = (vec!["*.example.org".to_owned()], vec!["ntfy.home:8443".to_owned()]);
        let rules = host_rules(&config::WebPush { hosts, inside_hosts, ..usual }).unwrap();
        let reach = |endpoint| rules.allow(endpoint).map(|endpoint| endpoint.reach);
        assert_eq!(reach("https://push.example.org/x"), Ok(Reach::Public));
        assert_eq!(reach("https://ntfy.home:8443/x"), Ok(Reach::Any));
        assert_eq!(reach("https://fcm.googleapis.com/x"), Err(BadEndpoint::HostNotAllowed));
    }
}
