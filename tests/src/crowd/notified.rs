//! Notifications of what comes in groups: some devices subscribe, and a provider takes notices, sometimes later. At any time a notice says what
//! somebody has durably written and its user may read. In the end somebody sleeps while others write, and the node may die: the screen of
//! each of their devices that is subscribed must show the last word of each group.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use client::Input;
use proto_spec::{Content, ConversationId, DeviceId, GroupEntry, GroupId, PushState, Seq, Show, Subscription, UserId};
use push::{Kind, Notice, Outcome, hosts::HostRules};
use server::{core::CoreMessage, shard::PushSettings};

use super::Crowd;
use crate::{rng::Rng, sim::words};

/// No device subscribes with Web Push.
static NO_HOSTS: HostRules = HostRules::NONE;

/// Short, so that it passes often.
pub(super) const PUSH: PushSettings =
    PushSettings { delay_ms: 700, providers: 0b100, server_key: None, hosts: &NO_HOSTS };

/// Seconds until whoever sleeps must be notified.
const NIGHT_S: u64 = 60;

/// Who has subscribed, and what their screens show.
pub(super) struct Screens {
    /// Not the crowd's own: all else goes as it does without notifications.
    rng: Rng,
    is_on: bool,
    /// The devices that are to subscribe.
    wanted: BTreeSet<(UserId, DeviceId)>,
    /// Those that have, as they were told.
    subscribed: BTreeSet<(UserId, DeviceId)>,
    shown: BTreeMap<(UserId, DeviceId, GroupId), Option<String>>,
}

impl Screens {
    pub(super) fn new(seed: u64, is_on: bool, devices: impl Iterator<Item = (UserId, DeviceId)>) -> Self {
        let mut rng = Rng::new(seed ^ 0x9054);
        let wanted = devices.filter(|_| is_on && rng.chance(60)).collect();
        Self { rng, is_on, wanted, subscribed: BTreeSet::new(), shown: BTreeMap::new() }
    }
}

impl Crowd {
    /// An app is connected: it subscribes, if it is one that does.
    pub(super) fn subscribe_app(&mut self, index: usize) {
        let app = &mut self.apps[index];
        if !self.screens.wanted.contains(&(app.user, app.device)) {
            return;
        }
        let address = format!("device-{}-of-user-{}", app.device, app.user);
        let subscription = Subscription { provider: 2, show: Show::Text, address, key: Vec::new(), secret: Vec::new() };
        _ = app.state.as_mut().map(|state| state.subscribe(Some(subscription)));
    }

    /// An app is told how it is subscribed.
    pub(super) fn on_subscription(&mut self, index: usize, state: &PushState) {
        let app = &self.apps[index];
        if state.provider != 0 {
            self.screens.subscribed.insert((app.user, app.device));
        }
    }

    /// The provider answers what it was given.
    pub(super) fn take_notices(&mut self) {
        while let Some((core, notice)) = self.world.notices.pop_front() {
            self.note(|| format!("{notice:?}"));
            self.check_notice(&notice);
            let screens = &mut self.screens;
            let outcome = match screens.rng.within(0, 99) {
                0..80 => Outcome::Delivered,
                _ if self.healing => Outcome::Delivered,
                80..95 => Outcome::Later(Duration::from_millis(screens.rng.within(100, 1_500))),
                _ => Outcome::Expired { last: None },
            };
            if outcome == Outcome::Delivered
                && let ConversationId::Group(group) = notice.conversation
            {
                let of = (notice.user, notice.device, group);
                match &notice.kind {
                    Kind::Message { text, .. } => _ = screens.shown.insert(of, text.clone()),
                    Kind::Clear => _ = screens.shown.remove(&of),
                }
            }
            self.reached(if notice.kind == Kind::Clear { "taken off a screen" } else { "a member notified" });
            self.world.put(core, CoreMessage::Notified(Box::new((*notice, outcome))));
        }
    }

    /// A notice says what is durable and its user's to read.
    fn check_notice(&mut self, notice: &Notice) {
        let (user, ConversationId::Group(group)) = (notice.user, notice.conversation) else {
            return self.truth.fail(|| format!("{notice:?} is of no group"));
        };
        let Kind::Message { from, text, .. } = &notice.kind else { return };
        let log = self.truth.log(group);
        let law = log.durable_law();
        let says = |entry: &&GroupEntry| {
            entry.from == *from && words(&entry.content) == *text && law.may_read(user, entry.seq)
        };
        if *from == user || !log.entries[..log.durable].iter().any(|entry| says(&entry)) {
            self.truth.fail(|| format!("{notice:?}: nobody has said so, it is not durable, or not theirs to hear"));
        }
    }

    /// Somebody who is subscribed sleeps, and others write.
    pub(super) fn spend_a_night(&mut self) {
        let sleepers: BTreeSet<UserId> = self.screens.subscribed.iter().map(|(user, _)| *user).collect();
        let sleepers: Vec<_> = sleepers.into_iter().collect();
        if !self.screens.is_on || sleepers.is_empty() || self.truth.failure.is_some() {
            return;
        }
        let user = *self.screens.rng.pick(&sleepers);
        self.note(|| format!("user {user} sleeps"));
        for index in 0..self.apps.len() {
            if self.apps[index].user == user {
                self.crash_app(index, u64::MAX / 4);
            }
        }
        let heads: Vec<_> =
            self.groups.clone().into_iter().map(|group| (group, self.truth.log(group).head())).collect();
        let pause = self.screens.rng.within(1, 2_000);
        self.pass(pause);
        self.settle();
        for index in (0..self.apps.len()).filter(|index| self.apps[*index].user != user).collect::<Vec<_>>() {
            for group in self.groups.clone() {
                let content = Content::text(&self.next_text());
                let state = self.apps[index].state.as_mut();
                _ = state.map(|state| state.send(group, content));
            }
            self.turn(index, Input::Tick);
        }
        if self.screens.rng.chance(60) {
            (0..self.screens.rng.within(0, 60)).for_each(|_| _ = self.goes_on());
            self.die();
            self.reached("node died while a member slept");
        }
        let mut lacking = Vec::new();
        for _ in 0..NIGHT_S {
            self.settle();
            self.pass(1_000);
            lacking = self.not_notified(user, &heads);
            if self.truth.failure.is_some() || lacking.is_empty() && self.truth.waiting_count() == 0 {
                break;
            }
        }
        if !lacking.is_empty() {
            self.truth.fail(|| format!("user {user} sleeps and is not notified: {lacking:?}"));
        }
        self.apps.iter_mut().for_each(|app| app.away_until_ms = 0);
        self.rest("after a night");
    }

    /// What screens of this user do not show of groups that have gone on behind these places.
    fn not_notified(&self, user: UserId, heads: &[(GroupId, Seq)]) -> Vec<(DeviceId, GroupId, Option<String>)> {
        let mut lacking = Vec::new();
        for (group, head) in heads {
            let Some(log) = self.truth.logs.get(group) else { continue };
            let mut new =
                log.entries[..log.durable].iter().rev().filter(|entry| entry.seq > *head && entry.content.is_message());
            let is_member = log.durable_law().member(user).is_some();
            let Some(last) = new.next().filter(|_| is_member) else { continue };
            let text = words(&last.content);
            let devices = self.screens.subscribed.iter().filter(|(of, _)| *of == user);
            let dark = devices.filter(|(_, device)| self.screens.shown.get(&(user, *device, *group)) != Some(&text));
            lacking.extend(dark.map(|(_, device)| (*device, *group, text.clone())));
        }
        lacking
    }
}
