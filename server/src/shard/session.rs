//! Session: one authenticated connection, from its hello to its end. Turns frames into calls; decides nothing about logs.

use std::ops::ControlFlow;

use proto_spec::{
    ClientFrame, ClientKind, ConversationId, ErrorCode, FrameError, FramingError, GroupId, RawFrame, RequestId, Resume,
    Seq, ServerFrame,
    framing::{self, Cut},
    limits::{CLIENT_FRAME_BYTES_MAX, PAGE_ENTRIES_MAX, SEND_WINDOW, TEXT_BYTES_MAX},
};

use super::{
    Admission, Close, ConnId, Connected, Shard, Turn,
    capabilities::{capabilities, takes},
    feed::Feed,
    groups::GroupWish,
    ledger::{Ledger, Parked},
    loading::UserWaiting,
    marks::Mark,
    refresh::Permit,
    sessions::{Look, Session},
    shedding::{Class, Reason},
    topology::Home,
    user::Device,
};
use crate::{
    access::handshake::Resumption,
    limits::{
        OUTBOX_BYTES_MAX, RECEIVE_BUFFER_BYTES, RETRY_BUSY_MS, RETRY_FLOOD_MS, RETRY_STOPPING_MS, RETRY_STORAGE_MS,
    },
};

impl Shard {
    /// A connection passed the handshake: its session exists from now on, its user may have to be loaded.
    pub(super) fn connected(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        let permit = Permit::new(connected.grant, &self.settings);
        let session = Session::new(&connected, permit, now_ms);
        let due_ms = session.due_ms(cx.now, &self.settings);
        self.sessions.insert(session);
        self.wheel.insert(now_ms, due_ms, connected.conn);
        if self.draining {
            self.close(connected.conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping", cx);
        } else if let Err(wait_ms) = self.logins.take(connected.user, now_ms) {
            self.counters.shed.count(Class::Login, Reason::Rate);
            self.close(connected.conn, ErrorCode::RateLimited, wait_ms, "too many connections of this user", cx);
        } else if let Some(reason) = self.sheds(Class::Login) {
            self.counters.shed.count(Class::Login, reason);
            self.close(connected.conn, ErrorCode::Overloaded, RETRY_BUSY_MS, reason.detail(), cx);
        } else if self.homes.elsewhere(connected.user).is_some() {
            self.strayed(connected, cx);
        } else {
            self.at_home(connected, cx);
        }
    }

    /// A connection whose user's home this is, as far as this node knows.
    pub(super) fn at_home(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        debug_assert_eq!(self.homes.of(connected.user), Home::Here(self.core));
        if self.homes.do_move() {
            self.look_at_term(connected, cx);
        } else {
            self.admit(connected, cx);
        }
    }

    /// This is the user's home: the connection starts when the user is here.
    pub(super) fn admit(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        if self.users.is_resident(connected.user) {
            self.start(connected, cx);
        } else {
            self.wait_for_user(connected.user, UserWaiting::Connect(connected), cx);
        }
    }

    /// The user is here: the connection gets its device's place, if the user has that device or may have it.
    pub(super) fn start(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        let Connected { conn, user: user_id, device: device_id, .. } = connected;
        if self.sessions.get_mut(conn).is_none() {
            return self.forget_if_unused(user_id);
        }
        let Some(user) = self.users.resident(user_id) else {
            unreachable!("a connection starts when its user is here");
        };
        if user.device(device_id).is_some() {
            self.seat(connected, cx);
        } else {
            self.join(connected, cx);
        }
    }

    /// The device is one of the user's: its earlier connection ends, then this one is welcomed.
    pub(super) fn seat(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        let Connected { conn, user: user_id, device: device_id, .. } = connected;
        let Some(user) = self.users.resident(user_id) else { return };
        if user.see(device_id, cx.now.wall) {
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
        let Some(user) = self.users.resident(user_id) else { return };
        let changed_in = user.changed_in;
        let Some(device) = user.device(device_id) else { return };
        // The newer connection first: the user is in use throughout, and nobody hears that the device went.
        let older = device.session.replace(conn);
        if let Some(older) = older {
            self.close(older, ErrorCode::Replaced, 0, "the same device connected again", cx);
        }
        self.presence_moved(user_id, false, cx);
        let Some(device) = self.users.resident(user_id).and_then(|user| user.device(device_id)) else { return };
        if device.in_flight > 0 && self.admission == Admission::Failed {
            let detail = "the storage failed; what became of earlier sends is not known";
            return self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, detail, cx);
        }
        if device.in_flight > 0 {
            // The welcome names the last accepted send: that must be known first.
            let at = self.lane_of(user_id);
            return self.lanes[at].park_behind(changed_in, Parked::Connect(connected));
        }
        self.welcome(connected, cx);
    }

    /// Says welcome, places the cursor and begins to push.
    pub(super) fn welcome(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        let Connected { conn, user: user_id, device: device_id, version, resumption, .. } = connected;
        let Resumption { resume, epoch, since, skip_above } = resumption;
        // It may have expired since it was judged: on the way here, or while the user was loaded.
        self.look_at_token(conn, cx);
        if self.sessions.get_mut(conn).is_none() {
            return;
        }
        let Some(user) = self.users.resident(user_id) else { return };
        let head = user.released;
        let committed = user.levels.tell_committed(head);
        let Some(Device { cursor, last_number, .. }) = user.device(device_id) else { return };
        let (stored, last_number) = (*cursor, *last_number);
        // Where the device is, and after which seq it has everything up to there.
        let (at, covers_after) = match resume {
            Resume::Stored => (stored, stored),
            Resume::Live => (head, head),
            Resume::After(seq) if seq <= head && user.epochs.agree(seq, epoch) => (seq, since.min(seq)),
            Resume::After(seq) if seq <= head => {
                let detail = "the log can not be shown to be the one that the device holds";
                return self.close(conn, ErrorCode::OtherLog, 0, detail, cx);
            }
            Resume::After(seq) => {
                let detail = format!("the cursor {seq} lies beyond the head {head} of the log");
                return self.close(conn, ErrorCode::CursorAhead, 0, &detail, cx);
            }
        };
        let lacks = head.0 - at.0;
        let skipped = if skip_above > 0 && lacks > skip_above { lacks } else { 0 };
        let cursor = Seq(at.0 + skipped);
        let frame = ServerFrame::Welcome {
            version,
            user: user_id,
            server_time: cx.now.wall,
            head,
            cursor,
            last_number,
            send_window: SEND_WINDOW,
            text_bytes_max: TEXT_BYTES_MAX as u64,
            page_entries_max: PAGE_ENTRIES_MAX,
            idle_timeout_ms: self.settings.idle_timeout_ms,
            committed,
            epoch: user.epochs.at(cursor),
            capabilities: capabilities(&self.settings),
            skipped,
            visibility: user.visibility.visibility,
            ping_after_ms: self.settings.ping_after_ms,
        };
        self.counters.logins += 1;
        self.send(conn, &frame, cx);
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        session.feed = Feed::after(cursor);
        session.covers_after = covers_after;
        // Before this the client could not be asked: its silence counts from here.
        session.keepalive.heard(cx.now.monotonic_ms);
        let early = session.welcomed();
        if let Resume::After(seq) = resume {
            self.acknowledge(conn, seq, cx);
        }
        if skipped > 0
            && let Some(mut session) = self.sessions.get_mut(conn)
        {
            session.covers_after = cursor;
            self.counters.skipped += 1;
        }
        self.look_at_token(conn, cx);
        self.push_more(conn, cx);
        self.follow_groups(user_id, cx);
        if !early.is_empty()
            && let Some(mut session) = self.sessions.get_mut(conn)
        {
            session.unpause_if_drained(cx);
            self.received(conn, &early, cx);
        }
    }

    /// Bytes of a connection, in any cut.
    pub(super) fn received(&mut self, conn: ConnId, bytes: &[u8], cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        if session.hold_early(bytes, cx) {
            return;
        }
        // The decoder leaves the session for the time of the call: frames change the shard.
        let mut holds = session.holds();
        let mut decoder = session.take_decoder();
        let mut is_any = false;
        let result = decoder.decode(bytes, |raw| {
            is_any = true;
            if holds {
                self.sessions.get_mut(conn).into_iter().for_each(|mut session| session.hold_frame(raw, cx));
                return ControlFlow::Continue(());
            }
            let may_hold = raw.kind == ClientKind::Send.byte();
            let flow = self.raw_frame(conn, raw, cx);
            holds = may_hold && self.sessions.get_mut(conn).is_some_and(|session| session.holds());
            flow
        });
        if let Err(error) = result {
            let code = match error {
                FramingError::TooLong { .. } => ErrorCode::FrameTooLarge,
                FramingError::Length | FramingError::Empty => ErrorCode::Malformed,
            };
            self.close(conn, code, 0, &error.to_string(), cx);
        } else if let Some(mut session) = self.sessions.get_mut(conn) {
            session.put_decoder(decoder);
            if is_any {
                // Bytes of a frame that never gets whole are no life.
                session.keepalive.heard(now_ms);
            }
            // What does not even make a frame costs a turn too.
            if !is_any && bytes.len() < RECEIVE_BUFFER_BYTES {
                let _ = self.go_on(conn, cx);
            }
        }
    }

    #[inline]
    fn raw_frame(&mut self, conn: ConnId, raw: RawFrame<'_>, cx: &mut Turn<'_>) -> ControlFlow<()> {
        match ClientFrame::decode(raw) {
            Ok(frame) => self.frame(conn, frame, cx),
            Err(error @ FrameError::UnknownKind(kind)) => {
                let (code, detail) = (ErrorCode::UnknownKind, error.to_string());
                self.send_error(conn, code, kind, RequestId(0), 0, &detail, cx);
                self.go_on(conn, cx)
            }
            // What is not taken is not looked into.
            Err(FrameError::Body { kind, .. })
                if ClientKind::from_byte(kind).is_some_and(|kind| !takes(&self.settings, kind)) =>
            {
                let error = FrameError::UnknownKind(kind);
                self.send_error(conn, error.code(), kind, RequestId(0), 0, &error.to_string(), cx);
                self.go_on(conn, cx)
            }
            Err(error @ FrameError::Body { .. }) => {
                self.close(conn, ErrorCode::Malformed, 0, &error.to_string(), cx);
                ControlFlow::Break(())
            }
        }
    }

    /// The send that others waited for has its answer.
    pub(super) fn go_on_with_held(&mut self, conn: ConnId, cx: &mut Turn<'_>) {
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let held = session.take_held();
        session.unpause_if_drained(cx);
        let mut rest = &held[..];
        while let Ok(Cut::Frame { frame, taken }) = framing::cut(rest, CLIENT_FRAME_BYTES_MAX) {
            rest = &rest[taken..];
            let Some(mut session) = self.sessions.get_mut(conn) else { return };
            if session.holds() {
                session.hold_frame(frame, cx);
            } else if self.raw_frame(conn, frame, cx).is_break() {
                return;
            }
        }
    }

    /// One frame of a welcomed connection. Breaks when the connection has ended.
    #[inline]
    fn frame(&mut self, conn: ConnId, frame: ClientFrame, cx: &mut Turn<'_>) -> ControlFlow<()> {
        match frame {
            ClientFrame::Hello { .. } => {
                self.close(conn, ErrorCode::NotNow, 0, "a hello comes once, at the start", cx);
            }
            ClientFrame::Send { number, to, content } => self.send_requested(conn, number, to, content, cx),
            ClientFrame::Acknowledge { seq } => self.acknowledge(conn, seq, cx),
            ClientFrame::FetchLog { request, from, direction, limit } => {
                self.fetch(conn, request, None, from, direction, limit, cx);
            }
            ClientFrame::FetchConversation { request, conversation, from, direction, limit } => match conversation {
                ConversationId::Person(_) => self.fetch(conn, request, Some(conversation), from, direction, limit, cx),
                ConversationId::Group(group) => {
                    let (kind, wish) = (ClientKind::FetchConversation, GroupWish::Page { from, direction, limit });
                    self.fetch_of_group((conn, request), kind, group, wish, cx);
                }
            },
            ClientFrame::FetchGroups { request, after, limit } => self.fetch_groups((conn, request), after, limit, cx),
            ClientFrame::AcknowledgeGroup { group, up_to } => {
                if let Some(user) = self.sessions.get_mut(conn).map(|session| session.user) {
                    self.group_acknowledged(user, group, up_to, cx);
                }
            }
            ClientFrame::FetchMembers { request, group, after, limit, seq } => {
                let wish = GroupWish::Members { after, limit, seq };
                self.fetch_of_group((conn, request), ClientKind::FetchMembers, group, wish, cx);
            }
            ClientFrame::Ping { nonce } => self.send(conn, &ServerFrame::Pong { nonce }, cx),
            ClientFrame::Pong { .. } => {}
            ClientFrame::Bye => self.end(conn, None, cx),
            ClientFrame::Refresh { token } => self.refresh(conn, token, cx),
            ClientFrame::MarkRead { request, conversation, up_to, tell } => {
                self.mark((conn, request), conversation, Mark::Read { up_to, tell }, cx);
            }
            ClientFrame::SetConversation { request, conversation, set, cleared } => {
                self.mark((conn, request), conversation, Mark::Settings { set, cleared }, cx);
            }
            ClientFrame::DeleteMessage { request, conversation, place } => {
                self.mark((conn, request), conversation, Mark::Delete { place }, cx);
            }
            ClientFrame::FetchInbox { request, before, limit, messages } => {
                self.fetch_inbox(conn, request, before, (limit, messages), cx);
            }
            ClientFrame::FetchDevices { request } => self.fetch_devices(conn, request, cx),
            ClientFrame::RemoveDevice { request, device } => self.remove_device(conn, request, device, cx),
            ClientFrame::NameDevice { request, device, name } => self.name_device(conn, request, device, &name, cx),
            ClientFrame::GiveUp { number } => self.give_up_requested(conn, number, cx),
            ClientFrame::FetchDigest { request, first, last, width, group: GroupId(0) } => {
                self.fetch_digest((conn, request), (first, last), width, cx);
            }
            ClientFrame::FetchDigest { request, first, last, width, group } => {
                let wish = GroupWish::Digests { first, last, width };
                self.fetch_of_group((conn, request), ClientKind::FetchDigest, group, wish, cx);
            }
            ClientFrame::Subscribe { request, subscription } => {
                self.subscribe((conn, request), ClientKind::Subscribe, Some(subscription), cx);
            }
            ClientFrame::Unsubscribe { request } => {
                self.subscribe((conn, request), ClientKind::Unsubscribe, None, cx);
            }
            ClientFrame::FetchSubscription { request } => self.fetch_subscription(conn, request, cx),
            ClientFrame::FetchPresence { request, users } => self.fetch_presence((conn, request), users, cx),
            ClientFrame::Watch { request, users } => self.watch((conn, request), users, cx),
            ClientFrame::Typing { conversation } => self.typing(conn, conversation, cx),
            ClientFrame::SetStatus { status } => self.set_status(conn, status, cx),
            ClientFrame::SetVisibility { request, set, cleared } => {
                self.set_visibility((conn, request), (set, cleared), cx);
            }
        }
        self.go_on(conn, cx)
    }

    /// Whether the next frame of a buffer may be looked at. Here and not after the buffer: what is still in it would be
    /// answered too.
    fn go_on(&mut self, conn: ConnId, cx: &mut Turn<'_>) -> ControlFlow<()> {
        let Some(mut session) = self.sessions.get_mut(conn) else { return ControlFlow::Break(()) };
        if session.queued() > OUTBOX_BYTES_MAX {
            self.close(conn, ErrorCode::SlowConsumer, 0, "the answers do not drain", cx);
            return ControlFlow::Break(());
        }
        if self.settings.limits.frames.take(&mut session.frames, cx.now.monotonic_ms).is_err() {
            self.close(conn, ErrorCode::RateLimited, RETRY_FLOOD_MS, "too many frames", cx);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Says bye with a reason and closes.
    pub(super) fn close(&mut self, conn: ConnId, code: ErrorCode, retry_ms: u64, detail: &str, cx: &mut Turn<'_>) {
        let (detail, devices) = (detail.to_owned(), Vec::new());
        let bye = ServerFrame::Bye { code, retry_after_ms: retry_ms, detail, devices };
        self.send(conn, &bye, cx);
        self.end(conn, Some(code), cx);
    }

    /// Closes what is still open.
    pub(super) fn end(&mut self, conn: ConnId, reason: Option<ErrorCode>, cx: &mut Turn<'_>) {
        if let Some(session) = self.leave(conn, reason.is_none(), cx) {
            let Session { user, device, .. } = session;
            cx.effects.closes.push(Close { conn, user, device, reason });
        }
    }

    /// The peer is gone, or closing: the session ends, the user may have gone offline. `is_clean`: with a goodbye of the client.
    pub(super) fn leave(&mut self, conn: ConnId, is_clean: bool, cx: &mut Turn<'_>) -> Option<Session> {
        let session = self.sessions.remove(conn)?;
        if let Some(watch) = session.watch {
            self.watch_left(watch, is_clean);
        }
        if let Some(user) = self.users.resident(session.user) {
            if let Some(device) = user.devices.iter_mut().find(|device| device.session == Some(conn)) {
                device.session = None;
                let is_new_day = user.see(session.device, cx.now.wall);
                if is_new_day {
                    self.mark_dirty(session.user, cx.now.monotonic_ms);
                }
                self.presence_moved(session.user, is_clean, cx);
            }
            if self.users.resident(session.user).is_some_and(|user| !user.is_connected()) {
                self.unfollow_groups(session.user, cx);
                self.gone_away(session.user, cx);
            }
            self.forget_if_unused(session.user);
        }
        Some(session)
    }

    /// Sends a frame that answers or asks something.
    pub(super) fn send(&mut self, conn: ConnId, frame: &ServerFrame, cx: &mut Turn<'_>) {
        if let Some(mut session) = self.sessions.get_mut(conn) {
            let range = cx.effects.frame(frame);
            session.queue(range, cx);
        }
    }

    /// Refuses something that is not a send.
    #[expect(clippy::too_many_arguments, reason = "the fields of one frame, each of its own type or named at the call")]
    pub(super) fn send_error(
        &mut self,
        conn: ConnId,
        code: ErrorCode,
        kind: u8,
        request: RequestId,
        retry_after_ms: u64,
        detail: &str,
        cx: &mut Turn<'_>,
    ) {
        self.send(conn, &ServerFrame::Error { code, kind, request, retry_after_ms, detail: detail.to_owned() }, cx);
    }

    /// Pings the silent; closes those that stay silent or do not read, and those whose token has expired.
    pub(super) fn look_at_silent(&mut self, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        for conn in self.wheel.due(now_ms) {
            self.look_at_token(conn, cx);
            let Some(mut session) = self.sessions.get_mut(conn) else { continue };
            let (look, due_ms) = session.look(cx.now, &self.settings);
            match look {
                Look::Nothing => {}
                Look::Ping => self.send(conn, &ServerFrame::Ping { nonce: now_ms }, cx),
                Look::Close(code) => {
                    let detail = match code {
                        ErrorCode::SlowConsumer => "nothing of the answers was read for too long",
                        _ => "nothing was heard for too long",
                    };
                    self.close(conn, code, 0, detail, cx);
                    continue;
                }
            }
            self.wheel.insert(now_ms, due_ms, conn);
        }
    }

    /// Everything is released and nothing new is taken: says bye to all.
    pub(super) fn dismiss_all(&mut self, cx: &mut Turn<'_>) {
        for conn in self.sessions.conns_where(|_| true) {
            self.close(conn, ErrorCode::Stopping, RETRY_STOPPING_MS, "the server is stopping", cx);
        }
    }

    /// The journal has failed: nobody can be told what became of these sends, so their connections end.
    pub(super) fn abandon_parked(&mut self, cx: &mut Turn<'_>) {
        let parked: Vec<Parked> = self.lanes.iter_mut().flat_map(Ledger::abandon).collect();
        for parked in parked {
            let conn = match parked {
                Parked::Connect(connected) => Some(connected.conn),
                Parked::Sent { user, device, .. } | Parked::GivenUp { user, device, .. } => {
                    self.users.resident(user).and_then(|user| user.device(device)).and_then(|device| device.session)
                }
                Parked::Marked((conn, _)) => Some(conn),
                Parked::Devices(parked) => self.devices_abandoned(parked, cx),
                Parked::Entry { .. } | Parked::Group { .. } | Parked::Answer(_) | Parked::Told(_) => None,
            };
            if let Some(conn) = conn {
                let detail = "the storage failed; what was not accepted may or may not have been stored";
                self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, detail, cx);
            }
        }
    }
}
