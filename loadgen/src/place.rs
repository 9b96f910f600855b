//! Place: where something listens, as people write it: `localhost`, `chat.example:7600`, `127.0.0.1`, `[::1]:7600`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

use crate::limits::PLACE_TIMEOUT_MS;

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As it was written, without the port.
    pub host: String,
    /// Where that is.
    pub address: SocketAddr,
}

impl Place {
    /// Finds the place. Of several addresses of a name, the first one where somebody listens.
    ///
    /// # Errors
    /// It is not written as a place, or the name is not known.
    pub fn find(text: &str, default_port: u16) -> anyhow::Result<Self> {
        let (host, port) = split(text, default_port)?;
        let found =
            (host.as_str(), port).to_socket_addrs().with_context(|| format!("no address of {host} is known"))?;
        let addresses: Vec<SocketAddr> = found.collect();
        let patience = Duration::from_millis(PLACE_TIMEOUT_MS);
        let listens = |address: &&SocketAddr| TcpStream::connect_timeout(address, patience).is_ok();
        let several = if addresses.len() > 1 { addresses.as_slice() } else { &[] };
        // Where nobody listens the run says so itself.
        let address = several.iter().find(listens).or(addresses.first());
        Ok(Self { address: *address.with_context(|| format!("{host} has no address"))?, host })
    }
}

impl fmt::Display for Place {
    /// As a redirect writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.address.port();
        if self.host.contains(':') { write!(f, "[{}]:{port}", self.host) } else { write!(f, "{}:{port}", self.host) }
    }
}

/// The host and the port.
fn split(text: &str, default_port: u16) -> anyhow::Result<(String, u16)> {
    ensure!(
        !text.contains("://"),
        "{text}: an address is written without `{}`",
        &text[..=text.find("://").unwrap_or(0) + 2]
    );
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok((address.to_string(), default_port));
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, default_port),
        Some((host, port)) => match port.parse() {
            Ok(port) if port > 0 => (host, port),
            _ => bail!("{text}: a port is a number from 1 to 65535, not `{port}`"),
        },
    };
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_name = |host: &str| host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    ensure!(
        !host.is_empty() && (is_name(host) || host.parse::<IpAddr>().is_ok()),
        "{text}: `{host}` is no name or address"
    );
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_place_is_a_name_or_an_address_with_a_port_or_without() {
        for (text, host, port) in [
            ("localhost", "localhost", 7600),
            ("localhost:1", "localhost", 1),
            ("chat.example:65535", "chat.example", 65_535),
            ("127.0.0.1", "127.0.0.1", 7600),
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("::1", "::1", 7600),
            ("[::1]", "::1", 7600),
            ("[::1]:80", "::1", 80),
        ] {
            assert_eq!(split(text, 7600).unwrap(), (host.to_owned(), port), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_in_words() {
        for (text, words) in [
            ("localhost:", "a port is a number from 1 to 65535, not ``"),
            ("localhost:0", "not `0`"),
            ("localhost:99999", "not `99999`"),
            ("localhost:x", "not `x`"),
            ("", "`` is no name or address"),
            (":7600", "`` is no name or address"),
            ("a b:7600", "`a b` is no name or address"),
            ("http://localhost:7601", "without `http://`"),
            ("[::1:80", "no name or address"),
        ] {
            let error = split(text, 7600).unwrap_err().to_string();
            assert!(error.starts_with(text) && error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn of_the_addresses_of_a_name_the_one_is_taken_where_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let place = Place::find(&format!("localhost:{}", address.port()), 7600).unwrap();
        assert_eq!((place.host.as_str(), place.address), ("localhost", address));
        assert!(Place::find("no-such-host.invalid", 7600).unwrap_err().to_string().contains("no-such-host.invalid"));
    }
}
