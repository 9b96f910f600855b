//! What a core asks for is carried out here: on its ring, by its journal's files, by whoever reads the store, in the mailboxes.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rim::ring::{JournalRing, Ring};
use storage::Query;

use super::{
    super::{
        commit::Commit,
        links::{Line, Sockets},
        mailbox::Post,
        query::Readers,
        shared::Shared,
        socket::{Connections, Stream},
        tasks::Tasks,
    },
    Departure,
    tunnels::Adopted,
};
use crate::{
    core::{Core, CoreMessage, LinkId, Order, Rim},
    durability::{committer::Committer, lanes::Work},
    limits::JOURNAL_WAIT_US,
    operator::audit::Reporter,
    shard::{ConnId, Now, PresenceMail, QueryId, ReadState, topology::CoreId},
};

/// See the head of this file.
pub(super) struct CoreRim {
    // The first fields, so that they are dropped first: dropping them waits for operations on files that other fields own.
    pub(super) ring: Ring,
    /// The journal's ring and its files, on core 0.
    pub(super) journal: Option<(JournalRing, Commit)>,
    /// The core may let things come together.
    pub(super) is_calm: bool,
    pub(super) id: CoreId,
    pub(super) shared: Arc<Shared>,
    pub(super) connections: Connections,
    /// Connections whose peer has gone; a few are ended in each turn. One is here three times at most: for the end of its
    /// WebSocket, of its TLS and of its socket.
    pub(super) departures: VecDeque<Departure>,
    pub(super) reporter: Reporter,
    pub(super) post: Post<CoreMessage>,
    /// Threads that read the store, if it is an embedded one.
    pub(super) readers: Option<Readers>,
    /// Reads and commits under way, if the store is a database.
    pub(super) tasks: Option<Tasks>,
    /// To other nodes.
    pub(super) links: Sockets,
    /// Clients that come by a tunnel, whose sockets the ring is being given, by the place there.
    pub(super) adopted: HashMap<u32, Adopted>,
}

impl CoreRim {
    /// Waits for the journal and for nothing else: until the group in flight is on the disk, at most for [`JOURNAL_WAIT_US`], or until the next
    /// one may begin. What is sent meanwhile could be in no earlier group than that, and is looked at in one turn with the answers to what
    /// was sent before it. Whether there was something to wait for.
    pub(super) fn pause(&mut self) -> io::Result<bool> {
        match &mut self.journal {
            Some((ring, _)) if ring.is_writing() => ring.wait(Duration::from_micros(JOURNAL_WAIT_US))?,
            Some((_, commit)) => match commit.held_until() {
                Some(until) => thread::sleep(until.saturating_duration_since(Instant::now())),
                None => return Ok(false),
            },
            None => return Ok(false),
        }
        self.ring.submit()?;
        Ok(true)
    }

    /// What completes rings the doorbell: before sleeping.
    pub(super) fn enable_doorbell(&mut self) {
        self.ring.enable_doorbell();
        if let Some((ring, _)) = &mut self.journal {
            ring.enable_doorbell();
        }
    }

    /// What completes is taken without being told: while awake.
    pub(super) fn disable_doorbell(&mut self) {
        self.ring.disable_doorbell();
        if let Some((ring, _)) = &mut self.journal {
            ring.disable_doorbell();
        }
    }
}

impl Rim for CoreRim {
    fn order(&mut self, core: &mut Core, now: Now, order: Order) {
        match order {
            Order::Report(event) => self.reporter.report(event),
            Order::Tell(ticket, told) => self.shared.inquiries.tell(ticket, told),
            Order::TellPush(ticket, told) => self.shared.push_inquiries.tell(ticket, told),
            Order::Greet(conn) => self.connections.greet(conn, &mut self.ring),
            Order::Locate(conn, origin) => self.connections.locate(conn, origin),
            Order::Serve(conn, user) => self.connections.serve(conn, user, &mut self.ring),
            Order::Move { conn, home, ticket } => {
                self.connections.leave(conn);
                let target = self.shared.ring_of(home);
                self.ring.move_descriptor(conn.slot, conn.generation, target, self.id.0, ticket);
            }
            Order::Open { slot, guest } => {
                let conn = self.connections.open(slot, guest.origin);
                let stream = self.shared.luggage.lock().remove(&(guest.from, guest.ticket));
                self.adopt(conn, stream.unwrap_or_default());
                core.welcome(now, conn, *guest, self.connections.len());
            }
            Order::Dismiss(conn, bytes) => {
                self.connections.queue(conn, &bytes);
                self.close(now, conn);
            }
            Order::Cut(conn) => self.connections.abandon(conn, &mut self.ring),
            Order::CutAll => self.cut_all(),
            Order::Dial(node, address) => {
                let name = self.shared.common.mesh.as_ref().map(|mesh| mesh.nodes().node(node).name.clone());
                self.links.dial(node, address, name.unwrap_or_default());
            }
            Order::CutLink(link, last_words) => self.links.cut(link, &last_words),
            Order::Tunnel { conn, address, name, opening } => {
                self.connections.tunnel(conn);
                self.links.open_tunnel(conn, address, name, opening);
            }
            Order::EndTunnel(conn, last_words) => {
                self.links.end_tunnel(conn);
                self.connections.queue(conn, &last_words);
                self.close(now, conn);
            }
            Order::CheckFence => self.tasks.iter_mut().for_each(Tasks::check),
            Order::Lose(why) => self.shared.lose(&why),
        }
    }

    fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.connections.queue(conn, bytes);
    }

    fn send_link(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.links.send(Line::Link(link), &bytes);
    }

    fn notify(&mut self, notice: Box<push::Notice>) -> Result<(), Box<push::Notice>> {
        self.shared.to_push.offer(notice)
    }

    fn set_reading(&mut self, conn: ConnId, state: ReadState) {
        self.connections.set_reading(conn, state, &mut self.ring);
    }

    fn close(&mut self, now: Now, conn: ConnId) {
        self.connections.close(now.monotonic_ms, conn, &mut self.ring);
    }

    fn commit(&mut self, work: Work) {
        match &self.tasks {
            Some(tasks) => tasks.commit(work),
            None => debug_assert!(false, "only a database has lanes"),
        }
    }

    fn serve_journal(&mut self, now: Now, journal: &mut Committer) {
        if let Some((ring, commit)) = &mut self.journal {
            commit.begin(now.monotonic_ms, journal, ring, self.is_calm);
        }
    }

    fn ask(&mut self, query: QueryId, what: Query) -> Result<(), (QueryId, Query)> {
        match (&mut self.readers, &mut self.tasks) {
            (Some(readers), _) => readers.ask(self.id, query, what),
            (None, Some(tasks)) => tasks.ask(query, what),
            (None, None) => Err((query, what)),
        }
    }

    fn post(&mut self, to: CoreId, message: CoreMessage) -> Result<(), CoreMessage> {
        self.post.put(to, message)
    }

    fn post_presence(&mut self, to: CoreId, mail: Box<PresenceMail>, waiting_max: usize) -> bool {
        self.post.put_lossy(to, mail, waiting_max)
    }
}

impl CoreRim {
    /// A connection has come from another core, or has not got there: its stream goes on here.
    pub(super) fn adopt(&mut self, conn: ConnId, stream: Stream) {
        if stream.is_over() {
            self.departures.push_back(Departure::Announced(conn));
        }
        self.connections.set_stream(conn, stream);
    }

    /// Hands everything that the turn has begun to the kernel, and wakes the cores that got mail.
    pub(super) fn submit(&mut self, now: Now) -> io::Result<()> {
        self.connections.feed_starved(&mut self.ring);
        self.connections.flush(now.monotonic_ms, &mut self.ring);
        let origins = &self.shared.common.origins;
        self.connections.begin_closes(&mut self.ring, |origin| origins.leave(origin, now.monotonic_ms));
        self.post.wake();
        self.reporter.flush();
        self.ring.submit()
    }
}
