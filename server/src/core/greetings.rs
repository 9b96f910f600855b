//! Greetings: connections from their accept until they are a shard's. PURE.
//!
//! The core that accepts waits until the hello is whole. What has come of hellos waits until a turn has time to judge it: a crowd of
//! them must not hold up the messages of those who are served. If another core is the user's home, the descriptor goes there
//! by the rim and what the hello said goes by mail; whichever comes first waits for the other. No byte after the hello is read
//! before the home core reads it.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use proto_spec::{DeviceId, UserId};

use super::origins::Origin;
use crate::{
    access::handshake::{Handshake, Resumption},
    config::Transport,
    limits::{EVICTION_AGE_MS, EVICTION_LOOKS_MAX, HANDSHAKES_MAX},
    shard::{ConnId, Grant, topology::CoreId},
};

/// A connection whose hello was good, for its home core.
#[derive(Debug)]
pub struct Guest {
    /// The core that accepted it.
    pub from: CoreId,
    /// That core's number of the move; the descriptor arrives under the same.
    pub ticket: u32,
    /// Who the token says it is.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// The negotiated protocol version.
    pub version: u64,
    /// Where to start pushing.
    pub resumption: Resumption,
    /// How long it may stay.
    pub grant: Grant,
    /// Which key signed the token, for the audit log.
    pub key: Arc<str>,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// As limits count it.
    pub origin: Origin,
    /// By which transport it goes where a redirect says; none: its client follows none.
    pub follows: Option<Transport>,
    /// What the client sent after the hello.
    pub rest: Vec<u8>,
}

/// A connection whose hello has not been judged.
#[derive(Debug)]
pub(super) struct Greeting {
    /// What has been judged of its hello so far.
    pub(super) handshake: Handshake,
    /// The beginning of the header in which a balancer tells where it comes from, shorter than `PROXY_HEADER_BYTES_MAX`; none if that
    /// is known.
    pub(super) header: Option<Vec<u8>>,
    /// Where it comes from; before its header has come, the balancer.
    pub(super) peer: SocketAddr,
    /// As limits count it.
    pub(super) origin: Origin,
    /// Another node has sent it here, which has taken it for this one's.
    pub(super) is_tunnelled: bool,
    /// From when on it holds a place for handshakes of its origin.
    pub(super) since_ms: u64,
    /// How many pieces of it have carried nothing.
    pub(super) idle: usize,
    /// Bytes of it wait to be judged.
    waits: bool,
}

/// In which form bytes wait to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they came.
    Raw,
    /// As they were meant: another node has taken off what lay over them.
    Plain,
}

/// Connections of this core whose hello has not been judged, and those on their way to another core.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    open: HashMap<ConnId, Greeting>,
    /// In order, since all have the same time. Those that are over are passed over.
    deadlines: VecDeque<(u64, ConnId)>,
    /// Bytes of hellos that wait to be judged, in order; at most one piece of each connection, since nothing more is read
    /// before. Those of handshakes that are over are passed over; with them there may be twice [`HANDSHAKES_MAX`].
    waiting: VecDeque<(ConnId, Vec<u8>, Form)>,
    leaving: HashMap<ConnId, (CoreId, Box<Guest>)>,
    next_ticket: u32,
}

impl Greetings {
    /// How many hellos are awaited or wait to be judged.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is no room for another handshake.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.open.len().max(self.waiting.len()) >= HANDSHAKES_MAX
    }

    /// Whether no hello is awaited or waits to be judged.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many connections are on their way to another core.
    #[cfg(test)]
    pub(super) fn leaving_len(&self) -> usize {
        self.leaving.len()
    }

    /// How many pieces of hellos wait to be judged.
    #[cfg(test)]
    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// A connection has been accepted.
    pub(super) fn begin(&mut self, conn: ConnId, peer: SocketAddr, origin: Origin, now_ms: u64, deadline_ms: u64) {
        let (handshake, header, is_tunnelled, waits) = (Handshake::new(), None, false, false);
        let greeting = Greeting { handshake, header, peer, origin, is_tunnelled, since_ms: now_ms, idle: 0, waits };
        self.open.insert(conn, greeting);
        self.deadlines.push_back((deadline_ms, conn));
    }

    /// It comes by a balancer, which tells first where from.
    pub(super) fn await_header(&mut self, conn: ConnId) {
        if let Some(greeting) = self.open.get_mut(&conn) {
            greeting.header = Some(Vec::new());
        }
    }

    /// It comes by a tunnel, and this is what it has said.
    pub(super) fn tunnelled(&mut self, conn: ConnId, said: Vec<u8>) {
        if let Some(greeting) = self.open.get_mut(&conn) {
            greeting.is_tunnelled = true;
            self.put(conn, said, Form::Plain);
        }
    }

    /// Bytes of a hello have come. Nothing more is read of the connection until they have been judged.
    pub(super) fn wait(&mut self, conn: ConnId, bytes: &[u8]) {
        self.put(conn, bytes.to_vec(), Form::Raw);
    }

    fn put(&mut self, conn: ConnId, bytes: Vec<u8>, form: Form) {
        if let Some(greeting) = self.open.get_mut(&conn) {
            greeting.waits = true;
        }
        self.waiting.push_back((conn, bytes, form));
        debug_assert!(self.waiting.len() <= 2 * HANDSHAKES_MAX, "accepted only while there is room");
    }

    /// Whether bytes wait to be judged.
    #[must_use]
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next bytes to be judged.
    pub(super) fn next_waiting(&mut self) -> Option<(ConnId, Vec<u8>, Form)> {
        while let Some((conn, bytes, form)) = self.waiting.pop_front() {
            if let Some(greeting) = self.open.get_mut(&conn) {
                greeting.waits = false;
                return Some((conn, bytes, form));
            }
        }
        None
    }

    /// The greeting of a connection, until it is over.
    pub(super) fn of(&mut self, conn: ConnId) -> Option<&mut Greeting> {
        self.open.get_mut(&conn)
    }

    /// The handshake is over, one way or the other; gives where it came from and how long it has taken, in milliseconds, unless it
    /// was over before.
    pub(super) fn end(&mut self, conn: ConnId, now_ms: u64) -> Option<(Origin, u64)> {
        let greeting = self.open.remove(&conn)?;
        Some((greeting.origin, now_ms.saturating_sub(greeting.since_ms)))
    }

    /// The oldest handshake that waits for its client, to be given up for a newer one. None if it is young, or those at the head of
    /// the line all wait for this core.
    #[must_use]
    pub(super) fn oldest_silent(&mut self, now_ms: u64) -> Option<ConnId> {
        while self.deadlines.front().is_some_and(|(_, conn)| !self.open.contains_key(conn)) {
            self.deadlines.pop_front();
        }
        let looked_at = self.deadlines.iter().take(EVICTION_LOOKS_MAX).map(|(_, conn)| *conn);
        looked_at.into_iter().find(|conn| {
            self.open.get(conn).is_some_and(|greeting| !greeting.waits && now_ms >= greeting.since_ms + EVICTION_AGE_MS)
        })
    }

    /// The next connection whose hello did not come, or was not judged, in time. The caller ends its handshake.
    pub(super) fn take_late(&mut self, now_ms: u64) -> Option<ConnId> {
        while let Some(&(deadline, conn)) = self.deadlines.front()
            && deadline <= now_ms
        {
            self.deadlines.pop_front();
            if self.open.contains_key(&conn) {
                return Some(conn);
            }
        }
        None
    }

    /// All handshakes, to be ended because the core stops.
    #[must_use]
    pub(super) fn all(&self) -> Vec<ConnId> {
        let mut all: Vec<ConnId> = self.open.keys().copied().collect();
        // The same every time.
        all.sort_unstable();
        all
    }

    /// A number for the next move.
    pub(super) fn ticket(&mut self) -> u32 {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.next_ticket
    }

    /// A connection's descriptor is on its way to this core; the guest is kept until it has got there.
    pub(super) fn leave(&mut self, conn: ConnId, home: CoreId, guest: Box<Guest>) {
        self.leaving.insert(conn, (home, guest));
    }

    /// The descriptor got there, or did not: the guest and its home.
    pub(super) fn left(&mut self, conn: ConnId) -> Option<(CoreId, Box<Guest>)> {
        self.leaving.remove(&conn)
    }
}

/// Connections on their way to this core.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    halves: HashMap<(CoreId, u32), Half>,
}

/// What came first.
#[derive(Debug)]
enum Half {
    Descriptor(u32),
    Guest(Box<Guest>),
}

impl Arrivals {
    /// A descriptor has come, into this slot. Gives the guest if it was here before.
    pub(super) fn descriptor(&mut self, from: CoreId, ticket: u32, slot: u32) -> Option<Box<Guest>> {
        match self.halves.remove(&(from, ticket)) {
            Some(Half::Guest(guest)) => Some(guest),
            Some(Half::Descriptor(_)) | None => {
                self.halves.insert((from, ticket), Half::Descriptor(slot));
                None
            }
        }
    }

    /// A guest has come. Gives it back with its slot if the descriptor was here before.
    pub(super) fn guest(&mut self, guest: Box<Guest>) -> Option<(u32, Box<Guest>)> {
        let key = (guest.from, guest.ticket);
        match self.halves.remove(&key) {
            Some(Half::Descriptor(slot)) => Some((slot, guest)),
            Some(Half::Guest(_)) | None => {
                self.halves.insert(key, Half::Guest(guest));
                None
            }
        }
    }

    /// How many are half here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.halves.len()
    }

    /// Whether nobody is half here.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.halves.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proto_spec::{Resume, TimestampMs};

    use super::*;

    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

    fn guest(ticket: u32) -> Box<Guest> {
        Box::new(Guest {
            from: CoreId(1),
            ticket,
            user: UserId(7),
            device: DeviceId(1),
            version: 1,
            resumption: Resumption::whole(Resume::Stored),
            grant: Grant { expires: TimestampMs(0), issued: TimestampMs(0) },
            key: "key".into(),
            peer: PEER,
            origin: Origin::default(),
            follows: None,
            rest: Vec::new(),
        })
    }

    #[test]
    fn a_guest_and_its_descriptor_meet_in_either_order() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.descriptor(CoreId(1), 5, 40).is_none());
        assert!(arrivals.guest(guest(6)).is_none());
        assert_eq!(arrivals.guest(guest(5)).map(|(slot, guest)| (slot, guest.ticket)), Some((40, 5)));
        assert!(arrivals.descriptor(CoreId(2), 6, 42).is_none(), "another core's ticket");
        assert_eq!(arrivals.descriptor(CoreId(1), 6, 41).map(|guest| guest.ticket), Some(6));
    }

    #[test]
    fn only_a_hello_that_has_not_come_is_late() {
        let mut greetings = Greetings::default();
        let conn = |slot| ConnId { slot, generation: 1 };
        greetings.begin(conn(1), PEER, Origin::default(), 3, 100);
        greetings.begin(conn(2), PEER, Origin::default(), 0, 110);
        greetings.begin(conn(3), PEER, Origin::default(), 0, 120);
        assert_eq!([greetings.end(conn(1), 7), greetings.end(conn(1), 7)], [Some((Origin::default(), 4)), None]);
        assert_eq!(greetings.take_late(99), None);
        assert_eq!(greetings.take_late(110), Some(conn(2)));
        assert_eq!(greetings.end(conn(2), 110), Some((Origin::default(), 110)));
        assert_eq!(greetings.take_late(119), None);
        assert_eq!(greetings.len(), 1);
    }

    fn waiting(slots: std::ops::Range<u32>) -> Greetings {
        let mut greetings = Greetings::default();
        for slot in slots {
            let conn = ConnId { slot, generation: 1 };
            greetings.begin(conn, PEER, Origin::default(), 0, 100 + u64::from(slot));
            greetings.wait(conn, &slot.to_ne_bytes());
        }
        greetings
    }

    fn next(greetings: &mut Greetings) -> Option<u32> {
        let (conn, bytes, _) = greetings.next_waiting()?;
        assert_eq!(bytes, conn.slot.to_ne_bytes());
        Some(conn.slot)
    }

    #[test]
    fn hellos_are_judged_in_the_order_in_which_they_came() {
        let mut greetings = waiting(1..4);
        assert_eq!([(); 3].map(|()| next(&mut greetings)), [Some(1), Some(2), Some(3)]);
        assert!(!greetings.has_waiting());
        assert_eq!(greetings.len(), 3, "a hello in pieces is awaited still");
        greetings.wait(ConnId { slot: 2, generation: 1 }, &2u32.to_ne_bytes());
        assert_eq!(next(&mut greetings), Some(2));
    }

    #[test]
    fn a_hello_that_waits_is_not_judged_when_its_handshake_is_over() {
        let mut greetings = waiting(1..5);
        greetings.end(ConnId { slot: 1, generation: 1 }, 9);
        greetings.end(ConnId { slot: 3, generation: 1 }, 9);
        assert_eq!(next(&mut greetings), Some(2));
        for (deadline_ms, slot) in [(102, 2), (104, 4)] {
            let late = greetings.take_late(deadline_ms).unwrap();
            assert_eq!(late, ConnId { slot, generation: 1 });
            greetings.end(late, deadline_ms);
        }
        assert_eq!(next(&mut greetings), None);
        assert!(greetings.is_empty() && !greetings.has_waiting());
    }

    #[test]
    fn no_hello_is_kept_when_all_handshakes_end() {
        let mut greetings = waiting(0..3);
        let all = greetings.all();
        assert_eq!(all.len(), 3);
        assert!(all.into_iter().all(|conn| greetings.end(conn, 9).is_some()));
        assert_eq!(next(&mut greetings), None);
        assert!(greetings.is_empty() && !greetings.has_waiting());
    }

    #[test]
    fn the_oldest_that_waits_for_its_client_is_given_up_and_none_that_waits_for_the_core() {
        let mut greetings = waiting(1..4);
        assert_eq!(greetings.oldest_silent(EVICTION_AGE_MS), None);
        assert_eq!([(); 2].map(|()| next(&mut greetings)), [Some(1), Some(2)]);
        assert_eq!(greetings.oldest_silent(EVICTION_AGE_MS - 1), None, "it may be about to answer");
        let first = greetings.oldest_silent(EVICTION_AGE_MS).unwrap();
        assert_eq!(first.slot, 1);
        greetings.end(first, EVICTION_AGE_MS);
        assert_eq!(greetings.oldest_silent(EVICTION_AGE_MS).map(|conn| conn.slot), Some(2));
        greetings.wait(ConnId { slot: 2, generation: 1 }, &2u32.to_ne_bytes());
        assert_eq!(greetings.oldest_silent(EVICTION_AGE_MS), None);
    }

    #[test]
    fn there_is_no_room_while_as_many_hellos_wait_as_may_be_even_if_their_handshakes_are_over() {
        let mut greetings = waiting(0..HANDSHAKES_MAX as u32);
        assert!(greetings.is_full());
        while let Some(late) = greetings.take_late(u64::MAX) {
            assert!(greetings.end(late, 9).is_some());
        }
        assert!(greetings.is_empty() && greetings.is_full());
        assert_eq!(next(&mut greetings), None);
        assert!(!greetings.is_full());
    }
}
