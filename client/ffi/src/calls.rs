//! What an application asks for. Everything is taken at once; what becomes of it is an event.

use client::{DeviceId, Direction, GroupId, Seq, UserId};

use crate::{
    client::Client,
    config::Unanswered,
    content::{Content, Conversation, Rule},
    entry::{ConversationRow, Setting},
    errors::RingpostError,
    event::Status,
    push::PushSubscription,
};

/// A group that is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct NewGroup {
    /// Its id, which was drawn.
    pub group: u64,
    /// The handle of the message that begins it.
    pub handle: u64,
}

/// An invitation into a group.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Invitation {
    /// What is passed on to whoever is invited, with the group's id.
    pub secret: String,
    /// The handle of the message that tells the group.
    pub handle: u64,
}

/// A message without its answer, and its handle.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Waiting {
    /// Names it until its answer.
    pub handle: u64,
    /// What is kept of it.
    pub message: Unanswered,
}

#[uniffi::export]
impl Client {
    /// Takes a message, and gives the handle that its events have. Works without a connection too. Whoever wants it to outlive the process keeps it
    /// before calling this, to hand it to the next run (`Config::unanswered`) until it has its answer.
    ///
    /// # Errors
    /// Too many wait, it is one that no server takes, or the client has stopped.
    pub fn send(&self, to: Conversation, content: Content) -> Result<u64, RingpostError> {
        Ok(self.client.send(to, content.try_into()?)?.0)
    }

    /// Takes a message back that has no answer yet. The answer is `Event::Cancelled`, or
    /// `Event::Accepted` if it was too late. Whether there is such a message.
    pub fn cancel(&self, handle: u64) -> bool {
        self.client.cancel(client::SendHandle(handle))
    }

    /// The messages without an answer, in the order in which they were sent.
    pub fn unanswered(&self) -> Vec<Waiting> {
        let keep = |(handle, of): (client::SendHandle, client::Unanswered)| Waiting {
            handle: handle.0,
            message: Unanswered {
                number: of.number.map(|number| number.0),
                to: of.to.into(),
                content: (&of.content).into(),
            },
        };
        self.client.unanswered().into_iter().map(keep).collect()
    }

    /// The user has read everything in the conversation up to this seq of the own log; of a group, of the group's. The others are told.
    ///
    /// # Errors
    /// Too many requests wait, or the client has stopped.
    pub fn mark_read(&self, conversation: Conversation, up_to: u64) -> Result<u64, RingpostError> {
        Ok(self.client.mark_read(conversation, Seq(up_to), true)?.number())
    }

    /// As `Client::mark_read`, but the others are not told.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn mark_read_silently(&self, conversation: Conversation, up_to: u64) -> Result<u64, RingpostError> {
        Ok(self.client.mark_read(conversation, Seq(up_to), false)?.number())
    }

    /// From now on the user keeps the conversation with these set, and with those cleared.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn set_conversation(
        &self,
        conversation: Conversation,
        set: Vec<Setting>,
        cleared: Vec<Setting>,
    ) -> Result<u64, RingpostError> {
        Ok(self.client.set_conversation(conversation, Setting::all(&set), Setting::all(&cleared))?.number())
    }

    /// Deletes the message that stands at `place` for this user alone.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn delete_message(&self, conversation: Conversation, place: u64) -> Result<u64, RingpostError> {
        Ok(self.client.delete_message(conversation, Seq(place))?.number())
    }

    /// Shows the list of conversations with users: asks for the newest, so many rows at a time, and keeps them right from now on.
    pub fn open_conversations(&self, rows: u64) {
        self.list().open(rows);
        self.ask_for_list();
    }

    /// The conversations that are known, from the one with the newest message on. Empty until
    /// `Event::ConversationsChanged` follows `Client::open_conversations`.
    pub fn conversations(&self) -> Vec<ConversationRow> {
        self.list().conversations()
    }

    /// Asks for older conversations. Whether there are any, as far as is known.
    pub fn older_conversations(&self) -> bool {
        let is_asked = self.list().older();
        self.ask_for_list();
        is_asked
    }

    /// Asks for entries of the user's log from this seq on, towards newer ones, at most so many.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn fetch_log(&self, from: u64, limit: u64) -> Result<u64, RingpostError> {
        Ok(self.client.fetch_log(Seq(from), Direction::Forwards, limit)?.number())
    }

    /// Asks for the messages of a conversation before this seq of the log (zero: the newest), at most so many.
    ///
    /// # Errors
    /// Nothing stands there; else as `Client::mark_read`.
    pub fn fetch_conversation(&self, user: u64, before: u64, limit: u64) -> Result<u64, RingpostError> {
        Ok(self.client.fetch_conversation(UserId(user), below(before)?, Direction::Backwards, limit)?.number())
    }

    /// Asks for the entries of a group's log before this seq of it (zero: the newest), at most so many.
    ///
    /// # Errors
    /// As `Client::fetch_conversation`.
    pub fn fetch_group(&self, group: u64, before: u64, limit: u64) -> Result<u64, RingpostError> {
        Ok(self.client.fetch_conversation(GroupId(group), below(before)?, Direction::Backwards, limit)?.number())
    }

    /// Asks for the entries of a group's log from this seq of it on, towards newer ones, at most so many: to fill what a lost connection did not bring.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn fetch_group_from(&self, group: u64, from: u64, limit: u64) -> Result<u64, RingpostError> {
        Ok(self.client.fetch_conversation(GroupId(group), Seq(from), Direction::Forwards, limit)?.number())
    }

    /// Asks for the user's groups with ids above `after` (zero: all), at most so many.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn fetch_groups(&self, after: u64, limit: u64) -> Result<u64, RingpostError> {
        Ok(self.client.fetch_groups(GroupId(after), limit)?.number())
    }

    /// Asks for the members of a group with ids above `after` (zero: all), at most so many.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn fetch_members(&self, group: u64, after: u64, limit: u64) -> Result<u64, RingpostError> {
        Ok(self.client.fetch_members(GroupId(group), UserId(after), limit, Seq::ZERO)?.number())
    }

    /// Begins a group. Members are added by sending it `Act::Add`, one by one.
    ///
    /// # Errors
    /// As `Client::send`.
    pub fn create_group(&self, name: String, picture: String, rules: Vec<Rule>) -> Result<NewGroup, RingpostError> {
        let (group, handle) = self.client.create_group(&name, &picture, Rule::all(&rules))?;
        Ok(NewGroup { group: group.0, handle: handle.0 })
    }

    /// Invites whoever knows a secret, which is drawn here, into a group: they send it `Act::Join`. An earlier one is void.
    ///
    /// # Errors
    /// As `Client::send`.
    pub fn invite(&self, group: u64) -> Result<Invitation, RingpostError> {
        let (invitation, handle) = self.client.invite(GroupId(group))?;
        Ok(Invitation { secret: invitation.secret().to_owned(), handle: handle.0 })
    }

    /// Asks for the user's devices.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn fetch_devices(&self) -> Result<u64, RingpostError> {
        Ok(self.client.fetch_devices()?.number())
    }

    /// Has notifications for this device sent there from now on, or to nobody. The answer is `Event::Subscription`. For after each start,
    /// and whenever the provider gives the device another token.
    ///
    /// # Errors
    /// The token is empty or too long; else as `Client::mark_read`.
    pub fn subscribe(&self, subscription: Option<PushSubscription>) -> Result<u64, RingpostError> {
        Ok(self.client.subscribe(subscription.map(Into::into))?.number())
    }

    /// Asks how this device is subscribed to notifications, and whom the server can send them by. The answer is `Event::Subscription`.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn fetch_subscription(&self) -> Result<u64, RingpostError> {
        Ok(self.client.fetch_subscription()?.number())
    }

    /// Gives a device of the user a name; empty: none.
    ///
    /// # Errors
    /// The name is too long; else as `Client::mark_read`.
    pub fn name_device(&self, device: u64, name: String) -> Result<u64, RingpostError> {
        Ok(self.client.name_device(DeviceId(device), &name)?.number())
    }

    /// Removes a device of the user, for ever. If it is this one the client ends.
    ///
    /// # Errors
    /// As `Client::mark_read`.
    pub fn remove_device(&self, device: u64) -> Result<u64, RingpostError> {
        Ok(self.client.remove_device(DeviceId(device))?.number())
    }

    /// From now on these users are watched, and no others: `Event::PresenceChanged` tells when one of them comes, goes or is away.
    /// Holds over all connections.
    ///
    /// # Errors
    /// They are too many, or the client has stopped.
    pub fn watch(&self, users: Vec<u64>) -> Result<(), RingpostError> {
        Ok(self.client.watch(&users.into_iter().map(UserId).collect::<Vec<_>>())?)
    }

    /// Whether somebody looks at the application. It begins as `Status::Here`, and holds over all connections.
    pub fn set_status(&self, status: Status) {
        self.client.set_status(match status {
            Status::Here => client::Status::Here,
            Status::Away => client::Status::Away,
        });
    }

    /// Somebody types in this conversation: to be called with each key. It is said every few seconds, and not at all without a connection.
    pub fn typing(&self, conversation: Conversation) {
        self.client.typing(conversation);
    }
}

/// Where a fetch backwards begins that is to give what stands before this seq: zero means the end of the log, in both.
fn below(before: u64) -> Result<Seq, RingpostError> {
    match before {
        1 => Err(RingpostError::Invalid { words: "nothing stands before seq 1".to_owned() }),
        before => Ok(Seq(before.saturating_sub(1))),
    }
}
