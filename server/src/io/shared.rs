//! What all threads of a node share, and what can be changed while it runs.

use std::{
    collections::HashMap,
    net::TcpListener,
    os::fd::RawFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam::channel::{Sender, bounded};
use parking_lot::{Mutex, RwLock};
use proto_spec::{TimestampMs, UserId};
use tokio::sync::Notify;
use tracing::error;

use super::{listeners::Listener, mailbox::Mailbox, pages::Pages, push::ToPush, socket::Stream, steward::ToSteward};
use crate::{
    access::revocation::Change,
    cluster::steward::Wish,
    core::{self, Common, CoreMessage},
    files::{certificate::MeshTls, credentials::Credentials},
    host::clock::Clock,
    operator::{audit::Audit, survey::Survey},
    shard::{DevicesTold, DevicesWish, PushQuestion, PushTold, Ticket, topology::CoreId},
};

/// What all threads of a node share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    pub(super) clock: Clock,
    pub(super) mailboxes: Arc<[Mailbox<CoreMessage>]>,
    pub(super) credentials: RwLock<Arc<Credentials>>,
    pub(super) audit: Audit,
    /// The service that notifies people who are away.
    pub(super) to_push: ToPush,
    pub(super) inquiries: Inquiries<DevicesTold>,
    /// About notifications.
    pub(super) push_inquiries: Inquiries<PushTold>,
    /// The streams, other than plain ones, of connections that move to another core, by the core that they leave and its number of the move.
    pub(super) luggage: Mutex<HashMap<(CoreId, u32), Stream>>,
    /// One at least.
    pub(super) listeners: Vec<Listener>,
    /// Pages of which origins may connect by WebSocket; none: those of the host that they connect to.
    pub(super) websocket_origins: Vec<String>,
    /// Who answers requests of HTTP that are for no WebSocket, if any may come.
    pub(super) pages: Option<Pages>,
    /// Where other nodes connect, if there are any.
    pub(super) mesh_listener: Option<TcpListener>,
    /// What they prove to each other who they are with.
    pub(super) mesh_tls: Option<MeshTls>,
    pub(super) rings: Vec<AtomicI32>,
    /// Why the node stops, when nobody has asked it to.
    pub(super) lost: OnceLock<String>,
    /// That there is a reason now.
    pub(super) loss: Notify,
    pub(super) stopping: AtomicBool,
}

impl Shared {
    pub(super) fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.read())
    }

    /// The listener that an accept of this place is for: each has the same share of a core's accepts.
    pub(super) fn listener_of(&self, place: u32) -> &Listener {
        &self.listeners[place as usize % self.listeners.len()]
    }

    /// The store is another server's: the node stops, and says why to whoever asks.
    pub(super) fn lose(&self, why: &str) {
        if self.lost.set(why.to_owned()).is_ok() {
            error!(why, "this server must not go on, and stops");
            self.stop();
            self.loss.notify_one();
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The descriptor of a core's ring. All rings are there before the first connection is accepted.
    pub(super) fn ring_of(&self, core: CoreId) -> RawFd {
        self.rings[usize::from(core.0)].load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.pages.iter().for_each(Pages::stop);
        self.to_push.close();
        for mailbox in &*self.mailboxes {
            mailbox.doorbell().ring();
        }
    }
}

/// What the operator has asked cores and waits for.
#[derive(Debug)]
pub(super) struct Inquiries<T> {
    last: AtomicU64,
    open: Mutex<HashMap<Ticket, Sender<T>>>,
}

impl<T> Default for Inquiries<T> {
    fn default() -> Self {
        Self { last: AtomicU64::new(0), open: Mutex::default() }
    }
}

impl<T> Inquiries<T> {
    /// Asks, and waits for the answer, for `patience` at most.
    fn ask(&self, ask: impl FnOnce(Ticket), patience: Duration) -> Option<T> {
        let ticket = Ticket(self.last.fetch_add(1, Ordering::Relaxed));
        let (waiting, answer) = bounded(1);
        self.open.lock().insert(ticket, waiting);
        ask(ticket);
        let told = answer.recv_timeout(patience).ok();
        self.open.lock().remove(&ticket);
        told
    }

    /// A core has answered; the operator may have given up.
    pub(super) fn tell(&self, ticket: Ticket, told: T) {
        if let Some(waiting) = self.open.lock().remove(&ticket) {
            // Whoever waits may go away at any time, and there is room for one answer.
            let _ = waiting.try_send(told);
        }
    }
}

/// Changes a node while it runs.
#[derive(Clone, Debug)]
pub struct Controls {
    pub(super) shared: Arc<Shared>,
    /// Where slots move.
    pub(super) steward: Option<ToSteward>,
}

impl Controls {
    /// Waits until the node stops because its store is another server's; says why. For one caller.
    pub async fn lost(&self) -> String {
        loop {
            if let Some(why) = self.shared.lost.get() {
                return why.clone();
            }
            self.shared.loss.notified().await;
        }
    }

    /// New connections are judged by these from the next tick of each core on.
    pub fn replace(&self, credentials: Credentials) {
        *self.shared.credentials.write() = Arc::new(credentials);
    }

    /// Has the nodes of the cluster do what an operator wants of who owns what. None: slots do not move here.
    #[must_use]
    pub fn wish(&self, wish: Wish) -> Option<Result<(), String>> {
        self.steward.as_ref().map(|steward| steward.wish(wish))
    }

    /// Whether what a node owns may change while it serves.
    #[must_use]
    pub const fn do_move(&self) -> bool {
        self.steward.is_some()
    }

    /// The clock that cores go by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Up to when tokens are void that are revoked now; see [`Common::revocation_moment`].
    #[must_use]
    pub fn revocation_moment(&self) -> TimestampMs {
        self.shared.common.revocation_moment(self.shared.clock.wall())
    }

    /// The name of the node that serves a user, if that is another one.
    #[must_use]
    pub fn elsewhere(&self, user: UserId) -> Option<String> {
        let homes = self.shared.common.homes();
        let node = homes.elsewhere(user)?;
        homes.cluster.map(|cluster| cluster.nodes.node(node).name.clone())
    }

    /// What the node knows of its cluster; none: it has no others beside it.
    #[must_use]
    pub fn survey(&self) -> Option<Survey> {
        core::survey(&self.shared.common)
    }

    /// Asks the user's core for devices, or to remove one; waits for the answer, for `patience` at most. None: there was none in time,
    /// and what was to be done may be done later.
    pub fn devices(&self, user: UserId, wish: DevicesWish, patience: Duration) -> Option<DevicesTold> {
        let ask = |ticket| self.put(user, CoreMessage::Devices(ticket, user, wish));
        self.shared.inquiries.ask(ask, patience)
    }

    /// Asks the user's core why they were or were not notified of the message that stands at `seq` of their log; waits for the answer, for
    /// `patience` at most. None: there was none in time.
    pub fn why(&self, about: PushQuestion, patience: Duration) -> Option<PushTold> {
        self.shared.push_inquiries.ask(|ticket| self.put(about.user, CoreMessage::Why(ticket, about)), patience)
    }

    /// Puts a message into the mailbox of a user's core, and waits for room there.
    fn put(&self, user: UserId, message: CoreMessage) {
        let home = self.shared.common.topology.home_of(user);
        self.shared.mailboxes[usize::from(home.0)].put_waiting(message);
    }

    /// Makes a change of what is revoked. Who is connected with a token that is void now is told so by the next turn of the
    /// user's core. Waits for room in its mailbox.
    pub fn change(&self, change: Change) {
        // First the table: a connection that no longer finds it as it was before comes to its core before the message does.
        self.shared.common.revocations.write().apply(change);
        match change {
            Change::Revoke(subject, moment) => {
                let home = self.shared.common.topology.home_of(subject.user);
                self.shared.mailboxes[usize::from(home.0)].put_waiting(CoreMessage::Revoked(subject, moment));
            }
            Change::Lift(_) => {}
        }
    }
}
