//! The connections of clients in a process: their places in the tables of cores, and their way from the core that accepts them to the
//! user's home.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use server::{
    core::{Core, Guest},
    shard::{ConnId, Now, topology::CoreId},
};

use super::{
    Fleet, Happening, Pid,
    network::{Line, LineId, ServerEnd},
};

/// Where all clients come from.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);

impl Fleet {
    /// Some core accepts a connection.
    pub(super) fn accept(&mut self, pid: Pid, id: LineId) {
        let cores = self.cores(pid);
        let core = *self.rng.pick(&cores);
        self.core_turn(pid, core, |turn, now, rim| {
            let Some(serving) = &mut rim.fleet.processes[pid.0].serving else { return };
            let entered = turn.enter(now, PEER);
            let slot = serving.free_slot(core);
            let conn = serving.open(core, slot, id);
            let taken = serving.taken(core);
            if let Some(line) = rim.fleet.network.line(id) {
                line.server = ServerEnd::Greeting { core, conn };
            }
            turn.accepted(now, conn, PEER, entered, taken);
        });
    }

    /// A descriptor has got to another core.
    pub(super) fn on_moved(&mut self, pid: Pid, core: CoreId, conn: ConnId, home: CoreId, ticket: u32) {
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        let Some(id) = serving.lines.get(&(core, conn)).copied() else { return };
        let slot = serving.free_slot(home);
        serving.arrived.insert((home, slot), id);
        if let Some(line) = self.network.line(id) {
            line.server = ServerEnd::Arriving;
        }
        self.act(pid, core, |core, _| core.moved(conn, Ok(())));
        // The ring of the other core tells before or after the mail.
        let delay = self.rng.within(0, 4);
        self.schedule(delay, Happening::Arrived { pid, core: home, from: core, ticket, slot });
    }

    /// A connection from another core is whole.
    pub(super) fn open_guest(&mut self, pid: Pid, core: &mut Core, now: Now, slot: u32, guest: Guest) {
        let id = core.id();
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        let Some(line_id) = serving.arrived.remove(&(id, slot)) else {
            return self.oracle.fail(|| format!("core {} opens place {slot}, where nobody has arrived", id.0));
        };
        let conn = serving.open(id, slot, line_id);
        let taken = serving.taken(id);
        if let Some(line) = self.network.line(line_id) {
            line.server = ServerEnd::Greeting { core: id, conn };
            return core.welcome(now, conn, guest, taken);
        }
        // The client has gone meanwhile, and the core finds out.
        core.welcome(now, conn, guest, taken);
        core.disconnected(now, conn);
        if let Some(serving) = &mut self.processes[pid.0].serving {
            serving.lines.remove(&(id, conn));
        }
        core.closed();
    }

    /// A client's connection has ended by itself.
    pub(super) fn depart(&mut self, line: &Line) {
        let Some(pid) = line.pid else { return };
        let Some((core, conn)) = line.server.place() else { return };
        match line.server {
            ServerEnd::Serving { .. } | ServerEnd::Greeting { .. } => {
                self.act(pid, core, |core, now| {
                    // It may have been let in since it broke.
                    core.gone(now, conn);
                    core.disconnected(now, conn);
                });
            }
            // Nobody reads from it: it is found out where it goes.
            ServerEnd::Moving { .. } => return,
            ServerEnd::None | ServerEnd::Arriving | ServerEnd::Closing { .. } => {}
        }
        self.close_place(pid, core, conn);
    }

    /// The place of a connection is free again.
    pub(super) fn close_place(&mut self, pid: Pid, core: CoreId, conn: ConnId) {
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        if serving.lines.remove(&(core, conn)).is_some() {
            self.act(pid, core, |core, _| core.closed());
        }
    }

    /// Bytes have been taken by the kernel.
    pub(super) fn on_taken(&mut self, pid: Pid, core: CoreId, conn: ConnId, bytes: usize) {
        let Some(serving) = &self.processes[pid.0].serving else { return };
        if let Some(line) = serving.lines.get(&(core, conn)).copied()
            && let Some(line) = self.network.line(line)
            && matches!(line.server, ServerEnd::Serving { .. })
        {
            self.act(pid, core, |core, now| core.sent(now, conn, bytes));
        }
    }
}
