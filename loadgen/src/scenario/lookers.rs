//! Lookers: people who watch who is there, and whom others watch. Does what they do through the devices, so that what they may be told
//! is known, and compares what they are told with that (SPEC 8.10).

use std::collections::{HashMap, HashSet};

use proto_spec::{ConversationId, Presence, Status, UserId};

use crate::{
    devices::Devices,
    session::{Ask, Happened, Told},
    stats::Count,
    verify::presence::{LATE_MS, Patience, People, Truth},
};

/// Views that are looked at once in so many sweeps, one of which is made in a second.
const SWEEPS: u32 = 4;

/// The people of one lane, as far as presence goes.
#[derive(Debug)]
pub(super) struct Lookers {
    people: People,
    /// By slot.
    statuses: Vec<Status>,
    /// By slot: it watches somebody.
    watches: Vec<bool>,
    /// Views that are not the truth, since when.
    wrong: HashMap<(u32, UserId), u64>,
    /// Who types where: to whom, or in which group.
    typed: HashSet<(UserId, ConversationId)>,
    /// The longest lifetime of a watch that was told.
    lifetime_us: u64,
    next_sweep_us: u64,
    sweep: u32,
    /// When something last happened that others may have to be told.
    moved_us: u64,
    /// Frames with changes that came to the lane.
    pushed: u64,
}

impl Lookers {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            people: People::new(patience),
            statuses: Vec::new(),
            watches: Vec::new(),
            wrong: HashMap::new(),
            typed: HashSet::new(),
            lifetime_us: 0,
            next_sweep_us: 0,
            sweep: 0,
            moved_us: 0,
            pushed: 0,
        }
    }

    /// Everybody has connected, some time ago. What earlier runs have left in the logs is not known here.
    pub(super) fn begin(&mut self, devices: &mut Devices) {
        let count = devices.len();
        (self.statuses, self.watches) = (vec![Status::Here; count], vec![false; count]);
        self.moved_us = devices.now_us();
        for slot in 0..count as u32 {
            if devices.is_ready(slot) {
                self.says(devices, slot);
            }
            if devices.start(slot).0 > 0 {
                self.people.has_strangers(false);
            }
        }
    }

    pub(super) const fn patience(&self) -> &Patience {
        self.people.patience()
    }

    /// Frames with changes that came to the lane so far.
    pub(super) const fn pushed(&self) -> u64 {
        self.pushed
    }

    /// When everybody must have been told everything.
    pub(super) fn quiet_at_us(&self) -> u64 {
        self.moved_us + self.patience().quiet_us()
    }

    pub(super) fn is_hidden(&self, user: UserId) -> bool {
        self.people.is_hidden(user)
    }

    pub(super) fn status(&self, slot: u32) -> Status {
        self.statuses[slot as usize]
    }

    // ---- what people do

    /// Somebody writes to somebody.
    pub(super) fn write(&mut self, user: UserId, to: UserId) {
        self.people.writes(user, to);
    }

    pub(super) fn set_status(&mut self, devices: &mut Devices, slot: u32, status: Status) {
        self.statuses[slot as usize] = status;
        devices.set_status(slot, status);
        if devices.is_ready(slot) {
            self.says(devices, slot);
        }
    }

    /// Replaces whom a device watches.
    pub(super) fn watch(&mut self, devices: &mut Devices, slot: u32, users: Vec<UserId>) {
        self.forget_wrong(devices, slot);
        devices.watch(slot, users, self.people.patience());
        if !std::mem::replace(&mut self.watches[slot as usize], true) {
            let watched = devices.seen(slot).len() as u64;
            devices.stats_mut()[Count::Subscriptions] += watched;
        }
    }

    /// All who watch ask once more.
    pub(super) fn watch_again(&self, devices: &mut Devices) {
        for slot in 0..devices.len() as u32 {
            if self.watches[slot as usize] {
                let users = devices.seen(slot).iter().map(|seen| seen.user).collect();
                devices.watch(slot, users, self.people.patience());
            }
        }
    }

    /// The user of a device hides, or shows themselves again, unless the device waits for too much.
    pub(super) fn hide(&mut self, devices: &mut Devices, slot: u32, is_hidden: bool) {
        if devices.hide(slot, is_hidden) && !is_hidden {
            self.people.hides(devices.crew().member(slot).user, false, devices.now_us());
        }
    }

    /// The user of a device blocks somebody, or does no longer; false if the device waits for too much.
    pub(super) fn block(&mut self, devices: &mut Devices, slot: u32, whom: UserId, is_blocked: bool) -> bool {
        let is_asked = devices.block(slot, whom, is_blocked);
        if is_asked && !is_blocked {
            self.people.blocks(devices.crew().member(slot).user, whom, false, devices.now_us());
        }
        is_asked
    }

    pub(super) fn type_in(&mut self, devices: &mut Devices, slot: u32, conversation: impl Into<ConversationId>) {
        let conversation = conversation.into();
        self.typed.insert((devices.crew().member(slot).user, conversation));
        devices.typing(slot, conversation);
    }

    // ---- what comes of it

    /// Something has happened to a device.
    pub(super) fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        match what {
            Happened::Ready { slot } => self.says(devices, *slot),
            Happened::Left { slot, how } => {
                let member = devices.crew().member(*slot);
                self.moved_us = devices.now_us();
                self.people.left((member.user, member.ordinal), *how, self.moved_us);
                self.forget_wrong(devices, *slot);
            }
            Happened::Marked { slot, ask } => self.marked(devices, *slot, *ask),
            Happened::Presence { slot, told, states } => {
                match told {
                    Told::Watched { renew_us: Some(at_us), .. } => {
                        self.lifetime_us = self.lifetime_us.max(2 * at_us.saturating_sub(devices.now_us()));
                    }
                    Told::Watched { renew_us: None, .. } | Told::Answered { .. } => {}
                    Told::Pushed => self.pushed += 1,
                }
                let looks = devices.crew().member(*slot).user;
                for state in states {
                    if let Err(words) = self.people.check(looks, state.user, state.state, devices.now_us()) {
                        fault(devices, *slot, &words);
                    }
                }
            }
            Happened::Typing { slot, conversation, user } => self.told_of_typing(devices, *slot, *conversation, *user),
            Happened::Accepted { .. }
            | Happened::Delivered { .. }
            | Happened::Page { .. }
            | Happened::Opened { .. }
            | Happened::GroupPage { .. }
            | Happened::Groups { .. }
            | Happened::Inbox { .. }
            | Happened::Gone { .. } => {}
        }
    }

    fn told_of_typing(&self, devices: &Devices, slot: u32, conversation: ConversationId, user: UserId) {
        let (looks, now_us) = (devices.crew().member(slot).user, devices.now_us());
        let is_typing = match conversation {
            ConversationId::Person(_) => {
                for (who, whom) in [(looks, user), (user, looks)] {
                    if !self.people.may_know(who, whom, now_us) {
                        let words = format!("is told that user {user} types, though user {who} may not see {whom}");
                        fault(devices, slot, &words);
                    }
                }
                self.typed.contains(&(user, looks.into()))
            }
            ConversationId::Group(group) => {
                if self.people.has_been_hidden(user, now_us) {
                    fault(devices, slot, &format!("is told that user {user} types in group {group}, who is invisible"));
                }
                self.typed.contains(&(user, group.into()))
            }
        };
        if !is_typing {
            fault(devices, slot, &format!("is told that user {user} types in {conversation:?}, who does not"));
        }
    }

    fn marked(&mut self, devices: &Devices, slot: u32, ask: Ask) {
        let (user, now_us) = (devices.crew().member(slot).user, devices.now_us());
        match ask {
            Ask::Hide { is_hidden } => self.people.hides(user, is_hidden, now_us),
            Ask::Block { peer, is_blocked } => self.people.blocks(user, peer, is_blocked, now_us),
            Ask::GroupPage(_)
            | Ask::Groups { .. }
            | Ask::Page(_)
            | Ask::Inbox { .. }
            | Ask::Read { .. }
            | Ask::Set { .. }
            | Ask::Delete { .. } => return,
        }
        self.moved_us = now_us;
    }

    fn says(&mut self, devices: &Devices, slot: u32) {
        let member = devices.crew().member(slot);
        let state = match self.statuses[slot as usize] {
            Status::Here => Presence::Online,
            Status::Away => Presence::Away,
        };
        self.moved_us = devices.now_us();
        self.people.says((member.user, member.ordinal), state, self.moved_us);
    }

    fn forget_wrong(&mut self, devices: &Devices, slot: u32) {
        for seen in devices.seen(slot) {
            self.wrong.remove(&(slot, seen.user));
        }
    }

    /// Looks once in a second whether some devices show what has been wrong for longer than a watch lasts. Gives when it looks next.
    pub(super) fn sweep(&mut self, devices: &mut Devices) -> u64 {
        let now_us = devices.now_us();
        if now_us >= self.next_sweep_us {
            self.next_sweep_us = now_us + 1_000_000;
            self.sweep = (self.sweep + 1) % SWEEPS;
            for slot in (self.sweep..devices.len() as u32).step_by(SWEEPS as usize) {
                self.look(devices, slot, now_us);
            }
        }
        self.next_sweep_us
    }

    fn look(&mut self, devices: &mut Devices, slot: u32, now_us: u64) {
        let looks = devices.crew().member(slot).user;
        let old_us = self.lifetime_us + (self.patience().tick_ms + LATE_MS) * 1_000;
        let mut old = Vec::new();
        for seen in devices.seen(slot) {
            let Some(state) = seen.state.filter(|_| !seen.is_crowded) else { continue };
            match self.people.truth(looks, seen.user, now_us) {
                Truth::Is(truth) if truth != state => {
                    let since_us = *self.wrong.entry((slot, seen.user)).or_insert(now_us);
                    if now_us - since_us > old_us && self.lifetime_us > 0 {
                        old.push((seen.user, state, truth));
                    }
                }
                Truth::Is(_) | Truth::Moves => drop(self.wrong.remove(&(slot, seen.user))),
            }
        }
        for (user, state, truth) in old {
            self.wrong.insert((slot, user), now_us);
            let words = format!("shows user {user} as {state:?}, who has been {truth:?} for longer than a watch lasts");
            fault(devices, slot, &words);
        }
    }

    /// Everything is quiet: each device that watches must show the truth.
    pub(super) fn check_views(&mut self, devices: &mut Devices) {
        let now_us = devices.now_us();
        for slot in 0..devices.len() as u32 {
            if !devices.is_ready(slot) {
                continue;
            }
            let looks = devices.crew().member(slot).user;
            let (mut checked, mut crowded, mut wrong) = (0, 0, Vec::new());
            for seen in devices.seen(slot) {
                match self.people.truth(looks, seen.user, now_us) {
                    _ if seen.is_crowded => crowded += 1,
                    Truth::Is(truth) if seen.state == Some(truth) => checked += 1,
                    Truth::Is(truth) => wrong.push((seen.user, seen.state, truth)),
                    Truth::Moves => {}
                }
            }
            devices.stats_mut()[Count::ViewsChecked] += checked;
            devices.stats_mut()[Count::ViewsCrowded] += crowded;
            for (user, state, truth) in wrong {
                let shown = state.map_or("nothing of".to_owned(), |state| format!("{state:?} for"));
                fault(devices, slot, &format!("shows {shown} user {user}, who is {truth:?}"));
            }
        }
    }
}

fn fault(devices: &Devices, slot: u32, what: &str) {
    let member = devices.crew().member(slot);
    devices.ledger().faults.add(format!("user {} device {}: {what}", member.user, member.device()));
}
