//! Bare relay: the floor. The protocol's frames from one connection to another through the rings and sockets of the server, without
//! sessions, logs, storage, or anything that could be lost; what a server costs beyond this is what it does for its users.
//!
//! It welcomes whoever comes (the user is read out of the token, which nobody verifies), numbers what each user sends and receives, so that
//! clients that check positions are content, answers a send with `accepted` and passes it on as `deliver` to the recipient's latest
//! connection, answers pings, and answers fetches with an empty page: it has no history. Everything else is passed over. A message to somebody
//! who is not connected is gone. What is sent to a group is numbered and passed on as `deliver_group` to the latest connections of all who were added to it.
//!
//! The rules of I/O are the server's: multishot accept and receive, provided buffers, direct descriptors; everything that has completed is
//! taken, then there is one send for each connection that has output, then one call into the kernel, which also waits. A message is not decoded
//! into fields that own memory; its content is copied as it came.

use std::{
    collections::HashMap,
    convert::Infallible,
    io, mem,
    net::TcpListener,
    ops::ControlFlow,
    os::fd::AsFd as _,
    time::{SystemTime, UNIX_EPOCH},
};

use foldhash::fast::RandomState;
use jsonwebtoken::dangerous::insecure_decode_claims;
use proto_spec::{
    Act, Body, Capabilities, ClientFrame, ClientKind, Content, ConversationKind, Decoder, Durability, EntryKind,
    EpochId, ErrorCode, GroupId, Page, RawFrame, Recipient, RequestId, SendNumber, Seq, ServerFrame, ServerKind,
    TimestampMs, UserId, Visibility,
    limits::{CLIENT_FRAME_BYTES_MAX, PAGE_ENTRIES_MAX, SEND_WINDOW, TEXT_BYTES_MAX},
    wire::{DecodeError, Reader, put_bytes, put_varint},
};
use rim::{
    ring::{Completion, Doorbell, Payload, Ring, SetupError},
    token::Op,
};
use serde::Deserialize;
use server::{
    access::handshake::bye,
    core::origins::Origin,
    io::socket::{Connections, Received, Sent, conn_of},
    limits::ACCEPTS_TURN_MAX,
    shard::ConnId,
};
use thiserror::Error;

/// Silence after which a server closes, in milliseconds, for the welcome. The relay never does.
const IDLE_TIMEOUT_MS: u64 = 150_000;

/// Why a relay has ended.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The ring could not be had.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The ring is broken, or has no place for another connection.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Relays between at most `connections_max` connections until something breaks.
///
/// # Errors
/// The limits of the process do not allow it, or the kernel has no place for another connection.
pub fn run(listener: &TcpListener, connections_max: u32) -> Result<Infallible, RelayError> {
    // As a core of the server does.
    let _ = rim::process::take_short_slices();
    let mut ring = Ring::new(connections_max, &Doorbell::new()?)?;
    ring.disable_doorbell();
    (0..ACCEPTS_TURN_MAX as u32).for_each(|place| ring.accept(listener.as_fd(), place));
    let mut connections = Connections::new();
    let mut relay = Relay::default();
    let mut completions = Vec::new();
    loop {
        ring.wait()?;
        ring.take(&mut completions);
        relay.now = now();
        for completion in completions.drain(..) {
            match completion.token.op {
                Op::Accept => {
                    let slot = u32::try_from(completion.result)
                        .map_err(|_| io::Error::from_raw_os_error(-completion.result))?;
                    let conn = connections.open(slot, Origin::default());
                    connections.greet(conn, &mut ring);
                    ring.accept(listener.as_fd(), completion.token.slot);
                }
                Op::Hello | Op::Receive => on_receive(completion, &mut relay, &mut connections, &mut ring),
                Op::Send => on_sent(completion, &mut relay, &mut connections, &mut ring),
                Op::Close => connections.closed(completion.token),
                Op::Shutdown => connections.parted(completion.token),
                Op::Cancel | Op::Connect | Op::Adopt | Op::Move | Op::Arrival => {}
            }
        }
        connections.feed_starved(&mut ring);
        connections.flush(relay.now.0, &mut ring);
        connections.begin_closes(&mut ring, drop);
    }
}

fn on_receive(completion: Completion, relay: &mut Relay, connections: &mut Connections, ring: &mut Ring) {
    let Completion { token, result, more, payload } = completion;
    let conn = conn_of(token);
    let received = connections.received(token, result, more);
    let mut flow = ControlFlow::Continue(());
    match (received, &payload) {
        (Received::Hello, Payload::Received(filled)) => {
            flow = relay.bytes(conn, ring.bytes(filled), connections);
            if let Some(user) = relay.peer(conn).user {
                connections.serve(conn, relay.users[user].id, ring);
            }
        }
        (Received::Bytes, Payload::Received(filled)) => flow = relay.bytes(conn, ring.bytes(filled), connections),
        (Received::Gone(_), _) => flow = ControlFlow::Break(()),
        (
            Received::Hello
            | Received::Bytes
            | Received::Tunnelled
            | Received::Farewell
            | Received::Nothing
            | Received::Starved,
            _,
        ) => {}
    }
    if let Payload::Received(filled) = payload {
        ring.give_back(filled);
    }
    if flow.is_break() {
        relay.forget(conn);
        match received {
            Received::Gone(_) => connections.abandon(conn, ring),
            _ => connections.close(relay.now.0, conn, ring),
        }
    }
    connections.after_receive(token, received == Received::Starved, ring);
}

fn on_sent(completion: Completion, relay: &mut Relay, connections: &mut Connections, ring: &mut Ring) {
    let Payload::Returned(bytes) = completion.payload else { return };
    let sent = connections.sent(relay.now.0, completion.token, completion.result, bytes, ring);
    if let Sent::Broken(_) = sent {
        let conn = conn_of(completion.token);
        relay.forget(conn);
        connections.abandon(conn, ring);
    }
}

/// Who is connected, and how far everybody's numbers have come.
#[derive(Default)]
struct Relay {
    users: Vec<User>,
    by_id: HashMap<UserId, usize, RandomState>,
    /// By slot.
    peers: Vec<Peer>,
    now: TimestampMs,
    groups: HashMap<GroupId, Group, RandomState>,
    frame: Vec<u8>,
    body: Vec<u8>,
}

/// Of a group.
#[derive(Default)]
struct Group {
    head: Seq,
    messages: u64,
    /// Indices of users.
    members: Vec<usize>,
}

struct User {
    id: UserId,
    head: Seq,
    last_number: SendNumber,
    /// The latest connection.
    conn: Option<ConnId>,
}

struct Peer {
    generation: u32,
    decoder: Decoder,
    /// Index of the user; none before the hello.
    user: Option<usize>,
}

impl Default for Peer {
    fn default() -> Self {
        Self { generation: 0, decoder: Decoder::new(CLIENT_FRAME_BYTES_MAX as u32), user: None }
    }
}

impl Relay {
    /// The peer of a connection, new if the slot has a new life.
    fn peer(&mut self, conn: ConnId) -> &mut Peer {
        let slot = conn.slot as usize;
        if self.peers.len() <= slot {
            self.peers.resize_with(slot + 1, Peer::default);
        }
        let peer = &mut self.peers[slot];
        if peer.generation != conn.generation {
            *peer = Peer { generation: conn.generation, ..Peer::default() };
        }
        peer
    }

    fn forget(&mut self, conn: ConnId) {
        if let Some(user) = self.peer(conn).user.take()
            && self.users[user].conn == Some(conn)
        {
            self.users[user].conn = None;
        }
    }

    /// Breaks when the connection is to be closed.
    fn bytes(&mut self, conn: ConnId, bytes: &[u8], connections: &mut Connections) -> ControlFlow<()> {
        let peer = self.peer(conn);
        let mut decoder = mem::replace(&mut peer.decoder, Peer::default().decoder);
        let mut user = peer.user;
        let mut flow = ControlFlow::Continue(());
        let cut = decoder.decode(bytes, |raw| {
            flow = match user {
                Some(user) => self.frame(conn, user, raw, connections).unwrap_or(ControlFlow::Break(())),
                None => {
                    user = self.hello(conn, raw, connections);
                    user.map_or(ControlFlow::Break(()), |_| ControlFlow::Continue(()))
                }
            };
            flow
        });
        self.peer(conn).decoder = decoder;
        if cut.is_err() { ControlFlow::Break(()) } else { flow }
    }

    /// The user of a hello, welcomed.
    fn hello(&mut self, conn: ConnId, raw: RawFrame<'_>, connections: &mut Connections) -> Option<usize> {
        let Some(id) = user_of(raw) else {
            connections.queue(conn, &bye(ErrorCode::TokenInvalid, 0, "not a hello with a token that names a user"));
            return None;
        };
        let user = *self.by_id.entry(id).or_insert_with(|| {
            self.users.push(User { id, head: Seq::ZERO, last_number: SendNumber(0), conn: None });
            self.users.len() - 1
        });
        self.peer(conn).user = Some(user);
        let User { head, last_number, .. } = self.users[user];
        self.users[user].conn = Some(conn);
        let welcome = ServerFrame::Welcome {
            version: 1,
            user: id,
            server_time: self.now,
            head,
            cursor: head,
            last_number,
            send_window: SEND_WINDOW,
            text_bytes_max: TEXT_BYTES_MAX as u64,
            page_entries_max: PAGE_ENTRIES_MAX,
            idle_timeout_ms: IDLE_TIMEOUT_MS,
            committed: head,
            epoch: EpochId(0),
            capabilities: Capabilities::default(),
            skipped: 0,
            visibility: Visibility::default(),
            ping_after_ms: 25_000,
        };
        self.answer(conn, &welcome, connections);
        Some(user)
    }

    fn frame(
        &mut self,
        conn: ConnId,
        user: usize,
        raw: RawFrame<'_>,
        connections: &mut Connections,
    ) -> Result<ControlFlow<()>, DecodeError> {
        let mut fields = Reader::new(raw.body);
        match ClientKind::from_byte(raw.kind) {
            Some(ClientKind::Send) => {
                let number = SendNumber(fields.varint("number")?);
                let kind = fields.varint("conversation")?;
                let to = fields.varint("peer")?;
                if kind == u64::from(ConversationKind::Group.byte()) {
                    self.send_to_group(conn, user, number, GroupId(to), fields.rest(), connections)?;
                } else {
                    self.send(conn, user, number, UserId(to), fields.rest(), connections);
                }
            }
            Some(ClientKind::Ping) => {
                let nonce = fields.varint("nonce")?;
                self.answer(conn, &ServerFrame::Pong { nonce }, connections);
            }
            Some(ClientKind::FetchLog | ClientKind::FetchConversation) => {
                let request = RequestId(fields.varint("request")?);
                let page = Page {
                    request,
                    first: Seq(1),
                    last: Seq::ZERO,
                    more: false,
                    entries: Vec::new(),
                    delivered_up_to: Seq::ZERO,
                    seen_up_to: Seq::ZERO,
                };
                self.answer(conn, &ServerFrame::Page(page), connections);
            }
            Some(ClientKind::Bye) => return Ok(ControlFlow::Break(())),
            // What it does not have: nothing that measures it asks.
            Some(
                ClientKind::Hello
                | ClientKind::Acknowledge
                | ClientKind::Pong
                | ClientKind::Refresh
                | ClientKind::MarkRead
                | ClientKind::FetchInbox
                | ClientKind::SetConversation
                | ClientKind::DeleteMessage
                | ClientKind::FetchDevices
                | ClientKind::FetchDigest
                | ClientKind::RemoveDevice
                | ClientKind::NameDevice
                | ClientKind::GiveUp
                | ClientKind::FetchPresence
                | ClientKind::Watch
                | ClientKind::Typing
                | ClientKind::SetStatus
                | ClientKind::SetVisibility
                | ClientKind::FetchGroups
                | ClientKind::FetchMembers
                | ClientKind::AcknowledgeGroup
                | ClientKind::Subscribe
                | ClientKind::Unsubscribe
                | ClientKind::FetchSubscription,
            )
            | None => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn send(
        &mut self,
        conn: ConnId,
        user: usize,
        number: SendNumber,
        to: UserId,
        content: &[u8],
        connections: &mut Connections,
    ) {
        let User { id: from, head, last_number, .. } = &mut self.users[user];
        *head = head.next();
        *last_number = number;
        let (from, origin) = (*from, *head);
        let mut recipient = Recipient::Offline;
        if to == from {
            recipient = Recipient::Yourself;
        } else if let Some(&to) = self.by_id.get(&to)
            && let User { head, conn: Some(conn), .. } = &mut self.users[to]
        {
            recipient = Recipient::Online;
            *head = head.next();
            // SPEC 5.1, by hand: `content` has the same bytes in a send and in an entry.
            self.body.clear();
            self.body.extend([ServerKind::Deliver.byte(), EntryKind::Received.byte()]);
            for field in [head.0, self.now.0, from.0, origin.0] {
                put_varint(&mut self.body, field);
            }
            self.body.extend_from_slice(content);
            self.frame.clear();
            put_bytes(&mut self.frame, &self.body);
            connections.queue(*conn, &self.frame);
        }
        let durability = Durability::Memory;
        let accepted = ServerFrame::Accepted { number, seq: origin, time: self.now, durability, recipient };
        self.answer(conn, &accepted, connections);
    }

    fn send_to_group(
        &mut self,
        conn: ConnId,
        user: usize,
        number: SendNumber,
        to: GroupId,
        content: &[u8],
        connections: &mut Connections,
    ) -> Result<(), DecodeError> {
        let User { id: from, head, last_number, .. } = &mut self.users[user];
        *head = head.next();
        *last_number = number;
        let (from, origin) = (*from, *head);
        let mut fields = Reader::new(content);
        let said = Content::from_parts(fields.u8("kind")?, fields.bytes("body", usize::MAX)?.into());
        let group = self.groups.entry(to).or_default();
        group.head = group.head.next();
        group.messages += u64::from(said.is_message());
        match said.body() {
            Ok(Body::Act(Act::Create { .. })) => group.members.push(user),
            Ok(Body::Act(Act::Add { user })) => group.members.extend(self.by_id.get(&user)),
            _ => {}
        }
        // SPEC 5.17, by hand, as above; once for all.
        self.body.clear();
        self.body.push(ServerKind::DeliverGroup.byte());
        for field in [to.0, group.head.0, self.now.0, from.0, origin.0, group.messages] {
            put_varint(&mut self.body, field);
        }
        self.body.extend_from_slice(content);
        self.frame.clear();
        put_bytes(&mut self.frame, &self.body);
        for member in &group.members {
            if let Some(conn) = self.users[*member].conn {
                connections.queue(conn, &self.frame);
            }
        }
        let (durability, recipient) = (Durability::Memory, Recipient::Offline);
        let accepted = ServerFrame::Accepted { number, seq: origin, time: self.now, durability, recipient };
        self.answer(conn, &accepted, connections);
        Ok(())
    }

    fn answer(&mut self, conn: ConnId, frame: &ServerFrame, connections: &mut Connections) {
        self.frame.clear();
        frame.encode(&mut self.frame);
        connections.queue(conn, &self.frame);
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

fn user_of(raw: RawFrame<'_>) -> Option<UserId> {
    let Ok(ClientFrame::Hello { token, .. }) = ClientFrame::decode(raw) else { return None };
    let claims: Claims = insecure_decode_claims(&token).ok()?;
    claims.sub.parse().ok().map(UserId)
}

fn now() -> TimestampMs {
    TimestampMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}
