//! Devices: the crew of one lane at work. Carries what happens on the links to the sessions and back, keeps their times, and
//! connects them again. It is what scenarios act on.
//!
//! A device is *wanted* while it should be connected. One that is lost though it is wanted is a disconnect, which is a fault unless
//! the run tolerates it, and connects again by itself; one that a scenario cuts is not wanted until the scenario says so.

mod nodes;
mod presence;
#[cfg(test)]
mod tests;
mod upkeep;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io,
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use proto_spec::{RequestId, Seq, Settings, UserId};

pub use self::nodes::{Node, Nodes, Redirects};
use crate::{
    draw::Draw,
    limits::{ACKNOWLEDGE_AFTER_US, ACKNOWLEDGE_GROUPS_AFTER_US, BACKLOG_MAX, LOGIN_TIMEOUT_US},
    links::{Handshakes, Links, News, Sources},
    place::Place,
    schedule::Schedule,
    session::{Ask, Fetch, Happened, Pending, Screen, Session, Turn, Wake},
    stats::{Count, Measure, Stats},
    tls::Trust,
    token::Mint,
    verify::{
        Change, Crew, Digest, KeptId, Ledger, SharedLedger, StreamId, Written,
        groups::{GroupFetch, Said, SentId},
        presence::Left,
    },
    web::Carrier,
};

/// How the devices of a lane behave.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Where the server is, or one node of it.
    pub server: Place,
    /// Which redirects are followed.
    pub redirects: Redirects,
    /// Whom to trust, if it speaks TLS.
    pub trust: Option<Trust>,
    /// What carries the bytes.
    pub carrier: Carrier,
    /// Makes tokens.
    pub mint: Arc<Mint>,
    /// Lost connections are part of the run.
    pub tolerates_disconnects: bool,
    /// Histories are read back in the end.
    pub compares_histories: bool,
    /// Sends of one device that may be in flight.
    pub window: u16,
    /// Connections that may be on their way to their welcome at a time.
    pub handshakes_max: usize,
    /// Connections a second, at most; none: as fast as it goes.
    pub logins_a_second: Option<f64>,
    /// Silence after which a device pings, in seconds.
    pub ping_after_s: u32,
    /// Tells this run's messages from those of others.
    pub run: u64,
    /// Which lane it is.
    pub lane: usize,
    /// The messages of all whom the lane's people write to.
    pub ledger: SharedLedger,
    /// Seat of the lane's first device there.
    pub first_seat: u32,
    /// The start of the run.
    pub clock: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Connect,
    Pump,
    Renew,
    Repeat(RequestId),
    Move,
}

/// The connection of a device, as it should be.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    connect_at_us: u64,
    life: u16,
    attempts: u8,
    is_wanted: bool,
    is_queued: bool,
    is_greeting: bool,
}

/// The devices of one lane.
#[derive(Debug)]
pub struct Devices {
    manners: Manners,
    crew: Crew,
    ledger: SharedLedger,
    sessions: Vec<Session>,
    places: Vec<Wanted>,
    nodes: Nodes,
    links: Links,
    stats: Stats,
    happened: Vec<Happened>,
    wakes: Vec<Wake>,
    news: Vec<News>,
    timers: BinaryHeap<Reverse<(u64, u32, Timer)>>,
    /// All are due the same time after they were put in, so the first is the earliest.
    acknowledgements: VecDeque<(u64, u32)>,
    /// So are these.
    group_acknowledgements: VecDeque<(u64, u32)>,
    login_timeouts: VecDeque<(u64, u32, u16)>,
    to_connect: VecDeque<u32>,
    logins: Option<Schedule>,
    handshakes: usize,
    /// Places that are wanted.
    wanted: u64,
    next_sweep_us: u64,
    now_us: u64,
    draw: Draw,
    fatal: Option<String>,
    /// Why a device is not connected that should be: the last one.
    last_loss: Option<String>,
}

impl Devices {
    /// The crew, of which nobody is connected.
    ///
    /// # Errors
    /// The kernel or the process's limits do not allow so many connections.
    pub fn new(manners: Manners, crew: Crew) -> anyhow::Result<Self> {
        let count = crew.len();
        let nodes =
            Nodes::new(&manners.server, manners.trust.clone(), manners.redirects, count).map_err(anyhow::Error::msg)?;
        let sources = Sources::new(manners.run, manners.lane);
        let links = Links::new(count, sources, manners.trust.as_ref(), manners.carrier)?;
        let mut sessions = Vec::with_capacity(count);
        sessions.resize_with(count, || Session::new(manners.window));
        Ok(Self {
            crew,
            ledger: manners.ledger.clone(),
            sessions,
            places: vec![Wanted::default(); count],
            nodes,
            links,
            stats: Stats::default(),
            happened: Vec::new(),
            wakes: Vec::new(),
            news: Vec::new(),
            timers: BinaryHeap::new(),
            acknowledgements: VecDeque::new(),
            group_acknowledgements: VecDeque::new(),
            login_timeouts: VecDeque::new(),
            to_connect: VecDeque::new(),
            logins: None,
            handshakes: 0,
            wanted: 0,
            next_sweep_us: 0,
            now_us: 0,
            draw: Draw::new(manners.run ^ (manners.lane as u64) << 32),
            fatal: None,
            last_loss: None,
            manners,
        })
    }

    // ---- for scenarios

    /// How many devices there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Nobody is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The time of this turn, in microseconds since the start of the run.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// The time right now: for telling how late a turn is.
    #[must_use]
    pub fn clock_us(&self) -> u64 {
        self.manners.clock.elapsed().as_micros() as u64
    }

    /// Who is here.
    #[must_use]
    pub const fn crew(&self) -> &Crew {
        &self.crew
    }

    /// What of the messages. Nothing else may be done with the devices while it is held.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// Where a device of the lane is in the ledger's crew.
    #[must_use]
    pub const fn seat(&self, slot: u32) -> u32 {
        self.manners.first_seat + slot
    }

    /// Which device of the lane sits there in the ledger's crew, if one does.
    #[must_use]
    pub fn slot(&self, seat: u32) -> Option<u32> {
        seat.checked_sub(self.manners.first_seat).filter(|slot| (*slot as usize) < self.len())
    }

    /// What was counted.
    pub const fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Random numbers that are the same in each run with the same seed.
    pub const fn draw(&mut self) -> &mut Draw {
        &mut self.draw
    }

    /// Whether a device is connected and welcome.
    #[must_use]
    pub fn is_ready(&self, slot: u32) -> bool {
        self.sessions[slot as usize].is_ready()
    }

    /// Devices that are connected and welcome.
    #[must_use]
    pub const fn ready(&self) -> u64 {
        self.stats.ready
    }

    /// Messages of a device without an answer, sent or not.
    #[must_use]
    pub fn unanswered(&self, slot: u32) -> usize {
        self.sessions[slot as usize].unanswered()
    }

    /// Fetches of a device without their page.
    #[must_use]
    pub fn fetching(&self, slot: u32) -> usize {
        self.sessions[slot as usize].fetching()
    }

    /// Where a device's log stood when it came first.
    #[must_use]
    pub fn start(&self, slot: u32) -> Seq {
        self.sessions[slot as usize].start()
    }

    /// What a device was told of the run's messages.
    #[must_use]
    pub fn told(&self, slot: u32) -> &Digest {
        self.sessions[slot as usize].told()
    }

    /// The messages of one device to the user of another one of the lane.
    pub fn open(&mut self, from: u32, to: u32) -> StreamId {
        self.open_to_seat(from, self.seat(to))
    }

    /// The messages of one device to a user who may be in another lane.
    pub fn open_to_seat(&mut self, from: u32, to: u32) -> StreamId {
        let from = self.seat(from);
        self.ledger.lock().open(from, to)
    }

    /// Sends the next message of a stream. Its latency counts from `intended_us`, however late it is called.
    pub fn send(&mut self, stream: StreamId, intended_us: u64, written: Written) {
        let mut ledger = self.ledger.lock();
        let index = ledger.send(stream, intended_us, &written);
        let (under_way, slot) = (ledger.under_way(), ledger.sender(stream) - self.manners.first_seat);
        drop(ledger);
        let late_us = self.now_us.saturating_sub(intended_us);
        self.stats.record(Measure::Late, late_us);
        self.look_at_backlog(under_way);
        self.turn(slot, |session, turn| session.push(turn, Pending::Message { stream, index, written }));
    }

    /// Sends a message to a group, or does something to it. Its latency counts from `intended_us`, however late it is called.
    pub fn send_to_group(&mut self, slot: u32, group: u32, said: Said, intended_us: u64) {
        let (seat, era) = (self.seat(slot), self.stats.era);
        let mut ledger = self.ledger.lock();
        let (sent, waiting) = (ledger.groups.send(seat, group, said, intended_us, era), ledger.groups.waiting());
        drop(ledger);
        if said.is_message() {
            let late_us = self.now_us.saturating_sub(intended_us);
            self.stats.record(Measure::Late, late_us);
        }
        self.look_at_backlog(waiting);
        self.turn(slot, |session, turn| session.push(turn, Pending::Group(sent)));
    }

    fn look_at_backlog(&mut self, waiting: u64) {
        if waiting > BACKLOG_MAX && self.fatal.is_none() {
            self.fatal =
                Some(format!("{BACKLOG_MAX} messages wait for the server: it is far behind what was asked for"));
        }
    }

    /// Asks for a page of a group, to compare it; false if the device has too many fetches unanswered.
    pub fn fetch_group(&mut self, slot: u32, fetch: GroupFetch) -> bool {
        self.ask(slot, Ask::GroupPage(fetch))
    }

    /// From now on the device looks at its groups: it asks for what it lacks.
    pub fn look_at_groups(&mut self, slot: u32) {
        let seat = self.seat(slot);
        self.ledger.lock().groups.set_patient(seat, false);
        self.turn(slot, Session::look_at_groups);
    }

    /// Says something about a message that is kept; false if the device can not.
    pub fn change(&mut self, slot: u32, kept: KeptId, change: Change) -> bool {
        let seat = self.seat(slot);
        let Some((side, which)) = self.ledger.lock().change(kept, seat, change) else { return false };
        self.turn(slot, |session, turn| session.push(turn, Pending::Change { kept, side, which }));
        true
    }

    /// Says something about a message of a group; false if the device can not.
    pub fn change_in_group(&mut self, slot: u32, group: u32, message: SentId, change: Change) -> bool {
        let said = self.ledger.lock().groups.change(self.seat(slot), message, change);
        if let Some(said) = said {
            self.send_to_group(slot, group, said, self.now_us);
        }
        said.is_some()
    }

    /// Deletes a message that is kept for the user of the device; false if the device can not.
    pub fn delete(&mut self, slot: u32, kept: KeptId, peer: UserId) -> bool {
        let seat = self.seat(slot);
        self.mark(slot, |place| Ask::Delete { kept, peer, place }, |ledger| ledger.delete(kept, seat))
    }

    /// Marks what the user at a seat of the ledger's crew wrote as read up to a place of the own log; false if the device can not.
    pub fn read(&mut self, slot: u32, author: u32, up_to: Seq) -> bool {
        let (seat, user) = (self.seat(slot), self.ledger.lock().crew().member(author).user);
        let asked = |ledger: &mut Ledger| {
            ledger.read(seat, author, up_to);
            Some(up_to)
        };
        self.mark(slot, |up_to| Ask::Read { author: user, up_to }, asked)
    }

    /// Keeps the conversation with somebody so; false if the device can not.
    pub fn set(&mut self, slot: u32, peer: UserId, settings: Settings) -> bool {
        let seat = self.seat(slot);
        let asked = |ledger: &mut Ledger| ledger.set(seat, peer, settings).then_some(Seq::ZERO);
        self.mark(slot, |_| Ask::Set { peer, settings }, asked)
    }

    /// Asks for what the ledger says where, unless too much is waited for.
    fn mark(&mut self, slot: u32, ask: impl Fn(Seq) -> Ask, asked: impl FnOnce(&mut Ledger) -> Option<Seq>) -> bool {
        if !self.sessions[slot as usize].has_room(ask(Seq::ZERO)) {
            return false;
        }
        let Some(place) = asked(&mut self.ledger.lock()) else { return false };
        self.ask(slot, ask(place))
    }

    /// Asks for something; false if the device waits for too much.
    pub fn ask(&mut self, slot: u32, ask: Ask) -> bool {
        self.turn(slot, |session, turn| session.ask(turn, ask))
    }

    /// Asks for a page; false if the device has too many fetches unanswered.
    pub fn fetch(&mut self, slot: u32, fetch: Fetch) -> bool {
        self.ask(slot, Ask::Page(fetch))
    }

    /// The device's next connection is an app that opens: [`Happened::Opened`] follows.
    pub fn will_open(&mut self, slot: u32, screen: Screen) {
        self.sessions[slot as usize].will_open(screen);
    }

    /// Cuts a connection without a word. The device stays away until [`Devices::connect_at`].
    pub fn cut(&mut self, slot: u32) {
        self.stats[Count::Cuts] += 1;
        self.mark_unwanted(slot);
        self.gone(slot, Left::Cut);
        self.links.end(slot);
    }

    /// Says bye and closes. The device stays away until [`Devices::connect_at`].
    pub fn leave(&mut self, slot: u32) {
        self.turn(slot, Session::bye);
        self.mark_unwanted(slot);
        self.gone(slot, Left::Bye);
        self.links.end_when_sent(slot);
    }

    /// Connects a device, at this time or as soon after it as its last connection is gone.
    pub fn connect_at(&mut self, slot: u32, at_us: u64) {
        self.mark_wanted(slot);
        let at_us = at_us.max(self.nodes.not_before_us(slot));
        self.places[slot as usize].connect_at_us = at_us;
        if self.links.is_free(slot) {
            self.timers.push(Reverse((at_us, slot, Timer::Connect)));
        }
    }

    /// Ends the run: there is no sense in going on.
    pub fn give_up(&mut self, why: String) {
        self.fatal.get_or_insert(why);
    }

    // ---- for the lane

    /// Why the run can not go on, if so.
    #[must_use]
    pub fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// What is missing, in words: for a run that stands still.
    #[must_use]
    pub fn what_is_missing(&self) -> String {
        let (wanted, ready, under_way) = (self.wanted, self.stats.ready, self.under_way());
        let why = self
            .last_loss
            .as_ref()
            .map_or(String::new(), |why| format!("; the last one that was lost or refused: {why}"));
        format!("{ready} of {wanted} connections are ready, {under_way} messages are under way{why}")
    }

    /// What has happened since the last call.
    pub(crate) fn take_happened(&mut self, into: &mut Vec<Happened>) {
        into.append(&mut self.happened);
    }

    /// Whether something is on its way that the server owes.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.under_way() > 0 || !self.is_complete()
    }

    /// Messages that were sent and are not yet accepted and with everybody, of all whom the ledger knows.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.ledger.lock().under_way()
    }

    /// Whether every device that is wanted is ready.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.wanted == self.stats.ready
    }

    /// Whether no connection is left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        (0..self.sessions.len() as u32).all(|slot| self.links.is_free(slot))
    }

    /// From now on, logins are limited as the run says.
    pub(crate) fn begin_logins(&mut self) {
        let start_us = self.clock_us();
        let draw = self.draw.clone();
        self.logins = self
            .manners
            .logins_a_second
            .map(|rate| Schedule::new(crate::schedule::Spacing::Even, rate, 0.0, start_us, u64::MAX, draw));
    }

    /// Those who meant to come back later come now. Those whom the server asked to wait do.
    pub(crate) fn call_back(&mut self) {
        for slot in 0..self.sessions.len() as u32 {
            let place = self.places[slot as usize];
            if place.is_wanted
                && place.attempts == 0
                && place.connect_at_us > self.now_us.max(self.nodes.not_before_us(slot))
            {
                self.connect_at(slot, self.now_us);
            }
        }
    }

    /// Closes everything for good.
    pub(crate) fn close_all(&mut self) {
        for slot in 0..self.sessions.len() as u32 {
            if self.is_ready(slot) {
                self.leave(slot);
            } else {
                self.mark_unwanted(slot);
                self.gone(slot, Left::Cut);
                self.links.end(slot);
            }
        }
        self.to_connect.clear();
    }

    /// Does what is due. Gives the time at which something is due next.
    pub(crate) fn due(&mut self) -> u64 {
        self.now_us = self.clock_us();
        let now_us = self.now_us;
        while let Some(Reverse((_, slot, timer))) =
            self.timers.peek().copied().filter(|Reverse((at, ..))| *at <= now_us)
        {
            self.timers.pop();
            match timer {
                Timer::Connect => self.want(slot),
                Timer::Pump => self.turn(slot, Session::pump),
                Timer::Renew => self.turn(slot, Session::renew_watch),
                Timer::Move => self.move_on(slot),
                Timer::Repeat(request) => self.turn(slot, |session, turn| session.repeat(turn, request)),
            }
        }
        while let Some(&(_, slot)) = self.acknowledgements.front().filter(|(at, _)| *at <= now_us) {
            self.acknowledgements.pop_front();
            self.turn(slot, Session::acknowledge);
        }
        while let Some(&(_, slot)) = self.group_acknowledgements.front().filter(|(at, _)| *at <= now_us) {
            self.group_acknowledgements.pop_front();
            self.turn(slot, Session::acknowledge_groups);
        }
        while let Some(&(_, slot, life)) = self.login_timeouts.front().filter(|(at, ..)| *at <= now_us) {
            self.login_timeouts.pop_front();
            let place = self.places[slot as usize];
            if place.is_greeting && place.life == life {
                self.lost(slot, 0, &format!("no welcome within {} s", LOGIN_TIMEOUT_US / 1_000_000));
            }
        }
        if self.next_sweep_us <= now_us {
            self.sweep();
            self.next_sweep_us = now_us - now_us % 1_000_000 + 1_000_000;
        }
        let login = self.connect_some();
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let acknowledgement = self.acknowledgements.front().map(|(at, _)| *at);
        let of_groups = self.group_acknowledgements.front().map(|(at, _)| *at);
        let timeout = self.login_timeouts.front().map(|(at, ..)| *at);
        [login, timer, acknowledgement, of_groups, timeout].into_iter().flatten().fold(self.next_sweep_us, u64::min)
    }

    /// Sends the output of the turn, and sleeps until something happens or the time has come.
    ///
    /// # Errors
    /// The ring is broken.
    pub(crate) fn wait(&mut self, until_us: u64) -> io::Result<()> {
        self.links.flush();
        let patience = Duration::from_micros(until_us.saturating_sub(self.clock_us()));
        let mut news = std::mem::take(&mut self.news);
        self.links.wait(patience, &mut news)?;
        self.now_us = self.clock_us();
        for news in news.drain(..) {
            self.on_news(news);
        }
        let Handshakes { done, resumed } = self.links.take_handshakes();
        self.stats[Count::TlsHandshakes] += done;
        self.stats[Count::TlsResumed] += resumed;
        self.news = news;
        Ok(())
    }

    fn turn<T>(&mut self, slot: u32, act: impl FnOnce(&mut Session, &mut Turn<'_>) -> T) -> T {
        let seat = self.seat(slot);
        let Self { sessions, links, ledger, stats, happened, wakes, now_us, .. } = self;
        let result = links.write(slot, |out| {
            let ledger = &mut ledger.lock();
            let mut turn = Turn { now_us: *now_us, slot, seat, ledger, stats, out, happened, wake: wakes };
            act(&mut sessions[slot as usize], &mut turn)
        });
        self.take_wakes(slot);
        result
    }

    fn take_wakes(&mut self, slot: u32) {
        for wake in self.wakes.drain(..) {
            match wake {
                Wake::Pump(at_us) => self.timers.push(Reverse((at_us, slot, Timer::Pump))),
                Wake::Renew(at_us) => self.timers.push(Reverse((at_us, slot, Timer::Renew))),
                Wake::Repeat(at_us, request) => self.timers.push(Reverse((at_us, slot, Timer::Repeat(request)))),
                Wake::Move(redirect) => {
                    let due_us = self.nodes.will_move(slot, self.now_us, redirect);
                    self.timers.push(Reverse((due_us, slot, Timer::Move)));
                }
                Wake::Acknowledge => self.acknowledgements.push_back((self.now_us + ACKNOWLEDGE_AFTER_US, slot)),
                Wake::AcknowledgeGroups => {
                    self.group_acknowledgements.push_back((self.now_us + ACKNOWLEDGE_GROUPS_AFTER_US, slot));
                }
            }
        }
    }

    fn fault(&mut self, slot: u32, what: &str) {
        let member = self.crew.member(slot);
        self.ledger.lock().faults.add(format!("user {} device {}: {what}", member.user, member.device()));
    }
}
