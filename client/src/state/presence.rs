//! Who is there and who types (SPEC 8.10): what the application asks for, what the server says, and what is due by now.

use std::collections::BTreeSet;

use proto_spec::{
    ClientFrame, ConversationId, Direction, Entry, ErrorCode, Event, PresenceState, Recipient, RequestId, Seq, Status,
    UserId, Visibility,
    limits::{PRESENCE_USERS_MAX, WATCHED_MAX},
};

use super::{ClientState, Effects, MonotonicMs, Phase, ending::Flow};
use crate::{
    event::{ClientEvent, FetchError, FetchHandle},
    fetches::Range,
    limits::RETRY_AFTER_MAX_MS,
};

impl ClientState {
    /// From now on these users are watched, and no others: [`ClientEvent::Presence`] tells when one of them comes, goes, or is away. Each
    /// begins as unknown. It leaves with the next turn, so follow up with [`Input::Tick`](super::Input::Tick); the same set again
    /// changes nothing. The client sees to it over all connections, as long as the server has it.
    ///
    /// # Errors
    /// More than [`WATCHED_MAX`] users, or the client has stopped. Then the earlier set stays.
    pub fn watch(&mut self, users: &[UserId]) -> Result<(), FetchError> {
        if self.is_stopping() {
            return Err(FetchError::Ended);
        }
        let users: BTreeSet<UserId> = users.iter().copied().collect();
        check_count(users.len(), WATCHED_MAX)?;
        self.watching.watch(&users);
        Ok(())
    }

    /// Asks once who of these is there. The answer is [`ClientEvent::Presences`].
    ///
    /// # Errors
    /// More than [`PRESENCE_USERS_MAX`] users; else as [`ClientState::fetch_log`].
    pub fn fetch_presence(&mut self, users: &[UserId]) -> Result<FetchHandle, FetchError> {
        check_count(users.len(), PRESENCE_USERS_MAX)?;
        self.fetch(Range::Presence(users.to_vec()), Seq::ZERO, Direction::Forwards, 0)
    }

    /// Whether somebody looks at the application. It begins as [`Status::Here`], and holds over all connections.
    pub const fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// What the user hides of their presence from now on: these too, and those not. The answer is
    /// [`ClientEvent::Marked`]; what it changes comes as an entry, on all devices ([`Event::Visibility`]).
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn set_visibility(&mut self, set: Visibility, cleared: Visibility) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Visibility { set, cleared }, Seq::ZERO, Direction::Forwards, 0)
    }

    /// Somebody types in this conversation. To be called with each key: it is said at most every
    /// [`TYPING_AGAIN_AFTER_MS`](crate::limits::TYPING_AGAIN_AFTER_MS), and not at all while there is no connection, nor in a group if the
    /// server has none.
    pub fn typing(&mut self, conversation: impl Into<ConversationId>) {
        let conversation = conversation.into();
        if let Phase::Ready(session) = &self.phase
            && session.capabilities.conversation_kinds.contains(conversation.kind().byte())
        {
            self.typing.want(conversation);
        }
    }

    /// A connection that knows nothing of what was said on the last one.
    pub(super) fn presence_begins(&mut self) {
        self.watching.connected();
        self.said_status = Status::Here;
    }

    /// Nothing is known any more without a connection.
    pub(super) fn presence_ends(&mut self, effects: &mut Effects) {
        effects.events.extend(self.typing.disconnected());
        effects.events.extend(self.watching.disconnected().into_iter().map(ClientEvent::Presence));
    }

    /// What of it is due by now.
    pub(super) fn say_presence(&mut self, now: MonotonicMs, effects: &mut Effects) {
        effects.events.extend(self.typing.ended(now));
        effects.events.extend(self.watching.ended(now).into_iter().map(ClientEvent::Presence));
        let Phase::Ready(session) = &self.phase else { return };
        let server = session.capabilities;
        let Self { watching, typing, fetches, .. } = self;
        if let Some(frame) = watching.next_frame(now, || fetches.next_request()) {
            match server.takes_frame(frame.kind()) {
                true => frame.encode(&mut effects.bytes),
                false => _ = watching.refused(RequestId(0), None),
            }
        }
        while let Some(frame) = typing.next_frame(now) {
            if server.takes_frame(frame.kind()) {
                frame.encode(&mut effects.bytes);
            }
        }
        let said = ClientFrame::SetStatus { status: self.status };
        if self.status != self.said_status && server.takes_frame(said.kind()) {
            said.encode(&mut effects.bytes);
            self.said_status = self.status;
        }
    }

    pub(super) fn on_presence(
        &mut self,
        now: MonotonicMs,
        request: RequestId,
        lifetime_ms: u64,
        states: &[PresenceState],
        effects: &mut Effects,
    ) -> Flow {
        let news = match request {
            RequestId(0) => Some(self.watching.changed(states)),
            request => self.watching.answered(now, request, lifetime_ms, states),
        };
        if let Some(news) = news {
            effects.events.extend(news.into_iter().map(ClientEvent::Presence));
            return Flow::Continue(());
        }
        let asked = self.fetches.answered(request);
        let users = states.iter().map(Into::into).collect();
        self.answer(asked, effects, |fetch| ClientEvent::Presences { fetch, users })
    }

    pub(super) fn on_watch_refused(
        &mut self,
        now: MonotonicMs,
        request: RequestId,
        code: ErrorCode,
        retry_after_ms: u64,
        detail: String,
        effects: &mut Effects,
    ) {
        let again_at = (retry_after_ms > 0).then(|| now.after(retry_after_ms.min(RETRY_AFTER_MAX_MS)));
        let was_asked = self.watching.refused(request, again_at);
        self.unasked_answers += u64::from(!was_asked);
        if was_asked && again_at.is_none() {
            let kind = proto_spec::ClientKind::Watch.byte();
            effects.events.push(ClientEvent::ServerError { code, kind, detail });
        }
    }

    pub(super) fn on_typing(
        &mut self,
        now: MonotonicMs,
        conversation: ConversationId,
        user: UserId,
        ends_in_ms: u64,
        effects: &mut Effects,
    ) {
        effects.events.extend(self.typing.types(now, conversation, user, ends_in_ms));
    }

    /// Hands out an entry that was pushed. With a message, its author does not type any more.
    pub(super) fn hand_out(&mut self, entry: Entry, effects: &mut Effects) {
        let author = match &entry.event {
            Event::Received { from, content, .. } if content.is_message() => Some(*from),
            _ => None,
        };
        effects.events.push(ClientEvent::Entry(entry));
        effects.events.extend(author.into_iter().flat_map(|user| self.typing.wrote(user.into(), user)));
    }

    /// A message to there was accepted, and the server says whether anybody is there.
    pub(super) fn on_recipient(&mut self, to: ConversationId, recipient: Recipient, effects: &mut Effects) {
        if let ConversationId::Person(user) = to
            && recipient == Recipient::Offline
        {
            effects.events.extend(self.watching.not_there(user).map(ClientEvent::Presence));
        }
    }
}

const fn check_count(count: usize, max: usize) -> Result<(), FetchError> {
    if count > max { Err(FetchError::TooManyUsers { count, max }) } else { Ok(()) }
}
