//! The end of trouble: everything comes to rest, and everybody has what they are to have.

use client::limits::ACKNOWLEDGE_GROUPS_AFTER_MS;
use proto_spec::{Content, GroupId, UserId};
use server::limits::{GROUP_RECEIPTS_EVERY_MS, TICK_MS};

use super::{Crowd, HEALING_S};

/// Steps after which something that goes on is taken to go on for ever.
const STEPS_MAX: u64 = 200_000;

impl Crowd {
    /// Whatever can happen happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.truth.failure.is_some() || !self.goes_on() {
                return;
            }
        }
        self.truth.fail(|| "it never comes to an end".to_owned());
    }

    /// Everything settles and time passes, until it is quiet.
    pub(super) fn rest(&mut self, what: &str) {
        for _ in 0..HEALING_S {
            self.settle();
            self.pass(1_000);
            self.settle();
            for index in 0..self.apps.len() {
                while self.fetch_lacking(index) {
                    self.turn(index, client::Input::Tick);
                }
            }
            self.settle();
            let is_open = self.apps.iter().any(|app| !app.is_quiet()) || self.truth.waiting_count() > 0;
            if self.truth.failure.is_some() || !is_open {
                return;
            }
        }
        let open: Vec<_> = self.apps.iter().filter(|app| !app.is_quiet()).map(super::people::App::describe).collect();
        let waiting = self.truth.waiting();
        self.truth.fail(|| format!("{what}: something is still open: {open:?}, {waiting:?}"));
    }

    /// Nothing goes wrong any more.
    pub(super) fn end(&mut self) {
        self.healing = true;
        self.note(|| "healing".to_owned());
        (self.world.disk_stalled, self.world.store_stalled) = (false, false);
        (self.world.store_fails, self.world.unreadable) = (false, None);
        for app in &mut self.apps {
            (app.stalled_until_ms, app.away_until_ms) = (0, 0);
        }
        self.rest("after healing");
        // What was put off is tried again.
        (0..5).for_each(|_| {
            self.pass(1_000);
            self.settle();
        });
        self.rest("once more");
        self.absence();
        self.look_at_counters();
        self.look_at_outcomes();
        self.check_outcomes();
        self.check_people();
        self.check_reading();
        self.check_marks();
        self.spend_a_night();
        self.check_memory();
    }

    /// Some go away while others write, and come back.
    fn absence(&mut self) {
        let away: Vec<bool> = (0..self.users).map(|_| self.rng.chance(50)).collect();
        let is_away = |user: UserId| away[user.0 as usize - 1];
        for index in (0..self.apps.len()).filter(|index| is_away(self.apps[*index].user)).collect::<Vec<_>>() {
            self.crash_app(index, 4_000);
        }
        for index in 0..self.apps.len() {
            for group in self.groups.clone() {
                let content = Content::text(&self.next_text());
                let state = self.apps[index].state.as_mut();
                // A queue that is full says enough.
                _ = state.map(|state| state.send(group, content));
            }
            self.turn(index, client::Input::Tick);
        }
        self.settle();
        self.pass(2_000);
        self.settle();
        self.rest("after an absence");
        self.check_people();
        // Of this nobody is told by anything else.
        for group in self.groups.clone() {
            let members = (0..self.apps.len()).filter(|index| {
                let log = self.truth.logs.get(&group);
                log.is_some_and(|log| log.durable_law().member(self.apps[*index].user).is_some())
            });
            let members: Vec<_> = members.collect();
            if !members.is_empty() {
                let (index, content) = (*self.rng.pick(&members), Content::text(&self.next_text()));
                let state = self.apps[index].state.as_mut();
                _ = state.map(|state| state.send(group, content));
                self.turn(index, client::Input::Tick);
            }
        }
        self.rest("after a last word");
    }

    /// Everything that was sent has had one outcome, which its author was told.
    fn check_outcomes(&mut self) {
        let undecided = self.truth.undecided_at_the_end();
        undecided.into_iter().for_each(|undecided| self.truth.fail(|| undecided));
        let lost = self.accepted.iter().find(|key| !self.truth.sent.contains_key(key)).copied();
        if let Some(lost) = lost {
            self.truth.fail(|| format!("{lost:?} was accepted, and is gone"));
        }
    }

    /// Whoever ever was a member was told how they stand, and each of their devices how far the group is.
    fn check_people(&mut self) {
        for group in self.groups.clone() {
            for user in (1..=self.users).map(UserId) {
                let devices = self.apps.iter().filter(|app| app.user == user).map(|app| &app.holds);
                let wrong = self.truth.wrong_standing(group, user, devices);
                wrong.into_iter().for_each(|wrong| self.truth.fail(|| wrong));
            }
        }
    }

    /// What each device holds is what its user may read; and what it reads once more is the same.
    fn check_reading(&mut self) {
        for round in 0..2 {
            for index in 0..self.apps.len() {
                for group in self.groups.clone() {
                    let user = self.apps[index].user;
                    let is_known = self.truth.log(group).durable_law().people.contains_key(&user);
                    if is_known && round == 1 {
                        self.fetch_all(index, group);
                    }
                }
            }
            self.rest("reading");
            if self.truth.failure.is_some() {
                return;
            }
            for index in 0..self.apps.len() {
                for group in self.groups.clone() {
                    self.check_held(index, group, round == 1);
                }
            }
        }
    }

    /// Each member sees of each how far they have read, as the marks say that they have let others know of since they came, and what their
    /// devices have.
    fn check_marks(&mut self) {
        self.pass(ACKNOWLEDGE_GROUPS_AFTER_MS + GROUP_RECEIPTS_EVERY_MS + TICK_MS);
        self.rest("telling what devices have");
        let lost = self.truth.lost_mark();
        lost.into_iter().for_each(|lost| self.truth.fail(|| lost));
        self.truth.is_at_rest = true;
        for index in 0..self.apps.len() {
            for group in self.groups.clone() {
                if self.truth.log(group).durable_law().member(self.apps[index].user).is_some() {
                    self.fetch_members(index, group);
                }
            }
        }
        self.rest("asking for members");
    }

    fn check_held(&mut self, index: usize, group: GroupId, is_all: bool) {
        let app = &self.apps[index];
        let wrong = self.truth.wrong_held(group, app.user, &app.holds, is_all);
        wrong.into_iter().for_each(|wrong| self.truth.fail(|| wrong));
    }

    /// Nobody owes anything; and when all have gone, nothing is kept of them.
    fn check_memory(&mut self) {
        if self.truth.failure.is_some() {
            return;
        }
        for index in 0..self.apps.len() {
            self.crash_app(index, u64::MAX / 4);
        }
        for _ in 0..20 {
            self.settle();
            while self.world.ingest_next() {}
            self.pass(1_000);
        }
        self.settle();
        let (users, groups) = (&self.world.store.unfinished, &self.world.store.unfinished_groups);
        if !users.is_empty() || !groups.is_empty() {
            let sentence = format!("users {users:?} and groups {groups:?} owe something, and nothing happens");
            self.truth.fail(|| sentence);
        }
        let kept = [
            ("groups", self.world.total(|counters| counters.groups)),
            ("groups that are followed", self.world.total(|counters| counters.groups_followed)),
            ("users", self.world.total(|counters| counters.users)),
        ];
        for (what, count) in kept {
            if count > 0 {
                self.truth.fail(|| format!("{count} {what} are kept, and nobody is there"));
            }
        }
    }
}
