//! Wires: what passes between two processes.

use std::net::SocketAddr;

use server::{
    core::LinkId,
    shard::topology::{CoreId, NodeId},
};

use super::{
    Fleet, Happening, Pid,
    faults::Fault,
    network::{End, Piece, Way, Wire, WireId},
};

impl Fleet {
    /// A core connects to a node.
    pub(super) fn dial(&mut self, pid: Pid, core: CoreId, dialled: NodeId, address: SocketAddr) {
        let (id, link, other) = (WireId(self.network.id()), LinkId(self.network.id()), LinkId(self.network.id()));
        let to = usize::from(address.port() - 7_000);
        let end = |core, link| End { pid, core, link, is_open: false };
        let ends = [end(core, link), end(CoreId(0), other)];
        let is_slow = !self.healing && self.rng.chance(15);
        self.network.wires.insert(id, Wire { ends, dialled, to, is_slow, pipes: Default::default() });
        let from = self.processes[pid.0].name;
        let is_parted = self.is_parted(from, to);
        let delay = if is_parted { self.rng.within(500, 5_000) } else { self.rng.within(1, 30) };
        self.schedule(delay, Happening::Dialled(id));
    }

    fn is_parted(&self, one: usize, other: usize) -> bool {
        self.network.parted_until(one, other).max(self.network.parted_until(other, one)) > self.now_ms
    }

    pub(super) fn on_dialled(&mut self, id: WireId) {
        let Some(wire) = self.network.wires.get(&id) else { return };
        let (End { pid, core, link, .. }, to, dialled) = (wire.ends[0], wire.to, wire.dialled);
        let process = &self.processes[pid.0];
        if !process.is_alive {
            return drop(self.network.wires.remove(&id));
        }
        if process.paused_until_ms > self.now_ms {
            return self.schedule(process.paused_until_ms - self.now_ms, Happening::Dialled(id));
        }
        let from = process.name;
        let target = self.at(to).filter(|to| self.processes[to.0].serving.as_ref().is_some_and(|of| !of.is_stopping));
        let Some(target) = target.filter(|_| !self.is_parted(from, to)) else {
            self.network.wires.remove(&id);
            self.act(pid, core, |core, now| core.dial_failed(now, dialled, "nobody is there"));
            return;
        };
        let cores = self.cores(target);
        let accepts = *self.rng.pick(&cores);
        let Some(wire) = self.network.wires.get_mut(&id) else { return };
        wire.ends[0].is_open = true;
        (wire.ends[1].pid, wire.ends[1].core) = (target, accepts);
        if let Some(serving) = &mut self.processes[pid.0].serving {
            serving.wires.insert((core, link), id);
        }
        self.push(id, 0, Piece::Began);
        self.act(pid, core, |core, now| core.link_began(now, link, Some(dialled), None));
    }

    fn push(&mut self, id: WireId, way: Way, piece: Piece) {
        let is_slow = self.network.wires.get(&id).is_some_and(|wire| wire.is_slow);
        let delay = if is_slow { self.rng.within(20, 400) } else { self.delay(5, 300) };
        let now_ms = self.now_ms;
        let Some(wire) = self.network.wires.get_mut(&id) else { return };
        let in_ms = wire.pipes[way].push(now_ms, delay, piece);
        self.schedule(in_ms, Happening::Wire(id, way));
    }

    /// A core has bytes for another node. They come in any cut.
    pub(super) fn send_to_node(&mut self, pid: Pid, core: CoreId, link: LinkId, bytes: Vec<u8>) {
        let Some(serving) = &self.processes[pid.0].serving else { return };
        let Some(id) = serving.wires.get(&(core, link)).copied() else { return };
        let Some(wire) = self.network.wires.get(&id) else { return };
        let way = usize::from(wire.ends[0].pid != pid);
        // The first bytes greet.
        let is_open = wire.ends.iter().all(|end| end.is_open) && wire.pipes[way].at_ms + 100 < self.now_ms;
        if is_open && self.strikes(Fault::LoseOnLink, 5) {
            return self.schedule(0, Happening::Sent { pid, core, link, bytes: bytes.len() });
        }
        let cut = self.rng.within(1, 4 * bytes.len() as u64).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(cut);
        for part in [head, rest].into_iter().filter(|part| !part.is_empty()) {
            self.push(id, way, Piece::Bytes(part.to_vec()));
        }
    }

    pub(super) fn on_wire(&mut self, id: WireId, way: Way) {
        let now_ms = self.now_ms;
        let Some(wire) = self.network.wires.get(&id) else { return };
        let (sender, receiver) = (wire.ends[way], wire.ends[1 - way]);
        let of = &self.processes[receiver.pid.0];
        if !of.is_alive {
            return;
        }
        let parted_until = self.network.parted_until(self.processes[sender.pid.0].name, of.name);
        let until = parted_until.max(of.paused_until_ms);
        if until > now_ms {
            if parted_until > now_ms && self.network.parted_until(of.name, self.processes[sender.pid.0].name) <= now_ms
            {
                self.reached("link cut in one direction");
            }
            return self.schedule(until - now_ms, Happening::Wire(id, way));
        }
        if of.serving.as_ref().is_some_and(|serving| serving.cores.get(receiver.core).is_stalled()) {
            return self.schedule(2, Happening::Wire(id, way));
        }
        let Some(wire) = self.network.wires.get_mut(&id) else { return };
        let Some(piece) = wire.pipes[way].queue.pop_front() else { return };
        let End { pid, core, link, is_open } = receiver;
        match piece {
            Piece::Began => {
                wire.ends[1].is_open = true;
                if let Some(serving) = &mut self.processes[pid.0].serving {
                    serving.wires.insert((core, link), id);
                }
                self.act(pid, core, |core, now| core.link_began(now, link, None, None));
            }
            Piece::Bytes(bytes) => {
                let (to, len) = (sender, bytes.len());
                self.schedule(0, Happening::Sent { pid: to.pid, core: to.core, link: to.link, bytes: len });
                if is_open {
                    self.act(pid, core, |core, now| core.link_bytes(now, link, &bytes));
                }
            }
            Piece::Ended if is_open => {
                self.act(pid, core, |core, now| core.link_ended(now, link, "the other node has closed it"));
            }
            Piece::Ended => {}
        }
    }

    /// A core closes a link.
    pub(super) fn cut_link(&mut self, pid: Pid, core: CoreId, link: LinkId, last_words: &[u8]) {
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        if let Some(wire) = serving.wires.remove(&(core, link)) {
            self.close_wire(wire, (pid, core, link), last_words, true);
        }
    }

    /// One end of a wire is closed. What is on its way there is lost.
    pub(super) fn close_wire(
        &mut self,
        id: WireId,
        (pid, _, link): (Pid, CoreId, LinkId),
        last_words: &[u8],
        is_noticed: bool,
    ) {
        let Some(wire) = self.network.wires.get_mut(&id) else { return };
        let way = usize::from(wire.ends[0].link != link || wire.ends[0].pid != pid);
        wire.ends[way].is_open = false;
        let is_lost = wire.pipes[1 - way].queue.iter().any(|piece| matches!(piece, Piece::Bytes(_)));
        self.reached("link ended");
        if is_lost {
            self.reached("link cut with bytes on their way");
        }
        if !is_noticed {
            return;
        }
        if !last_words.is_empty() {
            self.push(id, way, Piece::Bytes(last_words.to_vec()));
        }
        self.push(id, way, Piece::Ended);
    }

    pub(super) fn on_sent(&mut self, pid: Pid, core: CoreId, link: LinkId, bytes: usize) {
        self.act(pid, core, |core, _| core.link_sent(link, bytes));
    }

    /// The connection of two nodes breaks, whichever it is: both hear of it.
    pub(super) fn break_wires(&mut self, one: usize, other: usize) {
        let is_of = |wire: &Wire, name| wire.ends.iter().any(|end| self.processes[end.pid.0].name == name);
        let wires = self.network.wires.iter().filter(|(_, wire)| wire.ends.iter().all(|end| end.is_open));
        let broken: Vec<_> = wires
            .filter(|(_, wire)| is_of(wire, one) && is_of(wire, other))
            .map(|(id, wire)| (*id, wire.ends))
            .collect();
        for (id, ends) in broken {
            for (way, End { pid, core, link, .. }) in ends.into_iter().enumerate() {
                if let Some(wire) = self.network.wires.get_mut(&id) {
                    wire.ends[way].is_open = false;
                }
                self.schedule(0, Happening::LinkBroke { pid, core, link });
            }
        }
    }

    pub(super) fn on_link_broke(&mut self, pid: Pid, core: CoreId, link: LinkId) {
        self.reached("link cut with bytes on their way");
        self.act(pid, core, |core, now| core.link_ended(now, link, "connection reset"));
    }
}
