//! What the integration tests share: a world of shards in one thread, and a model of the store.

pub mod model;
pub mod world;
