//! The node's connections: their places in the tables of cores, their way from the core that accepts them to the one that is the
//! user's home, and what cores order about them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proto_spec::{Resume, UserId};
use server::{
    core::{Guest, Judged, Order},
    limits::HELLOS_TURN_MAX,
    operator::audit::What,
    shard::{ConnId, topology::CoreId},
};

use super::{
    super::{
        Happening, Simulation,
        faults::Fault,
        network::{LinkId, ServerEnd},
    },
    Life,
};

/// Where all clients come from.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);

impl Life {
    /// The lowest place that is free, as descriptors are given.
    fn free_slot(&self, core: usize) -> u32 {
        let is_taken = |slot: u32| {
            self.links.keys().any(|(at, conn)| *at == core && conn.slot == slot)
                || self.arrived.contains_key(&(core, slot))
        };
        (0..).find(|slot| !is_taken(*slot)).expect("places do not end")
    }

    /// A connection has its place.
    fn open(&mut self, core: usize, slot: u32, link: LinkId) -> ConnId {
        self.next_generation += 1;
        let conn = ConnId { slot, generation: self.next_generation };
        self.links.insert((core, conn), link);
        conn
    }

    fn taken(&self, core: usize) -> usize {
        self.links.keys().filter(|(at, _)| *at == core).count()
    }
}

impl Simulation {
    /// Some core accepts a connection.
    pub(in crate::sim) fn accept(&mut self, id: LinkId) {
        let core = self.rng.within(0, self.machine.cores() - 1) as usize;
        let now = self.now;
        let Some(life) = &mut self.machine.alive else { return };
        let entered = life.cores[core].enter(now, PEER);
        let slot = life.free_slot(core);
        let conn = life.open(core, slot, id);
        let taken = life.taken(core);
        if let Some(link) = self.links.get(id) {
            link.server = ServerEnd::Greeting { core, conn };
        }
        self.act(core, |core, now| core.accepted(now, conn, PEER, entered, taken));
    }

    /// Bytes of a connection that has not been let in.
    pub(in crate::sim) fn greeted(&mut self, core: usize, conn: ConnId, bytes: &[u8]) {
        self.act(core, |core, _| core.wait(conn, bytes));
    }

    /// What waits to be judged, or for others to have room, has another turn.
    pub(super) fn turn_soon(&mut self, core: usize) {
        let now = self.now;
        let Some(life) = &mut self.machine.alive else { return };
        let has_more = life.cores[core].has_work(now, false) || life.cores[core].is_stalled();
        if has_more && !std::mem::replace(&mut life.has_turn[core], true) {
            let delay = self.rng.within(0, 2);
            let life = self.machine.life;
            self.schedule(delay, Happening::Turn { life, core });
        }
    }

    /// A turn that nothing has caused but what was left over.
    pub(in crate::sim) fn on_turn(&mut self, core: usize) {
        let Some(life) = &mut self.machine.alive else { return };
        life.has_turn[core] = false;
        // Sometimes the audit log hangs.
        let audit_is_behind = self.machine.chaos && self.rng.chance(10);
        for at in 0..HELLOS_TURN_MAX {
            let now = self.now;
            let Some(life) = &mut self.machine.alive else { return };
            match life.cores[core].judge(now, &self.machine.keys, at, audit_is_behind) {
                None => break,
                Some(Judged::Refresh) => {}
                Some(Judged::Hello(conn, bytes)) => {
                    life.cores[core].hello(now, &self.machine.keys, conn, &bytes);
                    self.obey(core);
                    self.read_on(core, conn);
                }
            }
        }
        self.end_turn(core);
    }

    /// What a connection says is read on, whatever became of what it has said.
    fn read_on(&mut self, core: usize, conn: ConnId) {
        let Some(life) = &self.machine.alive else { return };
        if let Some(id) = life.links.get(&(core, conn)).copied()
            && let Some(link) = self.links.get(id)
        {
            link.is_read = true;
        }
    }

    /// Carries out what a core has ordered.
    pub(super) fn obey(&mut self, core: usize) {
        while let Some(order) = self.machine.alive.as_mut().and_then(|life| life.cores[core].next_order()) {
            self.carry_out(core, order);
        }
    }

    fn carry_out(&mut self, core: usize, order: Order) {
        self.note(|| format!("core {core}: {order:?}"));
        let Some(life) = &mut self.machine.alive else { return };
        let of = |life: &Life, conn: ConnId| life.links.get(&(core, conn)).copied();
        match order {
            Order::Greet(conn) => self.read_on(core, conn),
            Order::Serve(conn, user) => {
                let Some(id) = of(life, conn) else { return };
                let Some(link) = self.links.get(id) else { return };
                link.server = ServerEnd::Serving { core, conn };
                link.is_read = true;
                let app = link.app;
                if let Some(seq) = self.apps[app].position() {
                    self.reached_resume(Resume::After(seq));
                }
                self.check_owner(id, user);
            }
            Order::Move { conn, home, ticket } => {
                let Some(link) = of(life, conn).and_then(|id| self.links.get(id)) else { return };
                link.server = ServerEnd::Moving { core, conn };
                link.is_read = false;
                let delay = self.rng.within(0, 4);
                let life = self.machine.life;
                self.schedule(delay, Happening::Moved { life, core, conn, home, ticket });
            }
            Order::Open { slot, guest } => self.open_guest(core, slot, *guest),
            Order::Dismiss(conn, bytes) => {
                let Some(id) = of(life, conn) else { return };
                self.queue_frame(id, &bytes);
                self.server_closes(id);
            }
            Order::Cut(conn) => {
                // Only its place here ends if it has moved.
                let Some(id) = life.links.remove(&(core, conn)) else { return };
                life.cores[core].closed();
                let is_here = |end: &ServerEnd| end.place() == Some((core, conn));
                if self.links.get(id).is_some_and(|link| is_here(&link.server)) {
                    self.cut(id);
                }
            }
            Order::CutAll => {
                let here = life.links.iter().filter(|((at, _), _)| *at == core);
                let here: Vec<LinkId> = here.map(|(_, id)| *id).collect();
                here.into_iter().for_each(|id| self.cut(id));
            }
            Order::Lose(why) => self.oracle.fail(|| format!("a server that nobody took over gives up: {why}")),
            Order::Report(event) => match (event.what, event.user) {
                (What::Login, Some(user)) if !self.strikes(Fault::ForgetLogin, 30) => {
                    *self.audited.entry(user).or_default() += 1;
                }
                _ => {}
            },
            // Nobody takes the store over here.
            Order::CheckFence => {}
        }
    }

    /// A descriptor has got to another core, or has not.
    pub(in crate::sim) fn on_moved(&mut self, core: usize, conn: ConnId, home: CoreId, ticket: u32) {
        let (fails, is_mixed_up) = (self.machine.chaos && self.rng.chance(3), self.strikes(Fault::MixUpGuests, 30));
        let Some(life) = &mut self.machine.alive else { return };
        let Some(id) = life.links.get(&(core, conn)).copied() else { return };
        if fails {
            self.reached("descriptor that could not be moved");
            if let Some(link) = self.links.get(id) {
                link.server = ServerEnd::Greeting { core, conn };
            }
            self.act(core, |core, _| core.moved(conn, Err("its table is full".to_owned())));
            return;
        }
        let to = usize::from(home.0);
        let slot = life.free_slot(to);
        life.arrived.insert((to, slot), id);
        if let Some(link) = self.links.get(id) {
            link.server = ServerEnd::Arriving;
        }
        self.reached("connection moved to its home core");
        self.act(core, |core, _| core.moved(conn, Ok(())));
        // The ring of the other core tells before or after the mail.
        let delay = self.rng.within(0, 4);
        let ticket = if is_mixed_up { ticket.wrapping_sub(1) } else { ticket };
        let life = self.machine.life;
        self.schedule(delay, Happening::Arrived { life, core: to, from: CoreId(core as u16), ticket, slot });
    }

    fn open_guest(&mut self, core: usize, slot: u32, guest: Guest) {
        let Some(life) = &mut self.machine.alive else { return };
        let Some(id) = life.arrived.remove(&(core, slot)) else {
            return self.oracle.fail(|| format!("core {core} opens place {slot}, where nobody has arrived"));
        };
        let conn = life.open(core, slot, id);
        let (now, taken) = (self.now, life.taken(core));
        life.cores[core].welcome(now, conn, guest, taken);
        match self.links.get(id) {
            Some(link) => link.server = ServerEnd::Greeting { core, conn },
            // The client has gone meanwhile, and the core finds out.
            None => {
                self.reached("client went away while its connection moved");
                self.obey(core);
                self.depart(core, conn);
            }
        }
    }

    /// A connection that was let in has ended by itself.
    pub(in crate::sim) fn depart(&mut self, core: usize, conn: ConnId) {
        self.act(core, |core, now| core.disconnected(now, conn));
        self.close_place(core, conn);
    }

    /// The place of a connection is free again.
    pub(in crate::sim) fn close_place(&mut self, core: usize, conn: ConnId) {
        let leaks = self.strikes(Fault::LeakPlace, 10);
        let Some(life) = &mut self.machine.alive else { return };
        if life.links.remove(&(core, conn)).is_some() && !leaks {
            life.cores[core].closed();
        }
    }

    /// A connection is served as the user of its own app.
    fn check_owner(&mut self, id: LinkId, user: UserId) {
        let Some(link) = self.links.get(id) else { return };
        let own = self.apps[link.app].key.0;
        if own != user {
            self.oracle.fail(|| format!("a connection of user {own} is served as that of user {user}"));
        }
    }
}
