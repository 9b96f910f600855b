//! Presence: who is there, told to those who may know (SPEC 8.10; the reasons in `docs/DESIGN.md`, "Presence").
//!
//! Two sides: the home of a user knows whether they are there (`people`), the core of who looks knows what each connection was told
//! (`viewer`). What goes between them (`mail`), inside a node or from node to node, may be lost. Who may see whom is the `rule`'s. `asking` carries a question to the homes
//! and back, `showing` tells the homes' side what happens to users, `typing` is a word that is passed on and forgotten.

mod asking;
mod mail;
mod people;
mod rule;
mod showing;
mod typing;
mod viewer;

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use proto_spec::{Presence, UserId};

use self::{
    asking::Look,
    mail::Outgoing,
    people::People,
    viewer::{Due, Viewer},
};
pub(super) use self::{
    asking::{Blocks, Reading},
    people::Shown,
    typing::Typed,
    viewer::WatchId,
};
pub use self::{
    mail::{
        Answer, Ask, Asked, Change, CoreAddress, LookId, PresenceMail, PresenceNews, Sight, To, Told, Typing, Verdict,
        Version,
    },
    rule::ShownTo,
};
use super::{Shard, Turn, later::Later};
use crate::{
    limits::{LOOK_MS, PRESENCE_TOLD_TURN_MAX, PRESENCE_WAITING_BYTES_MAX, WATCH_LATE_MS},
    shard::{
        directory::Directory,
        shedding::Class,
        topology::{CoreId, Homes, NodeId},
    },
};

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceSettings {
    /// Who sees whom.
    pub shown_to: ShownTo,
    /// For how long a user has to be there before it is announced, in milliseconds.
    pub hold_ms: u64,
    /// For how long a user whose connection was lost may be gone before it is announced, in milliseconds.
    pub grace_ms: u64,
    /// Changes to one device are told at most once in this time, in milliseconds.
    pub tick_ms: u64,
    /// After this a watch ends that was not renewed, in milliseconds.
    pub lifetime_ms: u64,
    /// Most connections that watch one user.
    pub watchers_max: u64,
    /// What is told of when somebody was last seen is a multiple of this, in milliseconds.
    pub last_seen_ms: u64,
}

impl PresenceSettings {
    /// What operators get who set nothing.
    pub const DEFAULT: Self = Self {
        shown_to: ShownTo::Conversation,
        hold_ms: 3_000,
        grace_ms: 10_000,
        tick_ms: 1_000,
        lifetime_ms: 120_000,
        watchers_max: 10_000,
        last_seen_ms: 60_000,
    };

    /// For how long a home believes that a core watches: a renewal may be late.
    const fn watch_ms(&self) -> u64 {
        self.lifetime_ms + WATCH_LATE_MS
    }
}

/// All that a shard has of presence.
#[derive(Debug)]
pub(super) struct Sights {
    people: People,
    viewer: Viewer,
    /// Questions of this core that are not answered.
    looks: HashMap<LookId, Look, RandomState>,
    last_look: LookId,
    /// Users in questions of other nodes for which the store is being asked; of nodes that have any.
    foreign_reads: BTreeMap<NodeId, usize>,
    /// When they are given up.
    late: Later<LookId>,
    outgoing: Outgoing,
    /// The last tick: who is to be told something by then is told it in this turn or the next ones.
    tells_up_to_ms: u64,
}

impl Sights {
    pub(super) fn new(core: CoreId, homes: &Homes, settings: PresenceSettings) -> Self {
        let node = homes.cluster.as_ref().map(|cluster| cluster.own).unwrap_or_default();
        Self {
            people: People::new(settings, node),
            viewer: Viewer::new(settings),
            looks: HashMap::default(),
            last_look: LookId(0),
            foreign_reads: BTreeMap::new(),
            late: Later::new(LOOK_MS),
            outgoing: Outgoing::new(CoreAddress { node, core }),
            tells_up_to_ms: 0,
        }
    }

    /// These users have another owner than before, or the same one again: who looks at them asks anew.
    pub(super) fn moved_away(&mut self, is_gone: impl Fn(UserId) -> bool) {
        self.people.forget_where(&is_gone);
        self.viewer.ask_anew(is_gone);
    }

    /// A link to a node has ended: what its cores were told may be lost, and they ask again.
    pub(super) fn link_lost(&mut self, node: NodeId) {
        self.people.forget_watchers(node);
    }

    /// A node can be reached again, or through another link.
    pub(super) fn link_open(&mut self, homes: &Homes, node: NodeId) {
        self.viewer.ask_anew(|user| homes.elsewhere(user) == Some(node));
    }

    /// How many users are remembered: those who are there or watched.
    pub(super) fn people(&self) -> usize {
        self.people.len()
    }

    /// How many devices watch somebody.
    pub(super) const fn watches(&self) -> usize {
        self.viewer.len()
    }

    /// How many changes were told as a part of a later one.
    pub(super) const fn merged(&self) -> u64 {
        self.viewer.merged()
    }

    /// Whether a user is there, as far as the device of this watch may know: of one of this node the directory says so, of one of another
    /// node what was told last.
    fn is_seen(&self, watch: Option<WatchId>, user: UserId, homes: &Homes, directory: &Directory) -> bool {
        let Some((version, sight)) = watch.and_then(|watch| self.viewer.sees(watch, user)) else { return false };
        match homes.elsewhere(user) {
            None => directory.is_here(user, version),
            Some(_) => sight.state > Presence::Offline,
        }
    }

    /// Whether the device of a watch was told last that a user is there.
    pub(super) fn has_told_of(&self, watch: WatchId, user: UserId) -> bool {
        self.viewer.has_told_of(watch, user)
    }

    /// Whether a user is there, for the answer to a message for them. If they are not there the device knows it by that answer.
    pub(super) fn answers(
        &mut self,
        watch: Option<WatchId>,
        user: UserId,
        homes: &Homes,
        directory: &Directory,
    ) -> bool {
        let is_seen = self.is_seen(watch, user, homes, directory);
        if !is_seen && let Some(watch) = watch {
            self.viewer.correct(watch, user);
        }
        is_seen
    }
}

impl Shard {
    /// Another core, or this one, says something.
    pub(super) fn presence_mail(&mut self, mail: PresenceMail, cx: &mut Turn<'_>) {
        let PresenceMail { from, news: PresenceNews { asks, answers, changes, counts, typing }, .. } = mail;
        for (user, count) in counts {
            self.sights.people.count(user, from, count);
        }
        asks.into_iter().for_each(|ask| self.asked(from, ask, cx));
        // Before the changes: what was answered before one is overtaken by it, and what was answered after it says the same.
        answers.into_iter().for_each(|answer| self.look_answered(from, answer, cx));
        let own = self.sights.outgoing.own().node;
        for change in changes {
            if self.homes.elsewhere(change.user).unwrap_or(own) != from.node {
                // A home that is none any more, as this core knows: its versions are not those of the new one.
                continue;
            }
            if !self.sights.viewer.change(&change) {
                self.sights.outgoing.for_home(from, 1).counts.push((change.user, 0));
            }
        }
        typing.into_iter().for_each(|typing| self.typing_arrived(typing, cx));
    }

    /// With each tick: announces what has held, gives up what was not answered, and finds out whom to tell what has changed.
    pub(super) fn tick_presence(&mut self, cx: &mut Turn<'_>) {
        let now_ms = cx.now.monotonic_ms;
        let (outgoing, homes) = (&mut self.sights.outgoing, &self.homes);
        self.counters.presence_announced +=
            self.sights.people.announce(now_ms, |viewer, change| outgoing.change(homes, viewer, change));
        self.sights.people.sweep(now_ms);
        while let Some(look) = self.sights.late.take_due(now_ms) {
            self.look_is_late(look, cx);
        }
        self.sights.tells_up_to_ms = now_ms;
    }

    /// Whether connections are to be told of presence in another turn, though nothing happens. While the core is busy they are told later,
    /// and then less, since what came and went meanwhile is nothing.
    pub(super) fn has_presence_to_tell(&self) -> bool {
        self.sights.viewer.has_due(self.sights.tells_up_to_ms) && self.sheds(Class::Presence).is_none()
    }

    /// Tells some connections what has changed up to the last tick: a few in a turn, since messages wait for its end.
    pub(super) fn tell_presence(&mut self, cx: &mut Turn<'_>) {
        for _ in 0..PRESENCE_TOLD_TURN_MAX {
            if !self.has_presence_to_tell() {
                return;
            }
            let sessions = &mut self.sessions;
            let takes =
                |conn| sessions.get_mut(conn).is_some_and(|session| session.queued() <= PRESENCE_WAITING_BYTES_MAX);
            match self.sights.viewer.due(self.sights.tells_up_to_ms, cx.now.monotonic_ms, takes) {
                Some(Due::Nothing) => {}
                Some(Due::Flush(flush)) => self.tell_watch(flush, cx),
                Some(Due::Ended { conn, fewer }) => {
                    if let Some(mut session) = conn.and_then(|conn| self.sessions.get_mut(conn)) {
                        session.watch = None;
                    }
                    self.tell_fewer(fewer);
                }
                None => return,
            }
        }
    }

    /// What this turn says to other cores leaves, and to this one is heard.
    pub(super) fn post_presence(&mut self, cx: &mut Turn<'_>) {
        while !self.sights.outgoing.is_empty() {
            for mail in self.sights.outgoing.take() {
                if mail.to == To::Core(self.core) {
                    self.presence_mail(mail, cx);
                } else {
                    cx.effects.presence.push(Box::new(mail));
                }
            }
        }
    }
}
