//! What a newcomer is told when the server serves.

use std::{env, fmt::Write as _, fs, net::SocketAddr};

use proto_spec::WEBSOCKET_PATH;
use server::{
    config::Config,
    files::{
        credentials::key_path,
        datadir::{self, DataDir},
        keyfile,
    },
    operator::shell::quoted,
};

use crate::arguments::ServeArguments;

/// Where the server really listens: differs from the configuration where that has port 0.
pub(crate) struct Addresses {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) websocket: Option<SocketAddr>,
    pub(crate) websocket_tls: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}

/// What a newcomer must know, with commands that work as they are printed, in any folder.
pub(crate) fn greeting(config: &Config, data: &DataDir, addresses: Addresses, arguments: &ServeArguments) -> String {
    let Addresses { listen, tls, websocket, websocket_tls, admin } = addresses;
    let config_file = arguments.config.as_deref();
    let mut text = String::new();
    // Writing to a String can not fail.
    let mut line = |name: &str, value: &str| _ = writeln!(text, "{name:<9}{value}");
    line("Ringpost", &format!("{} serves on {listen}, cores: {}", env!("CARGO_PKG_VERSION"), config.cores()));
    match tls {
        Some(tls) if tls == listen => line("", "with TLS 1.3, and nothing else"),
        Some(tls) => line("", &format!("and with TLS 1.3 on {tls}")),
        None => {}
    }
    for (scheme, address) in [("ws", websocket), ("wss", websocket_tls)] {
        if let Some(address) = address {
            line("", &format!("and browsers on {scheme}://{address}{WEBSOCKET_PATH}"));
        }
    }
    line("data", &data.path().display().to_string());
    if let Some(admin) = admin {
        line("metrics", &format!("http://{admin}/metrics (also /health, /ready)"));
    }
    let own = own_command();
    let source = match (config.auth.key_file(), config_file) {
        (Some(_), Some(file)) => format!("--config {}", quoted(std::path::absolute(file).unwrap_or(file.into()))),
        _ => format!("--data {}", quoted(data.path())),
    };
    let mints = keyfile::load_signing_key(&key_path(config)).is_ok();
    if mints {
        line("tokens", &format!("{own} token --user 7 {source} --out t7"));
        line("", &format!("{own} token --user 8 {source} --out t8"));
    } else {
        line("tokens", "minted elsewhere: the key here is a public one");
    }
    let at = tls.unwrap_or(listen);
    let mut server = if at == Config::default().listen { String::new() } else { format!(" --server {at}") };
    if arguments.tls_self_signed {
        server += &format!(" --tls-ca {}", quoted(datadir::tls_paths(data.path()).0));
        if !own_names().contains(&at.ip().to_string()) {
            server += " --tls-name localhost";
        }
    } else if tls.is_some() {
        server += " --tls --tls-name localhost";
    }
    line("chat", &format!("{own} chat --token-file t7 --to 8{server}"));
    line("", &format!("{own} chat --token-file t8 --to 7{server}   (in another terminal)"));
    if tls.is_some() && !arguments.tls_self_signed {
        line("", "where `localhost` stands for a name of the certificate");
    }
    for (scheme, address) in [("http", websocket), ("https", websocket_tls)] {
        if let Some(address) = address.filter(|_| config.shows_page()) {
            line("page", &format!("{scheme}://{address}/"));
            if mints {
                line("", &format!("{own} token --user 7 {source} --web {scheme}://{address}   (a link that signs in)"));
            }
        }
    }
    line("stop", "Ctrl-C or SIGTERM; a second one exits at once");
    text
}

/// How to call this program: by its name if the shell finds this very file.
fn own_command() -> String {
    const NAME: &str = "ringpost";
    let Ok(own) = env::current_exe() else { return NAME.to_owned() };
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|folder| folder.join(NAME)).find(|path| path.is_file());
    match found.and_then(|found| found.canonicalize().ok()) {
        Some(found) if Some(found.as_path()) == own.canonicalize().ok().as_deref() => NAME.to_owned(),
        _ => quoted(&own),
    }
}

/// What a client on this machine, or beside it, may call it.
pub(crate) fn own_names() -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_owned();
    if host.starts_with(|c: char| c.is_ascii_alphanumeric()) && !names.contains(&host) {
        names.push(host);
    }
    names
}
