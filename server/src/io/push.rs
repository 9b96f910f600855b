//! Push: the thread that hands notices to their providers, and the one that tells cores how each ended. A core offers without waiting; what
//! there is no room for stays due. How notices ended goes back through a thread of its own, since the service must not wait for room in a
//! mailbox.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
};

use crossbeam::channel::unbounded;
use push::{Notice, Offers, Push, Settings};

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
}

/// The service.
pub(super) struct Pushing(Push);

impl fmt::Debug for Pushing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pushing")
    }
}

impl Pushing {
    /// Stops it without waiting: nobody is there any more to be told how what is under way ends. It is told again after the next start.
    pub(super) fn stop(self) {
        drop(self.0);
    }
}

/// Starts the service, for the cores of a node.
///
/// # Errors
/// The system has no thread for it.
pub(super) fn start(shared: &Arc<Shared>, settings: Settings) -> io::Result<Pushing> {
    // As many wait here as cores have offered, which is bounded.
    let (tell, told) = unbounded();
    let push = Push::start(settings, move |notice, outcome| _ = tell.send(Box::new((notice, outcome))))?;
    let to = Arc::clone(shared);
    spawn("ringpost-pushed", move || {
        for ended in told {
            let home = to.common.topology.home_of(ended.0.user);
            to.mailboxes[usize::from(home.0)].put_waiting(CoreMessage::Notified(ended));
        }
    })?;
    let _ = shared.common.counters.push.set(push.counters());
    let _ = shared.to_push.0.set(push.offers());
    Ok(Pushing(push))
}
