//! The world's rim: what a core asks for in its turn waits here until the test lets it happen.

use proto_spec::ServerFrame;
use server::{
    core::{Core, CoreMessage, Order, Rim},
    durability::{committer::Committer, lanes::Work},
    limits::PATIENCE_MS,
    shard::{ConnId, Now, PresenceMail, QueryId, ReadState, topology::CoreId},
};
use storage::{Batch, BatchId, LaneId, Query, Record, journal::Salt};

use super::{Client, Decided, World};

/// The rim of a core that has its turn.
pub(super) struct TurnRim<'a> {
    pub(super) world: &'a mut World,
    pub(super) core: CoreId,
    /// Places that have become free.
    pub(super) closed: usize,
}

impl TurnRim<'_> {
    fn client(&mut self, conn: ConnId) -> Option<&mut Client> {
        let link = self.world.by_conn.get(&(self.core, conn))?;
        Some(&mut self.world.clients[link.0])
    }

    fn cut(&mut self, conn: ConnId) {
        let Some(link) = self.world.by_conn.remove(&(self.core, conn)) else { return };
        let client = &mut self.world.clients[link.0];
        client.closed = Some(match client.frames.last() {
            Some(ServerFrame::Bye { code, .. }) => Some(*code),
            _ => None,
        });
        self.closed += 1;
    }
}

impl Rim for TurnRim<'_> {
    fn order(&mut self, _: &mut Core, now: Now, order: Order) {
        match order {
            Order::Dial(..) | Order::CutLink(..) | Order::Tunnel { .. } | Order::EndTunnel(..) => {
                unreachable!("a node that is alone has no links")
            }
            Order::Tell(ticket, told) => self.world.told.push((ticket, told)),
            Order::TellPush(ticket, told) => self.world.push_told.push((ticket, told)),
            Order::Locate(..) | Order::Serve(..) | Order::Report(_) | Order::CheckFence => {}
            Order::Dismiss(conn, bytes) => {
                self.send(conn, &bytes);
                self.close(now, conn);
            }
            Order::Cut(conn) => self.cut(conn),
            Order::CutAll => {
                let all: Vec<_> = self.world.by_conn.keys().filter(|(core, _)| *core == self.core).copied().collect();
                all.into_iter().for_each(|(_, conn)| self.cut(conn));
            }
            Order::Greet(_) | Order::Move { .. } | Order::Open { .. } => {
                panic!("who connects has been let in and is at home: {order:?}")
            }
            Order::Lose(why) => panic!("nobody else takes the store over: {why}"),
        }
    }

    fn decided(&mut self, lane: LaneId, id: BatchId, batch: &Batch) {
        assert!(!batch.is_empty());
        self.world.largest_batch = self.world.largest_batch.max(batch.bytes().len());
        let records: Result<Vec<Record>, _> = storage::records(batch.bytes()).collect();
        let records = records.expect("a shard's own batch can be read");
        let notes = records.iter().filter(|record| matches!(record, Record::Devices { .. }));
        self.world.device_notes += notes.count() as u64;
        self.world.records += records.len() as u64;
        let of_push = records.iter().filter(|record| matches!(record, Record::Due { .. } | Record::Notified { .. }));
        self.world.push_records += of_push.count() as u64;
        self.world.decided_count += 1;
        self.world.batches.push_back(Decided { lane, id, records, is_synced: false });
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(client) = self.client(conn) {
            client.outbox.extend(bytes);
        }
    }

    fn set_reading(&mut self, conn: ConnId, state: ReadState) {
        if let Some(client) = self.client(conn) {
            client.paused = state == ReadState::Paused;
        }
    }

    fn close(&mut self, _: Now, conn: ConnId) {
        if let Some(client) = self.client(conn) {
            client.receive(usize::MAX);
        }
        self.cut(conn);
    }

    fn commit(&mut self, work: Work) {
        self.world.commits.push_back((self.core, work));
    }

    fn serve_journal(&mut self, now: Now, journal: &mut Committer) {
        while let Some(segment) = journal.wanted_segment(now.monotonic_ms) {
            journal.prepared(segment, Salt(segment.0));
        }
        // Nothing waits for company here: what a test lets happen in two steps shall not be one.
        if let Some(write) = journal.next_write(now.monotonic_ms + PATIENCE_MS) {
            self.world.write = Some(write);
        }
        self.world.segments.extend(std::iter::from_fn(|| journal.next_fate()));
    }

    fn ask(&mut self, query: QueryId, what: Query) -> Result<(), (QueryId, Query)> {
        self.world.queries.push_back((self.core, query, what));
        Ok(())
    }

    fn post(&mut self, to: CoreId, message: CoreMessage) -> Result<(), CoreMessage> {
        assert_ne!(to, self.core, "a core keeps its own mail");
        self.world.cores.post(to, message)
    }

    fn notify(&mut self, notice: Box<push::Notice>) -> Result<(), Box<push::Notice>> {
        if self.world.notices.len() >= self.world.notices_max {
            return Err(notice);
        }
        self.world.notices.push_back((self.core, notice));
        Ok(())
    }

    fn post_presence(&mut self, to: CoreId, mail: Box<PresenceMail>, waiting_max: usize) -> bool {
        assert_ne!(to, self.core, "a core hears of its own at once");
        self.world.presence_mails += 1;
        !self.world.presence_lost && self.world.cores.post_presence(to, mail, waiting_max)
    }
}
