//! A process: one start of a node. Its cores, its clock, where its connections have their places, and how it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use proto_spec::{EpochId, TimestampMs, UserId};
use server::{
    access::revocation::Revocations,
    cluster::{
        file::{Identity, Node, Nodes},
        map::Slot,
        steward::{Steward, Stewardship},
    },
    config::Transport,
    core::{Common, Core, CoreConfig, CoreMessage, Cores, Judged, LinkId, OriginLimits},
    durability::committer::{Committer, OnStoreOutage},
    host::capacity::Capacity,
    limits::{HELLOS_TURN_MAX, MAILBOX_MESSAGES_MAX, TICK_MS},
    operator::counters::Counters,
    shard::{
        CacheLimits, ConnId, Limits, Now, PresenceSettings, Promise, Settings,
        topology::{CoreId, NodeId, Topology},
    },
};
use storage::{
    BatchId, Holder, LaneId, Record,
    journal::{JournalConfig, Lsn, Position, SegmentNumber, Writer},
};

use super::{
    BEGAN_MS, Fleet, Happening, Pid,
    faults::Fault,
    network::{LineId, WireId},
    rim::TurnRim,
    steward::Desk,
};

/// For hellos; not short, since bytes come in any cut.
const HANDSHAKE_TIMEOUT_MS: u64 = 4_000;

/// Messages that fit a mailbox in some processes. Small, so that it is full sometimes.
const MAILBOX_SMALL: usize = 6;

/// Never written.
const JOURNAL: JournalConfig =
    JournalConfig { segment_bytes: 640 * 1024, journal_bytes_max: 5 * 640 * 1024, reserve_bytes: 64 * 1024 };

const SETTINGS: Settings = Settings {
    ping_after_ms: 2_000,
    idle_timeout_ms: 5_000,
    expiry_warning_ms: 3_000,
    token_leeway_ms: 500,
    promise: Promise::Store,
    limits: Limits::OFF,
    cache: CacheLimits::OFF,
    presence: PresenceSettings::DEFAULT,
    moves_per_s: 200,
    push: None,
};

/// See the head of this file.
pub(super) struct Process {
    /// Which node it is.
    pub(super) name: usize,
    pub(super) holder: Holder,
    pub(super) is_alive: bool,
    /// Nothing of it runs until then.
    pub(super) paused_until_ms: u64,
    /// It can not reach the database until then.
    pub(super) away_until_ms: u64,
    pub(super) began_ms: u64,
    /// Of a thousand milliseconds its clock counts so many.
    pub(super) rate: u64,
    pub(super) steward: Steward,
    pub(super) desk: Desk,
    /// What its cores were told last.
    pub(super) told: Option<Arc<Nodes>>,
    /// It has been told to stop.
    pub(super) is_ending: bool,
    /// It has been replaced.
    pub(super) is_unseated: bool,
    /// What its cores have put into batches that are not in the database, as far as is known; those of a lane in order.
    pub(super) undecided: BTreeMap<LaneId, Vec<(BatchId, Vec<Record>)>>,
    /// Once it is a node of the cluster.
    pub(super) serving: Option<Serving>,
}

/// The cores of a process that serves, and what they have.
pub(super) struct Serving {
    pub(super) cores: Cores,
    pub(super) own: NodeId,
    /// Clients, by core and place in its table.
    pub(super) lines: BTreeMap<(CoreId, ConnId), LineId>,
    /// Descriptors that have come from another core, by core and place, before anybody said who it is.
    pub(super) arrived: BTreeMap<(CoreId, u32), LineId>,
    /// Links to other processes.
    pub(super) wires: BTreeMap<(CoreId, LinkId), WireId>,
    /// Cores that have a turn soon in which nothing else happens.
    have_turns: BTreeSet<CoreId>,
    next_generation: u32,
    /// How many envelopes came to each core that are for other nodes.
    astray: BTreeMap<CoreId, u64>,
    pub(super) is_stopping: bool,
    /// Of which links each core has heard, and which core is told less: for deliberate faults.
    heard_of: BTreeSet<(CoreId, NodeId)>,
    victim: CoreId,
}

pub(super) fn name_of(name: usize) -> String {
    String::from(char::from(b'a' + name as u8))
}

/// Where nodes reach the one of this name.
pub(super) fn mesh_of(name: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7_000 + name as u16)
}

impl Process {
    /// The time as this process knows it.
    pub(super) fn now(&self, now_ms: u64) -> Now {
        let monotonic_ms = 1_000 + (now_ms - self.began_ms) * self.rate / 1_000;
        // Wall clocks agree within what a clock of this rate is wrong by.
        Now { monotonic_ms, wall: TimestampMs(BEGAN_MS + now_ms * self.rate / 1_000) }
    }

    /// In how many milliseconds its clock will say this.
    pub(super) fn ms_until(&self, now_ms: u64, local_ms: u64) -> u64 {
        (local_ms.saturating_sub(self.now(now_ms).monotonic_ms) * 1_000).div_ceil(self.rate)
    }

    pub(super) const fn serves(&self) -> bool {
        self.is_alive && self.serving.is_some()
    }

    /// Whether it goes by a map in which it owns this slot.
    pub(super) fn believes_to_own(&self, slot: Slot) -> bool {
        let told = self.told.as_ref().zip(self.serving.as_ref());
        self.is_alive && told.is_some_and(|(nodes, serving)| nodes.map.owner(slot) == serving.own)
    }
}

impl Serving {
    /// The lowest place that is free, as descriptors are given.
    pub(super) fn free_slot(&self, core: CoreId) -> u32 {
        let is_taken = |slot: u32| {
            self.lines.keys().any(|(at, conn)| *at == core && conn.slot == slot)
                || self.arrived.contains_key(&(core, slot))
        };
        (0..).find(|slot| !is_taken(*slot)).expect("places do not end")
    }

    pub(super) fn open(&mut self, core: CoreId, slot: u32, line: LineId) -> ConnId {
        self.next_generation += 1;
        let conn = ConnId { slot, generation: self.next_generation };
        self.lines.insert((core, conn), line);
        conn
    }

    pub(super) fn taken(&self, core: CoreId) -> usize {
        self.lines.keys().filter(|(at, _)| *at == core).count()
    }
}

impl Fleet {
    pub(super) fn pids(&self) -> impl DoubleEndedIterator<Item = Pid> + use<> {
        (0..self.processes.len()).map(Pid)
    }

    /// Processes that serve, whether they run or stand still.
    pub(super) fn serving(&self) -> Vec<Pid> {
        self.pids().filter(|pid| self.processes[pid.0].serves()).collect()
    }

    /// The newest process of a name, if it is alive: it has the node's address.
    pub(super) fn at(&self, name: usize) -> Option<Pid> {
        self.pids().rev().find(|pid| self.processes[pid.0].name == name).filter(|pid| self.processes[pid.0].is_alive)
    }

    // ---- life and death

    /// A node starts.
    pub(super) fn start(&mut self, name: usize) {
        if self.at(name).is_some_and(|pid| self.processes[pid.0].paused_until_ms <= self.now_ms) {
            return;
        }
        let node = Node {
            name: name_of(name),
            mesh: mesh_of(name),
            clients: Some(format!("{}:1", name_of(name))),
            clients_tls: None,
            weight: 1,
            is_leaving: false,
            is_dead: false,
        };
        let holder = Holder(self.rng.next().into());
        let own = Stewardship {
            cluster: "fleet".to_owned(),
            node,
            holder,
            lease_ms: self.lease_ms,
            moves_per_s: self.rng.within(20, 2_000) as u32,
        };
        let pid = Pid(self.processes.len());
        self.processes.push(Process {
            name,
            holder,
            is_alive: true,
            paused_until_ms: 0,
            away_until_ms: 0,
            began_ms: self.now_ms,
            rate: self.rng.within(950, 1_050),
            steward: Steward::new(own),
            desk: Desk::default(),
            told: None,
            is_ending: false,
            is_unseated: false,
            undecided: BTreeMap::new(),
            serving: None,
        });
        self.note(|| format!("START of {} as {pid:?}", name_of(name)));
        self.begin_round(pid, None);
    }

    /// It has become a node of the cluster: its cores begin.
    pub(super) fn serve(&mut self, pid: Pid, identity: Identity) {
        let cores = self.rng.within(1, 3) as u16;
        let topology = Topology::with_slots(cores).expect("there are some cores");
        let own = identity.own;
        let counters = Arc::new(Counters::new(cores));
        let capacity = Capacity::new(1_000, cores, 20_000).expect("there is room for all");
        let (revocations, origins) = (Revocations::default(), OriginLimits::default());
        let common = Common::new(topology, counters, revocations, origins, capacity, HANDSHAKE_TIMEOUT_MS);
        let common = Arc::new(common.in_cluster(identity));
        let writer = Writer::new(JOURNAL, Position { segment: SegmentNumber(1), lsn: Lsn(1) });
        let mut committer = Committer::new(writer, topology, Promise::Store, 60_000, OnStoreOutage::Refuse);
        committer.go_without_journal();
        let config = CoreConfig {
            settings: SETTINGS,
            journal: Some(committer),
            slow_after_ms: 300,
            commits_max: self.rng.within(1, 3) as usize,
            epoch: EpochId(self.rng.next() >> 8 | 1),
            queries_kept_max: 0,
        };
        let mailbox_messages_max = if self.rng.chance(50) { MAILBOX_SMALL } else { MAILBOX_MESSAGES_MAX };
        let now = self.processes[pid.0].now(self.now_ms);
        for core in (0..cores).map(CoreId) {
            common.counters.pulse.beat(core, now.monotonic_ms);
        }
        self.processes[pid.0].serving = Some(Serving {
            cores: Cores::new(config, common, mailbox_messages_max),
            own,
            lines: BTreeMap::new(),
            arrived: BTreeMap::new(),
            wires: BTreeMap::new(),
            have_turns: BTreeSet::new(),
            next_generation: 0,
            astray: BTreeMap::new(),
            is_stopping: false,
            heard_of: BTreeSet::new(),
            victim: CoreId(self.rng.within(0, u64::from(cores) - 1) as u16),
        });
        self.schedule(TICK_MS, Happening::Tick(pid));
    }

    /// Nothing of the process is left, but what it had asked the database for. `is_noticed`: the kernel of its machine tells the others.
    pub(super) fn die(&mut self, pid: Pid, is_noticed: bool) {
        let process = &mut self.processes[pid.0];
        if !process.is_alive {
            return;
        }
        process.is_alive = false;
        let serving = process.serving.take();
        let name = name_of(process.name);
        self.note(|| format!("END of {name}, {pid:?}"));
        self.lose_commits(pid);
        if self.healing {
            // That it did not start, or was told to end, was of before.
            let back = self.rng.within(100, 3 * self.lease_ms);
            self.schedule(back, Happening::Start(self.processes[pid.0].name));
        }
        let Some(Serving { wires, .. }) = serving else { return };
        for line in self.network.lines_of(pid) {
            if is_noticed {
                self.cut(line);
            } else {
                self.network.forget_server(line);
            }
        }
        for ((core, link), wire) in wires {
            self.close_wire(wire, (pid, core, link), &[], is_noticed);
        }
    }

    // ---- turns

    /// Something happens to a core, and it finishes its turn.
    pub(super) fn act<T>(&mut self, pid: Pid, core: CoreId, happens: impl FnOnce(&mut Core, Now) -> T) -> Option<T> {
        self.core_turn(pid, core, |core, now, _| happens(core, now))
    }

    pub(super) fn core_turn<T>(
        &mut self,
        pid: Pid,
        id: CoreId,
        happens: impl FnOnce(&mut Core, Now, &mut TurnRim<'_>) -> T,
    ) -> Option<T> {
        let process = &mut self.processes[pid.0];
        let now = process.now(self.now_ms);
        let mut core = process.serving.as_mut()?.cores.begin_turn(id);
        let mut rim = TurnRim { fleet: self, pid, core: id };
        let done = happens(&mut core, now, &mut rim);
        core.obey(now, &mut rim);
        core.finish_turn(now, &mut rim);
        let astray = core.common().counters.core(id).mesh_astray.get();
        let serving = self.processes[pid.0].serving.as_mut()?;
        let is_astray = serving.astray.insert(id, astray).unwrap_or_default() < astray;
        let has_more = core.has_work(now, false) || core.is_stalled();
        serving.cores.end_turn(core);
        if has_more && serving.have_turns.insert(id) {
            let delay = self.rng.within(0, 2);
            self.schedule(delay, Happening::Turn(pid, id));
        }
        if is_astray {
            self.reached("envelope that came to a node which does not own its user");
        }
        Some(done)
    }

    pub(super) fn on_tick(&mut self, pid: Pid) {
        self.schedule(TICK_MS, Happening::Tick(pid));
        for core in self.cores(pid) {
            self.act(pid, core, |core, now| core.tick(now));
        }
    }

    pub(super) fn cores(&self, pid: Pid) -> Vec<CoreId> {
        self.processes[pid.0].serving.as_ref().map_or_else(Vec::new, |serving| serving.cores.ids().collect())
    }

    /// A turn that nothing has caused but what was left over.
    pub(super) fn on_turn(&mut self, pid: Pid, core: CoreId) {
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        serving.have_turns.remove(&core);
        self.core_turn(pid, core, |core, now, rim| {
            for at in 0..HELLOS_TURN_MAX {
                match core.judge(now, &rim.fleet.keys, at, false) {
                    None => break,
                    Some(Judged::Refresh) => {}
                    Some(Judged::Plain(..)) => unreachable!("nobody comes by a tunnel"),
                    Some(Judged::Hello(conn, bytes)) => {
                        core.hello(now, &rim.fleet.keys, (conn, Transport::Plain), &bytes);
                        core.obey(now, rim);
                        rim.read_on(conn);
                    }
                }
            }
        });
    }

    // ---- mail between cores

    /// A thread puts a message.
    pub(super) fn put(&mut self, pid: Pid, to: CoreId, message: CoreMessage) {
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        serving.cores.put(to, message);
        let delay = self.delay(3, 200);
        self.schedule(delay, Happening::Mail(pid, to));
    }

    pub(super) fn on_mail(&mut self, pid: Pid, core: CoreId) {
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        let Some(mut message) = serving.cores.take(core) else { return };
        let is_victim = serving.victim == core;
        let is_lost = match &message {
            CoreMessage::Owners(nodes) => {
                let nodes = Arc::clone(nodes);
                self.look_what_goes(pid, core, &nodes);
                is_victim && self.strikes(Fault::LoseOwners, 30)
            }
            // The first link to a node counts as the last one.
            CoreMessage::Link { node, .. } if self.fault == Some(Fault::ForgetNewLink) => {
                !serving.heard_of.insert((core, *node))
            }
            _ => false,
        };
        let is_lost = is_lost || self.meddle_with_group_mail(&mut message);
        if is_lost {
            self.act(pid, core, |_, _| ());
        } else {
            self.act(pid, core, |core, now| core.message(now, message));
        }
    }

    /// What is under way for a core when slots go.
    fn look_what_goes(&mut self, pid: Pid, core: CoreId, nodes: &Nodes) {
        let Some(serving) = &self.processes[pid.0].serving else { return };
        let (own, topology) = (serving.own, serving.cores.common().topology);
        let goes = |user: UserId| topology.home_of(user) == core && nodes.map.owner(Slot::of(user)) != own;
        let is_loading = self.database.reads.iter().any(|(of, at, user)| *of == pid && *at == core && goes(*user));
        let slots = self.database.commits.iter().filter(|((of, ..), _)| *of == pid).flat_map(|(_, lanes)| lanes);
        let is_committing = slots.into_iter().any(|lane| nodes.map.owner(Slot(lane.0 as u8)) != own);
        if is_loading {
            self.reached("user was being loaded when its slot went");
        }
        if is_committing {
            self.reached("commit in flight when its slot went");
        }
    }

    // ---- an orderly stop

    /// The steward has given all away, or could not.
    pub(super) fn stop(&mut self, pid: Pid) {
        let Some(serving) = &mut self.processes[pid.0].serving else { return self.die(pid, true) };
        serving.is_stopping = true;
        for core in self.cores(pid) {
            self.act(pid, core, |core, now| core.stop(now));
        }
        self.schedule(1, Happening::Stopped(pid));
    }

    /// Looks whether the stop is over.
    pub(super) fn on_stopped(&mut self, pid: Pid) {
        let now = self.processes[pid.0].now(self.now_ms);
        let Some(serving) = &mut self.processes[pid.0].serving else { return };
        let lines = &serving.lines;
        if serving.cores.are_over(now, |core| !lines.keys().any(|(at, _)| *at == core)) {
            self.reached("stopped in order");
            return self.die(pid, true);
        }
        // A turn of each, so that what the stop waits for goes on.
        for core in self.cores(pid) {
            self.act(pid, core, |_, _| ());
        }
        self.schedule(5, Happening::Stopped(pid));
    }
}
