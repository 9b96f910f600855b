//! Cores: all cores of a node and the mail between them, for whoever drives a whole node in one thread and decides what happens when,
//! as the simulator and tests do. In the server each core has a thread, and mailboxes are queues that threads share (`io::mailbox`).
//!
//! Who drives it begins a turn, tells the core what has happened, and finishes the turn with a [`Rim`](super::Rim) whose mail goes to
//! [`Cores::post`].

use std::{collections::VecDeque, sync::Arc};

use super::{Common, Core, CoreConfig, CoreMessage};
use crate::shard::{Now, PresenceMail, topology::CoreId};

/// See the head of this file.
#[derive(Debug)]
pub struct Cores {
    common: Arc<Common>,
    /// By number. One that has its turn is with who drives it.
    cores: Vec<Option<Core>>,
    mailboxes: Vec<VecDeque<CoreMessage>>,
    /// What is said about presence.
    presence: Vec<VecDeque<Box<PresenceMail>>>,
    mailbox_messages_max: usize,
}

impl Cores {
    /// The cores of a node that has just started. Each has a mailbox for so many messages.
    #[must_use]
    pub fn new(config: CoreConfig, common: Arc<Common>, mailbox_messages_max: usize) -> Self {
        let cores: Vec<_> = Core::all(config, &common).into_iter().map(Some).collect();
        let mailboxes = cores.iter().map(|_| VecDeque::new()).collect();
        let presence = cores.iter().map(|_| VecDeque::new()).collect();
        Self { common, cores, mailboxes, presence, mailbox_messages_max }
    }

    /// What the cores share.
    #[must_use]
    pub const fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// Their numbers, in order.
    pub fn ids(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.common.topology.cores()).map(CoreId)
    }

    // ---- turns

    /// A core begins its turn: it is the caller's until [`Cores::end_turn`].
    ///
    /// # Panics
    /// It has its turn already.
    #[must_use]
    pub fn begin_turn(&mut self, core: CoreId) -> Core {
        self.cores[place(core)].take().expect("a core has one turn at a time")
    }

    /// Its turn is over.
    pub fn end_turn(&mut self, core: Core) {
        let place = place(core.id());
        self.cores[place] = Some(core);
    }

    /// A core between two turns.
    ///
    /// # Panics
    /// It has its turn.
    #[must_use]
    pub fn get(&self, core: CoreId) -> &Core {
        self.cores[place(core)].as_ref().expect("the core is between two turns")
    }

    /// All cores, between turns.
    pub fn iter(&self) -> impl Iterator<Item = &Core> {
        self.cores.iter().flatten()
    }

    // ---- mail

    /// A core has mail for one. Another turn takes it, with [`Cores::take`].
    ///
    /// # Errors
    /// The mailbox is full: the message comes back.
    pub fn post(&mut self, to: CoreId, message: CoreMessage) -> Result<(), CoreMessage> {
        let mailbox = &mut self.mailboxes[place(to)];
        if mailbox.len() >= self.mailbox_messages_max {
            return Err(message);
        }
        mailbox.push_back(message);
        Ok(())
    }

    /// A thread that works for the cores has mail for one. It waits for room if it has to: that it had to is not seen here.
    pub fn put(&mut self, to: CoreId, message: CoreMessage) {
        self.mailboxes[place(to)].push_back(message);
    }

    /// The next message for a core, to be told it.
    pub fn take(&mut self, core: CoreId) -> Option<CoreMessage> {
        self.mailboxes[place(core)].pop_front()
    }

    /// A core says something about presence to one. False: so much waits there, and it is dropped.
    pub fn post_presence(&mut self, to: CoreId, mail: Box<PresenceMail>, waiting_max: usize) -> bool {
        let mailbox = &mut self.presence[place(to)];
        let has_room = mailbox.len() < waiting_max;
        if has_room {
            mailbox.push_back(mail);
        }
        has_room
    }

    /// The next that is said about presence, to be told the core, if no message waits for it.
    pub fn take_presence(&mut self, core: CoreId) -> Option<Box<PresenceMail>> {
        if self.mailboxes[place(core)].is_empty() { self.presence[place(core)].pop_front() } else { None }
    }

    /// The mailbox of a core, for who meddles with it.
    pub fn mailbox(&mut self, core: CoreId) -> &mut VecDeque<CoreMessage> {
        &mut self.mailboxes[place(core)]
    }

    /// Nothing is in any mailbox.
    #[must_use]
    pub fn have_no_mail(&self) -> bool {
        self.mailboxes.iter().all(VecDeque::is_empty)
    }

    // ---- the stop

    /// Whether the stop that all cores were told of is over. `is_rim_quiet` says of a core that no connection has its place there, and
    /// nothing that was received waits.
    pub fn are_over(&mut self, now: Now, mut is_rim_quiet: impl FnMut(CoreId) -> bool) -> bool {
        // Every core looks, since each tells the others; the last one knows.
        let mut are_over = true;
        for core in self.cores.iter_mut().flatten() {
            are_over &= core.is_over(now, is_rim_quiet(core.id()));
        }
        are_over
    }

    /// So many messages are on their way between cores that a stop waits for.
    #[must_use]
    pub fn awaited_mail(&self) -> usize {
        self.mailboxes.iter().flatten().filter(|message| message.is_waited_for()).count()
    }
}

const fn place(core: CoreId) -> usize {
    core.0 as usize
}
