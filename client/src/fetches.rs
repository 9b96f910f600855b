//! Fetches, marks and changes of devices from their request to their answer. Each is in the table until it is answered; a lost connection or a refusal
//! that passes makes it wait again, for asking twice does no harm.

use std::collections::VecDeque;

use proto_spec::{
    Capabilities, ClientFrame, ClientKind, ConversationId, ConversationKind, DeviceId, Direction, GroupId, RequestId,
    Seq, Settings, Subscription, UserId, Visibility,
};

use crate::{
    event::{FetchError, FetchHandle},
    limits::QUEUED_FETCHES_MAX,
    state::MonotonicMs,
};
use proto_spec::limits::FETCHES_IN_FLIGHT_MAX;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    Log,
    Conversation(ConversationId),
    /// Conversations, and so many messages of the first.
    Inbox {
        messages: u64,
    },
    /// Not a fetch: a read mark at `from`, and whether the other side is told.
    Read {
        conversation: ConversationId,
        tell: bool,
    },
    /// Not a fetch either.
    Settings {
        conversation: ConversationId,
        set: Settings,
        cleared: Settings,
    },
    /// Digests, up to here; of the own log if the group is zero.
    Digest {
        last: Seq,
        group: GroupId,
    },
    Delete {
        conversation: ConversationId,
    },
    Devices,
    RemoveDevice(DeviceId),
    NameDevice(DeviceId, String),
    /// Notifications go there; none: nowhere.
    Subscribe(Option<Subscription>),
    Subscription,
    Presence(Vec<UserId>),
    /// Groups with higher ids.
    Groups(GroupId),
    /// Members with higher ids.
    Members(GroupId, UserId),
    /// Not a fetch either.
    Visibility {
        set: Visibility,
        cleared: Visibility,
    },
}

impl Range {
    /// The kind of frame that asks for it.
    const fn kind(&self) -> ClientKind {
        match self {
            Self::Log => ClientKind::FetchLog,
            Self::Conversation(_) => ClientKind::FetchConversation,
            Self::Inbox { .. } => ClientKind::FetchInbox,
            Self::Read { .. } => ClientKind::MarkRead,
            Self::Settings { .. } => ClientKind::SetConversation,
            Self::Digest { .. } => ClientKind::FetchDigest,
            Self::Delete { .. } => ClientKind::DeleteMessage,
            Self::Devices => ClientKind::FetchDevices,
            Self::RemoveDevice(_) => ClientKind::RemoveDevice,
            Self::NameDevice(..) => ClientKind::NameDevice,
            Self::Subscribe(Some(_)) => ClientKind::Subscribe,
            Self::Subscribe(None) => ClientKind::Unsubscribe,
            Self::Subscription => ClientKind::FetchSubscription,
            Self::Presence(_) => ClientKind::FetchPresence,
            Self::Groups(_) => ClientKind::FetchGroups,
            Self::Members(..) => ClientKind::FetchMembers,
            Self::Visibility { .. } => ClientKind::SetVisibility,
        }
    }

    /// What the server does not have of what this asks for: a frame that names a conversation of another kind it can not even read.
    fn lacks(&self, server: &Capabilities) -> Option<&'static str> {
        let names_group = match self {
            Self::Conversation(conversation)
            | Self::Read { conversation, .. }
            | Self::Settings { conversation, .. }
            | Self::Delete { conversation } => matches!(conversation, ConversationId::Group(_)),
            Self::Digest { group, .. } => *group != GroupId(0),
            Self::Log
            | Self::Inbox { .. }
            | Self::Devices
            | Self::RemoveDevice(_)
            | Self::NameDevice(..)
            | Self::Subscribe(_)
            | Self::Subscription
            | Self::Presence(_)
            | Self::Groups(_)
            | Self::Members(..)
            | Self::Visibility { .. } => false,
        };
        match self.kind() {
            kind if !server.takes_frame(kind) => Some(kind.name()),
            _ if names_group && !server.conversation_kinds.contains(ConversationKind::Group.byte()) => {
                Some(ConversationKind::Group.name())
            }
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Fetch {
    request: RequestId,
    range: Range,
    from: Seq,
    direction: Direction,
    limit: u64,
    is_in_flight: bool,
    /// It was in flight when a connection was lost: the server may have done it.
    may_be_done: bool,
    not_before: MonotonicMs,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fetches {
    waiting: VecDeque<Fetch>,
    /// Zero names pushed pages, so the first request is 1.
    last_request: RequestId,
}

impl Fetches {
    pub(crate) fn push(
        &mut self,
        range: Range,
        from: Seq,
        direction: Direction,
        limit: u64,
    ) -> Result<FetchHandle, FetchError> {
        if self.waiting.len() >= QUEUED_FETCHES_MAX {
            return Err(FetchError::QueueFull { max: QUEUED_FETCHES_MAX });
        }
        let request = self.next_request();
        self.waiting.push_back(Fetch {
            request,
            range,
            from,
            direction,
            limit,
            is_in_flight: false,
            may_be_done: false,
            not_before: MonotonicMs(0),
        });
        Ok(FetchHandle(request))
    }

    /// An id for a request that is not in this table.
    pub(crate) fn next_request(&mut self) -> RequestId {
        self.last_request = RequestId(self.last_request.0 + 1);
        self.last_request
    }

    /// The connection is gone, and with it the answers.
    pub(crate) fn disconnected(&mut self) {
        for fetch in &mut self.waiting {
            fetch.may_be_done |= fetch.is_in_flight;
            fetch.is_in_flight = false;
        }
    }

    /// The log was replaced. Takes out what names a place in it: that place is another one now.
    pub(crate) fn drop_placed(&mut self) -> Vec<FetchHandle> {
        let dropped = self.waiting.iter().filter(|fetch| fetch.from > Seq::ZERO);
        let dropped = dropped.map(|fetch| FetchHandle(fetch.request)).collect();
        self.waiting.retain(|fetch| fetch.from == Seq::ZERO);
        dropped
    }

    /// Takes out a request that this server does not have, with what it lacks.
    pub(crate) fn next_untaken(&mut self, server: &Capabilities) -> Option<(FetchHandle, &'static str)> {
        let lacks = |(at, fetch): (usize, &Fetch)| Some((at, fetch.range.lacks(server)?));
        let (at, what) = self.waiting.iter().enumerate().find_map(lacks)?;
        self.waiting.remove(at).map(|fetch| (FetchHandle(fetch.request), what))
    }

    /// The next request that may leave now.
    pub(crate) fn next_frame(&mut self, now: MonotonicMs) -> Option<ClientFrame> {
        if self.waiting.iter().filter(|fetch| fetch.is_in_flight).count() >= FETCHES_IN_FLIGHT_MAX {
            return None;
        }
        let fetch = self.waiting.iter_mut().find(|fetch| !fetch.is_in_flight && fetch.not_before <= now)?;
        fetch.is_in_flight = true;
        let Fetch { request, from, direction, limit, .. } = *fetch;
        Some(match fetch.range.clone() {
            Range::Log => ClientFrame::FetchLog { request, from, direction, limit },
            Range::Conversation(conversation) => {
                ClientFrame::FetchConversation { request, conversation, from, direction, limit }
            }
            Range::Inbox { messages } => ClientFrame::FetchInbox { request, before: from, limit, messages },
            Range::Read { conversation, tell } => ClientFrame::MarkRead { request, conversation, up_to: from, tell },
            Range::Settings { conversation, set, cleared } => {
                ClientFrame::SetConversation { request, conversation, set, cleared }
            }
            Range::Digest { last, group } => {
                ClientFrame::FetchDigest { request, first: from, last, width: limit, group }
            }
            Range::Delete { conversation } => ClientFrame::DeleteMessage { request, conversation, place: from },
            Range::Devices => ClientFrame::FetchDevices { request },
            Range::RemoveDevice(device) => ClientFrame::RemoveDevice { request, device },
            Range::NameDevice(device, name) => ClientFrame::NameDevice { request, device, name },
            Range::Subscribe(Some(subscription)) => ClientFrame::Subscribe { request, subscription },
            Range::Subscribe(None) => ClientFrame::Unsubscribe { request },
            Range::Subscription => ClientFrame::FetchSubscription { request },
            Range::Presence(users) => ClientFrame::FetchPresence { request, users },
            Range::Groups(after) => ClientFrame::FetchGroups { request, after, limit },
            Range::Members(group, after) => ClientFrame::FetchMembers { request, group, after, limit, seq: from },
            Range::Visibility { set, cleared } => ClientFrame::SetVisibility { request, set, cleared },
        })
    }

    /// When a fetch that was put off may leave.
    pub(crate) fn deadline(&self, now: MonotonicMs) -> Option<MonotonicMs> {
        self.waiting.iter().filter(|fetch| !fetch.is_in_flight && fetch.not_before > now).map(|f| f.not_before).min()
    }

    /// A fetch was answered, for good. None when it was not asked for on this connection.
    pub(crate) fn answered(&mut self, request: RequestId) -> Option<FetchHandle> {
        let index = self.waiting.iter().position(|fetch| fetch.request == request && fetch.is_in_flight)?;
        self.waiting.remove(index).map(|fetch| FetchHandle(fetch.request))
    }

    /// Which way a fetch goes that awaits its answer.
    pub(crate) fn direction(&self, request: RequestId) -> Option<Direction> {
        let mut in_flight = self.waiting.iter().filter(|fetch| fetch.is_in_flight);
        in_flight.find(|fetch| fetch.request == request).map(|fetch| fetch.direction)
    }

    /// An inbox has come; a page of `first` is still to come with the same request, if one was asked for.
    pub(crate) fn inbox_came(&mut self, request: RequestId, first: Option<ConversationId>) -> Option<FetchHandle> {
        let fetch = self.waiting.iter_mut().find(|fetch| fetch.request == request && fetch.is_in_flight)?;
        let Range::Inbox { messages } = fetch.range else { return None };
        match first.filter(|_| messages > 0) {
            None => self.answered(request),
            Some(first) => {
                // Should the connection end before it, that page alone is asked for.
                (fetch.range, fetch.from, fetch.limit) = (Range::Conversation(first), Seq::ZERO, messages);
                Some(FetchHandle(request))
            }
        }
    }

    /// A fetch was refused for now.
    pub(crate) fn put_off(&mut self, request: RequestId, not_before: MonotonicMs) {
        if let Some(fetch) = self.waiting.iter_mut().find(|fetch| fetch.request == request && fetch.is_in_flight) {
            fetch.is_in_flight = false;
            fetch.not_before = not_before;
        }
    }

    /// The device of this request is not there. If it was to be removed and that may have been done before, it has been: what is left to
    /// ask for is the list.
    pub(crate) fn was_removed_before(&mut self, request: RequestId) -> bool {
        let fetch = self.waiting.iter_mut().find(|fetch| fetch.request == request && fetch.is_in_flight);
        match fetch {
            Some(fetch @ Fetch { range: Range::RemoveDevice(_), may_be_done: true, .. }) => {
                fetch.range = Range::Devices;
                fetch.is_in_flight = false;
                true
            }
            Some(_) | None => false,
        }
    }

    /// The requests of this kind that await their answer. A server that does not know the kind can not read their ids.
    pub(crate) fn in_flight_of(&self, kind: u8) -> Vec<RequestId> {
        let is_it = |fetch: &&Fetch| fetch.is_in_flight && fetch.range.kind().byte() == kind;
        self.waiting.iter().filter(is_it).map(|fetch| fetch.request).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(fetches: &mut Fetches) -> Result<FetchHandle, FetchError> {
        fetches.push(Range::Log, Seq(0), Direction::Backwards, 10)
    }

    fn in_flight(fetches: &mut Fetches, now: u64) -> usize {
        std::iter::from_fn(|| fetches.next_frame(MonotonicMs(now))).count()
    }

    #[test]
    fn the_table_is_bounded_and_so_is_what_is_in_flight() {
        let mut fetches = Fetches::default();
        for _ in 0..QUEUED_FETCHES_MAX {
            push(&mut fetches).unwrap();
        }
        assert_eq!(push(&mut fetches), Err(FetchError::QueueFull { max: QUEUED_FETCHES_MAX }));
        assert_eq!(in_flight(&mut fetches, 0), FETCHES_IN_FLIGHT_MAX);
    }

    #[test]
    fn a_page_answers_its_fetch_once() {
        let mut fetches = Fetches::default();
        let handle = push(&mut fetches).unwrap();
        assert_eq!(fetches.answered(handle.0), None, "not asked yet");
        assert_eq!(in_flight(&mut fetches, 0), 1);
        assert_eq!(fetches.answered(handle.0), Some(handle));
        assert_eq!(fetches.answered(handle.0), None);
    }

    #[test]
    fn a_fetch_is_asked_again_after_a_lost_connection_and_after_a_delay() {
        let mut fetches = Fetches::default();
        let handle = push(&mut fetches).unwrap();
        assert_eq!(in_flight(&mut fetches, 0), 1);
        fetches.disconnected();
        assert_eq!(in_flight(&mut fetches, 0), 1);
        fetches.put_off(handle.0, MonotonicMs(50));
        assert_eq!((in_flight(&mut fetches, 49), fetches.deadline(MonotonicMs(49))), (0, Some(MonotonicMs(50))));
        assert_eq!(in_flight(&mut fetches, 50), 1);
    }

    #[test]
    fn a_removal_that_was_done_before_its_connection_was_lost_is_answered_with_the_list() {
        let mut fetches = Fetches::default();
        let handle = fetches.push(Range::RemoveDevice(DeviceId(3)), Seq::ZERO, Direction::Forwards, 0).unwrap();
        let request = handle.0;
        let asked = fetches.next_frame(MonotonicMs(0));
        assert_eq!(asked, Some(ClientFrame::RemoveDevice { request, device: DeviceId(3) }));
        assert!(!fetches.was_removed_before(request), "it was asked for once");
        fetches.disconnected();
        assert_eq!(in_flight(&mut fetches, 0), 1);
        assert!(fetches.was_removed_before(request));
        assert_eq!(fetches.next_frame(MonotonicMs(0)), Some(ClientFrame::FetchDevices { request }));
        assert_eq!(fetches.answered(request), Some(handle));
    }
}
