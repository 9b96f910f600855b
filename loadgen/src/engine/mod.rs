//! The engine: runs a scenario's scripts on lanes, each a thread with a ring of its own, through the same phases, and watches.
//!
//! ```text
//! Login -> Prepare -> Load -> Drain -> ReadBack -> Close      any -> Close when the run can not go on
//! ```
//!
//! In `Login` everybody connects; in `Prepare` the scripts make what the load needs; in `Load` they act and are measured; in `Drain` everything sent is waited for; in `ReadBack` the histories
//! are compared with what the devices were told. A phase begins everywhere when it has ended everywhere. A run that is asked to stop goes from `Load` to `Drain` at once,
//! and from any other phase to `Close`.

mod coordinator;
mod lane;
mod read_back;
mod stages;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto_spec::UserId;

pub use self::{
    coordinator::run,
    stages::{Stage, Stages},
};
use crate::{
    devices::Devices,
    homes::Homes,
    sample::{Resources, Sample},
    session::Happened,
    stats::{Count, Stats},
    verify::{Crew, Faults, text::Lines},
};

/// When a script wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At this time, in microseconds since the start of the run, or before.
    At(u64),
    /// Only when something has happened.
    WhenSomethingHappens,
    /// It has done all that it wanted to.
    Finished,
}

/// What the devices of one lane do in the load phase. A scenario makes one for each lane.
pub trait Script: Send {
    /// Makes what the load needs, for instance a history to be read; true when it is there.
    fn prepare(&mut self, _devices: &mut Devices) -> bool {
        true
    }

    /// The load begins.
    fn begin(&mut self, _devices: &mut Devices) {}

    /// Does what is due by now.
    fn drive(&mut self, devices: &mut Devices) -> Next;

    /// Something has happened to a device. Also called while what was sent is waited for.
    fn happened(&mut self, _devices: &mut Devices, _what: &Happened) {}

    /// What is left to do when everything sent has been waited for; true when that is done. It may take long without anything happening.
    fn settle(&mut self, _devices: &mut Devices) -> bool {
        true
    }

    /// Whether histories are read back in the end. A script says no that has compared what it read.
    fn wants_read_back(&self) -> bool {
        true
    }

    /// With whom the history of a device is read back; none for the whole log.
    fn peer(&self, _devices: &Devices, _slot: u32) -> Option<UserId> {
        None
    }
}

/// What one lane is to do.
pub struct LanePlan {
    /// Who is in it.
    pub crew: Crew,
    /// What they do.
    pub script: Box<dyn Script>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The load takes this long.
    Time(Duration),
    /// So many messages are to be accepted.
    Messages(u64),
    /// So many logins are to be made.
    Logins(u64),
}

/// What a scenario wants.
pub struct Plan {
    /// Its name.
    pub scenario: &'static str,
    /// What was asked for, in the order to show it.
    pub parameters: Vec<(&'static str, String)>,
    /// The lanes.
    pub lanes: Vec<LanePlan>,
    /// The texts of a trace, whose messages have no labels. Its people write to each other whatever their lanes.
    pub trace: Option<Lines>,
    /// For the progress bar.
    pub goal: Goal,
    /// Whether everybody connects before the load begins.
    pub login: LoginFirst,
    /// Sends of one device that may be in flight.
    pub window: u16,
    /// Connections on their way to their welcome, of all lanes together; none: as many as the lanes take.
    pub handshakes_max: Option<usize>,
    /// Connections a second, of all lanes together; none: as fast as it goes.
    pub logins_a_second: Option<f64>,
    /// How fast the load is to go.
    pub asked: Asked,
    /// Silence after which a device pings, in seconds.
    pub ping_after_s: u32,
    /// Names of the parts of a run whose latencies are told apart, at most `ERAS_MAX`; none: it is one.
    pub eras: &'static [&'static str],
    /// Parts of the load whose costs are told apart.
    pub stages: Option<Stages>,
    /// What a reader must know, in sentences.
    pub notes: Vec<String>,
}

/// How fast a load is to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// So many of these a second.
    Rate(Count, f64),
    /// At times of its own.
    OwnTimes,
    /// As fast as the answers come.
    AsFastAsItGoes,
}

/// Whether everybody connects before the load begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginFirst {
    /// Yes, and logins are not what is measured.
    Everybody,
    /// No: the script connects whom it wants.
    Nobody,
}

/// The phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Everybody connects.
    Login,
    /// The scripts make what the load needs.
    Prepare,
    /// The scripts act.
    Load,
    /// What was sent is waited for.
    Drain,
    /// Histories are compared.
    ReadBack,
    /// Everybody leaves.
    Close,
    /// Nothing is left.
    Over,
}

impl Phase {
    const ALL: [Self; 7] =
        [Self::Login, Self::Prepare, Self::Load, Self::Drain, Self::ReadBack, Self::Close, Self::Over];

    /// For the live line.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Login => "connecting",
            Self::Prepare => "preparing",
            Self::Load => "load",
            Self::Drain => "waiting for the rest",
            Self::ReadBack => "comparing histories",
            Self::Close => "closing",
            Self::Over => "over",
        }
    }

    fn next(self) -> Self {
        Self::ALL[(self as usize + 1).min(Self::ALL.len() - 1)]
    }

    fn from_number(number: u8) -> Self {
        Self::ALL[usize::from(number).min(Self::ALL.len() - 1)]
    }
}

/// What the coordinator and the lanes share.
struct Shared {
    clock: Instant,
    phase: AtomicU8,
    lanes: Vec<SharedLane>,
}

/// What one lane shows.
#[derive(Default)]
struct SharedLane {
    /// The last phase that has ended here, plus one.
    ended: AtomicU8,
    /// When the load began and ended here, in microseconds since the start of the run; 0: not yet.
    load_began_us: AtomicU64,
    load_ended_us: AtomicU64,
    /// Something is on its way that the server owes.
    is_owed: AtomicBool,
    stats: Mutex<Stats>,
    /// Until when the lane has told what it counted, in microseconds since the start of the run.
    told_us: AtomicU64,
    /// What it waits for, in words.
    missing: Mutex<String>,
    /// Why the run can not go on.
    fatal: Mutex<Option<String>>,
}

impl Shared {
    fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Acquire))
    }
}

/// What a run was.
#[derive(Debug)]
pub struct Outcome {
    /// All of it.
    pub total: Stats,
    /// The load phase, without what came before and after. Latencies are in `total`.
    pub load: Stats,
    /// How long the load phase took.
    pub took: Duration,
    /// How long it took until everybody was connected.
    pub login_took: Duration,
    /// Points of the plots.
    pub samples: Vec<Sample>,
    /// How fast the load was to go.
    pub asked: Asked,
    /// Lanes, each a thread.
    pub lanes: usize,
    /// Cores of this machine, and whether the server is on it too.
    pub machine_cores: usize,
    /// See `machine_cores`.
    pub shares_machine: bool,
    /// The stages of the load, if it had any.
    pub stages: Vec<Stage>,
    /// What was measured by the homes of authors and recipients, if that was wanted.
    pub homes: Option<Homes>,
    /// What it cost.
    pub resources: Resources,
    /// What went wrong.
    pub faults: Faults,
    /// The run went through all its phases, each to its end.
    pub is_whole: bool,
    /// The load ended before its time, because somebody asked for it.
    pub was_cut_short: bool,
}
