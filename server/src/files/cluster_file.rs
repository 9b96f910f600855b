//! Cluster file: which nodes there are, as a server finds it on its disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use crate::{
    cluster::file::Nodes,
    config::{Backend, Config},
    files::certificate::{self, CertificateError},
    io::ClusterConfig,
    mesh::link::Identity,
};

/// Why a server can not take its place among others.
#[derive(Debug, Error)]
pub enum ClusterFileError {
    /// It can not be read.
    #[error("{path}: the file of the cluster's nodes cannot be read: {error}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What nodes prove to each other who they are with.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It does not say what it should.
    #[error("{path}: {why}", path = path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// The place of the server among others that a configuration names, if there are others.
///
/// # Errors
/// See [`ClusterFileError`].
pub fn load(config: &Config) -> Result<Option<ClusterConfig>, ClusterFileError> {
    let Some(path) = config.cluster.file() else { return Ok(None) };
    let wrong = |why| ClusterFileError::Wrong { path: path.to_owned(), why };
    let nodes = read(path)?;
    let name = &config.cluster.node;
    let own = nodes.find(name).ok_or_else(|| {
        let names: Vec<_> = nodes.nodes.iter().map(|node| node.name.as_str()).collect();
        wrong(format!("there is no node \"{name}\", as cluster.node says; there are {}", names.join(", ")))
    })?;
    let listen = config.cluster.listen.unwrap_or(nodes.node(own).mesh);
    let mut places = nodes.nodes.iter().map(|node| node.mesh).chain([listen]);
    let is_plain = places.any(|place| !place.ip().to_canonical().is_loopback());
    if config.store.backend == Backend::FoundationDb {
        return Err(wrong(
            "a cluster whose map is a file has embedded stores: store.backend = \"foundationdb\" does not go with cluster.file".to_owned(),
        ));
    }
    let tls =
        config.cluster.tls().map(|[certificate, key, authority]| certificate::load_mesh(certificate, key, authority));
    let tls = tls.transpose()?;
    if is_plain && tls.is_none() && !config.allow_plain_tcp_beyond_loopback {
        return Err(wrong(
            "nodes talk to each other unencrypted, and not all of their mesh addresses are loopback addresses: what users write would \
             cross the network in plain. Give cluster.cert_file, key_file and ca_file, or set allow_plain_tcp_beyond_loopback = true if the network is trusted or encrypts by itself"
                .to_owned(),
        ));
    }
    Ok(Some(ClusterConfig { identity: Identity { nodes: Arc::new(nodes), own }, listen, tls }))
}

fn read(path: &Path) -> Result<Nodes, ClusterFileError> {
    let text = fs::read_to_string(path).map_err(|error| ClusterFileError::Read { path: path.to_owned(), error })?;
    Nodes::parse(&text).map_err(|why| ClusterFileError::Wrong { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Draft, shard::topology::NodeId};

    #[test]
    fn the_example_is_three_nodes_of_one_cluster() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
        let places = ["a", "b", "c"].map(|name| {
            let path = folder.join(name).with_extension("toml");
            let mut config = Draft::parse(&fs::read_to_string(&path).unwrap(), &path).finish().unwrap();
            // As if it were started from the folder of the repository.
            config.cluster.file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&config.cluster.file);
            let place = load(&config).unwrap().unwrap();
            let clients = place.identity.nodes.node(place.identity.own).clients.clone();
            assert_eq!(clients, Some(config.listen.to_string()));
            config.store.backend = Backend::FoundationDb;
            assert!(load(&config).unwrap_err().to_string().contains("foundationdb"));
            config.store.backend = Backend::Embedded;
            config.cluster.listen = Some("0.0.0.0:7650".parse().unwrap());
            assert!(load(&config).unwrap_err().to_string().contains("allow_plain"), "it can be reached from elsewhere");
            place
        });
        assert_eq!(places.each_ref().map(|place| place.identity.own), [0, 1, 2].map(NodeId));
        assert_eq!(places[0].identity.nodes.digest(), places[2].identity.nodes.digest());
    }
}
