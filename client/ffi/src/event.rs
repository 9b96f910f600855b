//! What a client tells its application.

use client::{ClientEvent, EndReason, UserPresence};

use crate::{
    content::Conversation,
    entry::{Device, GroupEntry, GroupRow, LogEntry, Member},
    push::{PushProvider, PushSubscription},
};

/// What happened.
#[derive(Clone, Debug, PartialEq, uniffi::Enum)]
pub enum Event {
    /// Connected, for the first time or again.
    Connected {
        /// Who the token says the user is.
        user: u64,
        /// The server's clock, in milliseconds since 1970.
        server_time_ms: u64,
        /// Longest text, in bytes.
        text_bytes_max: u64,
        /// Seconds after which a message can not be edited any more; 0: no such limit is told.
        edit_within_s: u64,
        /// The same for taking it back.
        unsend_within_s: u64,
    },
    /// Everything that was in the log when this connection began has been handed out.
    CaughtUp,
    /// The connection is gone, or could not be made. The client tries again by itself.
    Disconnected {
        /// Why, for a person.
        words: String,
        /// When the next attempt begins.
        retry_in_ms: u64,
    },
    /// There is no connection, as the application wanted (`Client::went_to_background`).
    Suspended,
    /// The token is taken no longer, and the `TokenProvider` is asked for another one.
    TokenWanted {
        /// What is the matter with it: a name of SPEC 6.
        code: String,
    },
    /// The token expires soon, and there is no `TokenProvider`: give a newer one to
    /// `Client::set_token`, or the client stops then.
    TokenExpiring {
        /// Time that is left.
        expires_in_ms: u64,
    },
    /// A newer token was not taken. The connection goes on until the older one expires.
    TokenRefused {
        /// Why: a name of SPEC 6.
        code: String,
    },
    /// The token provider has failed. It is asked again later.
    NoToken {
        /// How, as the application said it.
        words: String,
    },
    /// The client has stopped. The last event.
    Ended {
        /// Why: a name of SPEC 6, or `closed` for who has closed it.
        code: String,
        /// The same for a person.
        words: String,
    },

    /// The next entry of the user's log. Each comes once, in order; what the user sends too.
    Entry {
        /// It.
        entry: LogEntry,
    },
    /// The device was so far behind that a part of the log is not handed out (`Config::skip_above`). What the
    /// application holds up to `up_to` may have changed: it lets go of it, and fetches what it shows.
    Skipped {
        /// Everything up to here was handed out before.
        after: u64,
        /// The last seq that is skipped.
        up_to: u64,
    },
    /// The server's log is not the one that this device holds: it was restored from a copy. In one transaction the application discards
    /// everything that it holds of the log and of groups, and the messages in `dropped`; the other messages without an answer it keeps.
    LogReplaced {
        /// Handles of messages without an answer that were to change one of the log that is void. They are in no log.
        dropped: Vec<u64>,
    },
    /// Entries up to here are in the store of the server, which in a cluster means on several machines.
    Committed {
        /// A seq of the user's log.
        up_to: u64,
    },

    /// A message has this number from now on, which is stored with it: what makes sending it again harmless, in this run and the next one.
    Numbered {
        /// Which message.
        handle: u64,
        /// Its number. None: the one it had is not its own any more.
        number: Option<u64>,
    },
    /// A message is in the log. It has its answer.
    Accepted {
        /// Which message.
        handle: u64,
        /// Its seq in the user's log.
        seq: u64,
        /// When the server numbered it, in milliseconds since 1970.
        time_ms: u64,
        /// Whether it is in the store of the server; if not, `Event::Committed` follows.
        is_committed: bool,
    },
    /// A message was refused and would be refused again: it is in no log. It has its answer.
    Refused {
        /// Which message.
        handle: u64,
        /// Why: a name of SPEC 6.
        code: String,
    },
    /// A message that was cancelled is in no log. It has its answer.
    Cancelled {
        /// Which message.
        handle: u64,
    },
    /// A message waited for a connection, and this server does not take it: it is in no log. It has its answer.
    Returned {
        /// Which message.
        handle: u64,
        /// What the server lacks, for a person.
        words: String,
    },

    /// The answer to `Client::fetch_log` and `Client::fetch_conversation`.
    Fetched {
        /// Which fetch.
        fetch: u64,
        /// What there is.
        page: Page,
        /// By ascending seq; of a conversation by where they stand.
        entries: Vec<LogEntry>,
    },
    /// The answer to `Client::fetch_group`.
    GroupFetched {
        /// Which fetch.
        fetch: u64,
        /// Of which group.
        group: u64,
        /// What there is.
        page: Page,
        /// By ascending seq.
        entries: Vec<GroupEntry>,
    },
    /// Something has happened in a group. What a lost connection did not bring is fetched, when the log says that the group is further
    /// (`Happened::Group`).
    InGroup {
        /// In which.
        group: u64,
        /// What.
        entry: GroupEntry,
    },
    /// The answer to `Client::fetch_groups`.
    Groups {
        /// Which fetch.
        fetch: u64,
        /// Whether there are more, behind the last one.
        more: bool,
        /// By ascending id.
        rows: Vec<GroupRow>,
    },
    /// The answer to `Client::fetch_members`.
    Members {
        /// Which fetch.
        fetch: u64,
        /// Of which group.
        group: u64,
        /// Whether there are more, behind the last one.
        more: bool,
        /// By ascending id.
        members: Vec<Member>,
    },
    /// The list of conversations (`Client::conversations`) is another one than before this batch.
    ConversationsChanged,
    /// A read mark, a setting or a deletion is in the log.
    Marked {
        /// Which one.
        fetch: u64,
    },
    /// The answer to `Client::fetch_devices` and to a removal or naming.
    Devices {
        /// Which one.
        fetch: u64,
        /// All of them.
        devices: Vec<Device>,
    },
    /// The answer to `Client::fetch_subscription` and to a change of it.
    Subscription {
        /// Which one.
        fetch: u64,
        /// Whom this server can send notifications by.
        providers: Vec<PushProvider>,
        /// How this device is subscribed, if it is.
        subscription: Option<PushSubscription>,
    },
    /// What was asked for was refused, and would be refused again.
    FetchRefused {
        /// Which fetch, mark or change.
        fetch: u64,
        /// Why: a name of SPEC 6.
        code: String,
    },

    /// A user who is watched is this now.
    PresenceChanged {
        /// Who.
        user: u64,
        /// Whether they are there.
        state: Presence,
        /// When they were last there, in milliseconds since 1970, if it is told.
        last_seen_ms: Option<u64>,
    },
    /// Somebody types, until `Event::TypingEnded`.
    Typing {
        /// Where.
        conversation: Conversation,
        /// Who.
        user: u64,
    },
    /// Somebody does not type any more.
    TypingEnded {
        /// Where.
        conversation: Conversation,
        /// Who.
        user: u64,
    },
    /// The server did not take something. Points to a fault in one of the programs.
    Fault {
        /// For the developer.
        words: String,
    },
}

/// Which range of a log an answer speaks for: what is not in it there is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Page {
    /// The first seq.
    pub first: u64,
    /// The last seq; one less than `first` if the range is empty.
    pub last: u64,
    /// Whether there is more in the direction of the fetch: forwards from `last` + 1, backwards from `first` - 1.
    pub more: bool,
}

/// Whether a user is there, as far as the one who looks may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Presence {
    /// Not to be known.
    Unknown,
    /// No device is connected.
    Offline,
    /// A device is connected, and nobody looks at any.
    Away,
    /// Somebody looks at a device.
    Online,
}

/// What a device says of its person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Status {
    /// Somebody looks at the application.
    Here,
    /// Nobody does.
    Away,
}

impl Event {
    /// What an application hears of what the client has told; none: the cursor, the list of conversations or a token have changed, of which it
    /// hears otherwise.
    pub(crate) fn of(event: ClientEvent) -> Option<Self> {
        Some(match event {
            ClientEvent::Welcome(welcome) => Self::Connected {
                user: welcome.user.0,
                server_time_ms: welcome.server_time.0,
                text_bytes_max: welcome.text_bytes_max,
                edit_within_s: welcome.capabilities.edit_within_s,
                unsend_within_s: welcome.capabilities.unsend_within_s,
            },
            ClientEvent::CaughtUp => Self::CaughtUp,
            ClientEvent::Disconnected { reason, retry_in_ms } => {
                Self::Disconnected { words: reason.to_string(), retry_in_ms }
            }
            ClientEvent::Suspended => Self::Suspended,
            ClientEvent::TokenWanted { code, .. } => Self::TokenWanted { code: code.name().to_owned() },
            ClientEvent::TokenExpiring { expires_in_ms } => Self::TokenExpiring { expires_in_ms },
            ClientEvent::TokenRefused { code, .. } => Self::TokenRefused { code: code.name().to_owned() },
            ClientEvent::Ended(reason) => Self::Ended { code: ended_code(&reason), words: reason.to_string() },
            ClientEvent::Entry(entry) => Self::Entry { entry: (&entry).into() },
            ClientEvent::Skipped { after, up_to } => Self::Skipped { after: after.0, up_to: up_to.0 },
            ClientEvent::LogReplaced { dropped, .. } => {
                Self::LogReplaced { dropped: dropped.iter().map(|handle| handle.0).collect() }
            }
            ClientEvent::Committed { up_to } => Self::Committed { up_to: up_to.0 },
            ClientEvent::Numbered { handle, number } => {
                Self::Numbered { handle: handle.0, number: number.map(|number| number.0) }
            }
            ClientEvent::MessageAccepted { handle, seq, time, durability, .. } => Self::Accepted {
                handle: handle.0,
                seq: seq.0,
                time_ms: time.0,
                is_committed: durability == client::Durability::Committed,
            },
            ClientEvent::MessageRefused { handle, code } => {
                Self::Refused { handle: handle.0, code: code.name().to_owned() }
            }
            ClientEvent::MessageCancelled { handle } => Self::Cancelled { handle: handle.0 },
            ClientEvent::MessageReturned { handle, why, .. } => {
                Self::Returned { handle: handle.0, words: why.to_string() }
            }
            ClientEvent::Page { fetch, page } => Self::Fetched {
                fetch: fetch.number(),
                page: Page { first: page.first.0, last: page.last.0, more: page.more },
                entries: page.entries.iter().map(Into::into).collect(),
            },
            ClientEvent::GroupPage { fetch, page, .. } => Self::GroupFetched {
                fetch: fetch.number(),
                group: page.group.0,
                page: Page { first: page.first.0, last: page.last.0, more: page.more },
                entries: page.entries.iter().map(Into::into).collect(),
            },
            ClientEvent::GroupEntry { group, entry } => Self::InGroup { group: group.0, entry: (&entry).into() },
            ClientEvent::Groups { fetch, more, rows, .. } => {
                Self::Groups { fetch: fetch.number(), more, rows: rows.iter().map(Into::into).collect() }
            }
            ClientEvent::Members { fetch, group, more, members, .. } => Self::Members {
                fetch: fetch.number(),
                group: group.0,
                more,
                members: members.iter().map(Into::into).collect(),
            },
            ClientEvent::Marked { fetch } => Self::Marked { fetch: fetch.number() },
            ClientEvent::Devices { fetch, devices } => {
                Self::Devices { fetch: fetch.number(), devices: devices.iter().map(Into::into).collect() }
            }
            ClientEvent::Subscription { fetch, state } => Self::Subscription {
                fetch: fetch.number(),
                providers: PushProvider::offered(&state),
                subscription: PushSubscription::of(&state),
            },
            ClientEvent::FetchRefused { fetch, code, .. } => {
                Self::FetchRefused { fetch: fetch.number(), code: code.name().to_owned() }
            }
            ClientEvent::Presence(of) => presence(&of),
            ClientEvent::Typing { conversation, user } => {
                Self::Typing { conversation: conversation.into(), user: user.0 }
            }
            ClientEvent::TypingEnded { conversation, user } => {
                Self::TypingEnded { conversation: conversation.into(), user: user.0 }
            }
            ClientEvent::ServerError { code, kind, detail } => {
                Self::Fault { words: format!("the server did not take frame {kind:#04x}: {} ({detail})", code.name()) }
            }
            ClientEvent::Epoch(_)
            | ClientEvent::Inbox { .. }
            | ClientEvent::TokenRefreshed { .. }
            // Nobody asks for these here.
            | ClientEvent::Digest { .. }
            | ClientEvent::Presences { .. } => return None,
        })
    }
}

fn ended_code(reason: &EndReason) -> String {
    match reason {
        EndReason::Closed => "closed",
        EndReason::Refused { code, .. } => code.name(),
        EndReason::TooManyDevices { .. } => client::ErrorCode::DeviceRefused.name(),
        EndReason::Version(_) => client::ErrorCode::Version.name(),
    }
    .to_owned()
}

fn presence(of: &UserPresence) -> Event {
    let state = match of.state {
        client::Presence::Unknown => Presence::Unknown,
        client::Presence::Offline => Presence::Offline,
        client::Presence::Away => Presence::Away,
        client::Presence::Online => Presence::Online,
    };
    Event::PresenceChanged { user: of.user.0, state, last_seen_ms: of.last_seen.map(|at| at.0) }
}
