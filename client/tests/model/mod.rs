//! A server small enough to be obviously right: one user, one log, one connection at a time, bytes in and bytes out.
//!
//! It commits when it is told to, refuses when it is told to, and pushes pages or single entries as the real one does. It
//! panics when the client breaks a rule that the protocol puts on clients.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod group;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use client::{
    Content, ConversationId, DeviceId, Durability, Effects, Entry, EpochId, ErrorCode, Event, Input, Link, Page,
    Recipient, RedirectReason, Resume, SendNumber, Seq,
};
use client::{TimestampMs, UserId, Visibility};
use proto_spec::{
    Capabilities, ClientFrame, ClientKind, ContentKind, ConversationKind, Decoder, RawFrame, RequestId, ServerFrame,
    limits,
};

pub(crate) const PEER: UserId = UserId(8);
/// Somebody else to write to.
pub(crate) const OTHER: UserId = UserId(9);
/// Sends to this user are refused for good.
pub(crate) const NOBODY: UserId = UserId(666);
pub(crate) const DEVICE: DeviceId = DeviceId(3);
pub(crate) const WINDOW: u64 = 5;

/// Whether the server knows how to give a number up, and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivingUp {
    Known,
    Untold,
    /// It says so and is wrong.
    Mistold,
}

struct Connection {
    decoder: Decoder,
    is_welcome: bool,
    is_live: bool,
    /// The last seq that was pushed, or covered by an acceptance while live.
    position: u64,
    /// What the client may acknowledge: acceptances count while catching up too.
    offered: u64,
    acknowledged: u64,
    /// Sends of this connection without an answer.
    awaiting: BTreeSet<u64>,
}

/// What a start of the server appends is of an epoch of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    first: u64,
    epoch: EpochId,
}

/// What a copy of the server's data has.
#[derive(Clone)]
pub(crate) struct Saved {
    log: Vec<Option<Entry>>,
    answers: BTreeMap<u64, u64>,
    last_number: u64,
    last_delivered: Option<usize>,
    acknowledged: u64,
    void: BTreeSet<u64>,
    starts: Vec<Start>,
}

pub(crate) struct Server {
    /// Entry of seq n at index n - 1; none when superseded.
    pub(crate) log: Vec<Option<Entry>>,
    committed: usize,
    answers: BTreeMap<u64, u64>,
    last_number: u64,
    last_delivered: Option<usize>,
    pub(crate) acknowledged: u64,
    connection: Option<Connection>,
    /// Bytes on their way to the client.
    pub(crate) out: Vec<u8>,
    /// How many of the next sends to refuse for now.
    pub(crate) refusals: u8,
    /// Messages to these are refused for now.
    pub(crate) closed: BTreeSet<ConversationId>,
    pub(crate) giving_up: GivingUp,
    /// How many of the next hellos are answered with a redirect. It leads to this server again, as all nodes of one are.
    pub(crate) redirects: u8,
    pub(crate) redirects_to: String,
    starts: Vec<Start>,
    /// Of this start; nothing may have been appended in it.
    epoch: EpochId,
    /// Numbers that were given up.
    pub(crate) void: BTreeSet<u64>,
    pub(crate) group: group::Group,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            log: Vec::new(),
            committed: 0,
            answers: BTreeMap::new(),
            last_number: 0,
            last_delivered: None,
            acknowledged: 0,
            connection: None,
            out: Vec::new(),
            refusals: 0,
            closed: BTreeSet::new(),
            giving_up: GivingUp::Known,
            redirects: 0,
            redirects_to: "other:2".to_owned(),
            starts: Vec::new(),
            epoch: EpochId(1),
            void: BTreeSet::new(),
            group: group::Group::default(),
        }
    }

    /// A copy of what is durable.
    pub(crate) fn save(&mut self) -> Saved {
        self.commit();
        Saved {
            log: self.log.clone(),
            answers: self.answers.clone(),
            last_number: self.last_number,
            last_delivered: self.last_delivered,
            acknowledged: self.acknowledged,
            void: self.void.clone(),
            starts: self.starts.clone(),
        }
    }

    /// The server is stopped, the copy put back, and the server started.
    pub(crate) fn set_back(&mut self, saved: Saved) {
        self.cut();
        let Saved { log, answers, last_number, last_delivered, acknowledged, void, starts } = saved;
        (self.log, self.answers, self.last_number) = (log, answers, last_number);
        (self.last_delivered, self.acknowledged, self.void, self.starts) = (last_delivered, acknowledged, void, starts);
        self.committed = self.log.len();
        self.epoch = EpochId(self.epoch.0 + 1);
    }

    /// The epoch of the entry at this seq.
    fn epoch_at(&self, seq: u64) -> EpochId {
        self.starts.iter().rfind(|start| start.first <= seq).map_or(EpochId(0), |start| start.epoch)
    }

    /// Tells of the epochs that begin in this range, before it is covered.
    fn tell_epochs(&mut self, range: std::ops::RangeInclusive<u64>) {
        for Start { first, epoch } in self.starts.iter().filter(|start| range.contains(&start.first)) {
            ServerFrame::Epoch { first: Seq(*first), epoch: *epoch }.encode(&mut self.out);
        }
    }

    pub(crate) fn connect(&mut self) {
        self.out.clear();
        self.connection = Some(Connection {
            decoder: Decoder::new(limits::CLIENT_FRAME_BYTES_MAX as u32),
            is_welcome: false,
            is_live: false,
            position: 0,
            offered: 0,
            acknowledged: 0,
            awaiting: BTreeSet::new(),
        });
    }

    pub(crate) fn cut(&mut self) {
        self.connection = None;
        self.out.clear();
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.committed == self.log.len() && self.connection.as_ref().is_some_and(|c| c.is_live)
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        let Some(connection) = &mut self.connection else { return };
        let mut frames = Vec::new();
        let on_frame = |raw: RawFrame<'_>| {
            frames.push(ClientFrame::decode(raw).unwrap());
            ControlFlow::Continue(())
        };
        connection.decoder.decode(bytes, on_frame).unwrap();
        for frame in frames {
            // It may have said bye.
            if self.connection.is_some() {
                self.on_frame(frame);
            }
        }
    }

    fn on_frame(&mut self, frame: ClientFrame) {
        let head = self.log.len() as u64;
        let acknowledged = self.acknowledged;
        let connection = self.connection.as_mut().unwrap();
        match frame {
            ClientFrame::Hello { device, resume, epoch, hops, .. } => {
                assert!(!connection.is_welcome && device == DEVICE);
                assert!((1..=limits::REDIRECTS_MAX + 1).contains(&hops), "{hops} hops");
                if self.redirects > 0 && hops <= limits::REDIRECTS_MAX {
                    self.redirects -= 1;
                    self.connection = None;
                    return self.say_redirect(0);
                }
                connection.is_welcome = true;
                connection.position = match resume {
                    Resume::Stored => acknowledged,
                    Resume::After(seq) => seq.0,
                    Resume::Live => self.committed as u64,
                };
                let bye = match resume {
                    _ if connection.position > self.committed as u64 => Some(ErrorCode::CursorAhead),
                    Resume::After(seq) if epoch != EpochId(0) && self.epoch_at(seq.0) != epoch => {
                        // One that was told of and begins later agrees.
                        let is_known = self.starts.iter().any(|start| start.epoch == epoch && start.first > seq.0);
                        (!is_known).then_some(ErrorCode::OtherLog)
                    }
                    _ => None,
                };
                if let Some(code) = bye {
                    self.connection = None;
                    return ServerFrame::Bye { code, retry_after_ms: 0, detail: String::new(), devices: Vec::new() }
                        .encode(&mut self.out);
                }
                let epoch = self.epoch_at(self.connection.as_ref().unwrap().position);
                let connection = self.connection.as_mut().unwrap();
                connection.offered = connection.position;
                connection.acknowledged = connection.position;
                self.acknowledged = acknowledged.max(connection.position);
                let giving_up = self.giving_up;
                let is_told = |kind: &&ClientKind| **kind != ClientKind::GiveUp || giving_up != GivingUp::Untold;
                let frame_kinds = ClientKind::ALL.iter().filter(is_told);
                let welcome = ServerFrame::Welcome {
                    version: 1,
                    user: UserId(7),
                    server_time: TimestampMs(1),
                    head: Seq(self.committed as u64),
                    cursor: Seq(connection.position),
                    last_number: SendNumber(self.last_number),
                    send_window: WINDOW,
                    text_bytes_max: 100,
                    page_entries_max: 3,
                    idle_timeout_ms: 60_000,
                    committed: Seq(self.committed as u64),
                    epoch,
                    skipped: 0,
                    visibility: Visibility::default(),
                    ping_after_ms: 25_000,
                    capabilities: Capabilities {
                        content_kinds: ContentKind::ALL.iter().map(|kind| kind.byte()).collect(),
                        conversation_kinds: ConversationKind::ALL.iter().map(|kind| kind.byte()).collect(),
                        frame_kinds: frame_kinds.map(|kind| kind.byte()).collect(),
                        ..Capabilities::first()
                    },
                };
                welcome.encode(&mut self.out);
            }
            ClientFrame::Send { number, to, content } => {
                assert!(connection.awaiting.insert(number.0), "sent twice on one connection");
                assert!(connection.awaiting.len() as u64 <= WINDOW, "the window is exceeded");
                self.on_send(number, to, content, head);
            }
            ClientFrame::GiveUp { number } => match self.giving_up {
                GivingUp::Known => self.on_give_up(number),
                GivingUp::Untold => panic!("the welcome does not tell it"),
                GivingUp::Mistold => {
                    let (code, kind) = (ErrorCode::UnknownKind, ClientKind::GiveUp.byte());
                    let detail = String::new();
                    ServerFrame::Error { code, kind, request: RequestId(0), retry_after_ms: 0, detail }
                        .encode(&mut self.out);
                }
            },
            ClientFrame::Acknowledge { seq } => {
                assert!(seq.0 <= connection.offered, "acknowledged what was not offered");
                assert!(seq.0 > connection.acknowledged, "acknowledged twice");
                connection.acknowledged = seq.0;
                self.acknowledged = self.acknowledged.max(seq.0);
            }
            ClientFrame::FetchLog { request, from, limit, .. } => {
                let last = (from.0 + limit.min(3) - 1).min(self.committed as u64);
                let page = self.page(request, from.0, last);
                ServerFrame::Page(page).encode(&mut self.out);
            }
            ClientFrame::FetchConversation { request, conversation, from, direction, limit } => {
                assert_eq!(conversation, ConversationId::Group(group::GROUP), "no other is fetched in these tests");
                self.answer_group(request, from, direction, limit);
            }
            ClientFrame::MarkRead { .. }
            | ClientFrame::FetchInbox { .. }
            | ClientFrame::SetConversation { .. }
            | ClientFrame::DeleteMessage { .. }
            | ClientFrame::Refresh { .. }
            | ClientFrame::FetchDevices { .. }
            | ClientFrame::FetchDigest { .. }
            | ClientFrame::RemoveDevice { .. }
            | ClientFrame::NameDevice { .. }
            | ClientFrame::FetchPresence { .. }
            | ClientFrame::Watch { .. }
            | ClientFrame::Typing { .. }
            | ClientFrame::SetStatus { .. }
            | ClientFrame::SetVisibility { .. }
            | ClientFrame::FetchGroups { .. }
            | ClientFrame::FetchMembers { .. }
            | ClientFrame::Subscribe { .. }
            | ClientFrame::Unsubscribe { .. }
            | ClientFrame::FetchSubscription { .. } => {
                unreachable!("not used in these tests")
            }
            ClientFrame::Ping { nonce } => ServerFrame::Pong { nonce }.encode(&mut self.out),
            ClientFrame::Pong { .. } | ClientFrame::AcknowledgeGroup { .. } | ClientFrame::Bye => {}
        }
    }

    fn on_send(&mut self, number: SendNumber, to: ConversationId, content: Content, head: u64) {
        if self.void.contains(&number.0) {
            return self.refuse(number, ErrorCode::GivenUp, 0);
        }
        if number.0 <= self.last_number {
            let seq = self.answers[&number.0];
            let said = Event::Sent { to, device: DEVICE, number, content };
            assert!(self.log[seq as usize - 1].iter().all(|first| first.event == said), "{number} for two messages");
            // If it is not committed yet, its commit will answer.
            if seq <= self.committed as u64 {
                self.accept(number, seq);
            }
            return;
        }
        let is_next = number.0 == self.last_number + 1;
        let code = match is_next {
            false => Some((ErrorCode::SendGap, 0)),
            true if to == NOBODY.into() => Some((ErrorCode::Recipient, 0)),
            true if self.closed.contains(&to) => Some((ErrorCode::RateLimited, 60)),
            true if self.refusals > 0 => {
                self.refusals -= 1;
                Some((ErrorCode::Overloaded, 40))
            }
            true => None,
        };
        if let Some((code, retry_after_ms)) = code {
            return self.refuse(number, code, retry_after_ms);
        }
        self.last_number = number.0;
        self.answers.insert(number.0, head + 1);
        self.append(Event::Sent { to, device: DEVICE, number, content });
    }

    fn on_give_up(&mut self, number: SendNumber) {
        let connection = self.connection.as_mut().unwrap();
        match self.answers.get(&number.0) {
            _ if number.0 > self.last_number + 1 => self.refuse(number, ErrorCode::SendGap, 0),
            None if self.refusals > 0 && number.0 == self.last_number + 1 => {
                self.refusals -= 1;
                self.refuse(number, ErrorCode::Overloaded, 40);
            }
            Some(seq) if *seq > self.committed as u64 => {}
            Some(seq) => ServerFrame::GivenUp { number, seq: Seq(*seq) }.encode(&mut self.out),
            None => {
                self.last_number = self.last_number.max(number.0);
                self.void.insert(number.0);
                connection.awaiting.remove(&number.0);
                ServerFrame::GivenUp { number, seq: Seq::ZERO }.encode(&mut self.out);
            }
        }
    }

    fn refuse(&mut self, number: SendNumber, code: ErrorCode, retry_after_ms: u64) {
        let expected = SendNumber(self.last_number + 1);
        ServerFrame::Refused { number, code, retry_after_ms, expected }.encode(&mut self.out);
        self.connection.as_mut().unwrap().awaiting.remove(&number.0);
    }

    fn accept(&mut self, number: SendNumber, seq: u64) {
        let connection = self.connection.as_mut().unwrap();
        connection.awaiting.remove(&number.0);
        if connection.offered + 1 == seq {
            connection.offered = seq;
            self.tell_epochs(seq..=seq);
        }
        let (time, durability, recipient) = (TimestampMs(seq), Durability::Committed, Recipient::Offline);
        ServerFrame::Accepted { number, seq: Seq(seq), time, durability, recipient }.encode(&mut self.out);
    }

    fn append(&mut self, event: Event) {
        let seq = self.log.len() as u64 + 1;
        if self.starts.last().is_none_or(|last| last.epoch != self.epoch) {
            self.starts.push(Start { first: seq, epoch: self.epoch });
        }
        self.log.push(Some(Entry { seq: Seq(seq), time: TimestampMs(seq), event }));
    }

    pub(crate) fn others_write(&mut self, text: &str) {
        let content = Content::text(text);
        self.append(Event::Received { from: PEER, origin: Seq(self.log.len() as u64 + 1), content });
    }

    pub(crate) fn receipt(&mut self) {
        self.append(Event::Delivered { peer: PEER, up_to: Seq(self.log.len() as u64) });
        // Superseding is part of the commit in the real server; here a receipt is committed at once.
        self.commit();
        if let Some(earlier) = self.last_delivered.replace(self.log.len() - 1) {
            self.log[earlier] = None;
        }
    }

    /// Everything appended is durable: answer and push it.
    pub(crate) fn commit(&mut self) {
        let newly = self.committed..self.log.len();
        self.committed = self.log.len();
        for index in newly {
            let Some(connection) = &mut self.connection else { return };
            if !connection.is_welcome {
                return;
            }
            let seq = index as u64 + 1;
            let entry = self.log[index].clone().unwrap();
            let is_next = connection.is_live && connection.position + 1 == seq;
            if is_next {
                connection.position = seq;
            }
            // The sending connection learns its own entry by `accepted`; what an older one sent is pushed like any other.
            match entry.event {
                Event::Sent { number, .. } if connection.awaiting.contains(&number.0) => self.accept(number, seq),
                _ if is_next => {
                    connection.offered = connection.offered.max(seq);
                    self.tell_epochs(seq..=seq);
                    ServerFrame::encode_deliver(&entry, &mut self.out);
                }
                _ => {}
            }
        }
    }

    /// The socket has drained: the next page, until the push has caught up.
    pub(crate) fn push(&mut self, entries_max: u64) {
        let committed = self.committed as u64;
        let Some(connection) = &mut self.connection else { return };
        if !connection.is_welcome || connection.is_live {
            return;
        }
        let first = connection.position + 1;
        let last = (connection.position + entries_max).min(committed);
        connection.is_live = last == committed;
        connection.position = last;
        connection.offered = connection.offered.max(last);
        if first <= last {
            self.tell_epochs(first..=last);
            let page = self.page(RequestId(0), first, last);
            ServerFrame::Page(page).encode(&mut self.out);
        }
    }

    pub(crate) fn ping(&mut self) {
        if self.connection.as_ref().is_some_and(|connection| connection.is_welcome) {
            ServerFrame::Ping { nonce: 5 }.encode(&mut self.out);
        }
    }

    /// The user moves, in so many milliseconds.
    pub(crate) fn redirect(&mut self, after_ms: u64) {
        if self.connection.as_ref().is_some_and(|connection| connection.is_welcome) {
            self.say_redirect(after_ms);
        }
    }

    fn say_redirect(&mut self, after_ms: u64) {
        let (address, reason) = (self.redirects_to.clone(), RedirectReason::Moving);
        ServerFrame::Redirect { address, reason, after_ms, map_version: 1 }.encode(&mut self.out);
    }

    fn page(&self, request: RequestId, first: u64, last: u64) -> Page {
        let range = (first as usize).saturating_sub(1)..(last as usize).max((first as usize).saturating_sub(1));
        let entries = self.log[range].iter().flatten().cloned().collect();
        let more = last < self.committed as u64;
        Page {
            request,
            first: Seq(first),
            last: Seq(last),
            more,
            entries,
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq::ZERO,
        }
    }
}

/// What a client and the server have between them: bytes that arrive as far as it is said, a link that is cut when it is said.
pub(crate) struct Pipe {
    pub(crate) server: Server,
    /// Bytes on their way to the server. None without a link.
    pub(crate) to_server: Option<Vec<u8>>,
    is_opening: bool,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        Self { server: Server::new(), to_server: None, is_opening: false }
    }

    /// What the client does to its link.
    pub(crate) fn carry(&mut self, effects: &mut Effects) {
        if let Some(to_server) = &mut self.to_server {
            to_server.append(&mut effects.bytes);
        }
        match effects.link {
            Some(Link::Open) => self.is_opening = true,
            Some(Link::Close) => self.cut(),
            None => {}
        }
    }

    /// The link is no more, nor what was on its way.
    pub(crate) fn cut(&mut self) {
        self.to_server = None;
        self.is_opening = false;
        self.server.cut();
    }

    /// A new connection comes to the server, or at most so many bytes. Gives what the client is to be told.
    #[must_use]
    pub(crate) fn server_hears(&mut self, bytes: usize) -> Option<Input<'static>> {
        if self.is_opening {
            self.is_opening = false;
            self.server.connect();
            self.to_server = Some(Vec::new());
            return Some(Input::Connected);
        }
        if let Some(to_server) = &mut self.to_server {
            let arriving = take_first(to_server, bytes);
            self.server.receive(&arriving);
        }
        None
    }

    /// The bytes that come to the client, at most so many.
    #[must_use]
    pub(crate) fn client_hears(&mut self, bytes: usize) -> Vec<u8> {
        take_first(&mut self.server.out, bytes)
    }

    /// There is a link, and nothing is on its way nor to be done.
    pub(crate) fn is_quiet(&self) -> bool {
        self.to_server.as_ref().is_some_and(Vec::is_empty) && self.server.is_idle()
    }
}

fn take_first(of: &mut Vec<u8>, bytes: usize) -> Vec<u8> {
    let rest = of.split_off(bytes.min(of.len()));
    std::mem::replace(of, rest)
}
