//! Membership: of which node, of which cluster, by which map a data folder has the users. It is written by the first start and compared by
//! every other one: a map that is another one would give users of this folder to a node that knows nothing of them, whose logs would begin
//! anew. The text is one line of each, for people too.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    datadir::DataDir,
    tenure::{self, TenureError},
};
use crate::cluster::file::Identity;

/// Its file in the data folder.
const FILE: &str = "CLUSTER";

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Membership {
    cluster: String,
    node: String,
    /// Of the map: see [`crate::cluster::map::Map::digest`].
    map: u64,
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, node, map } = self;
        write!(f, "cluster {cluster}\nnode {node}\nmap {map:016x}\n")
    }
}

/// Why a server does not begin to serve what is in its data folder.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// The file can not be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file says nothing that makes sense.
    #[error("{path}: it should say of which node's users the folder is, and does not: put it back from a backup", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The folder is of a server that had no others beside it.
    #[error(
        "{folder}: it has users of a server that was alone. Among other nodes most of them would have another home, which knows nothing \
         of them: take an empty data folder for node {node}, and serve this one without [cluster]",
        folder = folder.display()
    )]
    Alone {
        /// The data folder.
        folder: PathBuf,
        /// The node that it should be.
        node: String,
    },
    /// The server should have others beside it.
    #[error(
        "{folder}: it has the users of node {node} of the cluster {cluster}, and there is no [cluster] in the configuration: without it \
         this server would answer for users of other nodes, of whom it knows nothing",
        folder = folder.display()
    )]
    Member {
        /// The data folder.
        folder: PathBuf,
        /// Of which node.
        node: String,
        /// Of which cluster.
        cluster: String,
    },
    /// It is another node's.
    #[error("{folder}: {what} says {found}, and the folder has the users of {kept}", folder = folder.display())]
    Other {
        /// The data folder.
        folder: PathBuf,
        /// Where it is said otherwise.
        what: &'static str,
        /// What is said there.
        found: String,
        /// What the folder is.
        kept: String,
    },
    /// The same node owns other users.
    #[error(
        "{folder}: the cluster's file gives node {node} other users than it had when this folder was made: names and weights of nodes, and \
         how many there are, may not change once there are users",
        folder = folder.display()
    )]
    Map {
        /// The data folder.
        folder: PathBuf,
        /// Which node.
        node: String,
    },
    /// Whether somebody has served from the folder can not be found out.
    #[error(transparent)]
    Tenure(#[from] TenureError),
}

/// Looks whether the users in a data folder are those that this server is to serve; in a folder that nobody has served from it is written
/// down which those are.
///
/// # Errors
/// See [`MembershipError`]; nothing has been changed.
pub fn claim(data: &DataDir, identity: Option<&Identity>) -> Result<(), MembershipError> {
    let path = data.path().join(FILE);
    let done = match judge(data.path(), identity)? {
        Change::None => return Ok(()),
        Change::Write(is) => tenure::replace(&path, &is.to_string()),
        Change::Remove => fs::remove_file(&path),
    };
    done.map_err(|error| MembershipError::Io { path, error })
}

/// Looks whether [`claim`] would take a data folder, and changes nothing.
///
/// # Errors
/// See [`MembershipError`].
pub fn look_at(folder: &Path, identity: Option<&Identity>) -> Result<(), MembershipError> {
    judge(folder, identity).map(|_| ())
}

/// What has to become of the file.
enum Change {
    None,
    Write(Membership),
    Remove,
}

fn judge(folder: &Path, identity: Option<&Identity>) -> Result<Change, MembershipError> {
    let is = identity.map(|identity| Membership {
        cluster: identity.nodes.name.clone(),
        node: identity.nodes.node(identity.own).name.clone(),
        map: identity.nodes.digest(),
    });
    let has_served = tenure::look_at(folder)?.is_some();
    let folder = folder.to_owned();
    match (load(&folder.join(FILE))?, is) {
        // Nobody has served from it: what was meant may have been mended since.
        (Some(_), None) if !has_served => Ok(Change::Remove),
        (Some(_), Some(is)) if !has_served => Ok(Change::Write(is)),
        (None, None) => Ok(Change::None),
        (None, Some(Membership { node, .. })) if has_served => Err(MembershipError::Alone { folder, node }),
        (None, Some(is)) => Ok(Change::Write(is)),
        (Some(Membership { cluster, node, .. }), None) => Err(MembershipError::Member { folder, node, cluster }),
        (Some(kept), Some(is)) => {
            let other = |what, found, kept| MembershipError::Other { folder: folder.clone(), what, found, kept };
            if kept.cluster != is.cluster {
                return Err(other("`name` in the cluster's file", is.cluster, format!("the cluster {}", kept.cluster)));
            }
            if kept.node != is.node {
                return Err(other("cluster.node", is.node, format!("node {}", kept.node)));
            }
            if kept.map == is.map { Ok(Change::None) } else { Err(MembershipError::Map { folder, node: is.node }) }
        }
    }
}

fn load(path: &Path) -> Result<Option<Membership>, MembershipError> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| MembershipError::Damaged { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(MembershipError::Io { path: path.to_owned(), error }),
    }
}

fn parse(text: &str) -> Option<Membership> {
    let mut lines = text.lines();
    let mut next = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
    let (cluster, node, map) = (next("cluster")?, next("node")?, next("map")?);
    let membership = Membership { cluster, node, map: u64::from_str_radix(&map, 16).ok()? };
    (membership.to_string() == text).then_some(membership)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use storage::{Fence, Holder, Kind, Tenure};

    use super::*;
    use crate::{cluster::file::Nodes, files::tenure::Own, shard::topology::NodeId};

    const NODES: &str = "name = \"chat\"\n[nodes.a]\nmesh = \"127.0.0.1:1\"\nclients = \"127.0.0.1:2\"\n\
                         [nodes.b]\nmesh = \"127.0.0.1:3\"\nclients = \"127.0.0.1:4\"\n";

    fn identity(own: u16, text: &str) -> Identity {
        Identity { nodes: Arc::new(Nodes::parse(text).unwrap()), own: NodeId(own) }
    }

    fn served(data: &DataDir) {
        fs::create_dir_all(data.journal()).unwrap();
        let tenure = Tenure { holder: Holder(7), fence: Fence(3) };
        tenure::save(&data.tenure_file(), Own { tenure, kind: Kind::Engine }).unwrap();
    }

    fn refused(data: &DataDir, identity: Option<&Identity>) -> String {
        let said = claim(data, identity).unwrap_err().to_string();
        assert_eq!(look_at(data.path(), identity).unwrap_err().to_string(), said);
        said
    }

    #[test]
    fn a_folder_is_served_by_the_node_that_made_it_and_by_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let a = identity(0, NODES);
        claim(&data, None).unwrap();
        look_at(data.path(), Some(&a)).unwrap();
        assert!(!dir.path().join(FILE).exists(), "a look writes nothing");
        // Until somebody has served it may be another one's.
        claim(&data, Some(&identity(1, NODES))).unwrap();
        look_at(data.path(), None).unwrap();
        claim(&data, Some(&a)).unwrap();
        served(&data);
        claim(&data, Some(&a)).unwrap();
        claim(&data, Some(&identity(0, &NODES.replace("127.0.0.1:4", "b.example.org:5")))).unwrap();
        let other = |own, from, to| identity(own, &NODES.replace(from, to));
        assert!(refused(&data, None).contains("node a of the cluster chat"));
        assert!(refused(&data, Some(&identity(1, NODES))).contains("cluster.node says b"));
        assert!(refused(&data, Some(&other(0, "chat", "talk"))).contains("says talk"));
        let heavier = identity(0, &format!("{NODES}weight = 2\n"));
        assert!(refused(&data, Some(&heavier)).contains("other users"));
        fs::write(dir.path().join(FILE), "cluster chat\nnode a\n").unwrap();
        assert!(refused(&data, Some(&a)).contains("put it back from a backup"));
    }

    #[test]
    fn a_folder_of_a_server_that_was_alone_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        served(&data);
        assert!(refused(&data, Some(&identity(0, NODES))).contains("was alone"));
        claim(&data, None).unwrap();
    }
}
