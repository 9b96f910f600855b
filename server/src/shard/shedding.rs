//! Shedding: what a core that is over its budget of memory or time does no more, by class. The least important goes first: pages of
//! the history, then connections and new sends, and the pushes of what was accepted last. Acknowledgements are never shed.
//! Presence and typing come before all of them.

use proto_spec::ErrorCode;

use super::{Shard, Turn};
use crate::limits::{QUERIES_IN_FLIGHT_MAX, RETRY_BUSY_MS, STALLED_LOOK_MS};

/// How far behind a core is, as the rim measures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// It keeps up.
    #[default]
    Calm,
    /// Its turns take long enough for people to notice.
    Busy,
    /// Its turns take so long that clients will think that it is gone.
    Overloaded,
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Each of them, in order, with its name in the metrics.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $label)),*];
        }
    };
}

labels! {
    /// What is shed, first things first.
    Class {
        /// Who is there, and who types.
        Presence "presence",
        /// Pages that clients ask for.
        Read "read",
        /// New connections.
        Login "login",
        /// New sends.
        Send "send",
        /// Entries for connections that are live: they catch up later.
        Push "push",
    }
}

labels! {
    /// Why.
    Reason {
        /// One client asked for too much.
        Rate "rate",
        /// Too many bytes wait to be read by clients, or for the rest of their frames.
        Memory "memory",
        /// Turns take too long.
        Time "time",
        /// Too many queries are under way.
        Store "store",
        /// The journal takes no more, or too much is on its way to it.
        Journal "journal",
    }
}

/// What was shed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shed([[u64; Reason::ALL.len()]; Class::ALL.len()]);

impl Shed {
    /// One more.
    pub(super) fn count(&mut self, class: Class, reason: Reason) {
        self.0[class as usize][reason as usize] += 1;
    }

    /// How many of a class, for a reason.
    #[must_use]
    pub const fn get(&self, class: Class, reason: Reason) -> u64 {
        self.0[class as usize][reason as usize]
    }
}

impl Reason {
    /// For the developer of a client.
    pub(super) const fn detail(self) -> &'static str {
        match self {
            Self::Rate => "too many at once",
            Self::Memory => "too much waits to be read",
            Self::Time => "the server is busy",
            Self::Store => "the store is busy",
            Self::Journal => "the journal is busy",
        }
    }
}

impl Shard {
    /// Why this core takes on no work of a class just now, if so.
    pub(super) fn sheds(&self, class: Class) -> Option<Reason> {
        let budget = self.settings.limits.memory_bytes;
        let (memory, load, queries) = match class {
            Class::Presence => (budget / 4, Some(Load::Busy), QUERIES_IN_FLIGHT_MAX / 4),
            Class::Read => (budget / 2, Some(Load::Busy), QUERIES_IN_FLIGHT_MAX / 2),
            Class::Login => (budget / 4 * 3, Some(Load::Overloaded), QUERIES_IN_FLIGHT_MAX),
            Class::Send => (budget / 4 * 3, Some(Load::Overloaded), usize::MAX),
            Class::Push => (budget, None, usize::MAX),
        };
        if self.held_bytes() > memory {
            Some(Reason::Memory)
        } else if load.is_some_and(|load| self.load >= load) {
            Some(Reason::Time)
        } else if self.questions.len() >= queries {
            Some(Reason::Store)
        } else {
            None
        }
    }

    /// While too much waits to be read, closes those for whom much waits and who have taken nothing since the last look: a crowd
    /// that does not read must not keep others from writing.
    pub(super) fn close_stalled(&mut self, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        if now_ms < self.next_stalled_look_ms || self.held_bytes() <= self.settings.limits.memory_bytes / 2 {
            return;
        }
        self.next_stalled_look_ms = now_ms + STALLED_LOOK_MS;
        for conn in self.sessions.stalled() {
            self.close(conn, ErrorCode::SlowConsumer, RETRY_BUSY_MS, "too much waits, and none of it is read", cx);
        }
    }
}
