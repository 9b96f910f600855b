//! The rim of a core that has its turn: what it asks for happens here, mostly later.

use std::ops::ControlFlow;

use proto_spec::{Decoder, RawFrame, ServerFrame, limits::SERVER_FRAME_BYTES_MAX};
use server::{
    core::{Core, CoreMessage, LinkId, Order, Rim},
    durability::{committer::Committer, lanes::Work},
    shard::{ConnId, Now, PresenceMail, QueryId, ReadState, topology::CoreId},
};
use storage::{Batch, BatchId, LaneId, Query, Record};

use super::{
    Fleet, Happening, Pid,
    database::Asked,
    faults::Fault,
    network::{LineId, ServerEnd},
};

/// See the head of this file.
pub(super) struct TurnRim<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) pid: Pid,
    pub(super) core: CoreId,
}

impl TurnRim<'_> {
    fn line_of(&self, conn: ConnId) -> Option<LineId> {
        self.fleet.processes[self.pid.0].serving.as_ref()?.lines.get(&(self.core, conn)).copied()
    }

    /// What a connection says is read on.
    pub(super) fn read_on(&mut self, conn: ConnId) {
        if let Some(line) = self.line_of(conn).and_then(|id| self.fleet.network.line(id)) {
            line.is_read = true;
        }
    }

    /// Ends the place of a connection, and the connection if it is still here.
    fn cut(&mut self, core: &mut Core, conn: ConnId) {
        let Some(serving) = &mut self.fleet.processes[self.pid.0].serving else { return };
        let Some(id) = serving.lines.remove(&(self.core, conn)) else { return };
        core.closed();
        if let Some(line) = self.fleet.network.line(id)
            && line.server.place() == Some((self.core, conn))
        {
            line.server = ServerEnd::None;
            self.fleet.cut(id);
        }
    }
}

impl Rim for TurnRim<'_> {
    fn order(&mut self, core: &mut Core, now: Now, order: Order) {
        let (pid, at) = (self.pid, self.core);
        self.fleet.note(|| format!("{pid:?} core {}: {order:?}", at.0));
        match order {
            Order::Dial(node, address) => self.fleet.dial(pid, at, node, address),
            Order::CutLink(link, last_words) => self.fleet.cut_link(pid, at, link, &last_words),
            Order::Tunnel { .. } | Order::EndTunnel(..) => unreachable!("every app here follows redirects"),
            Order::Greet(conn) => self.read_on(conn),
            Order::Serve(conn, user) => {
                let Some(id) = self.line_of(conn) else { return };
                let Some(line) = self.fleet.network.line(id) else { return };
                line.server = ServerEnd::Serving { core: at, conn };
                line.is_read = true;
                let own = self.fleet.apps[line.app].key.0;
                if own != user {
                    self.fleet.oracle.fail(|| format!("a connection of user {own} is served as that of user {user}"));
                }
            }
            Order::Move { conn, home, ticket } => {
                let Some(line) = self.line_of(conn).and_then(|id| self.fleet.network.line(id)) else { return };
                line.server = ServerEnd::Moving { core: at, conn };
                line.is_read = false;
                let delay = self.fleet.rng.within(0, 4);
                self.fleet.schedule(delay, Happening::Moved { pid, core: at, conn, home, ticket });
            }
            Order::Open { slot, guest } => self.fleet.open_guest(pid, core, now, slot, *guest),
            Order::Dismiss(conn, bytes) => {
                let Some(id) = self.line_of(conn) else { return };
                self.fleet.send_to_client(id, &bytes);
                self.fleet.server_closes(id);
            }
            Order::Cut(conn) => self.cut(core, conn),
            Order::CutAll => {
                let Some(serving) = &self.fleet.processes[pid.0].serving else { return };
                let here: Vec<ConnId> =
                    serving.lines.keys().filter(|(at, _)| *at == self.core).map(|(_, conn)| *conn).collect();
                here.into_iter().for_each(|conn| self.cut(core, conn));
            }
            // What it has promised it has kept; it ends as if killed.
            Order::Lose(_) if self.fleet.processes[pid.0].is_unseated => {
                let delay = self.fleet.rng.within(0, 100);
                self.fleet.schedule(delay, Happening::Unseated(pid));
            }
            Order::Lose(why) => {
                self.fleet.oracle.fail(|| format!("{pid:?} gives up the database of its cluster: {why}"))
            }
            // Nobody asks, and in a cluster there is no fence but terms.
            Order::Report(_) | Order::Locate(..) | Order::Tell(..) | Order::TellPush(..) | Order::CheckFence => {}
        }
    }

    fn decided(&mut self, lane: LaneId, id: BatchId, batch: &Batch) {
        let records: Result<Vec<Record>, _> = storage::records(batch.bytes()).collect();
        let of_lane = self.fleet.processes[self.pid.0].undecided.entry(lane).or_default();
        if id == BatchId(1) {
            // A new term.
            of_lane.clear();
        }
        of_lane.push((id, records.expect("a shard's own batch can be read")));
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(id) = self.line_of(conn) else { return };
        let Some(line) = self.fleet.network.line(id) else { return };
        let user = self.fleet.apps[line.app].key.0;
        let mut frames = Vec::new();
        let decoded = Decoder::new(SERVER_FRAME_BYTES_MAX as u32).decode(bytes, |raw: RawFrame<'_>| {
            frames.push(ServerFrame::decode(raw));
            ControlFlow::Continue(())
        });
        if decoded.is_err() || frames.iter().any(Result::is_err) {
            self.fleet.oracle.fail(|| format!("user {user}: the server sent what is not a frame"));
        }
        for frame in frames.into_iter().flatten() {
            self.fleet.check_frame(id, user, &frame);
        }
        self.fleet.send_to_client(id, bytes);
    }

    fn send_link(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.fleet.send_to_node(self.pid, self.core, link, bytes);
    }

    fn set_reading(&mut self, conn: ConnId, state: ReadState) {
        if let Some(line) = self.line_of(conn).and_then(|id| self.fleet.network.line(id)) {
            line.is_paused = state == ReadState::Paused;
        }
    }

    fn close(&mut self, _: Now, conn: ConnId) {
        if let Some(id) = self.line_of(conn) {
            self.fleet.server_closes(id);
        }
    }

    fn commit(&mut self, work: Work) {
        self.fleet.begin_commit(self.pid, self.core, work);
    }

    fn serve_journal(&mut self, _: Now, journal: &mut Committer) {
        if !journal.is_idle() {
            let pid = self.pid;
            self.fleet.oracle.fail(|| format!("{pid:?} wants to write a journal"));
        }
    }

    fn ask(&mut self, query: QueryId, what: Query) -> Result<(), (QueryId, Query)> {
        let user = what.user();
        self.fleet.database.reads.push((self.pid, self.core, user));
        self.fleet.ask(self.pid, Asked::Read { core: self.core, id: query, query: what });
        Ok(())
    }

    fn post(&mut self, to: CoreId, message: CoreMessage) -> Result<(), CoreMessage> {
        let is_link = matches!(message, CoreMessage::LinkMoved { .. });
        let fleet = &mut *self.fleet;
        if is_link {
            fleet.reached("link replaced by a later one");
        }
        let Some(serving) = &mut fleet.processes[self.pid.0].serving else { return Ok(()) };
        serving.cores.post(to, message)?;
        let delay = fleet.delay(3, 200);
        fleet.schedule(delay, Happening::Mail(self.pid, to));
        Ok(())
    }

    fn post_presence(&mut self, _: CoreId, _: Box<PresenceMail>, _: usize) -> bool {
        // Nobody watches here; what there still is to say may be lost.
        true
    }
}

impl Fleet {
    /// A deliberate fault: of two maps that a core is told, the older one comes later.
    pub(super) fn swap_owners(&mut self, pid: Pid) {
        if self.fault != Some(Fault::ReorderOwners) {
            return;
        }
        let cores = self.cores(pid);
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        for core in cores {
            let mailbox = serving.cores.mailbox(core);
            let owners: Vec<usize> =
                (0..mailbox.len()).filter(|at| matches!(mailbox[*at], CoreMessage::Owners(_))).collect();
            if let [.., before, last] = owners[..] {
                mailbox.swap(before, last);
            }
        }
    }
}
