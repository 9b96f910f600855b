//! Mesh: how two nodes talk. PURE: bytes in, what they say and bytes out; sockets are `io`'s, which core has which link is `core`'s.
//!
//! There is one link for each pair of nodes. It keeps the order of what is posted to it, and keeps nothing when it ends: what was on the
//! way then is put off, and comes again from its author's log (`shard/elsewhere.rs`).

pub mod certificate;
mod groups;
pub mod link;
pub mod presence;
pub mod wire;
