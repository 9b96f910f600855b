//! The network: *lines* between apps and processes, and *wires* between processes. With delay, in any cut, and with an end at any byte;
//! between two nodes each direction may stand still, and what is on its way is lost with the connection.

use std::collections::{BTreeMap, VecDeque};

use proto_spec::Seq;
use server::{
    core::LinkId,
    shard::topology::{CoreId, NodeId},
};

use super::Pid;
pub(super) use crate::sim::network::ServerEnd;

/// A client's attempt to connect and what becomes of it. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineId(pub(super) u64);

/// One connection between two processes. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WireId(pub(super) u64);

/// A direction of a wire: from which of its ends.
pub(super) type Way = usize;

/// What is on its way in one direction, in order.
#[derive(Debug)]
pub(super) struct Pipe<T> {
    pub(super) queue: VecDeque<T>,
    /// When the last of it arrives.
    pub(super) at_ms: u64,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), at_ms: 0 }
    }
}

impl<T> Pipe<T> {
    /// One more. In how many milliseconds it arrives.
    pub(super) fn push(&mut self, now_ms: u64, delay_ms: u64, what: T) -> u64 {
        self.queue.push_back(what);
        self.at_ms = self.at_ms.max(now_ms + delay_ms);
        self.at_ms - now_ms
    }
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) app: usize,
    /// With which process.
    pub(super) pid: Option<Pid>,
    pub(super) server: ServerEnd,
    /// Up to where the log had been shown to anybody when it was opened.
    pub(super) told: Seq,
    /// The app's state knows of this line.
    pub(super) is_known: bool,
    /// The server receives: before a connection is let in it does so piece by piece.
    pub(super) is_read: bool,
    pub(super) is_paused: bool,
    pub(super) to_server: Pipe<Vec<u8>>,
    pub(super) to_client: Pipe<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) pid: Pid,
    pub(super) core: CoreId,
    pub(super) link: LinkId,
    pub(super) is_open: bool,
}

#[derive(Debug)]
pub(super) enum Piece {
    /// Somebody connects.
    Began,
    Bytes(Vec<u8>),
    Ended,
}

/// The first end has dialled.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) ends: [End; 2],
    pub(super) dialled: NodeId,
    pub(super) to: usize,
    pub(super) is_slow: bool,
    pub(super) pipes: [Pipe<Piece>; 2],
}

#[derive(Default)]
pub(super) struct Network {
    pub(super) lines: BTreeMap<LineId, Line>,
    pub(super) wires: BTreeMap<WireId, Wire>,
    /// Between these names nothing passes in this direction, until then.
    parted: BTreeMap<(usize, usize), u64>,
    next: u64,
}

impl Network {
    pub(super) fn line(&mut self, id: LineId) -> Option<&mut Line> {
        self.lines.get_mut(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Line> {
        self.lines.values()
    }

    /// Those that are served: by whom, for which app.
    pub(super) fn served(&self) -> Vec<(LineId, usize, Pid)> {
        let served = self.lines.iter().filter(|(_, line)| matches!(line.server, ServerEnd::Serving { .. }));
        served.filter_map(|(id, line)| Some((*id, line.app, line.pid?))).collect()
    }

    pub(super) fn lines_of(&self, pid: Pid) -> Vec<LineId> {
        self.lines.iter().filter(|(_, line)| line.pid == Some(pid)).map(|(id, _)| *id).collect()
    }

    /// The machine of the server is gone, and nobody says so.
    pub(super) fn forget_server(&mut self, id: LineId) {
        if let Some(line) = self.lines.get_mut(&id) {
            (line.pid, line.server) = (None, ServerEnd::None);
        }
    }

    /// Nothing passes from one node to another for a while.
    pub(super) fn part(&mut self, from: usize, to: usize, until_ms: u64) {
        self.parted.insert((from, to), until_ms);
    }

    pub(super) fn heal(&mut self) {
        self.parted.clear();
        self.wires.values_mut().for_each(|wire| wire.is_slow = false);
    }

    pub(super) fn parted_until(&self, from: usize, to: usize) -> u64 {
        self.parted.get(&(from, to)).copied().unwrap_or_default()
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Where apps go that know no node: somebody passes them on to any that listens.
pub(super) const fn people_go_to() -> &'static str {
    "any:1"
}
