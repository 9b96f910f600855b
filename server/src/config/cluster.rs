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
}

impl Cluster {
    /// The file of the cluster's nodes, if there are any.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        (!self.file.as_os_str().is_empty()).then_some(&self.file)
    }

    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { file: path, node, listen } = self;
        vec![
            Key {
                name: "cluster.file",
                slot: file(path, "/etc/ringpost/cluster.toml", "that there are no other nodes"),
            },
            Key { name: "cluster.node", slot: Slot::Text { value: node, example: "a" } },
            Key { name: "cluster.listen", slot: Slot::AddressOrNone(listen) },
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
        ] {
            let found = problems(&format!("[cluster]\n{text}"));
            assert!(found.len() == 1 && found[0].key == key, "{found:?}");
        }
    }
}
