//! Push: the thread that hands notices to their providers, and the one that tells cores how each ended. A core offers without waiting; what
//! there is no room for stays due. How notices ended goes back through a thread of its own, since the service must not wait for room in a
//! mailbox.
//!
//! When the node stops the service is closed first: what it gives back and what ends while the cores are still there they take up.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use crossbeam::channel::unbounded;
use push::{Notice, Offers, Push, Way};

use super::{shared::Shared, thread::spawn};
use crate::core::CoreMessage;

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
    let push = Push::start(way, move |notice, outcome| _ = tell.send(Box::new((notice, outcome))))?;
    let to = Arc::clone(shared);
    spawn("ringpost-pushed", move || {
        for ended in told {
            let home = to.common.topology.home_of(ended.0.user);
            to.mailboxes[usize::from(home.0)].put_waiting(CoreMessage::Notified(ended));
        }
    })?;
    let _ = shared.common.counters.push.set(push.counters());
    let _ = shared.to_push.0.set(push.offers());
    // A stop waits for it at the cores, which are told how everything ended.
    drop(push);
    Ok(())
}
