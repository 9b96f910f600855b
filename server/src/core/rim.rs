//! Rim: who carries out what a core decides, and in which order that is done at the end of a turn. The server's rim is the reactor,
//! with sockets and files; the simulator's keeps everything in memory and lets time pass; in the world of a test the test takes each step.

use push::Notice;
use storage::{Batch, BatchId, LaneId, Query};

use super::{Core, CoreMessage, Order, links::LinkId};
use crate::{
    durability::{committer::Committer, lanes::Work},
    limits::{PRESENCE_MAILS_MAX, PRESENCE_MAILS_NODES_MAX},
    shard::{ConnId, Input, Now, PresenceMail, QueryId, ReadState, topology::CoreId},
};

/// What a core needs somebody to do. Each thing is begun at once, and what becomes of it is told the core in a later turn.
pub trait Rim {
    /// Carries out an order of this core.
    fn order(&mut self, core: &mut Core, now: Now, order: Order);

    /// Sees what the turn has decided, before anything follows from it. For whoever watches.
    fn decided(&mut self, lane: LaneId, id: BatchId, batch: &Batch) {
        let _ = (lane, id, batch);
    }

    /// Sends bytes to a client, behind those that wait already.
    fn send(&mut self, conn: ConnId, bytes: &[u8]);

    /// Sends bytes to another node, behind those that wait already; answered with [`Core::link_sent`] as the kernel takes them.
    fn send_link(&mut self, link: LinkId, bytes: Vec<u8>) {
        debug_assert!(false, "a node that is alone has no {link:?}, and no {} bytes for one", bytes.len());
    }

    /// Reads on from a client, or not.
    fn set_reading(&mut self, conn: ConnId, state: ReadState);

    /// Closes a connection once what waits for its client has been sent.
    fn close(&mut self, now: Now, conn: ConnId);

    /// Begins a commit into the database; answered with [`Core::advanced`].
    fn commit(&mut self, work: Work);

    /// Does what the journal wants now: a segment, a write, something to become of a sealed segment.
    fn serve_journal(&mut self, now: Now, journal: &mut Committer);

    /// Asks the store; answered with [`Core::answer`].
    ///
    /// # Errors
    /// It takes no more now: the query comes back, and is asked again at the end of the next turn.
    fn ask(&mut self, query: QueryId, what: Query) -> Result<(), (QueryId, Query)>;

    /// Puts a message into the mailbox of another core, or of this one if it is core 0's own.
    ///
    /// # Errors
    /// The mailbox is full: the message comes back, and is put again at the end of the next turn. Nothing overtakes it.
    fn post(&mut self, to: CoreId, message: CoreMessage) -> Result<(), CoreMessage>;

    /// Hands a notice to the push service; answered with [`CoreMessage::Notified`].
    ///
    /// # Errors
    /// The service takes no more now, or there is none: the notice comes back, and is offered again later.
    fn notify(&mut self, notice: Box<Notice>) -> Result<(), Box<Notice>> {
        Err(notice)
    }

    /// Puts what is said about presence where a core finds it after all other mail, or drops it if so much waits there that it may not:
    /// says whether there was room. `waiting_max` is [`PRESENCE_MAILS_MAX`] or [`PRESENCE_MAILS_NODES_MAX`].
    fn post_presence(&mut self, to: CoreId, mail: Box<PresenceMail>, waiting_max: usize) -> bool;
}

impl Core {
    /// Carries out what this core has ordered, and its turn so far if that says very much. After each call of the core, so that its
    /// next one finds everything done.
    pub fn obey(&mut self, now: Now, rim: &mut impl Rim) {
        while let Some(order) = self.orders.pop_front() {
            rim.order(self, now, order);
        }
        if self.is_output_due() {
            self.carry_out(now, rim);
        }
    }

    /// The end of a turn. What the journal and the lanes have done is heard first, since it releases answers; batches go to the journal
    /// before the mail of the same turn leaves, since an envelope must not be faster than the batch that it follows from.
    pub fn finish_turn(&mut self, now: Now, rim: &mut impl Rim) {
        self.take_news(now);
        self.carry_out(now, rim);
        self.obey(now, rim);
        while let Some(work) = self.next_commit(now) {
            rim.commit(work);
        }
        if let Some(journal) = &mut self.journal {
            rim.serve_journal(now, journal);
        }
        self.flush_links(|link, bytes| rim.send_link(link, bytes));
        self.queries.flush(|(query, what)| rim.ask(query, what));
        self.tell_sent();
        let kept = self.mail.flush(|(to, message)| rim.post(to, message).map_err(|message| (to, message)));
        self.counters().mailbox_full.add(kept as u64);
    }

    /// Ends the turn of the shard and does what that asks for.
    fn carry_out(&mut self, now: Now, rim: &mut impl Rim) {
        let mut effects = self.end_shard_turn(now, rim);
        for (conn, range) in effects.sends.drain(..) {
            rim.send(conn, &effects.bytes[range]);
        }
        for (conn, state) in effects.reads.drain(..) {
            rim.set_reading(conn, state);
        }
        for close in effects.closes.drain(..) {
            rim.close(now, close.conn);
        }
        for mail in effects.presence.drain(..) {
            // What a link has for this core waits behind its messages, too.
            let is_posted = match self.place_of(mail.to) {
                Some(core) if core == self.id && mail.to.node().is_some() => self.presence_to_link(&mail),
                Some(core) => {
                    let is_of_nodes = mail.from.node != self.own_node() || mail.to.node().is_some();
                    let waiting_max = if is_of_nodes { PRESENCE_MAILS_NODES_MAX } else { PRESENCE_MAILS_MAX };
                    rim.post_presence(core, mail, waiting_max)
                }
                None => false,
            };
            if !is_posted {
                self.counters().presence_dropped.one();
            }
        }
        let refused: Vec<_> = effects.notices.drain(..).filter_map(|notice| rim.notify(notice).err()).collect();
        effects.clear();
        self.effects = effects;
        for notice in refused {
            self.feed(now, Input::NotTaken(notice));
        }
    }
}
