//! Core: what one core decides, beside the logs of its users, which are [`crate::shard`]'s.

mod crowd;
pub mod load;
pub mod origins;

pub use origins::OriginLimits;
