//! The steward's thread, where slots move: it asks the database what [`crate::cluster::steward`] wants to know, changes what that
//! wants changed, and tells the cores what is known then.
//!
//! A thread of its own, so that a core that is busy costs no lease. But one whose cores stand still renews none.

use std::{
    future, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam::channel::{Sender, bounded};
use storage::{Store, StoreError};
use thiserror::Error;
use tokio::{
    runtime::Runtime,
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
    limits::{LEAVE_MS, ROLL_CHANGES_MAX, ROLL_START_MS, TICK_MS, WISH_MS, WISH_TRIES_MAX},
    shard::topology::NodeId,
};

/// What somebody wants of the steward of a node that serves.
#[derive(Debug)]
pub(super) enum Errand {
    /// An operator wants something else of who owns what. The answer: what was done, or why not, in words.
    Wish(Wish, Sender<Result<(), String>>),
    /// The node is about to end. Answered when it owns nothing more, or nobody takes it.
    End(oneshot::Sender<()>),
    /// The node has ended: nothing more than to wake up.
    Ended,
}

/// Slots that a node has now and had not before: what their users owed is to be found.
pub(super) type Gained = Box<[bool; SLOTS]>;

/// Why a round of the steward ended early.
#[derive(Debug, Error)]
pub(super) enum RoundError {
    /// The database does not answer, or not in time.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node has no part any more.
    #[error(transparent)]
    Unseated(#[from] Unseated),
    /// It has not answered.
    #[error("the database has not answered within {} ms", .0.as_millis())]
    Late(Duration),
    /// Others change the roll faster than it is read here, or have not taken what is to be theirs.
    #[error(
        "the roll of the cluster does not come to rest: other nodes begin or end at this moment; it is tried again, or try again"
    )]
    Restless,
}

/// See the head of this file.
pub(super) struct Office<S: Store> {
    store: Arc<S>,
    steward: Steward,
    clock: Clock,
    /// How long a call of the database may take: another one is to succeed before the lease is over.
    patience: Duration,
    /// What it has is given back if the node does not come to serve.
    serves: bool,
}

impl<S: Store> Office<S> {
    /// Makes this node one of its cluster. What it knows then.
    ///
    /// # Errors
    /// The store is another cluster's, or does not answer; or there is no place for this node.
    pub(super) fn open(store: &Arc<S>, clock: &Clock, own: Stewardship) -> Result<(Self, Identity), StartError> {
        pollster::block_on(store.found(&own.cluster))?;
        let lease = Duration::from_millis(own.lease_ms);
        let (store, steward, clock) = (Arc::clone(store), Steward::new(own), clock.clone());
        // There is no lease to lose yet, and a database that is busy is no reason not to start.
        let patience = Duration::from_millis(ROLL_START_MS);
        let mut office = Self { store, steward, clock, patience, serves: false };
        let until = Instant::now() + 2 * lease;
        let identity = runtime()?.block_on(async {
            loop {
                while office.step(|| Box::new([0; SLOTS])).await? {}
                // Others that begin at the same moment may not have taken what is to be theirs.
                if let Some(identity) = office.steward.identity(office.now_ms()) {
                    return Ok(identity);
                }
                if Instant::now() >= until {
                    return Err(RoundError::Restless);
                }
                sleep(Duration::from_millis(TICK_MS)).await;
            }
        });
        let identity = identity.map_err(|error: RoundError| StartError::Cluster(error.to_string()))?;
        office.patience = lease / 3;
        Ok((office, identity))
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().monotonic_ms
    }

    /// Reads the roll, and changes something in it if the steward wants that. Whether it did.
    async fn step(&mut self, users: impl FnOnce() -> Users) -> Result<bool, RoundError> {
        let roll = self.in_time(self.store.roll()).await?;
        self.steward.read(self.now_ms(), roll)?;
        let asked_ms = self.now_ms();
        let Some(change) = self.steward.next(asked_ms, users)? else { return Ok(false) };
        let is_made = self.in_time(self.store.change_roll(&change)).await?;
        self.steward.changed(asked_ms, &change, is_made);
        Ok(true)
    }

    /// What a call of the database ends with, if that is in time. One that does not may be done all the same: what is so the next read says.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, RoundError> {
        timeout(self.patience, call).await.map_err(|_| RoundError::Late(self.patience))?.map_err(RoundError::Store)
    }

    /// What the thread does until the node has ended.
    pub(super) fn serve(
        mut self,
        shared: Arc<Shared>,
        ended: Arc<AtomicBool>,
        errands: mpsc::Receiver<Errand>,
        gained: Sender<Gained>,
    ) {
        self.serves = true;
        let lost = match runtime() {
            Ok(runtime) => {
                let serving = Serving { office: self, shared: Arc::clone(&shared), gained, told: None };
                runtime.block_on(serving.run(&ended, errands)).err().map(|unseated| unseated.to_string())
            }
            Err(error) => Some(format!("the steward of the cluster has no runtime: {error}")),
        };
        if let Some(why) = lost {
            // Core 0 tells the others that nothing more is promised, and then it ends.
            shared.mailboxes[0].put_waiting(CoreMessage::Lost(why));
        }
    }
}

impl<S: Store> Drop for Office<S> {
    fn drop(&mut self) {
        // A start that has failed since: others would wait for a lease, and it may be started again before that is over.
        // Not one that has served: it ends within its runtime, where there can be no other one.
        if !self.serves
            && let Ok(runtime) = runtime()
        {
            self.steward.end();
            let all = async { while let Ok(true) = self.step(|| Box::new([0; SLOTS])).await {} };
            let _ = runtime.block_on(async { timeout(Duration::from_millis(LEAVE_MS), all).await });
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}

/// The steward of a node that serves.
struct Serving<S: Store> {
    office: Office<S>,
    shared: Arc<Shared>,
    gained: Sender<Gained>,
    /// What the cores were told last.
    told: Option<Arc<Nodes>>,
}

impl<S: Store> Serving<S> {
    /// Until the node has ended.
    ///
    /// # Errors
    /// The node has no part any more.
    async fn run(mut self, ended: &AtomicBool, mut errands: mpsc::Receiver<Errand>) -> Result<(), Unseated> {
        let mut failures = 0_u64;
        let mut ending: Option<oneshot::Sender<()>> = None;
        while !ended.load(Ordering::Relaxed) {
            // Others are to serve what stands still here.
            let is_stuck = self.shared.common.counters.pulse.stuck(self.office.now_ms()).is_some();
            let mut has_read = false;
            if !is_stuck {
                match self.round().await {
                    Ok(()) => {
                        if failures > 0 {
                            info!("the roll of the cluster can be read again");
                        }
                        (failures, has_read) = (0, true);
                    }
                    Err(RoundError::Unseated(why)) => return Err(why),
                    Err(error) => {
                        if failures.is_power_of_two() || failures == 0 {
                            warn!(%error, failures, "the lease of this node could not be renewed; it is tried again");
                        }
                        failures += 1;
                    }
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
                // What has not been read has always changed. If the database does not answer: again when the time has come.
                if !has_read || store.roll_changed(version).await.is_err() {
                    future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = rung => {}
                () = sleep(Duration::from_millis(wait_ms)) => {}
                Some(errand) = errands.recv() => match errand {
                    // Who has asked may have given up.
                    Errand::Wish(wish, answer) => _ = answer.try_send(self.grant(&wish).await.map_err(|error| error.to_string()).flatten()),
                    Errand::Ended => {}
                    Errand::End(is_done) => {
                        self.office.steward.end();
                        ending = Some(is_done);
                    }
                },
            }
        }
        Ok(())
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

    /// What has come of what an operator wants: done, or why not.
    async fn grant(&mut self, wish: &Wish) -> Result<Result<(), String>, RoundError> {
        for _ in 0..WISH_TRIES_MAX {
            let roll = self.office.in_time(self.office.store.roll()).await?;
            self.office.steward.read(self.office.now_ms(), roll)?;
            let change = match self.office.steward.wished(wish) {
                Ok(Some(change)) => change,
                Ok(None) => return Ok(Ok(())),
                Err(why) => return Ok(Err(why)),
            };
            if self.office.in_time(self.office.store.change_roll(&change)).await? {
                return Ok(Ok(()));
            }
        }
        Err(RoundError::Restless)
    }
}

/// How others reach the steward's thread.
#[derive(Clone, Debug)]
pub(super) struct ToSteward(pub(super) mpsc::Sender<Errand>);

impl ToSteward {
    /// Gives away all that the node owns, before it ends: then its users are served elsewhere at once. Not longer than [`LEAVE_MS`].
    pub(super) fn leave(&self) {
        let (answer, is_done) = oneshot::channel();
        if let (Ok(runtime), Ok(())) = (runtime(), self.0.try_send(Errand::End(answer))) {
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
        let (answer, told) = bounded(1);
        let busy = |_| "the steward of the cluster is busy: try again".to_owned();
        self.0.try_send(Errand::Wish(wish, answer)).map_err(busy)?;
        let late = |_| {
            "the database has not answered yet: it may be done, or not; `ringpost nodes` and `ringpost map` tell"
                .to_owned()
        };
        told.recv_timeout(Duration::from_millis(WISH_MS)).map_err(late)?
    }

    /// The node has ended.
    pub(super) fn ended(&self) {
        // If there is no room it is awake anyway.
        let _ = self.0.try_send(Errand::Ended);
    }
}
