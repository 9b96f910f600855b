//! What a newcomer is told when the server serves.

use std::{env, fmt::Write as _, fs, net::SocketAddr, path::Path};

use server::{
    config::Config,
    credentials::key_path,
    datadir::{self, DataDir},
    keyfile,
    shell::quoted,
};

use crate::arguments::ServeArguments;

/// Where the server really listens: differs from the configuration where that has port 0.
pub(crate) struct Addresses {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}

/// What a newcomer must know, with commands that work as they are printed, in any folder.
pub(crate) fn greeting(config: &Config, data: &DataDir, addresses: Addresses, arguments: &ServeArguments) -> String {
    let Addresses { listen, tls, admin } = addresses;
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
    line("data", &data.path().display().to_string());
    if let Some(admin) = admin {
        line("metrics", &format!("http://{admin}/metrics (also /health, /ready)"));
    }
    if keyfile::load_signing_key(&key_path(config)).is_ok() {
        let own = command_of("ringpost");
        let source = match (config.auth.key_file(), config_file) {
            (Some(_), Some(file)) => format!("--config {}", quoted(std::path::absolute(file).unwrap_or(file.into()))),
            _ => format!("--data {}", quoted(data.path())),
        };
        line("tokens", &format!("{own} token --user 7 {source} > t7"));
        line("", &format!("{own} token --user 8 {source} > t8"));
    } else {
        line("tokens", "minted elsewhere: the key here is a public one");
    }
    let chat = chat_command();
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
    line("chat", &format!("{chat} --token-file t7 --to 8{server}"));
    line("", &format!("{chat} --token-file t8 --to 7{server}   (in another terminal)"));
    if tls.is_some() && !arguments.tls_self_signed {
        line("", "where `localhost` stands for a name of the certificate");
    }
    line("stop", "Ctrl-C or SIGTERM; a second one exits at once");
    text
}

/// How to call the program of this name that lies beside this one: by its name if the shell finds that very file.
pub(crate) fn command_of(name: &str) -> String {
    let Ok(beside) = env::current_exe().map(|own| own.with_file_name(name)) else { return name.to_owned() };
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file());
    match found.and_then(|found| found.canonicalize().ok()) {
        Some(found) if Some(found.as_path()) == beside.canonicalize().ok().as_deref() => name.to_owned(),
        _ => quoted(&beside),
    }
}

pub(crate) fn chat_command() -> String {
    const CHAT: &str = "ringpost-chat";
    let is_beside = env::current_exe().is_ok_and(|own| own.with_file_name(CHAT).is_file());
    if is_beside {
        return command_of(CHAT);
    }
    // `cargo run` has built this program alone.
    match env::var_os("CARGO_MANIFEST_DIR") {
        Some(package) => {
            let workspace = Path::new(&package).with_file_name("Cargo.toml");
            let profile = if cfg!(debug_assertions) { "" } else { " --release" };
            format!("cargo run{profile} -q --manifest-path {} -p client --bin {CHAT} --", quoted(&workspace))
        }
        None => CHAT.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_chat_command_names_the_package_that_has_the_program() {
        // Beside this test's program lies no chat: it is run by cargo, from whatever folder.
        let command = chat_command();
        assert!(command.contains(" -p client --bin ringpost-chat --"), "{command}");
        let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../client/Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"client\"") && manifest.contains("name = \"ringpost-chat\""));
    }
}
