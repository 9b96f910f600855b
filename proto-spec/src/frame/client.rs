//! What a client sends: fields and bytes (SPEC 4.1 to 4.6, 4.13, 4.15, 4.19, 4.20, 4.22, 4.24 to 4.26, 4.28, 4.31, 4.33 to
//! 4.37, 4.41, 4.42, 4.48 to 4.51).

use super::{ClientKind, FrameError, conversation, flag, later, put_conversation, put_frame, put_later};
use crate::{
    content::Content,
    entry::{Settings, Visibility},
    framing::RawFrame,
    ids::{ConversationId, DeviceId, EpochId, GroupId, RequestId, SendNumber, Seq, UserId},
    limits::{NAME_BYTES_MAX, PRESENCE_USERS_MAX, TOKEN_BYTES_MAX, WATCHED_MAX},
    listed::listed,
    presence::{self, Status},
    push::Subscription,
    wire::{DecodeError, Reader, put_bytes, put_varint},
};

/// Where the server's push starts after the welcome (SPEC 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// After what this device acknowledged last, as the server remembers it.
    Stored,
    /// After this seq, up to which the device says it has everything. Counts as its acknowledgement.
    After(Seq),
    /// After the head of the log: nothing old is pushed. For a device that fetches history by itself.
    Live,
}

listed! {
    /// Which way a fetch goes from its starting seq, which is included (SPEC 4.4).
    Direction {
        /// To higher seqs.
        Forwards = 0 "forwards",
        /// To lower seqs.
        Backwards = 1 "backwards",
    }
}

/// A frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// The first frame of a connection.
    Hello {
        /// Lowest protocol version that the client speaks.
        version_min: u64,
        /// Highest protocol version that the client speaks.
        version_max: u64,
        /// Which of the user's devices this is.
        device: DeviceId,
        /// Where to start pushing.
        resume: Resume,
        /// Says who the user is. At most [`TOKEN_BYTES_MAX`] bytes.
        token: String,
        /// The newest epoch of the log that the device was told of; zero if it was told of none.
        epoch: EpochId,
        /// With [`Resume::After`]: of what stands up to here, the device may lack something; zero: it lacks nothing.
        since: Seq,
        /// More seqs than this are not pushed; zero: however many there are.
        skip_above: u64,
        /// Zero: the client does not follow redirects. Else one more than it has followed in a row.
        hops: u64,
    },
    /// A message to somebody.
    Send {
        /// The device's number of this send.
        number: SendNumber,
        /// To whom.
        to: ConversationId,
        /// What.
        content: Content,
    },
    /// Everything up to this seq has been received.
    Acknowledge {
        /// The highest seq below which nothing is missing.
        seq: Seq,
    },
    /// Asks for a page of the user's own log.
    FetchLog {
        /// Comes back in the page. Not zero.
        request: RequestId,
        /// Where to start, included. Zero, going backwards, means the head.
        from: Seq,
        /// Which way.
        direction: Direction,
        /// Most entries wanted.
        limit: u64,
    },
    /// Asks for a page of one conversation.
    FetchConversation {
        /// Comes back in the page. Not zero.
        request: RequestId,
        /// Which one.
        conversation: ConversationId,
        /// Where to start, included, as a seq of the own log. Zero, going backwards, means the head.
        from: Seq,
        /// Which way.
        direction: Direction,
        /// Most entries wanted.
        limit: u64,
    },
    /// Asks for a pong.
    Ping {
        /// Comes back in the pong.
        nonce: u64,
    },
    /// Answers a ping.
    Pong {
        /// From the ping.
        nonce: u64,
    },
    /// The client is about to close.
    Bye,
    /// A new token for this connection, in place of the one of its hello.
    Refresh {
        /// Says who the user is, for longer. At most [`TOKEN_BYTES_MAX`] bytes.
        token: String,
    },
    /// This user has read a conversation. What it changes comes as an entry.
    MarkRead {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Which one.
        conversation: ConversationId,
        /// Everything in it up to this seq of the own log.
        up_to: Seq,
        /// Whether the other side is told.
        tell: bool,
    },
    /// Asks for the newest conversations, and for messages of the first of them.
    FetchInbox {
        /// Comes back in the answers. Not zero.
        request: RequestId,
        /// Those whose last message is before this seq. Zero: all.
        before: Seq,
        /// Most conversations wanted.
        limit: u64,
        /// Most messages wanted of the first conversation. Zero: no page of them.
        messages: u64,
    },
    /// How this user keeps a conversation from now on. What it changes comes as an entry.
    SetConversation {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Which one.
        conversation: ConversationId,
        /// These are set.
        set: Settings,
        /// These are not, whatever was set.
        cleared: Settings,
    },
    /// Deletes a message for this user alone. What it changes comes as an entry.
    DeleteMessage {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// In which conversation.
        conversation: ConversationId,
        /// Where the message stands: the seq of the own log that it had first.
        place: Seq,
    },
    /// Asks for the list of the user's devices.
    FetchDevices {
        /// Comes back in the answer. Not zero.
        request: RequestId,
    },
    /// Removes a device of the user, for ever.
    RemoveDevice {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Which device; the one that asks, too.
        device: DeviceId,
    },
    /// Gives a device of the user a name.
    NameDevice {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Which device.
        device: DeviceId,
        /// Its name; empty: none. At most [`NAME_BYTES_MAX`] bytes.
        name: String,
    },
    /// Asks for digests of the user's own log.
    FetchDigest {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// The first seq that they are of. Zero means one.
        first: Seq,
        /// The last seq that they are of. Zero means the head.
        last: Seq,
        /// Seqs that each is of. Zero: one digest of all.
        width: u64,
        /// Of which group's log. Zero: of the own one.
        group: GroupId,
    },
    /// Voids a number: no message will be accepted under it.
    GiveUp {
        /// The device's next number.
        number: SendNumber,
    },
    /// Asks who of these is there.
    FetchPresence {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Whom it is about. At most [`PRESENCE_USERS_MAX`].
        users: Vec<UserId>,
    },
    /// Asks who of these is there, and to be told of changes for a while. Replaces the earlier watch of the connection.
    Watch {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Whom it is about; none: the watch ends. At most [`WATCHED_MAX`].
        users: Vec<UserId>,
    },
    /// Somebody types in a conversation. Not answered.
    Typing {
        /// Which one.
        conversation: ConversationId,
    },
    /// What this connection says of its person from now on. Not answered.
    SetStatus {
        /// What it says.
        status: Status,
    },
    /// What this user hides of their presence from now on. What it changes comes as an entry.
    SetVisibility {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// These are set.
        set: Visibility,
        /// These are not, whatever was set.
        cleared: Visibility,
    },
    /// Asks for the groups of the user.
    FetchGroups {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Those with a higher id. Zero: from the first on.
        after: GroupId,
        /// Most groups wanted.
        limit: u64,
    },
    /// Asks for the members of a group.
    FetchMembers {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Of which group.
        group: GroupId,
        /// Those with a higher id. Zero: from the first on.
        after: UserId,
        /// Most members wanted.
        limit: u64,
        /// The answer counts who has this entry of the group's log. Zero: it counts nobody.
        seq: Seq,
    },
    /// What this device holds of a group's log.
    AcknowledgeGroup {
        /// Of which group.
        group: GroupId,
        /// Everything up to this seq of its log.
        up_to: Seq,
    },
    /// Notifications for this device go there from now on.
    Subscribe {
        /// Comes back in the answer. Not zero.
        request: RequestId,
        /// Where.
        subscription: Subscription,
    },
    /// This device wants no notifications any more.
    Unsubscribe {
        /// Comes back in the answer. Not zero.
        request: RequestId,
    },
    /// Asks how this device is subscribed, and to what it can.
    FetchSubscription {
        /// Comes back in the answer. Not zero.
        request: RequestId,
    },
}

impl ClientFrame {
    /// The kind of this frame.
    #[must_use]
    pub const fn kind(&self) -> ClientKind {
        match self {
            Self::Hello { .. } => ClientKind::Hello,
            Self::Send { .. } => ClientKind::Send,
            Self::Acknowledge { .. } => ClientKind::Acknowledge,
            Self::FetchLog { .. } => ClientKind::FetchLog,
            Self::FetchConversation { .. } => ClientKind::FetchConversation,
            Self::Ping { .. } => ClientKind::Ping,
            Self::Pong { .. } => ClientKind::Pong,
            Self::Bye => ClientKind::Bye,
            Self::Refresh { .. } => ClientKind::Refresh,
            Self::MarkRead { .. } => ClientKind::MarkRead,
            Self::FetchInbox { .. } => ClientKind::FetchInbox,
            Self::SetConversation { .. } => ClientKind::SetConversation,
            Self::DeleteMessage { .. } => ClientKind::DeleteMessage,
            Self::FetchDevices { .. } => ClientKind::FetchDevices,
            Self::RemoveDevice { .. } => ClientKind::RemoveDevice,
            Self::NameDevice { .. } => ClientKind::NameDevice,
            Self::GiveUp { .. } => ClientKind::GiveUp,
            Self::FetchDigest { .. } => ClientKind::FetchDigest,
            Self::FetchPresence { .. } => ClientKind::FetchPresence,
            Self::Watch { .. } => ClientKind::Watch,
            Self::Typing { .. } => ClientKind::Typing,
            Self::SetStatus { .. } => ClientKind::SetStatus,
            Self::SetVisibility { .. } => ClientKind::SetVisibility,
            Self::FetchGroups { .. } => ClientKind::FetchGroups,
            Self::FetchMembers { .. } => ClientKind::FetchMembers,
            Self::AcknowledgeGroup { .. } => ClientKind::AcknowledgeGroup,
            Self::Subscribe { .. } => ClientKind::Subscribe,
            Self::Unsubscribe { .. } => ClientKind::Unsubscribe,
            Self::FetchSubscription { .. } => ClientKind::FetchSubscription,
        }
    }

    /// Appends the frame, length included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, self.kind().byte(), |out| match self {
            Self::Hello { version_min, version_max, device, resume, token, epoch, since, skip_above, hops } => {
                put_varint(out, *version_min);
                put_varint(out, *version_max);
                put_varint(out, device.0);
                let (mode, seq) = match resume {
                    Resume::Stored => (0, Seq::ZERO),
                    Resume::After(seq) => (1, *seq),
                    Resume::Live => (2, Seq::ZERO),
                };
                out.push(mode);
                put_varint(out, seq.0);
                put_bytes(out, token.as_bytes());
                put_later(out, &[epoch.0, since.0, *skip_above, *hops]);
            }
            Self::Send { number, to, content } => {
                put_varint(out, number.0);
                put_conversation(out, *to);
                content.encode(out);
            }
            Self::Acknowledge { seq } => put_varint(out, seq.0),
            Self::FetchLog { request, from, direction, limit } => {
                put_varint(out, request.0);
                put_fetch(out, *from, *direction, *limit);
            }
            Self::FetchConversation { request, conversation, from, direction, limit } => {
                put_varint(out, request.0);
                put_conversation(out, *conversation);
                put_fetch(out, *from, *direction, *limit);
            }
            Self::Ping { nonce } | Self::Pong { nonce } => put_varint(out, *nonce),
            Self::Bye => {}
            Self::Refresh { token } => put_bytes(out, token.as_bytes()),
            Self::MarkRead { request, conversation, up_to, tell } => {
                put_varint(out, request.0);
                put_conversation(out, *conversation);
                put_varint(out, up_to.0);
                out.push(u8::from(*tell));
            }
            Self::FetchInbox { request, before, limit, messages } => {
                for value in [request.0, before.0, *limit, *messages] {
                    put_varint(out, value);
                }
            }
            Self::SetConversation { request, conversation, set, cleared } => {
                put_varint(out, request.0);
                put_conversation(out, *conversation);
                put_varint(out, set.bits());
                put_varint(out, cleared.bits());
            }
            Self::DeleteMessage { request, conversation, place } => {
                put_varint(out, request.0);
                put_conversation(out, *conversation);
                put_varint(out, place.0);
            }
            Self::FetchDevices { request } => put_varint(out, request.0),
            Self::RemoveDevice { request, device } => {
                put_varint(out, request.0);
                put_varint(out, device.0);
            }
            Self::NameDevice { request, device, name } => {
                put_varint(out, request.0);
                put_varint(out, device.0);
                put_bytes(out, name.as_bytes());
            }
            Self::GiveUp { number } => put_varint(out, number.0),
            Self::FetchDigest { request, first, last, width, group } => {
                for value in [request.0, first.0, last.0, *width] {
                    put_varint(out, value);
                }
                put_later(out, &[group.0]);
            }
            Self::FetchPresence { request, users } | Self::Watch { request, users } => {
                put_varint(out, request.0);
                presence::put_users(out, users);
            }
            Self::Typing { conversation } => put_conversation(out, *conversation),
            Self::SetStatus { status } => out.push(status.byte()),
            Self::SetVisibility { request, set, cleared } => {
                for value in [request.0, set.bits(), cleared.bits()] {
                    put_varint(out, value);
                }
            }
            Self::FetchGroups { request, after, limit } => {
                for value in [request.0, after.0, *limit] {
                    put_varint(out, value);
                }
            }
            Self::FetchMembers { request, group, after, limit, seq } => {
                for value in [request.0, group.0, after.0, *limit, seq.0] {
                    put_varint(out, value);
                }
            }
            Self::AcknowledgeGroup { group, up_to } => {
                for value in [group.0, up_to.0] {
                    put_varint(out, value);
                }
            }
            Self::Subscribe { request, subscription } => {
                put_varint(out, request.0);
                subscription.encode(out);
            }
            Self::Unsubscribe { request } | Self::FetchSubscription { request } => put_varint(out, request.0),
        });
    }

    /// Reads a frame. What follows the known fields is of a newer version and is passed over.
    ///
    /// # Errors
    /// The kind is unknown, or the body is malformed.
    pub fn decode(raw: RawFrame<'_>) -> Result<Self, FrameError> {
        let kind = ClientKind::from_byte(raw.kind).ok_or(FrameError::UnknownKind(raw.kind))?;
        Self::decode_body(kind, raw.body).map_err(|error| FrameError::Body { kind: raw.kind, error })
    }

    fn decode_body(kind: ClientKind, body: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(body);
        Ok(match kind {
            ClientKind::Hello => Self::Hello {
                version_min: r.varint("version_min")?,
                version_max: r.varint("version_max")?,
                device: DeviceId(r.varint("device")?),
                resume: {
                    let mode = r.u8("resume")?;
                    let seq = Seq(r.varint("resume_seq")?);
                    match mode {
                        0 => Resume::Stored,
                        1 => Resume::After(seq),
                        2 => Resume::Live,
                        other => return Err(DecodeError::Unlisted { field: "resume", value: other.into() }),
                    }
                },
                token: r.str("token", TOKEN_BYTES_MAX)?.to_owned(),
                epoch: EpochId(later(r, "epoch")?),
                since: Seq(later(r, "since")?),
                skip_above: later(r, "skip_above")?,
                hops: later(r, "hops")?,
            },
            ClientKind::Send => Self::Send {
                number: SendNumber(r.varint("number")?),
                to: conversation(r)?,
                content: Content::decode(r)?,
            },
            ClientKind::Acknowledge => Self::Acknowledge { seq: Seq(r.varint("seq")?) },
            ClientKind::FetchLog => {
                let request = own_request(r)?;
                let (from, direction, limit) = fetch(r)?;
                Self::FetchLog { request, from, direction, limit }
            }
            ClientKind::FetchConversation => {
                let request = own_request(r)?;
                let conversation = conversation(r)?;
                let (from, direction, limit) = fetch(r)?;
                Self::FetchConversation { request, conversation, from, direction, limit }
            }
            ClientKind::Ping => Self::Ping { nonce: r.varint("nonce")? },
            ClientKind::Pong => Self::Pong { nonce: r.varint("nonce")? },
            ClientKind::Bye => Self::Bye,
            ClientKind::Refresh => Self::Refresh { token: r.str("token", TOKEN_BYTES_MAX)?.to_owned() },
            ClientKind::MarkRead => Self::MarkRead {
                request: own_request(r)?,
                conversation: conversation(r)?,
                up_to: Seq(r.varint("up_to")?),
                tell: flag(r, "tell")?,
            },
            ClientKind::FetchInbox => Self::FetchInbox {
                request: own_request(r)?,
                before: Seq(r.varint("before")?),
                limit: r.varint("limit")?,
                messages: r.varint("messages")?,
            },
            ClientKind::SetConversation => Self::SetConversation {
                request: own_request(r)?,
                conversation: conversation(r)?,
                set: Settings::from_bits(r.varint("set")?),
                cleared: Settings::from_bits(r.varint("cleared")?),
            },
            ClientKind::DeleteMessage => Self::DeleteMessage {
                request: own_request(r)?,
                conversation: conversation(r)?,
                place: Seq(r.varint("place")?),
            },
            ClientKind::FetchDevices => Self::FetchDevices { request: own_request(r)? },
            ClientKind::RemoveDevice => {
                Self::RemoveDevice { request: own_request(r)?, device: DeviceId(r.varint("device")?) }
            }
            ClientKind::NameDevice => Self::NameDevice {
                request: own_request(r)?,
                device: DeviceId(r.varint("device")?),
                name: r.str("name", NAME_BYTES_MAX)?.to_owned(),
            },
            ClientKind::GiveUp => Self::GiveUp { number: SendNumber(r.varint("number")?) },
            ClientKind::FetchDigest => Self::FetchDigest {
                request: own_request(r)?,
                first: Seq(r.varint("first")?),
                last: Seq(r.varint("last")?),
                width: r.varint("width")?,
                group: GroupId(later(r, "group")?),
            },
            ClientKind::FetchPresence => {
                Self::FetchPresence { request: own_request(r)?, users: presence::users(r, PRESENCE_USERS_MAX)? }
            }
            ClientKind::Watch => Self::Watch { request: own_request(r)?, users: presence::users(r, WATCHED_MAX)? },
            ClientKind::Typing => Self::Typing { conversation: conversation(r)? },
            ClientKind::SetStatus => Self::SetStatus { status: r.listed("status", Status::from_byte)? },
            ClientKind::SetVisibility => Self::SetVisibility {
                request: own_request(r)?,
                set: Visibility::from_bits(r.varint("set")?),
                cleared: Visibility::from_bits(r.varint("cleared")?),
            },
            ClientKind::FetchGroups => Self::FetchGroups {
                request: own_request(r)?,
                after: GroupId(r.varint("after")?),
                limit: r.varint("limit")?,
            },
            ClientKind::FetchMembers => Self::FetchMembers {
                request: own_request(r)?,
                group: GroupId(r.varint("group")?),
                after: UserId(r.varint("after")?),
                limit: r.varint("limit")?,
                seq: Seq(r.varint("seq")?),
            },
            ClientKind::AcknowledgeGroup => {
                Self::AcknowledgeGroup { group: GroupId(r.varint("group")?), up_to: Seq(r.varint("up_to")?) }
            }
            ClientKind::Subscribe => {
                Self::Subscribe { request: own_request(r)?, subscription: Subscription::decode(r)? }
            }
            ClientKind::Unsubscribe => Self::Unsubscribe { request: own_request(r)? },
            ClientKind::FetchSubscription => Self::FetchSubscription { request: own_request(r)? },
        })
    }
}

/// A fetch with request zero could not be told from a push when its page comes.
fn own_request(r: &mut Reader<'_>) -> Result<RequestId, DecodeError> {
    match r.varint("request")? {
        0 => Err(DecodeError::Unlisted { field: "request", value: 0 }),
        request => Ok(RequestId(request)),
    }
}

fn put_fetch(out: &mut Vec<u8>, from: Seq, direction: Direction, limit: u64) {
    put_varint(out, from.0);
    out.push(direction.byte());
    put_varint(out, limit);
}

fn fetch(r: &mut Reader<'_>) -> Result<(Seq, Direction, u64), DecodeError> {
    let from = Seq(r.varint("from")?);
    let direction = r.listed("direction", Direction::from_byte)?;
    Ok((from, direction, r.varint("limit")?))
}
