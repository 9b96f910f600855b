//! The steward's thread, where slots move: it asks the database what [`crate::cluster::steward`] wants to know, changes what that
//! wants changed, and tells the cores what is known then.
//!
//! A thread of its own, so that a core that is busy costs no lease. But one whose cores stand still renews none.

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam::channel::Sender;
use storage::{Store, StoreError};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{shared::Shared, start_error::StartError};
use crate::{
    cluster::{
        file::{Identity, Nodes},
        map::{SLOTS, Slot},
        steward::{Steward, Stewardship, Unseated, Users, Wish},
    },
    core::CoreMessage,
    host::clock::Clock,
    limits::{LEAVE_MS, ROLL_CHANGES_MAX, TICK_MS, WISH_TRIES_MAX},
    shard::topology::NodeId,
};

/// What somebody wants of the steward of a node that serves.
#[derive(Debug)]
pub(super) enum Errand {
    /// An operator wants something else of who owns what. The answer: what was done, or why not, in words.
    Wish(Wish, oneshot::Sender<Result<(), String>>),
    /// The node is about to end. Answered when it owns nothing more, or nobody takes it.
    End(oneshot::Sender<()>),
}

/// Slots that a node has now and had not before: what their users owed is to be found.
pub(super) type Gained = Box<[bool; SLOTS]>;

/// Why a round of the steward ended early.
#[derive(Debug, Error)]
pub enum RoundError {
    /// The database does not answer, or not in time.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node has no part any more.
    #[error(transparent)]
    Unseated(#[from] Unseated),
    /// Others change the roll faster than it is read here, or have not taken what is to be theirs.
    #[error("the roll of the cluster does not come to rest")]
    Restless,
}

/// See the head of this file.
pub(super) struct Office<S> {
    store: Arc<S>,
    steward: Steward,
    clock: Clock,
}

impl<S: Store> Office<S> {
    /// Makes this node one of its cluster. What it knows then.
    ///
    /// # Errors
    /// The store is another cluster's, or does not answer; or there is no place for this node.
    pub(super) fn open(store: &Arc<S>, clock: &Clock, own: Stewardship) -> Result<(Self, Identity), StartError> {
        pollster::block_on(store.found(&own.cluster))?;
        let patience = Duration::from_millis(2 * own.lease_ms);
        let mut office = Self { store: Arc::clone(store), steward: Steward::new(own), clock: clock.clone() };
        let until = Instant::now() + patience;
        loop {
            while pollster::block_on(office.step(|| Box::new([0; SLOTS])))? {}
            // Others that begin at the same moment may not have taken what is to be theirs.
            if let Some(identity) = office.steward.identity(office.now_ms()) {
                return Ok((office, identity));
            }
            if Instant::now() >= until {
                return Err(RoundError::Restless.into());
            }
            thread::sleep(Duration::from_millis(TICK_MS));
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().monotonic_ms
    }

    /// Reads the roll, and changes something in it if the steward wants that. Whether it did.
    async fn step(&mut self, users: impl FnOnce() -> Users) -> Result<bool, RoundError> {
        let roll = self.store.roll().await?;
        self.steward.read(self.now_ms(), roll)?;
        let asked_ms = self.now_ms();
        let Some(change) = self.steward.next(asked_ms, users)? else { return Ok(false) };
        let is_made = self.store.change_roll(&change).await?;
        self.steward.changed(asked_ms, &change, is_made);
        Ok(true)
    }

    /// What the thread does until the node has ended.
    pub(super) fn serve(
        self,
        shared: Arc<Shared>,
        ended: Arc<AtomicBool>,
        errands: mpsc::Receiver<Errand>,
        gained: Sender<Gained>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(Serving { office: self, shared, gained, told: None }.run(&ended, errands)),
            Err(error) => shared.lose(&format!("the steward of the cluster has no runtime: {error}")),
        }
    }
}

/// The steward of a node that serves.
struct Serving<S> {
    office: Office<S>,
    shared: Arc<Shared>,
    gained: Sender<Gained>,
    /// What the cores were told last.
    told: Option<Arc<Nodes>>,
}

impl<S: Store> Serving<S> {
    async fn run(mut self, ended: &AtomicBool, mut errands: mpsc::Receiver<Errand>) {
        let mut failures = 0_u64;
        let mut ending: Option<oneshot::Sender<()>> = None;
        while !ended.load(Ordering::Relaxed) {
            let is_stuck = self.shared.common.counters.pulse.stuck(self.office.now_ms()).is_some();
            // Others are to serve what stands still here.
            let round = if is_stuck { Ok(()) } else { self.round().await };
            match round {
                Ok(()) => {
                    if failures > 0 {
                        info!("the roll of the cluster can be read again");
                    }
                    failures = 0;
                }
                Err(RoundError::Unseated(why)) => return self.shared.lose(&why.to_string()),
                Err(error) => {
                    if failures.is_power_of_two() || failures == 0 {
                        warn!(%error, failures, "the lease of this node could not be renewed; it is tried again");
                    }
                    failures += 1;
                }
            }
            if self.office.steward.has_given_all(self.office.now_ms())
                && let Some(is_done) = ending.take()
            {
                let _ = is_done.send(());
            }
            let now_ms = self.office.now_ms();
            let wait_ms = self.office.steward.wakes_at_ms(now_ms) - now_ms;
            let (store, version) = (Arc::clone(&self.office.store), self.office.steward.version());
            let rung = async {
                // If the database does not answer: again when the time has come.
                if store.roll_changed(version).await.is_err() {
                    future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = rung => {}
                () = sleep(Duration::from_millis(wait_ms)) => {}
                Some(errand) = errands.recv() => match errand {
                    Errand::Wish(wish, answer) => _ = answer.send(self.grant(&wish).await),
                    Errand::End(is_done) => {
                        self.office.steward.end();
                        ending = Some(is_done);
                    }
                },
            }
        }
    }

    /// Reads and changes the roll until there is nothing more to change. What has been read is told at once: whoever was given something
    /// hears of it by then.
    async fn round(&mut self) -> Result<(), RoundError> {
        let directory = Arc::clone(&self.shared.common.directory);
        for _ in 0..ROLL_CHANGES_MAX {
            let has_changed = self
                .office
                .step(|| {
                    let mut users = Box::new([0; SLOTS]);
                    directory.each(|user| users[usize::from(Slot::of(user).0)] += 1);
                    users
                })
                .await?;
            self.tell();
            if !has_changed {
                return Ok(());
            }
        }
        Err(RoundError::Restless)
    }

    /// Tells the cores what is known now, if that is something else than before.
    fn tell(&mut self) {
        let now_ms = self.office.now_ms();
        let common = &self.shared.common;
        common.counters.lease_until_ms.set(self.office.steward.lease_until_ms());
        let Some(Identity { nodes, own }) = self.office.steward.identity(now_ms) else { return };
        let before = self.told.as_ref();
        if before.is_some_and(|told| **told == *nodes) {
            return;
        }
        let is_own = |nodes: &Nodes, slot| nodes.map.owner(slot) == own;
        let is_gained = |slot: Slot| {
            let had = before.is_some_and(|told| is_own(told, slot) && told.term(slot) == nodes.term(slot));
            is_own(&nodes, slot) && !had
        };
        let gained: Gained = Box::new(std::array::from_fn(|slot| is_gained(Slot(slot as u8))));
        let (owns, gains) = (nodes.map.owned(own), gained.iter().filter(|gained| **gained).count());
        let lost =
            before.map_or(0, |told| Slot::all().filter(|slot| is_own(told, *slot) && !is_own(&nodes, *slot)).count());
        if gains + lost > 0 {
            info!(version = nodes.version(), owns, gained = gains, lost, "what this node owns has changed");
        }
        self.log_nodes(before.map(|told| &**told), &nodes, own);
        common.counters.slots.set(owns as u64);
        if let Some(mesh) = &common.mesh {
            mesh.learn(Arc::clone(&nodes));
        }
        for mailbox in &*self.shared.mailboxes {
            mailbox.put_waiting(CoreMessage::Owners(Arc::clone(&nodes)));
        }
        if gains > 0 {
            // Whoever looks for what is owed ends with the node.
            let _ = self.gained.send(gained);
        }
        self.told = Some(nodes);
    }

    fn log_nodes(&self, before: Option<&Nodes>, nodes: &Nodes, own: NodeId) {
        for id in nodes.ids().filter(|id| *id != own) {
            let node = nodes.node(id);
            let known = before.and_then(|before| before.nodes.get(usize::from(id.0)));
            let was = known.map(|node| (node.is_dead, node.is_leaving));
            if was == Some((node.is_dead, node.is_leaving)) {
                continue;
            }
            match (node.is_dead, node.is_leaving) {
                (true, _) => warn!(
                    node = node.name,
                    "a node has said nothing for longer than its lease: others take what it owns"
                ),
                (false, true) => info!(node = node.name, "a node gives away what it owns"),
                (false, false) => info!(node = node.name, "a node is there"),
            }
        }
    }

    async fn grant(&mut self, wish: &Wish) -> Result<(), String> {
        for _ in 0..WISH_TRIES_MAX {
            let roll = self.office.store.roll().await.map_err(|error| error.to_string())?;
            self.office.steward.read(self.office.now_ms(), roll).map_err(|error| error.to_string())?;
            let Some(change) = self.office.steward.wished(wish)? else { return Ok(()) };
            if self.office.store.change_roll(&change).await.map_err(|error| error.to_string())? {
                return Ok(());
            }
        }
        Err(format!("the roll of the cluster changed {WISH_TRIES_MAX} times meanwhile: try again"))
    }
}

/// How others reach the steward's thread.
#[derive(Clone, Debug)]
pub(super) struct ToSteward(pub(super) mpsc::Sender<Errand>);

impl ToSteward {
    /// Gives away all that the node owns, before it ends: then its users are served elsewhere at once. Not longer than [`LEAVE_MS`].
    pub(super) fn leave(&self) {
        let (answer, is_done) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        if let (Ok(runtime), Ok(())) = (runtime, self.0.try_send(Errand::End(answer))) {
            let is_in_time =
                runtime.block_on(async { timeout(Duration::from_millis(LEAVE_MS), is_done).await.is_ok() });
            if !is_in_time {
                warn!(
                    "this node ends before it has given away all that it owns: others take it when its lease is over"
                );
            }
        }
    }

    /// Does what an operator wants.
    ///
    /// # Errors
    /// Why it was not done, in words.
    pub(super) fn wish(&self, wish: Wish) -> Result<(), String> {
        let (answer, told) = oneshot::channel();
        self.0
            .try_send(Errand::Wish(wish, answer))
            .map_err(|_| "the steward of the cluster is busy: try again".to_owned())?;
        told.blocking_recv().map_err(|_| "the node is about to end".to_owned())?
    }
}
