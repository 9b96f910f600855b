//! The node's connections: their places in the tables of cores, and their way from the core that accepts them to the one that is the
//! user's home.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proto_spec::UserId;
use server::{
    config::Transport,
    core::{Core, Guest, Judged},
    limits::HELLOS_TURN_MAX,
    shard::{ConnId, Now, topology::CoreId},
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
    fn free_slot(&self, core: CoreId) -> u32 {
        let is_taken = |slot: u32| {
            self.links.keys().any(|(at, conn)| *at == core && conn.slot == slot)
                || self.arrived.contains_key(&(core, slot))
        };
        (0..).find(|slot| !is_taken(*slot)).expect("places do not end")
    }

    /// A connection has its place.
    fn open(&mut self, core: CoreId, slot: u32, link: LinkId) -> ConnId {
        self.next_generation += 1;
        let conn = ConnId { slot, generation: self.next_generation };
        self.links.insert((core, conn), link);
        conn
    }

    fn taken(&self, core: CoreId) -> usize {
        self.links.keys().filter(|(at, _)| *at == core).count()
    }
}

impl Simulation {
    /// Some core accepts a connection.
    pub(in crate::sim) fn accept(&mut self, id: LinkId) {
        let cores = self.machine.cores();
        if cores.is_empty() {
            return;
        }
        let core = *self.rng.pick(&cores);
        self.core_turn(core, |turn, now, rim| {
            let Some(life) = &mut rim.sim.machine.alive else { return };
            let entered = turn.enter(now, PEER);
            let slot = life.free_slot(core);
            let conn = life.open(core, slot, id);
            let taken = life.taken(core);
            if let Some(link) = rim.sim.links.get(id) {
                link.server = ServerEnd::Greeting { core, conn };
            }
            turn.accepted(now, conn, PEER, entered, taken);
        });
    }

    /// Bytes of a connection that has not been let in.
    pub(in crate::sim) fn greeted(&mut self, core: CoreId, conn: ConnId, bytes: &[u8]) {
        self.act(core, |core, _| core.wait(conn, bytes));
    }

    /// What waits to be judged, or for others to have room, has another turn.
    pub(super) fn turn_soon(&mut self, core: CoreId) {
        let now = self.now;
        let Some(life) = &mut self.machine.alive else { return };
        let has_more = life.cores.get(core).has_work(now, false) || life.cores.get(core).is_stalled();
        if has_more && life.have_turns.insert(core) {
            let delay = self.rng.within(0, 2);
            let life = self.machine.life;
            self.schedule(delay, Happening::Turn { life, core });
        }
    }

    /// A turn that nothing has caused but what was left over.
    pub(in crate::sim) fn on_turn(&mut self, core: CoreId) {
        let Some(life) = &mut self.machine.alive else { return };
        life.have_turns.remove(&core);
        // Sometimes the audit log hangs.
        let audit_is_behind = self.machine.chaos && self.rng.chance(10);
        self.core_turn(core, |core, now, rim| {
            for at in 0..HELLOS_TURN_MAX {
                match core.judge(now, &rim.sim.machine.keys, at, audit_is_behind) {
                    None => break,
                    Some(Judged::Refresh) => {}
                    Some(Judged::Plain(..)) => unreachable!("nobody comes by a tunnel"),
                    Some(Judged::Hello(conn, bytes)) => {
                        core.hello(now, &rim.sim.machine.keys, (conn, Transport::Plain), &bytes);
                        core.obey(now, rim);
                        rim.read_on(conn);
                    }
                }
            }
        });
    }

    /// A descriptor has got to another core, or has not.
    pub(in crate::sim) fn on_moved(&mut self, core: CoreId, conn: ConnId, home: CoreId, ticket: u32) {
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
        let slot = life.free_slot(home);
        life.arrived.insert((home, slot), id);
        if let Some(link) = self.links.get(id) {
            link.server = ServerEnd::Arriving;
        }
        self.reached("connection moved to its home core");
        self.act(core, |core, _| core.moved(conn, Ok(())));
        // The ring of the other core tells before or after the mail.
        let delay = self.rng.within(0, 4);
        let ticket = if is_mixed_up { ticket.wrapping_sub(1) } else { ticket };
        let life = self.machine.life;
        self.schedule(delay, Happening::Arrived { life, core: home, from: core, ticket, slot });
    }

    /// A connection from another core is whole.
    pub(super) fn open_guest(&mut self, core: &mut Core, now: Now, slot: u32, guest: Guest) {
        let id = core.id();
        let Some(life) = &mut self.machine.alive else { return };
        let Some(link_id) = life.arrived.remove(&(id, slot)) else {
            return self.oracle.fail(|| format!("core {} opens place {slot}, where nobody has arrived", id.0));
        };
        let conn = life.open(id, slot, link_id);
        core.welcome(now, conn, guest, life.taken(id));
        match self.links.get(link_id) {
            Some(link) => link.server = ServerEnd::Greeting { core: id, conn },
            // The client has gone meanwhile, and the core finds out.
            None => {
                self.reached("client went away while its connection moved");
                core.disconnected(now, conn);
                if let Some(life) = &mut self.machine.alive {
                    life.links.remove(&(id, conn));
                }
                core.closed();
            }
        }
    }

    /// A connection that was let in has ended by itself.
    pub(in crate::sim) fn depart(&mut self, core: CoreId, conn: ConnId) {
        self.act(core, |core, now| core.disconnected(now, conn));
        self.close_place(core, conn);
    }

    /// The place of a connection is free again.
    pub(in crate::sim) fn close_place(&mut self, core: CoreId, conn: ConnId) {
        let leaks = self.strikes(Fault::LeakPlace, 10);
        let Some(life) = &mut self.machine.alive else { return };
        if life.links.remove(&(core, conn)).is_some() && !leaks {
            self.act(core, |core, _| core.closed());
        }
    }

    /// A connection is served as the user of its own app.
    pub(super) fn check_owner(&mut self, id: LinkId, user: UserId) {
        let Some(link) = self.links.get(id) else { return };
        let own = self.apps[link.app].key.0;
        if own != user {
            self.oracle.fail(|| format!("a connection of user {own} is served as that of user {user}"));
        }
    }
}
