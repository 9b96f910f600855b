//! Cluster file: which nodes there are, as a server finds it on its disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use crate::{
    cluster::{
        file::{Identity, Node, Nodes, check_name},
        steward::Stewardship,
    },
    config::{Ack, Backend, Cluster, Config},
    files::{
        certificate::{self, CertificateError, MeshTls},
        tenure::new_holder,
    },
    io::{ClusterConfig, Part},
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
    /// The configuration does not say what it should.
    #[error("[cluster]: {why}")]
    Config {
        /// Why.
        why: String,
    },
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
    let Some(path) = config.cluster.file() else { return moving(config) };
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
            "a cluster whose map is a file has embedded stores: store.backend = \"foundationdb\" goes with cluster.name instead of cluster.file"
                .to_owned(),
        ));
    }
    let tls = tls(config, is_plain).map_err(|error| error.or(wrong))?;
    Ok(Some(ClusterConfig { part: Part::Fixed(Identity { nodes: Arc::new(nodes), own }), listen, tls }))
}

/// The place of the server among others that are in a database.
fn moving(config: &Config) -> Result<Option<ClusterConfig>, ClusterFileError> {
    let Cluster { node, mesh, clients, clients_tls, weight, lease_ms, moves_per_s, listen, .. } = &config.cluster;
    let (Some(cluster), Some(mesh)) = (config.cluster.name(), *mesh) else { return Ok(None) };
    let wrong = |why| ClusterFileError::Config { why };
    let some = |address: &String| (!address.is_empty()).then(|| address.clone());
    let node = Node {
        name: node.clone(),
        mesh,
        clients: some(clients),
        clients_tls: some(clients_tls),
        weight: *weight,
        is_leaving: false,
        is_dead: false,
    };
    check_name("cluster.name", cluster).and_then(|()| node.check(&[])).map_err(wrong)?;
    if config.store.backend != Backend::FoundationDb || config.store.foundationdb.ack != Ack::Committed {
        return Err(wrong(
            "cluster.name is of nodes that share a database and keep nothing themselves: it needs store.backend = \"foundationdb\" and \
             store.foundationdb.ack = \"committed\""
                .to_owned(),
        ));
    }
    let listen = listen.unwrap_or(mesh);
    let is_plain = [mesh, listen].iter().any(|place| !place.ip().to_canonical().is_loopback());
    let tls = tls(config, is_plain).map_err(|error| error.or(wrong))?;
    let (cluster, holder) = (cluster.to_owned(), new_holder());
    let stewardship = Stewardship { cluster, node, holder, lease_ms: *lease_ms, moves_per_s: *moves_per_s };
    Ok(Some(ClusterConfig { part: Part::Moving(stewardship), listen, tls }))
}

/// Why there is no TLS where there should be.
enum NoTls {
    Certificate(CertificateError),
    Plain,
}

impl NoTls {
    fn or(self, wrong: impl FnOnce(String) -> ClusterFileError) -> ClusterFileError {
        match self {
            Self::Certificate(error) => error.into(),
            Self::Plain => wrong(
                "nodes talk to each other unencrypted, and not all of their mesh addresses are loopback addresses: what users write would \
                 cross the network in plain. Give cluster.cert_file, key_file and ca_file, or set allow_plain_tcp_beyond_loopback = true if the network is trusted or encrypts by itself"
                    .to_owned(),
            ),
        }
    }
}

fn tls(config: &Config, is_plain: bool) -> Result<Option<MeshTls>, NoTls> {
    let tls =
        config.cluster.tls().map(|[certificate, key, authority]| certificate::load_mesh(certificate, key, authority));
    let tls = tls.transpose().map_err(NoTls::Certificate)?;
    if is_plain && tls.is_none() && !config.allow_plain_tcp_beyond_loopback {
        return Err(NoTls::Plain);
    }
    Ok(tls)
}

fn read(path: &Path) -> Result<Nodes, ClusterFileError> {
    let text = fs::read_to_string(path).map_err(|error| ClusterFileError::Read { path: path.to_owned(), error })?;
    Nodes::parse(&text).map_err(|why| ClusterFileError::Wrong { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{AdminListen, Draft},
        shard::topology::NodeId,
    };

    #[test]
    fn the_example_is_three_nodes_of_one_cluster() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
        let places = ["a", "b", "c"].map(|name| {
            let path = folder.join(name).with_extension("toml");
            let mut config = Draft::parse(&fs::read_to_string(&path).unwrap(), &path).finish().unwrap();
            // As if it were started from the folder of the repository.
            config.cluster.file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&config.cluster.file);
            let place = load(&config).unwrap().unwrap();
            let clients = place.fixed().unwrap().nodes.node(place.fixed().unwrap().own).clients.clone();
            assert_eq!(clients, Some(config.listen.to_string()));
            config.store.backend = Backend::FoundationDb;
            assert!(load(&config).unwrap_err().to_string().contains("foundationdb"));
            config.store.backend = Backend::Embedded;
            config.cluster.listen = Some("0.0.0.0:7650".parse().unwrap());
            assert!(load(&config).unwrap_err().to_string().contains("allow_plain"), "it can be reached from elsewhere");
            place
        });
        assert_eq!(places.each_ref().map(|place| place.fixed().unwrap().own), [0, 1, 2].map(NodeId));
        let digest = |place: &ClusterConfig| place.fixed().unwrap().nodes.digest();
        assert_eq!(digest(&places[0]), digest(&places[2]));
    }

    #[test]
    fn the_example_over_a_database_is_three_nodes_of_one_cluster() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/foundationdb");
        let configs = ["a", "b", "c"].map(|name| {
            let path = folder.join(name).with_extension("toml");
            // Not `finish`: a program that was built without a database would refuse it.
            Draft::parse(&fs::read_to_string(&path).unwrap(), &path).values().unwrap()
        });
        let mut ports = Vec::new();
        for (name, config) in ["a", "b", "c"].iter().zip(&configs) {
            let place = load(config).unwrap().unwrap();
            let Stewardship { cluster, node, .. } = place.moving().unwrap();
            assert_eq!((cluster.as_str(), node.name.as_str()), ("example", *name));
            assert_eq!(node.clients, Some(config.listen.to_string()));
            assert_eq!(config.store, configs[0].store, "all have the same database");
            let key = (*name != "a").then(|| configs[0].data_dir.join("token-key.pem"));
            assert_eq!(config.auth.key_file(), key.as_deref(), "all check tokens with the key that node a makes");
            let AdminListen::At(admin) = config.admin_listen else { panic!("{name} can not be looked at") };
            ports.extend([config.listen, admin, node.mesh, place.listen]);
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9, "no node has another's address: {ports:?}");
        let mut wrong = configs[0].clone();
        wrong.store.foundationdb.ack = Ack::Journal;
        assert!(load(&wrong).unwrap_err().to_string().contains("committed"), "there is no journal");
    }
}
