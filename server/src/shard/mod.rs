//! Shard: all users whose home is one core. The only writer of their logs.
//!
//! `Shard::handle(now, input, &mut effects)` is a function of its arguments: no socket, clock, thread, lock, async fn or
//! store in here. Bytes of a socket, an envelope of another shard, a finished commit, a tick: all are [`Input`]. Bytes to
//! send, envelopes, records to commit, connections to close: all go to [`Effects`].

mod effects;
mod input;

pub use effects::{Close, Effects, Presence, ReadState};
pub use input::{Admission, ConnId, Connected, Envelope, EnvelopeBody, Input, Now, QueryId};

use proto_spec::Durability;
use storage::{BatchId, CoreId};

use crate::{directory::Directory, topology::Topology};

/// What an operator may set that shards must know.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What an acknowledgement promises once its batch is committed.
    pub durability: Durability,
    /// Silence after which a connection is pinged, in milliseconds.
    pub ping_after_ms: u64,
    /// Silence after which a connection is closed, in milliseconds.
    pub idle_timeout_ms: u64,
}

/// All users whose home is one core.
#[derive(Debug)]
pub struct Shard {
    core: CoreId,
    topology: Topology,
    settings: Settings,
}

impl Shard {
    /// A shard that knows nobody yet.
    #[must_use]
    pub fn new(core: CoreId, topology: Topology, settings: Settings) -> Self {
        Self { core, topology, settings }
    }

    /// Takes one input and appends what follows from it to `effects`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, directory: &Directory, effects: &mut Effects) {
        let _ = (now, input, directory, effects, self.core, self.topology, self.settings);
    }

    /// Ends a turn: finishes what is done once a turn and, if the turn has records, numbers its batch.
    /// The rim hands `effects.batch` to the journal under the returned id, before it carries out anything else.
    pub fn end_turn(&mut self, now: Now, effects: &mut Effects) -> Option<BatchId> {
        let _ = (now, effects);
        None
    }

    /// Whether, after [`Input::Drain`], nothing waits for a commit any more.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        true
    }
}
