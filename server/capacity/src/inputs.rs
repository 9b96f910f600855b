//! Everything that goes into the model: what is planned, what was measured, and what is only assumed.
//!
//! A test reads the files that measured inputs name (`tests/sources.rs`), so a cost that was measured anew is noticed here.

use thiserror::Error;

use crate::activity::SPREAD;

/// An input of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "ABOUT says of each what it is, in which unit, from where and why")]
pub enum Input {
    Users,
    UsersGrowth,
    Online,
    Messages,
    TextBytes,
    Years,
    PeakFactor,
    GroupShare,
    GroupMembers,
    UserGroups,
    Opens,
    Replication,
    NodeConnections,
    CoreShare,
    MessageCpu,
    FrameCpu,
    PushCpu,
    OpenCpu,
    HandshakeCpu,
    ConnectionBytes,
    SocketBytes,
    CacheBytes,
    ProcessBytes,
    RowBytes,
    DatabaseMessages,
    DiskBytes,
    DiskShare,
    MessageEnvelopes,
    EnvelopeBytes,
    PacketBytes,
    LinkQueueBytes,
    MeshMemoryBytes,
    LinkPings,
    LinkSilence,
    LinkPingShare,
    LinksReturn,
    Spread,
    Bound,
    Rack,
}

/// Where an input's default is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The product is planned for it.
    Planned,
    /// Nobody has measured it.
    Assumed,
    /// The median of this figure in the newest file of `benches/results`.
    Result(&'static str),
    /// These words, which have the number in them, stand in this file.
    Quoted {
        /// From the repository's root.
        file: &'static str,
        /// In one line of it.
        words: &'static str,
    },
    /// Made by the server's own code, in a test.
    Computed,
}

/// What an input is.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Which input.
    pub input: Input,
    /// How it is called on the command line.
    pub name: &'static str,
    /// In what it is measured.
    pub unit: &'static str,
    /// What it is unless somebody says otherwise.
    pub default: f64,
    /// The least and the most that it may be.
    pub range: (f64, f64),
    /// Where the default is from.
    pub source: Source,
    /// What it says, and why it is what it is.
    pub why: &'static str,
}

const NOTES: &str = "benches/NOTES.md";
const EXAMPLE: &str = "server/ringpost.example.toml";
const LIMITS: &str = "server/src/limits.rs";

/// A part of a whole.
const PART: (f64, f64) = (1e-6, 1.0);
/// A number of things, of bytes, or a time in the unit that is given.
const AMOUNT: (f64, f64) = (1e-6, 1e18);

const fn about(
    input: Input,
    (name, unit): (&'static str, &'static str),
    default: f64,
    range: (f64, f64),
    source: Source,
    why: &'static str,
) -> About {
    About { input, name, unit, default, range, source, why }
}

/// All inputs, in their order.
#[rustfmt::skip]
pub const ABOUT: [About; 39] = {
    use Input as I;
    use Source::{Assumed, Computed, Planned, Quoted, Result};
    [
        about(I::Users, ("users", ""), 500e6, AMOUNT, Planned, "active users"),
        about(I::UsersGrowth, ("users_growth", "times a year"), 1.0, (0.1, 10.0), Planned, "users of a year against those of the year before: the plan has the same for all years"),
        about(I::Online, ("online", "of users"), 1.0, PART, Planned, "connected at a time: the plan has a connection for every user"),
        about(I::Messages, ("messages", "a user and day"), 40.0, AMOUNT, Planned, "messages that a user sends"),
        about(I::TextBytes, ("text", "bytes"), 100.0, AMOUNT, Planned, "length of a message"),
        about(I::Years, ("years", "years"), 5.0, (0.1, 100.0), Planned, "how long messages are kept, and what is planned for"),
        about(I::PeakFactor, ("peak", "times the mean"), 5.0, (1.0, 1e3), Assumed, "busiest second against the mean; the plan says several times"),
        about(I::GroupShare, ("group_share", "of messages"), 0.2, (0.0, 1.0), Assumed, "messages that go to a group"),
        about(I::GroupMembers, ("group_members", "members"), 10.0, (2.0, 1e6), Assumed, "members of the group that a message to a group goes to, in the mean of messages, the author included"),
        about(I::UserGroups, ("user_groups", "a user"), 20.0, (0.0, 1e5), Assumed, "groups that a user is a member of: the home of each is asked when an app of theirs opens"),
        about(I::Opens, ("opens", "a user and day"), 10.0, AMOUNT, Assumed, "times that an app is opened, each a login, a list and a page"),
        about(I::Replication, ("replication", "copies"), 3.0, (1.0, 100.0), Assumed, "copies that the database keeps: three survive the loss of two machines"),
        about(I::NodeConnections, ("node_connections", "a node"), 50_000.0, AMOUNT, Planned, "connections of a node: the least that is planned"),
        about(I::CoreShare, ("core_share", "of a core"), 0.5, PART, Assumed, "how busy a core may be at the peak: the rest is for failures and crowds"),
        about(I::MessageCpu, ("message_cpu", "us"), 142.0, AMOUNT,
            Quoted { file: NOTES, words: "| 128, 120 | 142, 140 | 136, 129 |" },
            "a one-on-one message committed in a database, its client library included, at a load that leaves most turns with one message; the dearer of two runs"),
        about(I::FrameCpu, ("frame_cpu", "us"), 7.09, AMOUNT, Result("relay, window 1: CPU a message, us"),
            "one frame that comes alone and goes out alone, the kernel's part included: an envelope of the mesh, a ping of a link and its answer"),
        about(I::PushCpu, ("push_cpu", "us"), 5.8, AMOUNT, Quoted { file: NOTES, words: "| of that, a member, with 1,000 | | 5.8 us, the relay 4.3 | the same |" },
            "a message of a group pushed to one more member"),
        about(I::OpenCpu, ("open_cpu", "us"), 960.0, AMOUNT, Quoted { file: NOTES, words: "48 s of the server's CPU, 0.96 ms an opening" },
            "an app that opens while nothing of its user is in memory"),
        about(I::HandshakeCpu, ("handshake_cpu", "us"), 168.0, AMOUNT, Quoted { file: NOTES, words: "| a login, us, medians of five | 45 | 168 with a full handshake" },
            "a login over TLS with a full handshake"),
        about(I::ConnectionBytes, ("connection", "bytes"), 5_024.0, AMOUNT, Quoted { file: NOTES, words: "| memory of an idle connection, bytes | 1,218 and 1,223 | 5,011 and 5,024 |" },
            "memory of a connection in the server, with TLS"),
        about(I::SocketBytes, ("socket", "bytes"), 4_096.0, AMOUNT, Assumed, "memory of an idle socket in the kernel"),
        about(I::CacheBytes, ("user_cache", "bytes"), 4_096.0, AMOUNT, Quoted { file: EXAMPLE, words: "# Default: 16 KiB, because with short messages a user takes a quarter of it." },
            "what is kept of a user for an app that opens"),
        about(I::ProcessBytes, ("process", "bytes"), 610_271_232.0, AMOUNT, Quoted { file: NOTES, words: "Memory: a process with the default cache takes 582 MiB at its highest" },
            "memory of a server's process beside connections and cache"),
        about(I::RowBytes, ("rows", "bytes"), 145.0, AMOUNT, Computed, "keys and values of a message's rows, both sides together, without its text"),
        about(I::DatabaseMessages, ("process_messages", "a second"), 5_000.0, AMOUNT, Quoted { file: NOTES, words: "At 5,000 a second the database is what is full" },
            "messages that one process of the database takes, one copy each"),
        about(I::DiskBytes, ("disk", "bytes"), 4e12, AMOUNT, Assumed, "a disk of the database; one process of it uses one disk"),
        about(I::DiskShare, ("disk_share", "of a disk"), 0.6, PART, Assumed, "how full a disk may be: the rest is for copies that move after a failure"),
        about(I::MessageEnvelopes, ("envelopes", "a message"), 6.0, (1.0, 100.0), Computed,
            "what the homes of two people say to each other for a message: it, its receipt of delivery, its read mark, and the answer to each"),
        about(I::EnvelopeBytes, ("envelope", "bytes"), 55.0, AMOUNT, Computed,
            "an envelope of the mesh without its text, with the largest numbers"),
        about(I::PacketBytes, ("packet", "bytes"), 88.0, AMOUNT, Assumed, "Ethernet, IP, TCP and TLS around an envelope that goes alone: 14, 20, 32 and 22"),
        about(I::LinkQueueBytes, ("link_queue", "bytes"), 8_388_608.0, AMOUNT, Quoted { file: LIMITS, words: "pub const LINK_QUEUE_BYTES_MAX: usize = 4 * 1_024 * 1_024;" },
            "what may wait for one other node: so much, and answers as much again"),
        about(I::MeshMemoryBytes, ("mesh_memory", "bytes"), 268_435_456.0, AMOUNT, Quoted { file: EXAMPLE, words: "core_memory_bytes = 268435456" },
            "what may wait for all other nodes together, if it were bounded as what waits for all clients of a core is"),
        about(I::LinkPings, ("link_pings", "a second"), 1.0, (0.0, 1e3), Quoted { file: LIMITS, words: "pub const LINK_PING_MS: u64 = 1_000;" },
            "pings on a link in each direction"),
        about(I::LinkSilence, ("link_silence", "s"), 5.0, AMOUNT, Quoted { file: LIMITS, words: "pub const LINK_SILENCE_MS: u64 = 5_000;" },
            "silence after which a link is given up"),
        about(I::LinkPingShare, ("ping_share", "of a core"), 0.05, PART, Assumed, "what the pings of a node may cost"),
        about(I::LinksReturn, ("links_return", "s"), 1.0, AMOUNT, Assumed, "how long a node that starts may take to make all its links"),
        about(I::Spread, ("spread", ""), SPREAD, (0.01, 4.0), Assumed, "standard deviation of the logarithm of what a user writes: with 2 one user in a hundred writes more than a third of all"),
        about(I::Bound, ("bound", "times the share"), 1.0, (1.0, 1e9), Computed, "what a node may own at most, against the mean, rounded up: with 1 as many as any other, or one more"),
        about(I::Rack, ("rack", "nodes"), 40.0, (1.0, 1e3), Assumed, "nodes that fail together"),
    ]
};

/// A value for every input.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs([f64; ABOUT.len()]);

impl Default for Inputs {
    fn default() -> Self {
        Self(ABOUT.map(|about| about.default))
    }
}

/// Why an input is not set.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum InputError {
    /// Not a name and a value.
    #[error("{0}: an input is given as NAME=VALUE, such as users=1e9")]
    Form(String),
    /// There is no such input.
    #[error("{name}: there is no input of this name; there are {}", ABOUT.map(|about| about.name).join(", "))]
    Name {
        /// What was given.
        name: String,
    },
    /// It can not be that.
    #[error("{name}={value}: a number from {} to {} is wanted", range.0, range.1)]
    Value {
        /// The input.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it may be.
        range: (f64, f64),
    },
}

impl Inputs {
    /// The value of an input.
    #[must_use]
    pub const fn get(&self, input: Input) -> f64 {
        self.0[input as usize]
    }

    /// The same with one input changed, if it may be that.
    #[must_use]
    pub fn with(&self, input: Input, value: f64) -> Option<Self> {
        let (low, high) = ABOUT[input as usize].range;
        let mut changed = self.clone();
        changed.0[input as usize] = value;
        (low..=high).contains(&value).then_some(changed)
    }

    /// Sets what `NAME=VALUE` says.
    ///
    /// # Errors
    /// It says something else, names no input, or a value that the input can not have.
    pub fn set(&mut self, text: &str) -> Result<(), InputError> {
        let (name, value) = text.split_once('=').ok_or_else(|| InputError::Form(text.to_owned()))?;
        let about = ABOUT.iter().find(|about| about.name == name);
        let about = about.ok_or_else(|| InputError::Name { name: name.to_owned() })?;
        let number = value.parse().ok().and_then(|number| self.with(about.input, number));
        *self = number.ok_or_else(|| InputError::Value {
            name: about.name,
            value: value.to_owned(),
            range: about.range,
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_stands_at_its_place_under_a_name_of_its_own_within_its_range() {
        let inputs = Inputs::default();
        for (at, about) in ABOUT.iter().enumerate() {
            assert_eq!(about.input as usize, at, "{}", about.name);
            assert!(inputs.with(about.input, about.default).is_some(), "{}", about.name);
            assert_eq!(ABOUT.iter().filter(|other| other.name == about.name).count(), 1, "{}", about.name);
        }
        assert_eq!(Input::Rack as usize + 1, ABOUT.len());
    }

    #[test]
    fn what_is_set_is_checked_and_named() {
        let mut inputs = Inputs::default();
        inputs.set("users=1e9").unwrap();
        assert_eq!((inputs.get(Input::Users), inputs.get(Input::Messages)), (1e9, 40.0));
        for wrong in ["users", "users=", "users=-1", "users=NaN", "users=inf", "online=1.1", "peak=0.5", "people=3"] {
            let error = inputs.set(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong.split('=').next().unwrap()), "{error}");
        }
        assert_eq!(inputs.get(Input::Users), 1e9);
        assert_eq!(inputs.set("peak=0").unwrap_err().to_string(), "peak=0: a number from 1 to 1000 is wanted");
    }
}
