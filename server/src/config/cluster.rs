//! Among other nodes: `[cluster]`. Owns its keys. Which nodes there are is in a file of its own, the same on all of them
//! ([`crate::cluster::file`]).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    Check, file,
    key::{Key, Slot},
};

/// A server's place among others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// File of the cluster's nodes; empty: there are no others. See [`Cluster::file`].
    pub file: PathBuf,
    /// Which of them this server is.
    pub node: String,
    /// Where the others connect; none: at the address that the file says.
    pub listen: Option<SocketAddr>,
    /// PEM file of the certificate that this node shows others; empty: nodes talk in plain. See [`Cluster::tls`].
    pub cert_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// PEM file of the certificates that sign those of nodes, and of nobody else.
    pub ca_file: PathBuf,
}

impl Cluster {
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
        let Self { file: path, node, listen, cert_file, key_file, ca_file } = self;
        let plain = "that nodes talk in plain";
        vec![
            Key {
                name: "cluster.file",
                slot: file(path, "/etc/ringpost/cluster.toml", "that there are no other nodes"),
            },
            Key { name: "cluster.node", slot: Slot::Text { value: node, example: "a" } },
            Key { name: "cluster.listen", slot: Slot::AddressOrNone(listen) },
            Key { name: "cluster.cert_file", slot: file(cert_file, "/etc/ringpost/node-cert.pem", plain) },
            Key { name: "cluster.key_file", slot: file(key_file, "/etc/ringpost/node-key.pem", plain) },
            Key { name: "cluster.ca_file", slot: file(ca_file, "/etc/ringpost/node-ca.pem", plain) },
        ]
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        let (has_file, has_node) = (self.file().is_some(), !self.node.is_empty());
        check.that(!has_file || has_node, &["cluster.file", "cluster.node"], || {
            "needs cluster.node too: which of its nodes this server is; for example: node = \"a\"".to_owned()
        });
        check.that(!has_node || has_file, &["cluster.node", "cluster.file"], || {
            "needs cluster.file too, the file of the cluster's nodes".to_owned()
        });
        check.that(self.listen.is_none() || has_file, &["cluster.listen", "cluster.file"], || {
            "needs cluster.file too, the file of the cluster's nodes".to_owned()
        });
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
            check.that(has_file, &[key, "cluster.file"], || {
                "needs cluster.file too, the file of the cluster's nodes".to_owned()
            });
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
            ("cert_file = \"c\"\nkey_file = \"k\"\nca_file = \"a\"", "cluster.cert_file"),
        ] {
            let found = problems(&format!("[cluster]\n{text}"));
            assert!(found.len() == 1 && found[0].key == key, "{found:?}");
        }
    }
}
