//! Mailboxes: how cores, and the threads that work for them, tell each other something.
//!
//! Each core has one bounded mailbox. A sending core that finds one full keeps its messages, in order, in a backlog and
//! stops reading from its clients until that has drained; it goes on taking its own mail, so two cores that are full of
//! each other's messages always free each other.
//!
//! Invariant: what one core sends becomes visible in the order of sending, whatever the destinations. So a batch is in the
//! journal's mailbox before an envelope of the same turn is in anybody's, and what the envelope causes is journaled later.
//!
//! Beside the messages lies what may be lost: a smaller queue whose senders drop what does not fit, and whose owner takes it when there
//! are no messages. So it delays none, and keeps none from finding room.
//!
//! Sleep protocol: a core announces that it sleeps and then looks once more; a sender puts the message and then looks
//! whether the core sleeps. Both with a full fence between, so at least one of them sees the other.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
    time::Duration,
};

use crossbeam::{queue::ArrayQueue, utils::CachePadded};
use rim::ring::Doorbell;

use crate::{
    limits::{MAILBOX_MESSAGES_MAX, PRESENCE_MAILS_MAX, STALLED_SLEEP_MS},
    shard::{PresenceMail, topology::CoreId},
};

/// The mailbox of one core.
#[derive(Debug)]
pub struct Mailbox<M> {
    queue: ArrayQueue<M>,
    /// What may be lost.
    lossy: ArrayQueue<Box<PresenceMail>>,
    sleeping: CachePadded<AtomicBool>,
    closed: AtomicBool,
    doorbell: Doorbell,
}

impl<M> Mailbox<M> {
    /// An empty mailbox for [`MAILBOX_MESSAGES_MAX`] messages.
    ///
    /// # Errors
    /// There is no descriptor left for its doorbell.
    pub fn new() -> io::Result<Self> {
        Self::with_capacity(MAILBOX_MESSAGES_MAX)
    }

    fn with_capacity(messages_max: usize) -> io::Result<Self> {
        let queue = ArrayQueue::new(messages_max);
        let sleeping = CachePadded::new(AtomicBool::new(false));
        let lossy = ArrayQueue::new(PRESENCE_MAILS_MAX);
        Ok(Self { queue, lossy, sleeping, closed: AtomicBool::new(false), doorbell: Doorbell::new()? })
    }

    /// What wakes the owner, for its ring to use too.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// Takes the next message.
    #[must_use]
    pub fn take(&self) -> Option<M> {
        self.queue.pop()
    }

    /// Takes the next of what may be lost, if there is no message.
    #[must_use]
    pub fn take_lossy(&self) -> Option<Box<PresenceMail>> {
        if self.queue.is_empty() { self.lossy.pop() } else { None }
    }

    /// Whether there is something to take.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.queue.is_empty() || !self.lossy.is_empty()
    }

    /// Puts a message, which comes back if the mailbox is full. Does not wake the owner.
    ///
    /// # Errors
    /// Full.
    pub fn put(&self, message: M) -> Result<(), M> {
        self.queue.push(message)
    }

    /// Puts what may be lost, or drops it if so much waits already: whether it was put. Cores that put at the same moment may exceed
    /// that by one each. Does not wake the owner.
    #[must_use]
    pub fn put_lossy(&self, mail: Box<PresenceMail>, waiting_max: usize) -> bool {
        self.lossy.len() < waiting_max && self.lossy.push(mail).is_ok()
    }

    /// Wakes the owner if it sleeps. After one or more messages.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        // A look first: a busy owner's flag stays shared between caches.
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            self.doorbell.ring();
        }
    }

    /// For threads that may wait: puts a message as soon as there is room, and wakes the owner. Drops it if the owner has
    /// ended.
    pub fn put_waiting(&self, mut message: M) {
        while !self.closed.load(Ordering::Relaxed) {
            match self.put(message) {
                Ok(()) => return self.wake(),
                Err(back) => message = back,
            }
            self.wake();
            thread::sleep(Duration::from_millis(STALLED_SLEEP_MS));
        }
    }

    /// The owner has ended and takes no more mail.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// The owner is about to sleep. If this says false it must not: there is mail.
    #[must_use]
    pub fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !self.has_mail() {
            return true;
        }
        self.awake();
        false
    }

    /// The owner is awake again.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

/// Where one core puts its mail for all the others. What finds no room waits in the core's [`Backlog`](crate::core::Backlog).
#[derive(Debug)]
pub struct Post<M> {
    mailboxes: Arc<[Mailbox<M>]>,
    /// Destinations that got mail since their bell was last rung.
    put: Vec<bool>,
}

impl<M> Post<M> {
    /// Nobody has got anything yet.
    #[must_use]
    pub fn new(mailboxes: Arc<[Mailbox<M>]>) -> Self {
        let put = vec![false; mailboxes.len()];
        Self { mailboxes, put }
    }

    /// Puts a message into a mailbox, which comes back if that is full. Does not wake the owner.
    ///
    /// # Errors
    /// Full.
    pub fn put(&mut self, to: CoreId, message: M) -> Result<(), M> {
        let index = usize::from(to.0);
        self.mailboxes[index].put(message)?;
        self.put[index] = true;
        Ok(())
    }

    /// See [`Mailbox::put_lossy`].
    #[must_use]
    pub fn put_lossy(&mut self, to: CoreId, mail: Box<PresenceMail>, waiting_max: usize) -> bool {
        let index = usize::from(to.0);
        let is_put = self.mailboxes[index].put_lossy(mail, waiting_max);
        self.put[index] |= is_put;
        is_put
    }

    /// Wakes every core that got something.
    pub fn wake(&mut self) {
        for (mailbox, put) in self.mailboxes.iter().zip(&mut self.put) {
            if std::mem::take(put) {
                mailbox.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::Backlog,
        limits::PRESENCE_MAILS_NODES_MAX,
        shard::{
            presence::{CoreAddress, PresenceNews, To},
            topology::NodeId,
        },
    };

    /// A core's mail on its way out.
    struct Outgoing {
        post: Post<(u16, u32)>,
        backlog: Backlog<(CoreId, (u16, u32))>,
    }

    impl Outgoing {
        fn new(mailboxes: Arc<[Mailbox<(u16, u32)>]>) -> Self {
            Self { post: Post::new(mailboxes), backlog: Backlog::default() }
        }

        fn send(&mut self, to: CoreId, message: (u16, u32)) {
            self.backlog.push((to, message));
        }

        fn flush(&mut self) {
            let post = &mut self.post;
            self.backlog.flush(|(to, message)| post.put(to, message).map_err(|message| (to, message)));
            post.wake();
        }

        const fn is_stalled(&self) -> bool {
            self.backlog.kept() > 0
        }
    }

    fn mailboxes(count: usize, messages_max: usize) -> Arc<[Mailbox<(u16, u32)>]> {
        (0..count).map(|_| Mailbox::with_capacity(messages_max).unwrap()).collect()
    }

    /// Runs a core's loop on its own runtime: takes mail, sleeps by the protocol when there is none, until `step` says
    /// that all is done. Panics if nothing wakes it for ten seconds.
    fn run(mailbox: &Mailbox<(u16, u32)>, mut step: impl FnMut(Option<(u16, u32)>) -> Next) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let doorbell = mailbox.doorbell().listen().unwrap();
            loop {
                match step(mailbox.take()) {
                    Next::Done => return,
                    Next::Again => continue,
                    Next::Stalled => thread::yield_now(),
                    Next::Sleep if mailbox.fall_asleep() => {
                        let rung = tokio::time::timeout(Duration::from_secs(10), doorbell.readable()).await;
                        rung.expect("a wake-up was lost").unwrap().clear_ready();
                        mailbox.awake();
                    }
                    Next::Sleep => {}
                }
            }
        });
    }

    enum Next {
        Again,
        Sleep,
        Stalled,
        Done,
    }

    #[test]
    fn what_does_not_fit_is_kept_in_order() {
        let mailboxes = mailboxes(1, 2);
        let mut outgoing = Outgoing::new(Arc::clone(&mailboxes));
        (0..4).for_each(|n| outgoing.send(CoreId(0), (0, n)));
        outgoing.flush();
        assert_eq!(outgoing.backlog.kept(), 2);
        let mut got = Vec::new();
        while let Some((_, n)) = mailboxes[0].take() {
            got.push(n);
            outgoing.flush();
        }
        assert_eq!(got, [0, 1, 2, 3]);
        assert!(!outgoing.is_stalled());
    }

    #[test]
    fn what_may_be_lost_takes_no_room_from_messages_and_waits_for_them() {
        let mailboxes = mailboxes(1, 2);
        let mail = || {
            let from = CoreAddress { node: NodeId(0), core: CoreId(1) };
            Box::new(PresenceMail { from, to: To::Core(CoreId(0)), news: PresenceNews::default() })
        };
        let put = |waiting_max| (0..PRESENCE_MAILS_MAX).filter(|_| mailboxes[0].put_lossy(mail(), waiting_max)).count();
        assert_eq!(put(PRESENCE_MAILS_NODES_MAX), PRESENCE_MAILS_NODES_MAX);
        let left = PRESENCE_MAILS_MAX - PRESENCE_MAILS_NODES_MAX;
        assert_eq!(put(PRESENCE_MAILS_MAX), left, "what does not fit is dropped, and its sender knows");
        let mut outgoing = Outgoing::new(Arc::clone(&mailboxes));
        (0..3).for_each(|n| outgoing.send(CoreId(0), (0, n)));
        outgoing.flush();
        assert_eq!(outgoing.backlog.kept(), 1, "the mailbox is full of messages, and of them alone");
        assert!(mailboxes[0].take_lossy().is_none(), "messages first");
        while mailboxes[0].take().is_some() {
            outgoing.flush();
        }
        assert!(mailboxes[0].has_mail() && !mailboxes[0].fall_asleep());
        let left = std::iter::from_fn(|| mailboxes[0].take_lossy()).count();
        assert_eq!(left, PRESENCE_MAILS_MAX);
        assert!(!mailboxes[0].has_mail());
    }

    #[test]
    fn nothing_overtakes_what_waits_for_another_destination() {
        // A batch for the journal's core waits: the envelope that follows from it waits too.
        let mailboxes = mailboxes(2, 1);
        let mut outgoing = Outgoing::new(Arc::clone(&mailboxes));
        [(0, 0), (0, 1), (1, 2)].into_iter().for_each(|(to, n)| outgoing.send(CoreId(to), (9, n)));
        outgoing.flush();
        assert_eq!(outgoing.backlog.kept(), 2);
        assert!(!mailboxes[1].has_mail());
        assert_eq!(mailboxes[0].take(), Some((9, 0)));
        outgoing.flush();
        assert_eq!((mailboxes[0].take(), mailboxes[1].take()), (Some((9, 1)), Some((9, 2))));
    }

    #[test]
    fn a_sleeping_core_is_woken_by_every_message() {
        const ROUNDS: u32 = 20_000;
        let mailboxes = mailboxes(2, 4);
        let player = |me: u16| {
            let mut outgoing = Outgoing::new(Arc::clone(&mailboxes));
            if me == 0 {
                outgoing.send(CoreId(1), (0, 0));
                outgoing.flush();
            }
            let mailbox = &mailboxes[usize::from(me)];
            run(mailbox, |message| match message {
                None => Next::Sleep,
                Some((_, n)) => {
                    outgoing.send(CoreId(1 - me), (me, n + 1));
                    outgoing.flush();
                    if n + 1 >= ROUNDS { Next::Done } else { Next::Again }
                }
            });
        };
        thread::scope(|scope| {
            scope.spawn(|| player(0));
            scope.spawn(|| player(1));
        });
    }

    /// Every core floods every other through mailboxes of four messages, and answers what it gets.
    #[test]
    fn cores_that_flood_each_other_get_everything_in_order() {
        const CORES: u16 = 3;
        const EACH: u32 = 20_000;
        let mailboxes = mailboxes(CORES.into(), 4);
        let flood = &|me: u16| {
            let mut outgoing = Outgoing::new(Arc::clone(&mailboxes));
            let mut sent = 0;
            let mut next = [0; CORES as usize];
            run(&mailboxes[usize::from(me)], |message| {
                if let Some((from, n)) = message {
                    assert_eq!(n, next[usize::from(from)], "in order for each pair");
                    next[usize::from(from)] += 1;
                }
                if sent < EACH && !outgoing.is_stalled() {
                    for to in 0..CORES {
                        outgoing.send(CoreId(to), (me, sent));
                    }
                    sent += 1;
                }
                outgoing.flush();
                if sent == EACH && next == [EACH; CORES as usize] && !outgoing.is_stalled() {
                    Next::Done
                } else if message.is_some() || (sent < EACH && !outgoing.is_stalled()) {
                    Next::Again
                } else if outgoing.is_stalled() {
                    Next::Stalled
                } else {
                    Next::Sleep
                }
            });
        };
        thread::scope(|scope| {
            for core in 0..CORES {
                scope.spawn(move || flood(core));
            }
        });
    }
}
