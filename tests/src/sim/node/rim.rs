//! The node's rim: what a core asks for in its turn happens here, mostly later. Faults in what leaves a core are made here too.

use std::mem;

use proto_spec::{Content, ContentKind, EpochId, Resume, Seq};
use server::{
    core::{Core, CoreMessage, Order, Rim},
    durability::{committer::Committer, lanes::Work},
    operator::audit::What,
    shard::{ConnId, EnvelopeBody, Now, Parcel, PresenceMail, QueryId, ReadState, topology::CoreId},
};
use storage::{Batch, BatchId, LaneId, Query, Record};

use super::super::{
    Happening, Simulation,
    faults::Fault,
    network::{LinkId, ServerEnd},
};

/// The rim of a core that has its turn.
pub(super) struct TurnRim<'a> {
    pub(super) sim: &'a mut Simulation,
    core: CoreId,
    /// Mail that a deliberate fault lets leave after everything else.
    late: Vec<(CoreId, CoreMessage)>,
    /// Batches that a deliberate fault lets leave with the next turn.
    held: Vec<(CoreId, CoreMessage)>,
    /// Bytes that a deliberate fault has lost: nobody takes them, so the core must be told that somebody has.
    lost: Vec<(ConnId, usize)>,
}

impl Simulation {
    /// Something happens to a core, and it finishes its turn.
    pub(in crate::sim) fn act<T>(&mut self, core: CoreId, happens: impl FnOnce(&mut Core, Now) -> T) -> Option<T> {
        self.core_turn(core, |core, now, _| happens(core, now))
    }

    /// A turn of a core in which nothing happens.
    pub(in crate::sim) fn idle_turn(&mut self, core: CoreId) {
        self.act(core, |_, _| ());
    }

    /// A turn of a core.
    pub(super) fn core_turn<T>(
        &mut self,
        id: CoreId,
        happens: impl FnOnce(&mut Core, Now, &mut TurnRim<'_>) -> T,
    ) -> Option<T> {
        let now = self.now;
        let mut core = self.machine.alive.as_mut()?.cores.begin_turn(id);
        let mut rim = TurnRim { sim: self, core: id, late: Vec::new(), held: Vec::new(), lost: Vec::new() };
        let done = happens(&mut core, now, &mut rim);
        core.obey(now, &mut rim);
        if let Some(journal) = core.journal() {
            rim.sim.hear_journal(journal);
        }
        core.finish_turn(now, &mut rim);
        while !rim.lost.is_empty() {
            mem::take(&mut rim.lost).into_iter().for_each(|(conn, bytes)| core.sent(now, conn, bytes));
            core.finish_turn(now, &mut rim);
        }
        let TurnRim { late, held, .. } = rim;
        let life = self.machine.alive.as_mut()?;
        life.cores.end_turn(core);
        let late = life.held.insert(id, held).into_iter().flatten().chain(late);
        let late: Vec<_> = late.collect();
        late.into_iter().for_each(|(to, message)| self.put(to, message));
        self.turn_soon(id);
        self.count_shards();
        self.look_who_is_there(id);
        Some(done)
    }
}

impl TurnRim<'_> {
    fn link_of(&self, conn: ConnId) -> Option<LinkId> {
        self.sim.machine.alive.as_ref()?.links.get(&(self.core, conn)).copied()
    }

    /// What a connection says is read on.
    pub(super) fn read_on(&mut self, conn: ConnId) {
        if let Some(link) = self.link_of(conn).and_then(|id| self.sim.links.get(id)) {
            link.is_read = true;
        }
    }

    /// Ends the place of a connection, and the connection if it is still here.
    fn cut(&mut self, core: &mut Core, conn: ConnId) {
        let Some(life) = &mut self.sim.machine.alive else { return };
        let Some(id) = life.links.remove(&(self.core, conn)) else { return };
        core.closed();
        if let Some(link) = self.sim.links.get(id)
            && link.server.place() == Some((self.core, conn))
        {
            link.server = ServerEnd::None;
            self.sim.cut(id);
        }
    }
}

impl Rim for TurnRim<'_> {
    fn order(&mut self, core: &mut Core, now: Now, order: Order) {
        self.sim.note(|| format!("core {}: {order:?}", core.id().0));
        match order {
            Order::Dial(..) | Order::CutLink(..) | Order::Tunnel { .. } | Order::EndTunnel(..) => {
                unreachable!("a node that is alone has no links")
            }
            Order::Greet(conn) => self.read_on(conn),
            Order::Serve(conn, user) => {
                let Some(id) = self.link_of(conn) else { return };
                let Some(link) = self.sim.links.get(id) else { return };
                link.server = ServerEnd::Serving { core: self.core, conn };
                link.is_read = true;
                let app = link.app;
                if let Some(seq) = self.sim.apps[app].position() {
                    self.sim.reached_resume(Resume::After(seq));
                }
                self.sim.check_owner(id, user);
                self.sim.watching.moves(user, now.monotonic_ms);
            }
            Order::Move { conn, home, ticket } => {
                let Some(link) = self.link_of(conn).and_then(|id| self.sim.links.get(id)) else { return };
                link.server = ServerEnd::Moving { core: self.core, conn };
                link.is_read = false;
                let delay = self.sim.rng.within(0, 4);
                let life = self.sim.machine.life;
                self.sim.schedule(delay, Happening::Moved { life, core: self.core, conn, home, ticket });
            }
            Order::Open { slot, guest } => self.sim.open_guest(core, now, slot, *guest),
            Order::Dismiss(conn, bytes) => {
                let Some(id) = self.link_of(conn) else { return };
                self.sim.queue_frame(id, &bytes);
                self.sim.server_closes(id);
            }
            Order::Cut(conn) => self.cut(core, conn),
            Order::CutAll => {
                let Some(life) = &self.sim.machine.alive else { return };
                let here: Vec<ConnId> =
                    life.links.keys().filter(|(at, _)| *at == self.core).map(|(_, conn)| *conn).collect();
                here.into_iter().for_each(|conn| self.cut(core, conn));
            }
            Order::Lose(why) => self.sim.oracle.fail(|| format!("a server that nobody took over gives up: {why}")),
            Order::Report(event) => match (event.what, event.user) {
                (What::Login, Some(user)) if !self.sim.strikes(Fault::ForgetLogin, 30) => {
                    *self.sim.audited.entry(user).or_default() += 1;
                }
                _ => {}
            },
            // The operator of this node asks for nothing; nobody takes the store over here.
            Order::Locate(..) | Order::Tell(..) | Order::TellPush(..) | Order::CheckFence => {}
        }
    }

    fn decided(&mut self, lane: LaneId, id: BatchId, batch: &Batch) {
        let Some(life) = &mut self.sim.machine.alive else { return };
        let records: Result<Vec<Record>, _> = storage::records(batch.bytes()).collect();
        let records = records.expect("a shard's own batch can be read");
        let epoch = EpochId(self.sim.machine.life.into());
        for record in &records {
            if let Record::Append { user, entry, .. } = record {
                self.sim.written_in.insert((*user, entry.seq), epoch);
            }
        }
        life.undecided.push_back((lane, id, records));
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(link) = self.link_of(conn) else { return };
        let len = bytes.len();
        let bytes = self.sim.tamper(self.core, link, bytes.to_vec());
        if bytes.is_empty() {
            return self.lost.push((conn, len));
        }
        self.sim.check_frames(self.core, link, &bytes);
        if self.sim.strikes(Fault::LoseFrame, 2) {
            self.lost.push((conn, bytes.len()));
        } else {
            self.sim.queue_frame(link, &bytes);
            if let Some(link) = self.sim.links.get(link) {
                link.added += bytes.len().saturating_sub(len);
            }
        }
    }

    fn set_reading(&mut self, conn: ConnId, state: ReadState) {
        if let Some(link) = self.link_of(conn) {
            self.sim.set_paused(link, state == ReadState::Paused);
        }
    }

    fn close(&mut self, _: Now, conn: ConnId) {
        if let Some(link) = self.link_of(conn) {
            self.sim.server_closes(link);
        }
    }

    fn commit(&mut self, work: Work) {
        self.sim.begin_commit(self.core, work);
    }

    fn serve_journal(&mut self, now: Now, journal: &mut Committer) {
        self.sim.begin_write(now, journal);
        self.late.extend(self.sim.take_segments(journal));
    }

    fn ask(&mut self, query: QueryId, what: Query) -> Result<(), (QueryId, Query)> {
        self.sim.ask(self.core, query, what)
    }

    fn notify(&mut self, notice: Box<push::Notice>) -> Result<(), Box<push::Notice>> {
        self.sim.take_notice(self.core, notice)
    }

    fn post_presence(&mut self, to: CoreId, mail: Box<PresenceMail>, _: usize) -> bool {
        self.sim.post_presence(to, mail)
    }

    fn post(&mut self, to: CoreId, mut message: CoreMessage) -> Result<(), CoreMessage> {
        let fault = self.sim.fault;
        let sim = &mut *self.sim;
        match &mut message {
            CoreMessage::Batch { .. } if fault == Some(Fault::EnvelopeBeforeBatch) => {
                self.held.push((to, message));
                return Ok(());
            }
            CoreMessage::Envelope(envelope) => match &mut envelope.body {
                EnvelopeBody::ForwardPutOff { .. } | EnvelopeBody::ReceiptPutOff { .. } => {
                    sim.reached("something put off");
                    if fault == Some(Fault::ForgetPutOff) {
                        return Ok(());
                    }
                }
                EnvelopeBody::Forward { after, .. } if fault == Some(Fault::ForgetBefore) => *after = Seq::ZERO,
                EnvelopeBody::Forward { parcel: Parcel::Message(content), .. }
                    if fault == Some(Fault::FlattenContent) =>
                {
                    *content = Content::from_parts(ContentKind::Text.byte(), content.parts().1.clone());
                }
                _ => {}
            },
            _ => {}
        }
        let is_envelope = matches!(message, CoreMessage::Envelope(_));
        let Some(life) = &mut sim.machine.alive else { return Ok(()) };
        if let Err(message) = life.cores.post(to, message) {
            sim.reached("mailbox full");
            let is_dropped = fault == Some(Fault::DropOnFullMailbox) && is_envelope;
            return if is_dropped { Ok(()) } else { Err(message) };
        }
        let mailbox = life.cores.mailbox(to);
        let len = mailbox.len();
        if fault == Some(Fault::ReorderMailbox) && is_envelope && len >= 2 && sim.rng.chance(20) {
            mailbox.swap(len - 1, len - 2);
        }
        sim.deliver_soon(to);
        Ok(())
    }
}
