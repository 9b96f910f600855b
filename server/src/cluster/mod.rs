//! Cluster: which nodes there are, and which of them owns what. A node forwards nothing and asks nobody here: where a user's home is
//! can be computed (`map`) from what all nodes were told alike (`file`). How nodes talk is `mesh`'s.

pub mod file;
pub mod map;
pub mod steward;
