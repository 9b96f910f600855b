//! Sessions: what a shard keeps of each connection, and how many bytes all of them hold.
//!
//! A session holds what waits for the client to read it, what came before the welcome, and the beginning of a frame that is not whole.
//! Only [`SessionMut`] changes these, and it counts what it changes.
//! Invariant: [`Sessions::held_bytes`] is the sum of what the sessions hold.

use std::{
    mem,
    ops::{Deref, DerefMut, Range},
};

use proto_spec::{
    Decoder, DeviceId, ErrorCode, RawFrame, Seq, UserId, limits::CLIENT_FRAME_BYTES_MAX, wire::put_varint,
};

use super::{
    ConnId, Connected, Now, ReadState, Settings, Turn,
    feed::Feed,
    keepalive::{Due, Keepalive},
    presence::{Typed, WatchId},
    refresh::Permit,
};
use crate::{
    access::rate::Bucket,
    config::Transport,
    limits::{EARLY_BYTES_MAX, OUTBOX_PAUSE_BYTES, OUTBOX_REFILL_BYTES, SLOW_CONSUMER_PARTS},
};

/// How far a connection has come.
#[derive(Debug)]
enum Phase {
    /// The user is being loaded; what arrives meanwhile is held.
    Starting { early: Vec<u8> },
    /// Welcomed.
    Ready,
}

/// What is to be done about a connection now.
pub(super) enum Look {
    Nothing,
    Ping,
    Close(ErrorCode),
}

/// One authenticated connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: ConnId,
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    /// See [`Connected::follows`].
    pub(super) follows: Option<Transport>,
    phase: Phase,
    decoder: Decoder,
    pub(super) feed: Feed,
    /// Whole frames that wait until a send before them has its answer; none: nothing has to wait.
    held: Option<Vec<u8>>,
    /// Bytes handed to the rim and not yet taken by the kernel.
    queued: usize,
    paused: bool,
    /// When the kernel last took bytes, or reading was paused, by the monotonic clock.
    taken_ms: u64,
    /// Fetches that await their page.
    pub(super) fetches: u16,
    /// Retried sends whose first result is being looked up.
    pub(super) lookups: u16,
    /// What its device acknowledges begins after this: what stands up to here is not said to be there by it.
    pub(super) covers_after: Seq,
    /// Its last acknowledgement.
    pub(super) acknowledged: Seq,
    pub(super) keepalive: Keepalive,
    pub(super) permit: Permit,
    /// Frames lately.
    pub(super) frames: Bucket,
    /// The kernel has taken bytes since somebody last looked.
    drains: bool,
    /// Its person does not look at the application.
    pub(super) is_away: bool,
    /// Questions about presence that are unanswered.
    pub(super) looks: u8,
    /// Whom it watches.
    pub(super) watch: Option<WatchId>,
    /// Something of a group could not be pushed to it.
    pub(super) lacks_groups: bool,
    pub(super) typed: Typed,
}

impl Session {
    pub(super) fn new(connected: &Connected, permit: Permit, now_ms: u64) -> Self {
        Self {
            conn: connected.conn,
            user: connected.user,
            device: connected.device,
            follows: connected.follows,
            phase: Phase::Starting { early: Vec::new() },
            decoder: Decoder::new(CLIENT_FRAME_BYTES_MAX as u32),
            feed: Feed::after(Seq::ZERO),
            covers_after: Seq::ZERO,
            acknowledged: Seq::ZERO,
            held: None,
            queued: 0,
            paused: false,
            taken_ms: now_ms,
            fetches: 0,
            lookups: 0,
            keepalive: Keepalive::new(now_ms),
            permit,
            frames: Bucket::default(),
            drains: true,
            is_away: false,
            looks: 0,
            watch: None,
            lacks_groups: false,
            typed: Typed::default(),
        }
    }

    /// From now on frames wait.
    pub(super) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Whether frames wait.
    pub(super) const fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Whether it has been welcomed.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Bytes handed to the rim and not yet taken by the kernel.
    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    /// Whether it is time to ping it or to close it, and why; and when to look again.
    pub(super) fn look(&mut self, now: Now, settings: &Settings) -> (Look, u64) {
        let now_ms = now.monotonic_ms;
        if let Some(since_ms) = self.unread_since_ms() {
            // It is not heard, and would not see a ping.
            let due_ms = since_ms + settings.idle_timeout_ms / SLOW_CONSUMER_PARTS;
            let look = if due_ms <= now_ms { Look::Close(ErrorCode::SlowConsumer) } else { Look::Nothing };
            return (look, due_ms.min(self.permit.due_ms(settings, now)));
        }
        let look = match self.keepalive.look(now_ms, settings) {
            Due::Nothing => Look::Nothing,
            // While the user is being loaded the client cannot be asked; it must not wait for ever all the same.
            Due::Ping if !self.is_ready() => Look::Nothing,
            Due::Ping => Look::Ping,
            Due::Close => Look::Close(ErrorCode::IdleTimeout),
        };
        (look, self.due_ms(now, settings))
    }

    /// When to look at a connection whose answers drain.
    pub(super) fn due_ms(&self, now: Now, settings: &Settings) -> u64 {
        self.keepalive.due_ms(settings).min(self.permit.due_ms(settings, now))
    }

    /// Since when the client has read nothing of so much that nothing is read of it either.
    const fn unread_since_ms(&self) -> Option<u64> {
        if self.paused && self.queued >= OUTBOX_REFILL_BYTES { Some(self.taken_ms) } else { None }
    }

    /// Reads again from a connection whose answers have drained.
    pub(super) fn unpause_if_drained(&mut self, cx: &mut Turn<'_>) {
        if self.paused && self.queued < OUTBOX_REFILL_BYTES {
            self.paused = false;
            // It could not be heard meanwhile.
            self.keepalive.heard(cx.now.monotonic_ms);
            cx.effects.reads.push((self.conn, ReadState::Reading));
        }
    }

    /// Bytes that wait for the client to read them, or for the rest of what it says.
    fn held_bytes(&self) -> usize {
        let early = match &self.phase {
            Phase::Starting { early } => early.len(),
            Phase::Ready => 0,
        };
        self.queued + early + self.held.as_ref().map_or(0, Vec::len) + self.decoder.held_bytes()
    }
}

/// A session, and the sum that what it holds is part of.
pub(super) struct SessionMut<'a> {
    session: &'a mut Session,
    held_bytes: &'a mut usize,
}

impl Deref for SessionMut<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
    }
}

impl DerefMut for SessionMut<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.session
    }
}

impl SessionMut<'_> {
    /// Queues bytes that stand in `effects`; stops reading from a peer that does not drain.
    #[inline]
    pub(super) fn queue(&mut self, range: Range<usize>, cx: &mut Turn<'_>) {
        let Turn { now, effects, .. } = cx;
        self.keepalive.said(now.monotonic_ms);
        self.session.queued += range.len();
        *self.held_bytes += range.len();
        effects.sends.push((self.conn, range));
        if self.queued > OUTBOX_PAUSE_BYTES && !self.paused {
            self.paused = true;
            self.taken_ms = now.monotonic_ms;
            effects.reads.push((self.conn, ReadState::Paused));
        }
    }

    /// The kernel took bytes that were queued.
    pub(super) fn drained(&mut self, bytes: usize, now_ms: u64) {
        debug_assert!(bytes <= self.queued, "the kernel takes what was queued");
        let bytes = bytes.min(self.queued);
        self.session.queued -= bytes;
        *self.held_bytes -= bytes;
        self.drains = true;
        self.taken_ms = now_ms;
    }

    /// Holds what comes before the welcome; stops reading when it is much. False: this connection has been welcomed.
    pub(super) fn hold_early(&mut self, bytes: &[u8], cx: &mut Turn<'_>) -> bool {
        let Phase::Starting { early } = &mut self.session.phase else { return false };
        early.extend_from_slice(bytes);
        *self.held_bytes += bytes.len();
        if early.len() > EARLY_BYTES_MAX && !mem::replace(&mut self.session.paused, true) {
            cx.effects.reads.push((self.conn, ReadState::Paused));
        }
        true
    }

    /// Keeps a frame until those before it are answered; stops reading when it is much.
    pub(super) fn hold_frame(&mut self, frame: RawFrame<'_>, cx: &mut Turn<'_>) {
        let Some(held) = &mut self.session.held else { return };
        let before = held.len();
        put_varint(held, frame.body.len() as u64 + 1);
        held.push(frame.kind);
        held.extend_from_slice(frame.body);
        *self.held_bytes += held.len() - before;
        if held.len() > EARLY_BYTES_MAX && !mem::replace(&mut self.session.paused, true) {
            cx.effects.reads.push((self.conn, ReadState::Paused));
        }
    }

    /// What has waited needs to no more.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        let held = self.session.held.take().unwrap_or_default();
        *self.held_bytes -= held.len();
        held
    }

    /// It has been welcomed: what has come before that.
    pub(super) fn welcomed(&mut self) -> Vec<u8> {
        let Phase::Starting { early } = mem::replace(&mut self.session.phase, Phase::Ready) else {
            unreachable!("a connection is welcomed once");
        };
        *self.held_bytes -= early.len();
        early
    }

    /// Lends the decoder, until it comes back with [`SessionMut::put_decoder`] or the session ends.
    pub(super) fn take_decoder(&mut self) -> Decoder {
        *self.held_bytes -= self.decoder.held_bytes();
        mem::replace(&mut self.session.decoder, Decoder::new(CLIENT_FRAME_BYTES_MAX as u32))
    }

    /// See [`SessionMut::take_decoder`].
    pub(super) fn put_decoder(&mut self, decoder: Decoder) {
        *self.held_bytes += decoder.held_bytes();
        self.session.decoder = decoder;
    }
}

/// The connections of a shard, by slot.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Vec<Option<Session>>,
    len: usize,
    held_bytes: usize,
}

impl Sessions {
    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<SessionMut<'_>> {
        let session = self.slots.get_mut(conn.slot as usize)?.as_mut().filter(|session| session.conn == conn)?;
        Some(SessionMut { session, held_bytes: &mut self.held_bytes })
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Session> {
        self.slots.get(conn.slot as usize)?.as_ref().filter(|session| session.conn == conn)
    }

    pub(super) fn insert(&mut self, session: Session) {
        let slot = session.conn.slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        assert!(self.slots[slot].is_none(), "the rim reuses a slot only after the shard was told or closed it");
        self.slots[slot] = Some(session);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Session> {
        let slot = self.slots.get_mut(conn.slot as usize)?;
        let session = slot.take_if(|session| session.conn == conn)?;
        self.len -= 1;
        self.held_bytes -= session.held_bytes();
        assert!(self.len > 0 || self.held_bytes == 0, "{} bytes are held by nobody", self.held_bytes);
        Some(session)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that wait for clients to read them, or for the rest of what they say.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn conns_where(&self, wanted: impl Fn(&Session) -> bool) -> Vec<ConnId> {
        self.slots.iter().flatten().filter(|session| wanted(session)).map(|session| session.conn).collect()
    }

    /// Those for whom much waits, and who have taken nothing since the last call.
    pub(super) fn stalled(&mut self) -> Vec<ConnId> {
        let mut stalled = Vec::new();
        for session in self.slots.iter_mut().flatten() {
            if session.queued > OUTBOX_REFILL_BYTES && !mem::replace(&mut session.drains, false) {
                stalled.push(session.conn);
            }
        }
        stalled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto_spec::{Resume, TimestampMs};

    use super::*;
    use crate::access::handshake::Resumption;
    use crate::shard::{CacheLimits, Effects, Grant, Limits, PresenceSettings, Promise, directory::Directory};

    const SETTINGS: Settings = Settings {
        ping_after_ms: 25_000,
        idle_timeout_ms: 120_000,
        expiry_warning_ms: 0,
        token_leeway_ms: 0,
        promise: Promise::Disk,
        limits: Limits::OFF,
        cache: CacheLimits::OFF,
        presence: PresenceSettings::DEFAULT,
        moves_per_s: 1_000,
        push: None,
    };

    fn session(slot: u32) -> Session {
        let connected = Connected {
            conn: ConnId { slot, generation: 1 },
            user: UserId(1),
            device: DeviceId(slot.into()),
            version: 1,
            resumption: Resumption::whole(Resume::Live),
            grant: Grant { expires: TimestampMs(u64::MAX), issued: TimestampMs(0) },
            follows: None,
        };
        Session::new(&connected, Permit::new(connected.grant, &SETTINGS), 0)
    }

    /// What is done to a session.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Connect,
        Leave,
        Receive,
        Welcome,
        Queue,
        Drain,
    }

    fn step() -> impl Strategy<Value = Step> {
        use Step::*;
        prop::sample::select(vec![Connect, Leave, Receive, Receive, Receive, Welcome, Queue, Queue, Drain])
    }

    proptest! {
        #[test]
        fn what_all_hold_is_the_sum_of_what_each_holds(
            steps in prop::collection::vec((0..4u32, step(), 0..100_000usize), 0..200)
        ) {
            let (directory, mut effects) = (Directory::default(), Effects::default());
            let cx = &mut Turn { now: Now::default(), directory: &directory, effects: &mut effects };
            let mut sessions = Sessions::default();
            for (slot, step, bytes) in steps {
                let conn = ConnId { slot, generation: 1 };
                let Some(mut session) = sessions.get_mut(conn) else {
                    sessions.insert(session(slot));
                    continue;
                };
                match step {
                    Step::Connect => {}
                    Step::Leave => drop(sessions.remove(conn)),
                    Step::Receive => {
                        // Frames of 99 bytes, cut anywhere: what is left over is held.
                        let frames = [99; 1_000];
                        let part = &frames[..bytes % frames.len()];
                        if !session.hold_early(part, cx) {
                            let mut decoder = session.take_decoder();
                            let result = decoder.decode(part, |_| std::ops::ControlFlow::Continue(()));
                            prop_assert!(result.is_ok());
                            session.put_decoder(decoder);
                        }
                    }
                    Step::Welcome if session.is_ready() => {}
                    Step::Welcome => drop(session.welcomed()),
                    Step::Queue => session.queue(0..bytes, cx),
                    Step::Drain => {
                        let bytes = bytes.min(session.queued());
                        session.drained(bytes, 0);
                    }
                }
                let sum: usize = sessions.slots.iter().flatten().map(Session::held_bytes).sum();
                prop_assert_eq!(sessions.held_bytes(), sum);
            }
            for slot in 0..4 {
                sessions.remove(ConnId { slot, generation: 1 });
            }
            prop_assert_eq!((sessions.len(), sessions.held_bytes()), (0, 0));
        }
    }

    #[test]
    fn a_session_that_ends_while_its_frames_are_looked_at_leaves_nothing_held() {
        let (directory, mut effects) = (Directory::default(), Effects::default());
        let cx = &mut Turn { now: Now::default(), directory: &directory, effects: &mut effects };
        let mut sessions = Sessions::default();
        let (conn, other) = (ConnId { slot: 0, generation: 1 }, ConnId { slot: 1, generation: 1 });
        sessions.insert(session(0));
        sessions.insert(session(1));
        let mut session = sessions.get_mut(conn).unwrap();
        session.welcomed();
        let mut decoder = session.take_decoder();
        decoder.decode(&[99; 50], |_| std::ops::ControlFlow::Continue(())).unwrap();
        session.put_decoder(decoder);
        session.queue(0..10, cx);
        assert_eq!(sessions.held_bytes(), 60);
        let _lent = sessions.get_mut(conn).unwrap().take_decoder();
        sessions.remove(conn);
        assert_eq!(sessions.held_bytes(), 0);
        assert!(sessions.get_mut(ConnId { slot: 1, generation: 2 }).is_none(), "an earlier life of the slot");
        assert!(sessions.get_mut(other).is_some());
    }

    #[test]
    fn stalled_is_for_whom_much_waits_and_who_took_nothing_since_the_last_look() {
        let (directory, mut effects) = (Directory::default(), Effects::default());
        let cx = &mut Turn { now: Now::default(), directory: &directory, effects: &mut effects };
        let mut sessions = Sessions::default();
        let conns: [ConnId; 3] = [0, 1, 2].map(|slot| ConnId { slot, generation: 1 });
        for slot in 0..3 {
            sessions.insert(session(slot));
        }
        for (conn, bytes) in
            conns.into_iter().zip([OUTBOX_REFILL_BYTES, OUTBOX_REFILL_BYTES + 2, OUTBOX_REFILL_BYTES + 2])
        {
            sessions.get_mut(conn).unwrap().queue(0..bytes, cx);
        }
        assert_eq!(sessions.stalled(), [], "nobody had time to take anything");
        sessions.get_mut(conns[1]).unwrap().drained(1, 0);
        assert_eq!(sessions.stalled(), [conns[2]]);
        assert_eq!(sessions.stalled(), [conns[1], conns[2]]);
    }
}
