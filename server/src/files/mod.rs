//! Files: what a server keeps on disk beside the journal and the store, who may read and write it, and how it is replaced as a whole.
//!
//! Never in it: a socket, a ring, or anything that happens while a message is on its way.

pub mod certificate;
pub mod cluster_file;
pub mod credentials;
pub mod datadir;
pub mod keyfile;
pub mod membership;
pub mod permission;
pub mod push;
pub mod revocation_file;
pub mod tenure;
pub mod token_file;
