//! The network: byte pipes between apps and the node, with delay, any cut, an end at any byte, and partitions in which
//! nothing arrives and nobody is told.

use std::collections::{BTreeMap, VecDeque};

use server::shard::{ConnId, topology::CoreId};

use super::{Happening, Simulation};

/// A connection attempt and what becomes of it. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(u64);

/// The server's end of a connection.
#[derive(Debug)]
pub(crate) enum ServerEnd {
    /// Not accepted yet, or nobody is there any more.
    None,
    /// It has not been let in.
    Greeting {
        core: CoreId,
        conn: ConnId,
    },
    /// It goes to its home core: its descriptor has not left.
    Moving {
        core: CoreId,
        conn: ConnId,
    },
    /// Its descriptor is with its home core, which does not know who it is.
    Arriving,
    Serving {
        core: CoreId,
        conn: ConnId,
    },
    /// The core has closed; what is queued is still sent.
    Closing {
        core: CoreId,
        conn: ConnId,
    },
}

impl ServerEnd {
    /// Which core has it, in which place.
    pub(crate) const fn place(&self) -> Option<(CoreId, ConnId)> {
        match *self {
            Self::None | Self::Arriving => None,
            Self::Greeting { core, conn }
            | Self::Moving { core, conn }
            | Self::Serving { core, conn }
            | Self::Closing { core, conn } => Some((core, conn)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) app: usize,
    /// The app's state knows of this link.
    pub(super) is_known: bool,
    pub(super) server: ServerEnd,
    /// Queued by the server, not taken by the kernel.
    pub(super) outbox: VecDeque<u8>,
    /// Bytes in it that a deliberate fault has added: the server knows nothing of them.
    pub(super) added: usize,
    pub(super) is_draining: bool,
    is_paused: bool,
    /// The server receives: before a connection is let in it does so piece by piece.
    pub(super) is_read: bool,
    /// When the newest token that its app has given here was made, by the number of happenings.
    pub(super) token_at: u64,
    /// Bytes that its app has written, and that the server has read.
    pub(super) written: u64,
    read: u64,
    to_server: VecDeque<Vec<u8>>,
    to_client: VecDeque<Vec<u8>>,
    /// Deliveries in each direction keep their order.
    server_at_ms: u64,
    client_at_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<LinkId, Link>,
    next: u64,
}

impl Links {
    pub(super) fn get(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// Those that are served.
    pub(super) fn served(&self) -> impl Iterator<Item = (LinkId, usize)> {
        let served = self.links.iter().filter(|(_, link)| matches!(link.server, ServerEnd::Serving { .. }));
        served.map(|(id, link)| (*id, link.app))
    }

    pub(super) fn ids(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    fn remove(&mut self, id: LinkId) -> Option<Link> {
        self.links.remove(&id)
    }

    /// Nothing is on its way anywhere.
    pub(super) fn are_empty(&self) -> bool {
        self.links.values().all(|l| l.outbox.is_empty() && l.to_server.is_empty() && l.to_client.is_empty())
    }
}

impl Simulation {
    /// An app opens a connection.
    pub(super) fn open_link(&mut self, app: usize) -> LinkId {
        self.links.next += 1;
        let id = LinkId(self.links.next);
        let at = self.now.monotonic_ms;
        self.links.links.insert(
            id,
            Link {
                app,
                is_known: true,
                server: ServerEnd::None,
                outbox: VecDeque::new(),
                added: 0,
                is_draining: false,
                is_paused: false,
                is_read: false,
                token_at: self.apps[app].token_at,
                written: 0,
                read: 0,
                to_server: VecDeque::new(),
                to_client: VecDeque::new(),
                server_at_ms: at,
                client_at_ms: at,
            },
        );
        let delay = self.rng.within(1, 20);
        self.schedule(delay, Happening::Opened(id));
        id
    }

    pub(super) fn on_opened(&mut self, id: LinkId) {
        let is_up = self.machine.is_up();
        let Some(link) = self.links.get(id) else { return };
        let app = link.app;
        if let Some(ms) = self.parted_ms(app) {
            return self.schedule(ms, Happening::Opened(id));
        }
        if !is_up {
            self.links.remove(id);
            return self.app_lost(app, id);
        }
        if !self.healing && self.rng.chance(30) {
            let life = self.rng.within(1, 3_000);
            self.schedule(life, Happening::Cut(id));
        }
        self.accept(id);
        self.app_connected(app, id);
    }

    /// Bytes of an app, cut at random.
    pub(super) fn write_to_server(&mut self, id: LinkId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let cut = self.rng.within(1, 2 * bytes.len() as u64).min(bytes.len() as u64) as usize;
            let (head, rest) = bytes.split_at(cut);
            bytes = rest;
            let delay = self.rng.within(0, 5);
            let now = self.now.monotonic_ms;
            let Some(link) = self.links.get(id) else { return };
            link.to_server.push_back(head.to_vec());
            link.written += cut as u64;
            link.server_at_ms = link.server_at_ms.max(now + delay);
            let in_ms = link.server_at_ms - now;
            self.schedule(in_ms, Happening::ToServer(id));
        }
    }

    /// How long nothing will pass between this app and the node, if so.
    fn parted_ms(&self, app: usize) -> Option<u64> {
        self.apps[app].parted_until_ms.checked_sub(self.now.monotonic_ms).filter(|ms| *ms > 0)
    }

    pub(super) fn on_to_server(&mut self, id: LinkId) {
        let Some(app) = self.links.get(id).map(|link| link.app) else { return };
        if let Some(ms) = self.parted_ms(app) {
            return self.schedule(ms, Happening::ToServer(id));
        }
        let Some(link) = self.links.get(id) else { return };
        let is_read = match link.server {
            ServerEnd::None | ServerEnd::Closing { .. } => true,
            ServerEnd::Moving { .. } | ServerEnd::Arriving => false,
            ServerEnd::Greeting { core, .. } => link.is_read && !self.machine.is_stalled(core),
            ServerEnd::Serving { core, .. } => link.is_read && !link.is_paused && !self.machine.is_stalled(core),
        };
        if !is_read {
            // Left in the kernel until the server reads again.
            return self.schedule(1, Happening::ToServer(id));
        }
        let Some(link) = self.links.get(id) else { return };
        let Some(bytes) = link.to_server.pop_front() else { return };
        link.read += bytes.len() as u64;
        let read = link.read;
        match link.server {
            ServerEnd::Serving { core, conn } => {
                self.notices(id, read);
                self.act(core, |core, now| core.bytes(now, conn, &bytes));
            }
            ServerEnd::Greeting { core, conn } => {
                link.is_read = false;
                self.greeted(core, conn, &bytes);
            }
            ServerEnd::None | ServerEnd::Moving { .. } | ServerEnd::Arriving | ServerEnd::Closing { .. } => {}
        }
    }

    pub(super) fn reached_resume(&mut self, resume: proto_spec::Resume) {
        if let proto_spec::Resume::After(seq) = resume
            && seq.0 > 0
        {
            self.reached("resume by cursor");
            if self.machine.has_parked() {
                self.reached("resume during traffic");
            }
        }
    }

    /// The server has queued something: the kernel will take it.
    pub(super) fn drain_soon(&mut self, id: LinkId) {
        let delay = self.rng.within(0, 3);
        let Some(link) = self.links.get(id) else { return };
        if !std::mem::replace(&mut link.is_draining, true) {
            self.schedule(delay, Happening::Drain(id));
        }
    }

    pub(super) fn on_drain(&mut self, id: LinkId) {
        let now = self.now.monotonic_ms;
        let Some(link) = self.links.get(id) else { return };
        let app = &self.apps[link.app];
        let stalled_until = app.stalled_until_ms.max(app.parted_until_ms);
        if now < stalled_until {
            return self.schedule(stalled_until - now, Happening::Drain(id));
        }
        link.is_draining = false;
        let waiting = link.outbox.len();
        if waiting == 0 {
            return self.close_if_done(id);
        }
        let cut = self.rng.within(1, 2 * waiting as u64).min(waiting as u64) as usize;
        let delay = self.rng.within(0, 5);
        let Some(link) = self.links.get(id) else { return };
        let bytes: Vec<u8> = link.outbox.drain(..cut).collect();
        let added = link.added.min(cut);
        link.added -= added;
        link.to_client.push_back(bytes);
        link.client_at_ms = link.client_at_ms.max(now + delay);
        let in_ms = link.client_at_ms - now;
        let serving = match link.server {
            ServerEnd::Serving { core, conn } => Some((core, conn)),
            _ => None,
        };
        self.schedule(in_ms, Happening::ToClient(id));
        if let Some((core, conn)) = serving {
            self.act(core, |core, now| core.sent(now, conn, cut - added));
        }
        self.drain_soon(id);
    }

    /// A link that the server closes ends when the last byte has arrived.
    fn close_if_done(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        if let ServerEnd::Closing { core, conn } = link.server
            && link.outbox.is_empty()
            && link.to_client.is_empty()
        {
            let app = link.app;
            let is_known = link.is_known;
            self.links.remove(id);
            self.watching.line_gone(id, self.now.monotonic_ms);
            self.close_place(core, conn);
            if is_known {
                self.app_lost(app, id);
            }
        }
    }

    pub(super) fn on_to_client(&mut self, id: LinkId) {
        let Some(app) = self.links.get(id).map(|link| link.app) else { return };
        if let Some(ms) = self.parted_ms(app) {
            return self.schedule(ms, Happening::ToClient(id));
        }
        let Some(link) = self.links.get(id) else { return };
        let Some(bytes) = link.to_client.pop_front() else { return };
        let (app, is_known) = (link.app, link.is_known);
        if is_known {
            self.app_bytes(app, id, &bytes);
        }
        self.close_if_done(id);
    }

    /// The shard stops or goes on reading.
    pub(super) fn set_paused(&mut self, id: LinkId, is_paused: bool) {
        if let Some(link) = self.links.get(id) {
            link.is_paused = is_paused;
        }
    }

    /// The core has closed the connection.
    pub(super) fn server_closes(&mut self, id: LinkId) {
        if let Some(link) = self.links.get(id)
            && let Some((core, conn)) = link.server.place()
        {
            link.server = ServerEnd::Closing { core, conn };
            self.watching.line_moves(id, self.now.monotonic_ms);
            self.drain_soon(id);
        }
    }

    /// The app has closed, or crashed: the server finds out.
    pub(super) fn client_closes(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        link.is_known = false;
        let app = link.app;
        if let Some(ms) = self.parted_ms(app) {
            return self.schedule(ms, Happening::Cut(id));
        }
        if self.rng.chance(30) {
            // Nobody tells the server; it finds out later, perhaps from the same device connecting again.
            let unnoticed = self.rng.within(100, 3_000);
            return self.schedule(unnoticed, Happening::Cut(id));
        }
        self.cut(id);
    }

    /// The connection breaks at this byte, both ways.
    pub(super) fn cut(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(id) else { return };
        self.watching.line_gone(id, self.now.monotonic_ms);
        if !link.to_server.is_empty() {
            self.reached("connection cut with bytes on their way to the server");
        }
        if !link.to_client.is_empty() || !link.outbox.is_empty() {
            self.reached("connection cut with bytes on their way to the client");
        }
        match link.server {
            ServerEnd::Serving { core, conn } => self.depart(core, conn),
            ServerEnd::Greeting { core, conn } => {
                self.act(core, |core, now| core.gone(now, conn));
                self.close_place(core, conn);
            }
            ServerEnd::Closing { core, conn } => self.close_place(core, conn),
            // Nobody reads from it: it is found out where it goes.
            ServerEnd::Moving { .. } | ServerEnd::Arriving | ServerEnd::None => {}
        }
        if link.is_known {
            self.app_lost(link.app, id);
        }
    }

    /// The node has died: every link breaks.
    pub(super) fn cut_all(&mut self) {
        for id in self.links.ids() {
            let Some(link) = self.links.remove(id) else { continue };
            self.watching.line_gone(id, self.now.monotonic_ms);
            if !link.to_client.is_empty() {
                self.reached("crash with accepted messages on their way to the client");
            }
            if link.is_known {
                self.app_lost(link.app, id);
            }
        }
    }

    /// Queues a frame for a link.
    pub(super) fn queue_frame(&mut self, id: LinkId, bytes: &[u8]) {
        if let Some(link) = self.links.get(id) {
            link.outbox.extend(bytes);
            self.drain_soon(id);
        }
    }
}
