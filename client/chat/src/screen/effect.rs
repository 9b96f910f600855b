//! What goes into the model and what it asks for: values alone. Who carries an effect out is in `screen/mod.rs`.

use client::{
    Check, ClientEvent, Content, ConversationId, DeviceId, GroupId, MonotonicMs, SendHandle, Seq, Settings, Status,
    TimestampMs, UserId, Visibility,
};
use crossterm::event::KeyEvent;

use super::list::Ask;
use crate::attach::Attach;

/// When something happens: a clock that never goes back, and the one on the wall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: MonotonicMs,
    pub(crate) wall: TimestampMs,
}

#[derive(Clone, Debug)]
pub(crate) enum Input {
    Client(ClientEvent),
    Key(KeyEvent),
    Pasted(String),
    /// Columns and rows.
    Resized(u16, u16),
    /// The answer to `Effect::Describe`.
    Described(Box<Described>),
    /// Only time has passed.
    Tick,
}

/// An attachment that was to be described.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) to: ConversationId,
    /// What was typed.
    pub(crate) draft: String,
    /// Or why there is none, in words.
    pub(crate) content: Result<Content, String>,
}

/// What the model wants to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Answer with `Model::taken` or `Model::not_taken`.
    Send {
        number: u64,
        to: ConversationId,
        content: Content,
    },
    /// Take a message back.
    Cancel(SendHandle),
    /// Answer with `Model::fetching` or `Model::not_fetched`.
    Fetch {
        peer: ConversationId,
        from: Seq,
        limit: u64,
    },
    /// Compare this with the server's log. Answer with `Checking::asked` or `Model::not_asked`.
    Check(Check),
    /// Answer with `Model::asked_list` or `Model::not_asked`.
    Devices(Wish),
    /// The same: groups with ids above this.
    Groups(GroupId),
    /// The same: members with ids above this.
    Members(GroupId, UserId),
    /// What this group is called. If that can not be had, it is shown by its number.
    Name(GroupId),
    /// Begin a group of this name. Answer with `Model::begun` or `Model::not_taken`.
    Begin {
        number: u64,
        name: String,
    },
    /// Invite into this group. Answer with `Model::invited` or `Model::not_taken`.
    Invite {
        number: u64,
        group: GroupId,
    },
    /// What is missing of a group, from there on. Answer with `Model::filling`, or `Model::not_filled`.
    Fill {
        group: GroupId,
        from: Seq,
    },
    /// Shown, so it has arrived.
    Acknowledge(Seq),
    /// Nothing of the log that was replaced is shown any more.
    Discarded,
    /// Answer with `List::fetching` or `Model::not_listed`.
    FetchInbox(Ask),
    /// Everything in the conversation up to here has been seen by a person.
    MarkRead {
        peer: ConversationId,
        up_to: Seq,
    },
    /// The message that stands there is to go from the own history.
    Delete {
        peer: ConversationId,
        place: Seq,
    },
    /// From now on the conversation is kept so.
    Keep {
        peer: ConversationId,
        set: Settings,
        cleared: Settings,
    },
    /// What is hidden of the own presence from now on. Answer with `People::asked` or `Model::not_asked`.
    Hide {
        set: Visibility,
        cleared: Visibility,
    },
    /// Somebody writes to them.
    Typing(ConversationId),
    /// Whether somebody sits here.
    Status(Status),
    /// Answer with `Input::Described`.
    Describe {
        to: ConversationId,
        draft: String,
        attach: Box<Attach>,
    },
    /// Give the terminal back until the shell hands it over again.
    Suspend,
    Leave,
}

/// What is wanted of the own devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    List,
    Name(DeviceId, String),
    Remove(DeviceId),
}
