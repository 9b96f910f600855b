//! Among other nodes: `[cluster]`. Owns its keys. Which nodes there are is in a file of its own, the same on all of them
//! ([`crate::cluster::file`]), or in the database that all of them have: then each tells here what it is.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    Check, file,
    key::{Key, Slot, count, millis},
};
use crate::{cluster::map::WEIGHT_MAX, limits::LEASE_MS};

/// A server's place among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// File of the cluster's nodes; empty: there are no others. See [`Cluster::file`].
    pub file: PathBuf,
    /// What the cluster is called, where its nodes are in the database; empty: a file says which there are. See [`Cluster::name`].
    pub name: String,
    /// Which of them this server is.
    pub node: String,
    /// Where the others reach this node, where they are told so by the database.
    pub mesh: Option<SocketAddr>,
    /// Where clients reach it without TLS; empty: they do not. As `mesh`.
    pub clients: String,
    /// Where clients reach it by TLS; empty: they do not. As `mesh`.
    pub clients_tls: String,
    /// How much it owns, in proportion to the others. As `mesh`.
    pub weight: u16,
    /// How long a node that says nothing is taken for alive, in milliseconds. As `mesh`.
    pub lease_ms: u64,
    /// Clients a second that may be told to go to the next owner of a slot. As `mesh`.
    pub moves_per_s: u32,
    /// Where the others connect; none: at the address that the file says.
    pub listen: Option<SocketAddr>,
    /// PEM file of the certificate that this node shows others; empty: nodes talk in plain. See [`Cluster::tls`].
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// PEM file of the certificates that sign those of nodes, and of nobody else.
    pub ca_file: PathBuf,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            file: PathBuf::new(),
            name: String::new(),
            node: String::new(),
            mesh: None,
            clients: String::new(),
            clients_tls: String::new(),
            weight: 1,
            lease_ms: 3_000,
            moves_per_s: 1_000,
            listen: None,
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            ca_file: PathBuf::new(),
        }
    }
}

impl Cluster {
    /// What the cluster is called, if its nodes are in the database.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        (!self.name.is_empty()).then_some(&self.name)
    }

    /// The file of the cluster's nodes, if there are any.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        (!self.file.as_os_str().is_empty()).then_some(&self.file)
    }

    /// The files of certificate, key and authority, if nodes talk by TLS.
    #[must_use]
    pub fn tls(&self) -> Option<[&Path; 3]> {
        let is_there = !self.cert_file.as_os_str().is_empty();
        is_there.then_some([&self.cert_file, &self.key_file, &self.ca_file])
    }

    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self {
            file: path,
            name,
            node,
            mesh,
            clients,
            clients_tls,
            weight,
            lease_ms,
            moves_per_s,
            listen,
            cert_file,
            key_file,
            ca_file,
        } = self;
        let plain = "that nodes talk in plain";
        vec![
            Key {
                name: "cluster.file",
                slot: file(path, "/etc/ringpost/cluster.toml", "that there are no other nodes"),
            },
            Key { name: "cluster.name", slot: Slot::Text { value: name, example: "chat" } },
            Key { name: "cluster.node", slot: Slot::Text { value: node, example: "a" } },
            Key { name: "cluster.mesh", slot: Slot::AddressOrNone(mesh) },
            Key { name: "cluster.clients", slot: Slot::Text { value: clients, example: "a.example.org:7600" } },
            Key { name: "cluster.clients_tls", slot: Slot::Text { value: clients_tls, example: "a.example.org:7443" } },
            Key { name: "cluster.weight", slot: Slot::Number(count(weight, "", 1..=WEIGHT_MAX.into())) },
            Key { name: "cluster.lease_ms", slot: Slot::Number(millis(lease_ms, LEASE_MS)) },
            Key {
                name: "cluster.moves_per_s",
                slot: Slot::Number(count(moves_per_s, "clients a second", 1..=1_000_000)),
            },
            Key { name: "cluster.listen", slot: Slot::AddressOrNone(listen) },
            Key { name: "cluster.cert_file", slot: file(cert_file, "/etc/ringpost/node-cert.pem", plain) },
            Key { name: "cluster.key_file", slot: file(key_file, "/etc/ringpost/node-key.pem", plain) },
            Key { name: "cluster.ca_file", slot: file(ca_file, "/etc/ringpost/node-ca.pem", plain) },
        ]
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        const NEEDS: &str =
            "needs cluster.file too, the file of the cluster's nodes, or cluster.name, if they are in the database";
        let (has_file, has_name, has_node) = (self.file().is_some(), self.name().is_some(), !self.node.is_empty());
        let (is_some, needs) = (has_file || has_name, || NEEDS.to_owned());
        check.that(!(has_file && has_name), &["cluster.file", "cluster.name"], || {
            "goes without cluster.name, and that without it: which nodes there are says a file, or the database"
                .to_owned()
        });
        let which = if has_name { "cluster.name" } else { "cluster.file" };
        check.that(!is_some || has_node, &[which, "cluster.node"], || {
            "needs cluster.node too: which of its nodes this server is; for example: node = \"a\"".to_owned()
        });
        check.that(!has_node || is_some, &["cluster.node", "cluster.file", "cluster.name"], needs);
        check.that(self.listen.is_none() || is_some, &["cluster.listen", "cluster.file", "cluster.name"], needs);
        check.that(!has_name || self.mesh.is_some(), &["cluster.name", "cluster.mesh"], || {
            "needs cluster.mesh too: where the other nodes reach this one; for example: mesh = \"10.0.0.1:7650\""
                .to_owned()
        });
        for (key, is_set) in [
            ("cluster.mesh", self.mesh.is_some()),
            ("cluster.clients", !self.clients.is_empty()),
            ("cluster.clients_tls", !self.clients_tls.is_empty()),
            ("cluster.weight", self.weight != Self::default().weight),
            ("cluster.lease_ms", self.lease_ms != Self::default().lease_ms),
            ("cluster.moves_per_s", self.moves_per_s != Self::default().moves_per_s),
        ] {
            check.that(!is_set || has_name, &[key, "cluster.name"], || {
                "needs cluster.name too: where a file says which nodes there are, it says this as well".to_owned()
            });
        }
        let files = [
            ("cluster.cert_file", &self.cert_file),
            ("cluster.key_file", &self.key_file),
            ("cluster.ca_file", &self.ca_file),
        ];
        let is_there = |(_, path): &(_, &PathBuf)| !path.as_os_str().is_empty();
        let missing = files.iter().find(|file| !is_there(file)).map(|(key, _)| *key);
        if let Some((key, _)) = files.iter().find(|file| is_there(file)) {
            check.that(missing.is_none(), &[key], || {
                format!(
                    "needs {} too: a certificate, its key, and whoever signs those of nodes",
                    missing.unwrap_or_default()
                )
            });
            check.that(is_some, &[key, "cluster.file", "cluster.name"], needs);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{parse, problems};

    #[test]
    fn a_node_has_a_name_and_a_file_or_neither() {
        assert_eq!(parse("").unwrap().cluster.file(), None);
        parse("[cluster]\nfile = \"c.toml\"\nnode = \"a\"\nlisten = \"127.0.0.1:7650\"").unwrap();
        for (text, key) in [
            ("file = \"c.toml\"", "cluster.file"),
            ("node = \"a\"", "cluster.node"),
            ("listen = \"127.0.0.1:7650\"", "cluster.listen"),
            ("file = \"c.toml\"\nnode = \"a\"\ncert_file = \"c\"\nkey_file = \"k\"", "cluster.cert_file"),
            ("file = \"c.toml\"\nnode = \"a\"\nca_file = \"c\"", "cluster.ca_file"),
            ("file = \"c.toml\"\nname = \"c\"\nnode = \"a\"\nmesh = \"127.0.0.1:1\"", "cluster.file"),
            ("name = \"c\"\nnode = \"a\"", "cluster.name"),
            ("name = \"c\"\nmesh = \"127.0.0.1:1\"", "cluster.name"),
            ("file = \"c.toml\"\nnode = \"a\"\nmesh = \"127.0.0.1:1\"", "cluster.mesh"),
            ("file = \"c.toml\"\nnode = \"a\"\nclients = \"a:1\"", "cluster.clients"),
            ("file = \"c.toml\"\nnode = \"a\"\nweight = 2", "cluster.weight"),
            ("cert_file = \"c\"\nkey_file = \"k\"\nca_file = \"a\"", "cluster.cert_file"),
        ] {
            let found = problems(&format!("[cluster]\n{text}"));
            assert!(found.len() == 1 && found[0].key == key, "{found:?}");
        }
    }
}
