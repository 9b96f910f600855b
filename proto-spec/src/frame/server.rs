//! What a server sends: fields and bytes (SPEC 4.6 to 4.14, 4.16 to 4.18, 4.21, 4.23, 4.27, 4.29, 4.32, 4.38,
//! 4.39, 4.40, 4.43 to 4.47, 4.52).

use super::{FrameError, ServerKind, conversation_with_user, flag, later, put_conversation, put_frame, put_later};
use crate::{
    capabilities::{Capabilities, Kinds},
    code::ErrorCode,
    device::{self, DeviceInfo},
    digest::Digest,
    entry::{Entry, Settings, Visibility},
    framing::RawFrame,
    group::{self, GroupEntry, GroupPage, GroupRow, MemberInfo},
    ids::{ConversationId, EpochId, GroupId, RequestId, SendNumber, Seq, TimestampMs, UserId},
    limits::{ADDRESS_BYTES_MAX, DETAIL_BYTES_MAX, DIGESTS_MAX, INBOX_ROWS_MAX, PAGE_ENTRIES_MAX},
    listed::listed,
    presence::{self, PresenceState},
    push::PushState,
    wire::{DecodeError, Reader, put_bytes, put_sized, put_varint},
};

listed! {
    /// What an acknowledgement promises (SPEC 4.8). Ordered: a higher level survives more.
    #[derive(PartialOrd, Ord)]
    Durability {
        /// In the server's memory.
        Memory = 1 "memory",
        /// On the node's disk, synced.
        Local = 2 "local",
        /// In the history store; in a cluster, replicated.
        Committed = 3 "committed",
    }
}

listed! {
    /// Whether the recipient was connected when the message was accepted (SPEC 4.8). A hint, not a promise.
    Recipient {
        /// No device of the recipient is connected.
        Offline = 0 "offline",
        /// At least one device of the recipient is connected.
        Online = 1 "online",
        /// A note to self.
        Yourself = 2 "yourself",
    }
}

listed! {
    /// Why a node sends a client to another one (SPEC 4.40).
    RedirectReason {
        /// Another node serves this user.
        Elsewhere = 0 "elsewhere",
        /// This node hands the user over to another one.
        Moving = 1 "moving",
        /// This node is about to leave.
        Leaving = 2 "leaving",
    }
}

/// A run of entries and the range that it speaks for (SPEC 4.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// From the fetch; zero for a page that the server pushed.
    pub request: RequestId,
    /// First seq of the range that this page speaks for.
    pub first: Seq,
    /// Last seq of that range; `first - 1` when the range is empty.
    pub last: Seq,
    /// Whether there is more in the direction of the fetch.
    pub more: bool,
    /// What the log has in that range, by ascending seq. A seq of the range without an entry has been superseded or,
    /// in a conversation, belongs elsewhere.
    pub entries: Vec<Entry>,
    /// In a page of a conversation: the peer's devices have what was sent up to this own seq. Otherwise zero.
    pub delivered_up_to: Seq,
    /// In a page of a conversation: the peer has read what was sent up to this own seq. Otherwise zero.
    pub seen_up_to: Seq,
}

/// The newest conversations of a user (SPEC 4.21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbox {
    /// From the request.
    pub request: RequestId,
    /// What the log says up to here, and nothing of what follows, is in the rows.
    pub at: Seq,
    /// Whether there are older conversations.
    pub more: bool,
    /// By descending seq of the last message.
    pub rows: Vec<InboxRow>,
}

/// Digests of a part of the user's log (SPEC 4.32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// From the request.
    pub request: RequestId,
    /// They are of what the log says up to here.
    pub at: Seq,
    /// The first seq of the first.
    pub first: Seq,
    /// The last seq of the last, which may be of fewer than the others.
    pub last: Seq,
    /// Seqs that each is of. Not zero.
    pub width: u64,
    /// One after the other. At most [`DIGESTS_MAX`].
    pub digests: Vec<Digest>,
}

/// A conversation in an inbox (SPEC 4.21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxRow {
    /// Which one.
    pub conversation: ConversationId,
    /// How the user keeps it.
    pub settings: Settings,
    /// Messages received after the read mark: exact up to [`UNREAD_MAX`](crate::limits::UNREAD_MAX), and what is above means
    /// "many".
    pub unread: u64,
    /// The read mark: a seq of the own log.
    pub read_up_to: Seq,
    /// The other side's devices have what was sent up to this own seq.
    pub delivered_up_to: Seq,
    /// The other side has read what was sent up to this own seq.
    pub seen_up_to: Seq,
    /// Bytes of the content that are left out of `last`.
    pub left_out: u64,
    /// The last message. A long text is cut.
    pub last: Entry,
}

/// A frame from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame {
    /// The hello was good.
    Welcome {
        /// The protocol version of this connection.
        version: u64,
        /// Who the token says the user is.
        user: UserId,
        /// The server's wall clock.
        server_time: TimestampMs,
        /// The last seq of the user's log.
        head: Seq,
        /// Where the push starts: the first pushed entry is the one after this.
        cursor: Seq,
        /// The device's last accepted send number.
        last_number: SendNumber,
        /// Sends that may await their answer.
        send_window: u64,
        /// Longest text.
        text_bytes_max: u64,
        /// Most entries of a page.
        page_entries_max: u64,
        /// Silence after which the server closes.
        idle_timeout_ms: u64,
        /// Everything up to here is [`Durability::Committed`].
        committed: Seq,
        /// The epoch that the log is of at `cursor`; zero if it is of none.
        epoch: EpochId,
        /// What the server takes; nothing is told if all of it is zero.
        capabilities: Capabilities,
        /// Seqs before `cursor` that are not pushed, since there were more of them than the hello wanted; zero: none.
        skipped: u64,
        /// What the user hides of their presence.
        visibility: Visibility,
        /// The server pings whenever it has said nothing, or has heard nothing, for so long; zero: it does not tell.
        ping_after_ms: u64,
    },
    /// A send is in the log.
    Accepted {
        /// The device's number of the send.
        number: SendNumber,
        /// Its seq in the sender's log.
        seq: Seq,
        /// When it was numbered.
        time: TimestampMs,
        /// What this acknowledgement promises.
        durability: Durability,
        /// Whether somebody is there to read it.
        recipient: Recipient,
    },
    /// A send was not taken; its number is not used up.
    Refused {
        /// The device's number of the send.
        number: SendNumber,
        /// Why.
        code: ErrorCode,
        /// When to try again; zero: the same send will be refused again.
        retry_after_ms: u64,
        /// The number that the server expects next from this device.
        expected: SendNumber,
    },
    /// The next entry of the log.
    Deliver {
        /// Its seq is the one after the last that this connection covered.
        entry: Entry,
    },
    /// A page, asked for or pushed.
    Page(Page),
    /// Something else was refused; the connection goes on.
    Error {
        /// Why.
        code: ErrorCode,
        /// Kind of the frame that is refused.
        kind: u8,
        /// Request id of that frame, or zero.
        request: RequestId,
        /// When to try again; zero: not at all.
        retry_after_ms: u64,
        /// For the developer, not for the user.
        detail: String,
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
    /// The server is about to close.
    Bye {
        /// Why.
        code: ErrorCode,
        /// When to connect again; zero: not without a change.
        retry_after_ms: u64,
        /// For the developer, not for the user.
        detail: String,
        /// With [`ErrorCode::DeviceRefused`]: which devices may be removed to make room. Else none.
        devices: Vec<DeviceInfo>,
    },
    /// What was accepted with a lower durability is now [`Durability::Committed`].
    Committed {
        /// So is everything before it.
        up_to: Seq,
    },
    /// The connection's token expires soon: without a refresh the connection ends then.
    TokenExpiring {
        /// Time that is left, in milliseconds.
        expires_in_ms: u64,
    },
    /// The token of a refresh was good.
    Refreshed {
        /// Until when the connection may stay now.
        expires: TimestampMs,
    },
    /// How the device is subscribed to notifications, and to what it can.
    Subscription {
        /// From the frame that this answers.
        request: RequestId,
        /// As it is then.
        state: PushState,
    },
    /// The user's devices.
    Devices {
        /// From the frame that this answers.
        request: RequestId,
        /// All of them, by ascending id.
        devices: Vec<DeviceInfo>,
    },
    /// A part of the log begins that is of another epoch than what is before it.
    Epoch {
        /// The first seq of the part: the one after the position, or a later one that the next page covers.
        first: Seq,
        /// Which epoch.
        epoch: EpochId,
    },
    /// A page of the inbox.
    Inbox(Inbox),
    /// What was asked to be marked is in the log.
    Marked {
        /// From the request.
        request: RequestId,
    },
    /// What became of a number that was to be given up.
    GivenUp {
        /// Which number.
        number: SendNumber,
        /// Zero: it is void. Else a send was accepted under it before, as this entry.
        seq: Seq,
    },
    /// Digests of a part of the user's log.
    Digest(Digests),
    /// Who is there, asked for or pushed.
    Presence {
        /// From the frame that this answers; zero: changes, which the server pushes.
        request: RequestId,
        /// In the answer to a watch: it ends after so long. Else zero.
        lifetime_ms: u64,
        /// At most [`PRESENCE_USERS_MAX`](crate::limits::PRESENCE_USERS_MAX).
        states: Vec<PresenceState>,
    },
    /// Somebody types.
    Typing {
        /// Where. Between two people it is named by the one who types.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// For how long it is to be shown, unless it comes again or a message of that user comes.
        ends_in_ms: u64,
    },
    /// Another node serves this user, or will soon.
    Redirect {
        /// Where to connect: host and port. 1 to [`ADDRESS_BYTES_MAX`] bytes.
        address: String,
        /// Why.
        reason: RedirectReason,
        /// When to connect there, not earlier; zero: at once.
        after_ms: u64,
        /// Of what the node knows of who serves whom: a higher one is newer.
        map_version: u64,
    },
    /// An entry of a group's log, as it happens.
    DeliverGroup {
        /// Of which group.
        group: GroupId,
        /// What.
        entry: GroupEntry,
    },
    /// Answers a fetch of a group.
    GroupPage(GroupPage),
    /// A member of a group types.
    TypingInGroup {
        /// In which group.
        group: GroupId,
        /// Who.
        user: UserId,
        /// For how long it is shown, in milliseconds.
        ends_in_ms: u64,
    },
    /// Groups of the user.
    Groups {
        /// From the request.
        request: RequestId,
        /// A seq of the own log: read marks and settings are not older than what it says up to here.
        at: Seq,
        /// Whether there are more, with higher ids.
        more: bool,
        /// By ascending id.
        rows: Vec<GroupRow>,
    },
    /// Members of a group.
    Members {
        /// From the request.
        request: RequestId,
        /// Of which group.
        group: GroupId,
        /// Whether there are more, with higher ids.
        more: bool,
        /// As of this entry of its log.
        at: Seq,
        /// By ascending id.
        members: Vec<MemberInfo>,
        /// How many others have the entry that was asked about.
        delivered: u64,
        /// How many of these have read it, and let others know.
        read: u64,
    },
}

impl ServerFrame {
    /// The kind of this frame.
    #[must_use]
    pub const fn kind(&self) -> ServerKind {
        match self {
            Self::Welcome { .. } => ServerKind::Welcome,
            Self::Accepted { .. } => ServerKind::Accepted,
            Self::Refused { .. } => ServerKind::Refused,
            Self::Deliver { .. } => ServerKind::Deliver,
            Self::Page(_) => ServerKind::Page,
            Self::Error { .. } => ServerKind::Error,
            Self::Ping { .. } => ServerKind::Ping,
            Self::Pong { .. } => ServerKind::Pong,
            Self::Bye { .. } => ServerKind::Bye,
            Self::Committed { .. } => ServerKind::Committed,
            Self::TokenExpiring { .. } => ServerKind::TokenExpiring,
            Self::Refreshed { .. } => ServerKind::Refreshed,
            Self::Epoch { .. } => ServerKind::Epoch,
            Self::Inbox(_) => ServerKind::Inbox,
            Self::Marked { .. } => ServerKind::Marked,
            Self::Devices { .. } => ServerKind::Devices,
            Self::GivenUp { .. } => ServerKind::GivenUp,
            Self::Digest(_) => ServerKind::Digest,
            Self::Presence { .. } => ServerKind::Presence,
            Self::Typing { .. } => ServerKind::Typing,
            Self::Redirect { .. } => ServerKind::Redirect,
            Self::DeliverGroup { .. } => ServerKind::DeliverGroup,
            Self::GroupPage(_) => ServerKind::GroupPage,
            Self::Groups { .. } => ServerKind::Groups,
            Self::Members { .. } => ServerKind::Members,
            Self::TypingInGroup { .. } => ServerKind::TypingInGroup,
            Self::Subscription { .. } => ServerKind::Subscription,
        }
    }

    /// Appends a deliver frame without taking the entry.
    pub fn encode_deliver(entry: &Entry, out: &mut Vec<u8>) {
        put_frame(out, ServerKind::Deliver.byte(), |out| entry.encode(out));
    }

    /// Appends a frame that delivers an entry of a group without taking the entry.
    pub fn encode_deliver_group(group: GroupId, entry: &GroupEntry, out: &mut Vec<u8>) {
        put_frame(out, ServerKind::DeliverGroup.byte(), |out| {
            put_varint(out, group.0);
            entry.encode(out);
        });
    }

    /// Appends the frame, length included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, self.kind().byte(), |out| match self {
            Self::Welcome {
                version,
                user,
                server_time,
                head,
                cursor,
                last_number,
                send_window,
                text_bytes_max,
                page_entries_max,
                idle_timeout_ms,
                committed,
                epoch,
                capabilities,
                skipped,
                visibility,
                ping_after_ms,
            } => {
                for value in [
                    *version,
                    user.0,
                    server_time.0,
                    head.0,
                    cursor.0,
                    last_number.0,
                    *send_window,
                    *text_bytes_max,
                    *page_entries_max,
                    *idle_timeout_ms,
                    committed.0,
                ] {
                    put_varint(out, value);
                }
                let Capabilities { content_kinds, conversation_kinds, frame_kinds, edit_within_s, unsend_within_s } =
                    capabilities;
                let kinds = [content_kinds.0, conversation_kinds.0, frame_kinds.0];
                let rest = [*edit_within_s, *unsend_within_s, *skipped, visibility.bits(), *ping_after_ms];
                put_later(out, &[&[epoch.0], &kinds[..], &rest].concat());
            }
            Self::Accepted { number, seq, time, durability, recipient } => {
                put_varint(out, number.0);
                put_varint(out, seq.0);
                put_varint(out, time.0);
                out.push(durability.byte());
                out.push(recipient.byte());
            }
            Self::Refused { number, code, retry_after_ms, expected } => {
                put_varint(out, number.0);
                put_varint(out, code.number().into());
                put_varint(out, *retry_after_ms);
                put_varint(out, expected.0);
            }
            Self::Deliver { entry } => entry.encode(out),
            Self::Page(page) => page.encode(out),
            Self::Error { code, kind, request, retry_after_ms, detail } => {
                put_varint(out, code.number().into());
                out.push(*kind);
                put_varint(out, request.0);
                put_varint(out, *retry_after_ms);
                put_detail(out, detail);
            }
            Self::Ping { nonce } | Self::Pong { nonce } => put_varint(out, *nonce),
            Self::Bye { code, retry_after_ms, detail, devices } => {
                put_varint(out, code.number().into());
                put_varint(out, *retry_after_ms);
                put_detail(out, detail);
                if !devices.is_empty() {
                    device::put_devices(out, devices);
                }
            }
            Self::Committed { up_to } => put_varint(out, up_to.0),
            Self::TokenExpiring { expires_in_ms } => put_varint(out, *expires_in_ms),
            Self::Refreshed { expires } => put_varint(out, expires.0),
            Self::Epoch { first, epoch } => {
                put_varint(out, first.0);
                put_varint(out, epoch.0);
            }
            Self::Inbox(inbox) => inbox.encode(out),
            Self::Digest(digests) => digests.encode(out),
            Self::Presence { request, lifetime_ms, states } => {
                put_varint(out, request.0);
                put_varint(out, *lifetime_ms);
                presence::put_states(out, states);
            }
            Self::Typing { conversation, user, ends_in_ms } => {
                put_conversation(out, *conversation);
                put_varint(out, user.0);
                put_varint(out, *ends_in_ms);
            }
            Self::Redirect { address, reason, after_ms, map_version } => {
                put_bytes(out, address.as_bytes());
                out.push(reason.byte());
                put_varint(out, *after_ms);
                put_varint(out, *map_version);
            }
            Self::Marked { request } => put_varint(out, request.0),
            Self::Subscription { request, state } => {
                put_varint(out, request.0);
                state.encode(out);
            }
            Self::DeliverGroup { group, entry } => {
                put_varint(out, group.0);
                entry.encode(out);
            }
            Self::GroupPage(page) => page.encode(out),
            Self::TypingInGroup { group, user, ends_in_ms } => {
                for value in [group.0, user.0, *ends_in_ms] {
                    put_varint(out, value);
                }
            }
            Self::Groups { request, at, more, rows } => {
                put_varint(out, request.0);
                put_varint(out, at.0);
                out.push(u8::from(*more));
                group::put_rows(out, rows);
            }
            Self::Members { request, group, more, at, members, delivered, read } => {
                put_varint(out, request.0);
                put_varint(out, group.0);
                out.push(u8::from(*more));
                put_varint(out, at.0);
                group::put_members(out, members);
                put_varint(out, *delivered);
                put_varint(out, *read);
            }
            Self::Devices { request, devices } => {
                put_varint(out, request.0);
                device::put_devices(out, devices);
            }
            Self::GivenUp { number, seq } => {
                put_varint(out, number.0);
                put_varint(out, seq.0);
            }
        });
    }

    /// Reads a frame. What follows the known fields is of a newer version and is passed over.
    ///
    /// # Errors
    /// The kind is unknown, or the body is malformed.
    pub fn decode(raw: RawFrame<'_>) -> Result<Self, FrameError> {
        let kind = ServerKind::from_byte(raw.kind).ok_or(FrameError::UnknownKind(raw.kind))?;
        Self::decode_body(kind, raw.body).map_err(|error| FrameError::Body { kind: raw.kind, error })
    }

    fn decode_body(kind: ServerKind, body: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(body);
        Ok(match kind {
            ServerKind::Welcome => Self::Welcome {
                version: r.varint("version")?,
                user: UserId(r.varint("user")?),
                server_time: TimestampMs(r.varint("server_time")?),
                head: Seq(r.varint("head")?),
                cursor: Seq(r.varint("cursor")?),
                last_number: SendNumber(r.varint("last_number")?),
                send_window: r.varint("send_window")?,
                text_bytes_max: r.varint("text_bytes_max")?,
                page_entries_max: r.varint("page_entries_max")?,
                idle_timeout_ms: r.varint("idle_timeout_ms")?,
                committed: Seq(r.varint("committed")?),
                epoch: EpochId(later(r, "epoch")?),
                capabilities: Capabilities {
                    content_kinds: Kinds(later(r, "content_kinds")?),
                    conversation_kinds: Kinds(later(r, "conversation_kinds")?),
                    frame_kinds: Kinds(later(r, "frame_kinds")?),
                    edit_within_s: later(r, "edit_within_s")?,
                    unsend_within_s: later(r, "unsend_within_s")?,
                },
                skipped: later(r, "skipped")?,
                visibility: Visibility::from_bits(later(r, "visibility")?),
                ping_after_ms: later(r, "ping_after_ms")?,
            },
            ServerKind::Accepted => Self::Accepted {
                number: SendNumber(r.varint("number")?),
                seq: Seq(r.varint("seq")?),
                time: TimestampMs(r.varint("time")?),
                durability: r.listed("durability", Durability::from_byte)?,
                recipient: r.listed("recipient", Recipient::from_byte)?,
            },
            ServerKind::Refused => Self::Refused {
                number: SendNumber(r.varint("number")?),
                code: ErrorCode::read(r)?,
                retry_after_ms: r.varint("retry_after_ms")?,
                expected: SendNumber(r.varint("expected")?),
            },
            ServerKind::Deliver => Self::Deliver { entry: Entry::decode(body)? },
            ServerKind::Page => Self::Page(Page::decode(r)?),
            ServerKind::Error => Self::Error {
                code: ErrorCode::read(r)?,
                kind: r.u8("kind")?,
                request: RequestId(r.varint("request")?),
                retry_after_ms: r.varint("retry_after_ms")?,
                detail: r.str("detail", DETAIL_BYTES_MAX)?.to_owned(),
            },
            ServerKind::Ping => Self::Ping { nonce: r.varint("nonce")? },
            ServerKind::Pong => Self::Pong { nonce: r.varint("nonce")? },
            ServerKind::Bye => Self::Bye {
                code: ErrorCode::read(r)?,
                retry_after_ms: r.varint("retry_after_ms")?,
                detail: r.str("detail", DETAIL_BYTES_MAX)?.to_owned(),
                // Older servers end here.
                devices: if r.rest().is_empty() { Vec::new() } else { device::devices(r)? },
            },
            ServerKind::Committed => Self::Committed { up_to: Seq(r.varint("up_to")?) },
            ServerKind::TokenExpiring => Self::TokenExpiring { expires_in_ms: r.varint("expires_in_ms")? },
            ServerKind::Refreshed => Self::Refreshed { expires: TimestampMs(r.varint("expires")?) },
            ServerKind::Epoch => Self::Epoch { first: Seq(r.varint("first")?), epoch: own_epoch(r)? },
            ServerKind::Inbox => Self::Inbox(Inbox::decode(r)?),
            ServerKind::Marked => Self::Marked { request: RequestId(r.varint("request")?) },
            ServerKind::Devices => {
                Self::Devices { request: RequestId(r.varint("request")?), devices: device::devices(r)? }
            }
            ServerKind::Subscription => {
                Self::Subscription { request: RequestId(r.varint("request")?), state: PushState::decode(r)? }
            }
            ServerKind::Digest => Self::Digest(Digests::decode(r)?),
            ServerKind::Presence => Self::Presence {
                request: RequestId(r.varint("request")?),
                lifetime_ms: r.varint("lifetime_ms")?,
                states: presence::states(r)?,
            },
            ServerKind::Typing => Self::Typing {
                conversation: conversation_with_user(r)?,
                user: UserId(r.varint("user")?),
                ends_in_ms: r.varint("ends_in_ms")?,
            },
            ServerKind::Redirect => Self::Redirect {
                address: address(r)?,
                reason: r.listed("reason", RedirectReason::from_byte)?,
                after_ms: r.varint("after_ms")?,
                map_version: r.varint("map_version")?,
            },
            ServerKind::DeliverGroup => {
                Self::DeliverGroup { group: GroupId(r.varint("group")?), entry: GroupEntry::decode(r.rest())? }
            }
            ServerKind::GroupPage => Self::GroupPage(GroupPage::decode(r)?),
            ServerKind::TypingInGroup => Self::TypingInGroup {
                group: GroupId(r.varint("group")?),
                user: UserId(r.varint("user")?),
                ends_in_ms: r.varint("ends_in_ms")?,
            },
            ServerKind::Groups => {
                let request = RequestId(r.varint("request")?);
                let at = Seq(r.varint("at")?);
                Self::Groups { request, at, more: flag(r, "more")?, rows: group::rows(r)? }
            }
            ServerKind::Members => Self::Members {
                request: RequestId(r.varint("request")?),
                group: GroupId(r.varint("group")?),
                more: flag(r, "more")?,
                at: Seq(r.varint("at")?),
                members: group::members(r)?,
                delivered: r.varint("delivered")?,
                read: r.varint("read")?,
            },
            ServerKind::GivenUp => {
                Self::GivenUp { number: SendNumber(r.varint("number")?), seq: Seq(r.varint("seq")?) }
            }
        })
    }
}

fn own_epoch(r: &mut Reader<'_>) -> Result<EpochId, DecodeError> {
    match r.varint("epoch")? {
        0 => Err(DecodeError::Unlisted { field: "epoch", value: 0 }),
        epoch => Ok(EpochId(epoch)),
    }
}

/// Not empty. Its form is for the client to read, to whom one that it cannot read is one that it cannot reach.
fn address(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    match r.str("address", ADDRESS_BYTES_MAX)? {
        "" => Err(DecodeError::Unlisted { field: "address", value: 0 }),
        address => Ok(address.to_owned()),
    }
}

/// Details are for people: one that is too long is cut at a character, not refused.
fn put_detail(out: &mut Vec<u8>, detail: &str) {
    let mut size = detail.len().min(DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(size) {
        size -= 1;
    }
    put_bytes(out, &detail.as_bytes()[..size]);
}

impl Page {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.request.0);
        put_varint(out, self.first.0);
        put_varint(out, self.last.0);
        out.push(u8::from(self.more));
        put_varint(out, self.entries.len() as u64);
        for entry in &self.entries {
            put_sized(out, |out| entry.encode(out));
        }
        put_varint(out, self.delivered_up_to.0);
        put_later(out, &[self.seen_up_to.0]);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let request = RequestId(r.varint("request")?);
        let first = Seq(r.varint("first")?);
        let last = Seq(r.varint("last")?);
        let more = flag(r, "more")?;
        let count = r.varint("entries")?;
        // Each entry has at least four bytes, so a count that lies is found before anything is allocated. What an honest
        // page may have is reserved; beyond that, entries must be there before they cost memory.
        if count > r.rest().len() as u64 / 4 {
            return Err(DecodeError::Truncated { field: "entries" });
        }
        let mut entries = Vec::with_capacity(count.min(PAGE_ENTRIES_MAX) as usize);
        for _ in 0..count {
            entries.push(Entry::decode(r.bytes("entries", usize::MAX)?)?);
        }
        let delivered_up_to = Seq(r.varint("delivered_up_to")?);
        let seen_up_to = Seq(later(r, "seen_up_to")?);
        Ok(Self { request, first, last, more, entries, delivered_up_to, seen_up_to })
    }
}

/// Bytes of the smallest row with its length.
const INBOX_ROW_BYTES_MIN: u64 = 12;

impl Inbox {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.request.0);
        put_varint(out, self.at.0);
        out.push(u8::from(self.more));
        put_varint(out, self.rows.len() as u64);
        for row in &self.rows {
            put_sized(out, |out| row.encode(out));
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let request = RequestId(r.varint("request")?);
        let at = Seq(r.varint("at")?);
        let more = flag(r, "more")?;
        let count = r.varint("rows")?;
        // As in a page: rows must be there before they cost memory.
        if count > r.rest().len() as u64 / INBOX_ROW_BYTES_MIN {
            return Err(DecodeError::Truncated { field: "rows" });
        }
        let mut rows = Vec::with_capacity(count.min(INBOX_ROWS_MAX) as usize);
        for _ in 0..count {
            rows.push(InboxRow::decode(&mut Reader::new(r.bytes("rows", usize::MAX)?))?);
        }
        Ok(Self { request, at, more, rows })
    }
}

impl Digests {
    fn encode(&self, out: &mut Vec<u8>) {
        for value in [self.request.0, self.at.0, self.first.0, self.last.0, self.width] {
            put_varint(out, value);
        }
        put_varint(out, self.digests.len() as u64);
        self.digests.iter().for_each(|digest| out.extend_from_slice(digest));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let request = RequestId(r.varint("request")?);
        let at = Seq(r.varint("at")?);
        let (first, last) = (Seq(r.varint("first")?), Seq(r.varint("last")?));
        let width = match r.varint("width")? {
            0 => return Err(DecodeError::Unlisted { field: "width", value: 0 }),
            width => width,
        };
        let count = r.varint("digests")?;
        if count > DIGESTS_MAX {
            return Err(DecodeError::TooLong { field: "digests", size: count, max: DIGESTS_MAX });
        }
        let digests = (0..count).map(|_| r.array("digests").copied()).collect::<Result<_, _>>()?;
        Ok(Self { request, at, first, last, width, digests })
    }
}

impl InboxRow {
    /// Bytes of a row in the frame, its length included.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        let mut out = Vec::new();
        put_sized(&mut out, |out| self.encode(out));
        out.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_conversation(out, self.conversation);
        put_varint(out, self.settings.bits());
        put_varint(out, self.unread);
        for seq in [self.read_up_to, self.delivered_up_to, self.seen_up_to] {
            put_varint(out, seq.0);
        }
        put_varint(out, self.left_out);
        self.last.encode(out);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: conversation_with_user(r)?,
            settings: Settings::from_bits(r.varint("settings")?),
            unread: r.varint("unread")?,
            read_up_to: Seq(r.varint("read_up_to")?),
            delivered_up_to: Seq(r.varint("delivered_up_to")?),
            seen_up_to: Seq(r.varint("seen_up_to")?),
            left_out: r.varint("left_out")?,
            last: Entry::decode(r.rest())?,
        })
    }
}
