//! The scenarios. To add one: a file with its arguments, their `plan` and a script, and a line here.

mod acts;
mod chat;
mod connect;
mod founding;
mod glances;
mod group;
mod history;
mod idle;
mod lookers;
mod mix;
mod open;
mod presence;
mod replay;
mod settle;
mod storm;

pub use self::founding::group_id;
use crate::{engine::Plan, verify::text::LABEL_BYTES, world::World};

macro_rules! scenarios {
    ($($(#[$doc:meta])* $name:ident($module:ident),)+) => {
        /// What the load is.
        #[derive(Debug, clap::Subcommand)]
        pub enum Scenario {
            $($(#[$doc])* $name($module::Arguments),)+
        }

        impl Scenario {
            /// What it wants of the engine.
            ///
            /// # Errors
            /// The arguments do not go together, or ask for more than there can be.
            pub fn plan(&self, world: &World) -> anyhow::Result<Plan> {
                match self {
                    $(Self::$name(arguments) => arguments.plan(world),)+
                }
            }
        }
    };
}

scenarios! {
    /// Pairs of users who write to each other: closed loop with a window, or open loop at a rate
    Chat(chat),
    /// Connections that do nothing but stay
    Idle(idle),
    /// Logins, as fast as the server takes them or at a rate
    Connect(connect),
    /// All connections are cut at once and everybody comes back, while others chat
    Storm(storm),
    /// Readers of histories, in both directions
    History(history),
    /// Apps that open: hello, the list of conversations, the newest messages of the first one
    Open(open),
    /// A day in small: people with several devices write to their contacts, read, answer, react, edit, delete, leave, come back and watch who is there
    Mix(mix),
    /// Who is there: people watch each other, come, go, look away, hide and block, before and after a crowd is cut
    Presence(presence),
    /// Groups whose members write, come, go and lose their connections, beside pairs who write to each other
    Group(group),
    /// A trace of messages between people and to groups, at its own speed or faster
    Replay(replay),
}

/// What clap checks a text's length against.
const TEXT_BYTES: std::ops::RangeInclusive<i64> = LABEL_BYTES as i64..=proto_spec::limits::TEXT_BYTES_MAX as i64;

/// As reports show a number with a unit.
fn seconds(value: u64) -> (&'static str, String) {
    ("seconds", value.to_string())
}
