//! Groups in a cluster: people write to groups and change them while slots move, nodes die and links break. What must hold is what
//! [`crate::crowd`] looks at; here everything that is decided counts when the database has it.

use std::collections::{BTreeMap, BTreeSet};

use client::{ClientEvent, Input};
use proto_spec::{ClientFrame, Content, Decoder, GroupId, Seq, ServerFrame, UserId, limits::CLIENT_FRAME_BYTES_MAX};
use server::{
    cluster::map::Slot,
    core::CoreMessage,
    shard::{GroupMail, GroupSaid},
};
use storage::{BatchId, LaneId, Record, contract::block_on, group::beside};

use super::{Fleet, faults::Fault, network::LineId};
use crate::{
    crowd::{
        deeds::Habits,
        device::Device,
        told::Line,
        truth::{Outcome, Truth},
    },
    rng::Rng,
    sim::{Coverage, Failure},
};

/// Seeds of the standard run with groups.
pub const SEEDS: u64 = 20;

/// Within so many seeds every deliberate fault must be found.
pub const SEEDS_TO_FIND: u64 = 60;

/// What is counted of groups beside [`super::SITUATIONS`]. All must be reached in the standard run.
pub const SITUATIONS: &[&str] = &[
    "group written to",
    "message refused by a group",
    "pointer before the push that it speaks of",
    "unfinished group told to a new owner",
];

/// Deliberate faults that groups are to find.
pub const FAULTS: &[Fault] = &[Fault::LosePush, Fault::FollowWithoutHead, Fault::LoseOnLink];

/// The groups of a cluster, and what is known of them.
pub(super) struct Gathering {
    pub(super) truth: Truth,
    groups: Vec<GroupId>,
    habits: Habits,
    /// By app.
    devices: Vec<Device>,
    lines: BTreeMap<LineId, Line>,
    accepted: BTreeSet<(UserId, Seq)>,
    next_text: u64,
}

impl Gathering {
    pub(super) fn new(rng: &mut Rng, users: u64, apps: usize) -> Self {
        let groups = (0..rng.within(1, 3)).map(|_| GroupId(rng.next() >> 1)).collect();
        Self {
            truth: Truth::new(usize::MAX, false, BTreeSet::new()),
            groups,
            habits: Habits { users, ends: rng.chance(20), floods: false },
            devices: (0..apps).map(|_| Device::default()).collect(),
            lines: BTreeMap::new(),
            accepted: BTreeSet::new(),
            next_text: 0,
        }
    }

    /// What was sent to a group in this simulation begins so.
    pub(super) fn is_of_group(text: &str) -> bool {
        text.starts_with('g')
    }
}

/// Runs one seed of a cluster with groups; gives back the situations that it reached.
///
/// # Errors
/// Something that must never happen has happened.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Coverage, Failure> {
    Fleet::new(seed, fault, false).gather().run()
}

/// Runs one seed and writes down what happens.
///
/// # Errors
/// As [`run`], with a trace.
pub fn run_traced(seed: u64, fault: Option<Fault>) -> Result<Coverage, Failure> {
    Fleet::new(seed, fault, true).gather().run()
}

impl Fleet {
    fn gather(mut self) -> Self {
        let users = self.apps.iter().map(|app| app.key.0.0).max().unwrap_or_default();
        self.gathering = Some(Gathering::new(&mut self.rng, users, self.apps.len()));
        self
    }

    // ---- what people do

    /// Somebody writes to a group, or looks at one. False: there are no groups.
    pub(super) fn acts_in_group(&mut self, index: usize) -> bool {
        let Some(of) = &mut self.gathering else { return false };
        let rng = &mut self.rng;
        let (app, device) = (&mut self.apps[index], &mut of.devices[index]);
        let Some(state) = &mut app.state else { return true };
        let Some(group) = of.truth.group_for(rng, &of.groups, app.key.0) else { return false };
        if rng.chance(25) {
            let limit = rng.within(1, 8);
            let asked = match rng.within(0, 5) {
                0..=2 => {
                    device.fetch_lacking(state, limit);
                    None
                }
                3 => {
                    let from = Seq(rng.within(0, 20));
                    device.fetch(state, group, from, proto_spec::Direction::Backwards, limit);
                    None
                }
                4 => state.fetch_members(group, UserId(0), limit, Seq(0)).ok(),
                _ => state.fetch_groups(GroupId(0), limit).ok(),
            };
            asked.into_iter().for_each(|fetch| device.asks(fetch));
            return true;
        }
        of.next_text += 1;
        let text = format!("g{}", of.next_text);
        let log = of.truth.log(group);
        let content = of.habits.deed(rng, log.durable_law(), app.key.0, &text);
        if let Ok(handle) = state.send(group, content) {
            app.texts.push((handle, text));
        }
        true
    }

    /// What an app does with an event that is about groups; none: it is about others, or about others as well.
    pub(super) fn group_event(&mut self, index: usize, event: &ClientEvent) -> Option<bool> {
        let of = self.gathering.as_mut()?;
        let user = self.apps[index].key.0;
        match event {
            ClientEvent::MessageAccepted { handle, seq, number, .. } => {
                let texts = &mut self.apps[index].texts;
                let at = texts.iter().position(|(of, text)| of == handle && Gathering::is_of_group(text))?;
                texts.remove(at);
                let sent = of.truth.sent.get(&(user, *seq)).map(|sent| (sent.device, sent.number));
                if sent != Some((self.apps[index].key.1, *number)) {
                    of.truth.fail(|| format!("user {user}: {number} is {seq}: {sent:?}"));
                }
                of.accepted.insert((user, *seq));
                return Some(false);
            }
            ClientEvent::Disconnected { .. } => {
                of.devices[index].forget_fetches();
                return None;
            }
            _ => {}
        }
        let heard = of.devices[index].hears(event)?;
        if let Some(wrong) = heard.wrong {
            of.truth.fail(|| format!("user {user}: {wrong}"));
        }
        let next = heard.on.zip(self.apps[index].state.as_mut());
        let goes_on = next.is_some_and(|((group, from), state)| {
            of.devices[index].fetch(state, group, from, proto_spec::Direction::Forwards, 100)
        });
        if heard.is_pointed_at {
            self.reached("pointer before the push that it speaks of");
        }
        // A pointer is an entry of the log as well.
        (!matches!(event, ClientEvent::Entry(_))).then_some(goes_on)
    }

    /// The app has crashed.
    pub(super) fn forget_group_fetches(&mut self, index: usize) {
        if let Some(of) = &mut self.gathering {
            of.devices[index].forget_fetches();
        }
    }

    // ---- what passes

    /// An app says something.
    pub(super) fn group_asked(&mut self, line: LineId, app: usize, bytes: &[u8]) {
        let Some(of) = &mut self.gathering else { return };
        let (user, device) = self.apps[app].key;
        let seen = of.lines.entry(line).or_insert_with(|| Line::new(user, device));
        let mut frames = Vec::new();
        let decoded = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32).decode(bytes, |raw| {
            frames.extend(ClientFrame::decode(raw));
            std::ops::ControlFlow::Continue(())
        });
        decoded.expect("a client's own frames can be read");
        // Another node may have the group by then, and the one that answers not know of it: but this connection is told nothing that is
        // older than what it was told by those whom it asked before.
        for frame in frames {
            if let ClientFrame::AcknowledgeGroup { group, up_to } = frame {
                of.truth.has_said(user, group, up_to);
            }
            seen.says(frame, None);
        }
    }

    /// A frame leaves a node for a client.
    pub(super) fn group_told(&mut self, line: LineId, frame: &ServerFrame) {
        let Some(of) = &mut self.gathering else { return };
        if let Some(seen) = of.lines.get_mut(&line) {
            seen.is_told(frame, &mut of.truth);
        }
        self.fail_with_groups();
    }

    /// The database has a batch.
    pub(super) fn group_learns(&mut self, key: (LaneId, BatchId), records: &[Record]) {
        let Some(of) = &mut self.gathering else { return };
        of.truth.decided(key, records);
        of.truth.become_durable(&[true]);
        self.fail_with_groups();
    }

    fn fail_with_groups(&mut self) {
        if let Some(what) = self.gathering.as_mut().and_then(|of| of.truth.failure.take()) {
            self.oracle.fail(|| what);
        }
    }

    /// Something is said between cores. Whether a deliberate fault loses it.
    pub(super) fn meddle_with_group_mail(&mut self, message: &mut CoreMessage) -> bool {
        let CoreMessage::Group(mail) = message else { return false };
        let GroupMail { said, .. } = &mut **mail;
        match said {
            GroupSaid::Pushed(_) => self.strikes(Fault::LosePush, 100),
            GroupSaid::Following { head, .. } if self.fault == Some(Fault::FollowWithoutHead) => {
                *head = Seq::ZERO;
                false
            }
            _ => false,
        }
    }

    /// The slot of a group, for who moves slots.
    pub(super) fn slot_of_group(&mut self) -> Option<Slot> {
        let of = self.gathering.as_ref()?;
        self.rng.chance(50).then(|| Slot::of(beside(*self.rng.pick(&of.groups))))
    }

    // ---- the end

    /// Everybody fetches what lacks, until nothing does.
    pub(super) fn rest_of_groups(&mut self) {
        for _ in 0..40 {
            let Some(of) = &mut self.gathering else { return };
            let mut is_open = false;
            for index in 0..self.apps.len() {
                let app = &mut self.apps[index];
                let Some(state) = app.state.as_mut().filter(|_| !app.is_gone) else { continue };
                while of.devices[index].fetch_lacking(state, 50) {
                    is_open = true;
                }
                is_open |= !of.devices[index].is_answered();
            }
            for index in 0..self.apps.len() {
                self.turn(index, Input::Tick);
            }
            self.go_on_until(self.now_ms + 1_370);
            if !is_open || self.oracle.failure.is_some() {
                return;
            }
        }
        self.oracle.fail(|| "groups can not be fetched".to_owned());
    }

    /// Some go away while others write, and come back; and then somebody has the last word, of which nobody is told by anything else.
    pub(super) fn absence_in_groups(&mut self) {
        let Some(of) = &self.gathering else { return };
        let (groups, users) = (of.groups.clone(), of.habits.users);
        let away = UserId(self.rng.within(1, users));
        for index in 0..self.apps.len() {
            if self.apps[index].key.0 == away {
                self.crash_app(index);
            }
        }
        for index in 0..self.apps.len() {
            groups.iter().for_each(|group| self.says_in_group(index, *group));
        }
        self.go_on_until(self.now_ms + 2_000);
        self.rest_of_groups();
        self.check_standings();
        for group in groups {
            let Some(of) = &self.gathering else { return };
            let law = of.truth.logs.get(&group).map(|log| log.durable_law());
            let is_member = |index: &usize| law.is_some_and(|law| law.member(self.apps[*index].key.0).is_some());
            let members: Vec<_> = (0..self.apps.len()).filter(is_member).collect();
            if !members.is_empty() {
                let index = *self.rng.pick(&members);
                self.says_in_group(index, group);
            }
        }
        self.go_on_until(self.now_ms + 2_000);
        self.rest_of_groups();
    }

    fn says_in_group(&mut self, index: usize, group: GroupId) {
        let (Some(of), app) = (&mut self.gathering, &mut self.apps[index]) else { return };
        let Some(state) = app.state.as_mut().filter(|_| !app.is_gone) else { return };
        of.next_text += 1;
        let text = format!("g{}", of.next_text);
        if let Ok(handle) = state.send(group, Content::text(&text)) {
            app.texts.push((handle, text));
        }
        self.turn(index, Input::Tick);
    }

    /// Everybody was told how they stand, and how far each group is.
    fn check_standings(&mut self) {
        let Some(of) = &self.gathering else { return };
        let users = (1..=of.habits.users).map(UserId);
        let wrong =
            users.flat_map(|user| of.groups.iter().map(move |group| (*group, user))).find_map(|(group, user)| {
                let there = (0..self.apps.len()).filter(|at| self.apps[*at].key.0 == user && !self.apps[*at].is_gone);
                of.truth.wrong_standing(group, user, there.map(|at| &of.devices[at]))
            });
        if let Some(wrong) = wrong {
            self.oracle.fail(|| wrong);
        }
    }

    pub(super) fn check_groups(&mut self) {
        self.check_standings();
        let Some(of) = &mut self.gathering else { return };
        let mut wrong = of.truth.undecided_at_the_end();
        wrong = wrong.or_else(|| {
            let lost = of.accepted.iter().find(|key| !of.truth.sent.contains_key(key));
            lost.map(|lost| format!("{lost:?} was accepted, and is gone"))
        });
        for group in &of.groups {
            for user in (1..=of.habits.users).map(UserId) {
                let there =
                    || (0..self.apps.len()).filter(|at| self.apps[*at].key.0 == user && !self.apps[*at].is_gone);
                wrong =
                    wrong.or_else(|| there().find_map(|at| of.truth.wrong_held(*group, user, &of.devices[at], false)));
            }
        }
        let mut reached = Vec::new();
        for outcome in of.truth.outcomes.values() {
            reached.push(match outcome {
                Outcome::Placed(_) => "group written to",
                Outcome::Refused(_) => "message refused by a group",
            });
        }
        let owed = block_on(storage::unfinished_groups(&self.database.store, None, 1_000)).expect("reads do not fail");
        wrong = wrong.or_else(|| (!owed.is_empty()).then(|| format!("{owed:?} owe something, and nothing happens")));
        if let Some(wrong) = wrong {
            self.oracle.fail(|| wrong);
        }
        reached.into_iter().for_each(|situation| self.reached(situation));
    }
}
