//! Push: the thread that hands notices to their providers, and the one that tells cores how each ended. A core offers without waiting; what
//! there is no room for stays due. How notices ended goes back through a thread of its own, since the service must not wait for room in a
//! mailbox. Both stand below the cores: encryption takes as long as some messages, and whoever is notified does not look.
//!
//! When the node stops the service is closed first: what it gives back and what ends while the cores are still there they take up.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use crossbeam::channel::{bounded, unbounded};
use push::{Notice, Offers, Push, Way};

use super::{
    shared::Shared,
    thread::{spawn, stand_below},
};
use crate::{core::CoreMessage, limits::PUSH_NICER};

/// Where cores offer notices, once there is a service.
#[derive(Default)]
pub(super) struct ToPush(OnceLock<Offers>);

impl fmt::Debug for ToPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToPush")
    }
}

impl ToPush {
    /// Offers a notice.
    ///
    /// # Errors
    /// There is no room, or no service: the notice.
    pub(super) fn offer(&self, notice: Box<Notice>) -> Result<(), Box<Notice>> {
        match self.0.get() {
            Some(offers) => offers.offer(*notice).map_err(Box::new),
            None => Err(notice),
        }
    }

    /// The node stops: nothing more is begun, what waits comes back to the cores, and so does how that ends which is under way.
    pub(super) fn close(&self) {
        self.0.get().into_iter().for_each(Offers::close);
    }
}

/// Starts the service, for the cores of a node.
///
/// # Errors
/// The system has no thread for it.
pub(super) fn start(shared: &Arc<Shared>, way: Way) -> io::Result<()> {
    // As many wait here as cores have offered, which is bounded.
    let (tell, told) = unbounded();
    let (begins, begun) = bounded(1);
    let to = Arc::clone(shared);
    spawn("ringpost-pushed", move || {
        // And so does the service's thread, which this one starts.
        stand_below(PUSH_NICER);
        _ = begins.send(Push::start(way, move |notice, outcome| _ = tell.send(Box::new((notice, outcome)))));
        for ended in told {
            let home = to.common.topology.home_of(ended.0.user);
            to.mailboxes[usize::from(home.0)].put_waiting(CoreMessage::Notified(ended));
        }
    })?;
    let push = begun.recv().map_err(io::Error::other)??;
    let _ = shared.common.counters.push.set(push.counters());
    let _ = shared.to_push.0.set(push.offers());
    // A stop waits for it at the cores, which are told how everything ended.
    drop(push);
    Ok(())
}
