//! What an application asks for: messages, fetches, marks, devices, the token. Everything leaves with the next turn.

use proto_spec::{
    Body, Capabilities, Content, ConversationId, DeviceId, Direction, ErrorCode, GroupId, Mention, Reply, SendNumber,
    Seq, Settings, Subscription, UserId, limits,
};

use super::{ClientState, Phase, Wish};
use crate::{
    config::{ConfigError, check_token},
    event::{FetchError, FetchHandle, SendError, SendHandle},
    fetches::Range,
};

impl ClientState {
    /// Takes a message. It leaves with the next turn, so follow up with [`Input::Tick`](super::Input::Tick).
    ///
    /// # Errors
    /// The queue is full, the message is one that no server takes, or not the one that is connected, or the client has stopped.
    pub fn send(&mut self, to: impl Into<ConversationId>, content: Content) -> Result<SendHandle, SendError> {
        if self.is_stopping() {
            return Err(SendError::Ended);
        }
        let to = to.into();
        match to {
            ConversationId::Person(UserId(0)) | ConversationId::Group(GroupId(0)) => return Err(SendError::Recipient),
            ConversationId::Person(_) if matches!(content, Content::Act(_)) => return Err(SendError::ActToUser),
            ConversationId::Person(_) | ConversationId::Group(_) => {}
        }
        check_content(&content, self.text_bytes_max)?;
        if content.about().is_some() && self.replacing.is_going_on() {
            return Err(SendError::LogReplaced);
        }
        if let Phase::Ready(session) = &self.phase {
            check_taken(&session.capabilities, to, &content)?;
        }
        self.outbox.push(to, content)
    }

    /// Takes a message back that has no answer yet. The answer is [`ClientEvent::MessageCancelled`](crate::ClientEvent::MessageCancelled), or
    /// [`ClientEvent::MessageAccepted`](crate::ClientEvent::MessageAccepted) if it was too late: it comes with the next turn, so follow up with [`Input::Tick`](super::Input::Tick), or, if the
    /// message may have been accepted on an earlier connection, with the next connection. Whether there is such a message.
    pub fn cancel(&mut self, handle: SendHandle) -> bool {
        self.outbox.cancel(handle)
    }

    /// Asks for a page of the user's log. `from` is included; zero, going backwards, means the head.
    ///
    /// # Errors
    /// Too many fetches wait, or the client has stopped.
    pub fn fetch_log(&mut self, from: Seq, direction: Direction, limit: u64) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Log, from, direction, limit)
    }

    /// Asks for a page of one conversation; otherwise as [`ClientState::fetch_log`].
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_conversation(
        &mut self,
        conversation: impl Into<ConversationId>,
        from: Seq,
        direction: Direction,
        limit: u64,
    ) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Conversation(conversation.into()), from, direction, limit)
    }

    /// Asks for the conversations whose last message is before `before` (zero: all), from the newest on, and for the newest
    /// `messages` of the first of them.
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_inbox(&mut self, before: Seq, limit: u64, messages: u64) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Inbox { messages }, before, Direction::Backwards, limit)
    }

    /// The user has read everything in the conversation up to this seq of the own log. `tell`: the other side is told.
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn mark_read(
        &mut self,
        conversation: impl Into<ConversationId>,
        up_to: Seq,
        tell: bool,
    ) -> Result<FetchHandle, FetchError> {
        let range = Range::Read { conversation: conversation.into(), tell };
        self.fetch(range, up_to, Direction::Forwards, 0)
    }

    /// From now on the user keeps the conversation with these set, and with those cleared.
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn set_conversation(
        &mut self,
        conversation: impl Into<ConversationId>,
        set: Settings,
        cleared: Settings,
    ) -> Result<FetchHandle, FetchError> {
        let range = Range::Settings { conversation: conversation.into(), set, cleared };
        self.fetch(range, Seq::ZERO, Direction::Forwards, 0)
    }

    /// Deletes the message that stands at `place` for this user alone. The answer is [`ClientEvent::Marked`](crate::ClientEvent::Marked).
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn delete_message(
        &mut self,
        conversation: impl Into<ConversationId>,
        place: Seq,
    ) -> Result<FetchHandle, FetchError> {
        let range = Range::Delete { conversation: conversation.into() };
        self.fetch(range, place, Direction::Forwards, 0)
    }

    /// Asks for the user's devices. The answer is [`ClientEvent::Devices`](crate::ClientEvent::Devices).
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_devices(&mut self) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Devices, Seq::ZERO, Direction::Forwards, 0)
    }

    /// Asks for digests of the log, from `first` to `last`, each of `width` seqs: what [`Check::ask`](crate::Check::ask) says. The answer
    /// is [`ClientEvent::Digest`](crate::ClientEvent::Digest).
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_digest(&mut self, (first, last, width): (Seq, Seq, u64)) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Digest { last, group: GroupId(0) }, first, Direction::Forwards, width)
    }

    /// Removes a device of the user, for ever. The answer is [`ClientEvent::Devices`](crate::ClientEvent::Devices), or the end of this client if it was its own.
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn remove_device(&mut self, device: DeviceId) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::RemoveDevice(device), Seq::ZERO, Direction::Forwards, 0)
    }

    /// Gives a device of the user a name; empty: none. The answer is [`ClientEvent::Devices`](crate::ClientEvent::Devices).
    ///
    /// # Errors
    /// The name has more than [`limits::NAME_BYTES_MAX`] bytes; else as [`ClientState::fetch_log`].
    pub fn name_device(&mut self, device: DeviceId, name: &str) -> Result<FetchHandle, FetchError> {
        let (size, max) = (name.len(), limits::NAME_BYTES_MAX);
        if size > max {
            return Err(FetchError::NameLength { size, max });
        }
        self.fetch(Range::NameDevice(device, name.to_owned()), Seq::ZERO, Direction::Forwards, 0)
    }

    /// Has notifications for this device sent there from now on, or to nobody. The answer is
    /// [`ClientEvent::Subscription`](crate::ClientEvent::Subscription). For after each start, and whenever the provider gives the device
    /// another address.
    ///
    /// # Errors
    /// The subscription has not what its provider needs; else as [`ClientState::fetch_log`].
    pub fn subscribe(&mut self, subscription: Option<Subscription>) -> Result<FetchHandle, FetchError> {
        if let Some(subscription) = &subscription {
            let (size, max) = (subscription.address.len(), limits::PUSH_ADDRESS_BYTES_MAX);
            if size > max {
                return Err(FetchError::AddressLength { size, max });
            }
            if let Some(fault) = subscription.fault() {
                return Err(FetchError::BadSubscription(fault));
            }
        }
        self.fetch(Range::Subscribe(subscription), Seq::ZERO, Direction::Forwards, 0)
    }

    /// Asks how this device is subscribed to notifications, and what it needs to be: a browser subscribes with the server's key. The
    /// answer is [`ClientEvent::Subscription`](crate::ClientEvent::Subscription).
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_subscription(&mut self) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Subscription, Seq::ZERO, Direction::Forwards, 0)
    }

    pub(super) fn fetch(
        &mut self,
        range: Range,
        from: Seq,
        direction: Direction,
        limit: u64,
    ) -> Result<FetchHandle, FetchError> {
        if self.is_stopping() {
            return Err(FetchError::Ended);
        }
        if from > Seq::ZERO && self.replacing.is_going_on() {
            return Err(FetchError::LogReplaced);
        }
        self.fetches.push(range, from, direction, limit)
    }

    /// The application is done with everything up to `seq`. Needed with [`crate::Acknowledging::ByApplication`] only.
    pub fn acknowledge(&mut self, seq: Seq) {
        if !self.replacing.is_going_on() {
            self.position.confirm(seq);
        }
    }

    /// The application has everything that stands after `since` by now: it has fetched what was skipped ([`ClientEvent::Skipped`](crate::ClientEvent::Skipped)).
    /// The next connection says so, and then it counts as acknowledged.
    pub fn filled(&mut self, since: Seq) {
        if !self.replacing.is_going_on() {
            self.position.filled(since);
        }
    }

    /// The application has stored that this message has this number. Needed with [`crate::Keeping::ByApplication`] only. An announcement
    /// that a newer one has overtaken may be confirmed late: the message waits for the newer one to be stored.
    pub fn kept(&mut self, handle: SendHandle, number: SendNumber) {
        self.outbox.kept(handle, number);
    }

    /// The token from now on: for the next connection, and for the one that is there, which goes on with it. It leaves with the
    /// next turn, so follow up with [`Input::Tick`](super::Input::Tick). The one that is known already changes nothing.
    ///
    /// # Errors
    /// It is one that no server takes.
    pub fn set_token(&mut self, token: String) -> Result<(), ConfigError> {
        check_token(&token)?;
        if token != self.token {
            self.token = token;
            self.renewal.begin();
            if let Phase::Tokenless { open_at } = self.phase {
                self.phase = Phase::Waiting { open_at };
            }
        }
        Ok(())
    }

    /// Says bye with the next turn and has no connection until [`ClientState::resume`]: the application is about to stand still. Messages and
    /// fetches are taken all the same. The answer is [`ClientEvent::Suspended`](crate::ClientEvent::Suspended).
    pub const fn suspend(&mut self) {
        if let Wish::GoOn = self.wish {
            self.wish = Wish::BeSuspended;
        }
    }

    /// Connects with the next turn, unless the server wants to be left alone for longer. Without a suspension it changes nothing.
    pub fn resume(&mut self) {
        if self.wish == Wish::BeSuspended {
            self.wish = Wish::GoOn;
            self.backoff.reset();
            match &mut self.phase {
                Phase::Suspended => self.phase = Phase::Waiting { open_at: self.not_before },
                Phase::Waiting { open_at } => *open_at = (*open_at).min(self.not_before),
                Phase::Opening { .. }
                | Phase::Greeting { .. }
                | Phase::Ready(_)
                | Phase::Tokenless { .. }
                | Phase::Ended => {}
            }
        }
    }

    /// The network may be another one. A connection that is there is asked whether it still leads to the server, and is given up after
    /// [`PROBE_TIMEOUT_MS`](crate::limits::PROBE_TIMEOUT_MS); if there is none, the next attempt begins with the next turn, unless the server
    /// wants to be left alone for longer. One that is under way is given up for it: it may lead over the network that is gone.
    pub const fn network_changed(&mut self) {
        self.is_network_new = true;
    }

    /// Says bye and stops with the next turn, whatever is still unanswered.
    pub const fn close(&mut self) {
        self.wish = Wish::End;
    }
}

/// What no server takes would only be refused.
pub(super) fn check_content(content: &Content, text_bytes_max: usize) -> Result<(), SendError> {
    let text_length = |size| SendError::TextLength { size, max: text_bytes_max };
    match (content.body(), content.fault()) {
        (
            Ok(Body::Text(text) | Body::Reply(Reply { text, .. }) | Body::Mention(Mention { text, .. })),
            Some(ErrorCode::TextLength),
        ) => Err(text_length(text.len())),
        (Ok(Body::Text(text)), _) if text.len() > text_bytes_max => Err(text_length(text.len())),
        // A server may be newer than this client.
        (_, None | Some(ErrorCode::ContentKind)) => Ok(()),
        (_, Some(_)) => Err(SendError::ContentLimits),
    }
}

/// What this server does not take would be refused for good.
pub(super) fn check_taken(server: &Capabilities, to: ConversationId, content: &Content) -> Result<(), SendError> {
    if !server.conversation_kinds.contains(to.kind().byte()) {
        return Err(SendError::ConversationKind);
    }
    match server.lacks(content) {
        Some(kind) => Err(SendError::ContentKind { kind }),
        None => Ok(()),
    }
}
