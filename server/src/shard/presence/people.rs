//! People: what the home of users knows of who is there, and to which cores it is told.
//!
//! A state is announced once it has held, see [`PresenceSettings`]. Pure data: what is to be announced comes back from
//! [`People::announce`]. Invariants: nothing is announced that was announced last, but to those who may have been told otherwise
//! ([`People::doubt`]); nobody is remembered who is gone, is not watched and has nothing to announce.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use foldhash::fast::RandomState;
use proto_spec::{Presence, TimestampMs, UserId, Visibility};

use super::{
    PresenceSettings,
    mail::{Change, CoreAddress, Sight, Version},
};
use crate::{
    limits::{ANNOUNCED_TICK_MAX, ON_THE_WAY_MS, PEOPLE_SWEPT_TICK_MAX, PRESENCE_NODE_WATCHED_MAX},
    shard::topology::NodeId,
};

/// What a user lets be seen, as their log says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Shown {
    pub(in crate::shard) visibility: Visibility,
    /// When their last device went, as coarse as it is told.
    pub(in crate::shard) last_seen: TimestampMs,
}

impl Shown {
    /// Nobody sees anything.
    pub(in crate::shard) const fn is_hidden(self) -> bool {
        self.visibility.has(Visibility::INVISIBLE)
    }

    /// What is to be seen of a user who is announced to be so.
    pub(super) fn sight(self, state: Presence) -> Sight {
        if self.is_hidden() {
            return Sight::NONE;
        }
        let is_told = state == Presence::Offline && !self.visibility.has(Visibility::HIDE_LAST_SEEN);
        Sight { state, last_seen: if is_told { self.last_seen } else { TimestampMs(0) } }
    }
}

/// A user who is there, was so a moment ago, or is watched.
#[derive(Debug)]
struct Person {
    /// What watchers were told last: offline, away or online.
    announced: Presence,
    /// What their connections say.
    actual: Presence,
    /// When that is to be announced.
    due_ms: Option<u64>,
    /// When somebody last came or went.
    moved_ms: u64,
    /// Somebody may have been told that they are not there.
    is_doubted: bool,
    /// How many questions about them are with the store.
    reads: u32,
    /// None: not known yet.
    shown: Option<Shown>,
    version: Version,
    watchers: Vec<Watcher>,
}

/// A core that watches somebody.
#[derive(Clone, Copy, Debug)]
struct Watcher {
    by: CoreAddress,
    /// How many of its connections do.
    count: u32,
    /// Unless it says so again: in seconds of the monotonic clock.
    ends_s: u32,
    /// One of its users may see, as was found here. What others of its node's may see is then that node's to know.
    may: bool,
}

// One for each user who is watched and each core that does: what another node can have remembered, with a place that is free for each.
const _: () = assert!(size_of::<Watcher>() <= 16 && 2 * size_of::<(UserId, Person)>() + size_of::<Watcher>() <= 240);

const fn seconds(ms: u64) -> u32 {
    ms.div_ceil(1_000) as u32
}

impl Watcher {
    /// How many connections are told of each change: of another node whose users may not see, none.
    fn told(&self) -> u64 {
        if self.may { self.count.into() } else { 0 }
    }
}

impl Person {
    /// None: the store is asked.
    fn sight(&self) -> Option<Sight> {
        self.shown.map(|shown| shown.sight(self.announced))
    }

    const fn is_used(&self) -> bool {
        !matches!(self.actual, Presence::Offline)
            || self.due_ms.is_some()
            || !self.watchers.is_empty()
            || self.reads > 0
    }

    /// Those who are told of each change.
    fn watchers(&self) -> u64 {
        self.watchers.iter().map(Watcher::told).sum()
    }

    fn tell(&self, user: UserId, before: Version, only: Option<UserId>, tell: &mut impl FnMut(CoreAddress, Change)) {
        let Some(sight) = self.sight() else { return };
        for watcher in &self.watchers {
            if watcher.may {
                tell(watcher.by, Change { user, sight, version: self.version, before, only });
            } else if only.is_some() {
                tell(watcher.by, Change { user, sight: Sight::NONE, version: self.version, before, only });
            }
        }
    }
}

/// One watcher fewer, if it is another node's.
fn left(of_nodes: &mut BTreeMap<NodeId, usize>, watcher: &Watcher) {
    if let Some(count) = of_nodes.get_mut(&watcher.by.node) {
        *count -= 1;
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct People {
    settings: PresenceSettings,
    /// This node: what its cores say of what their users may see is believed.
    own: NodeId,
    people: HashMap<UserId, Person, RandomState>,
    /// How many watchers there are in all of each other node that has any.
    of_nodes: BTreeMap<NodeId, usize>,
    /// Whose state is to be announced when; those that do not stand any more among them.
    due: BinaryHeap<Reverse<(u64, UserId)>>,
    /// Of whom it is still to be looked in this round whether they are watched, and when the next round begins.
    sweeping: Vec<UserId>,
    next_sweep_ms: u64,
    last_version: Version,
    /// Who comes before this was there before the start, so that needs not hold. None: nobody has come yet.
    settles_ms: Option<u64>,
}

impl People {
    pub(super) fn new(settings: PresenceSettings, own: NodeId) -> Self {
        Self {
            settings,
            own,
            people: HashMap::default(),
            of_nodes: BTreeMap::new(),
            due: BinaryHeap::new(),
            sweeping: Vec::new(),
            next_sweep_ms: 0,
            last_version: Version::default(),
            settles_ms: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    /// One that no home has given before, whatever became of earlier starts.
    fn next_version(last: &mut Version, wall: TimestampMs) -> Version {
        *last = Version(wall.0.max(last.0 + 1));
        *last
    }

    fn person(&mut self, user: UserId, wall: TimestampMs) -> &mut Person {
        let last_version = &mut self.last_version;
        self.people.entry(user).or_insert_with(|| Person {
            announced: Presence::Offline,
            actual: Presence::Offline,
            due_ms: None,
            moved_ms: 0,
            is_doubted: false,
            reads: 0,
            shown: None,
            version: Self::next_version(last_version, wall),
            watchers: Vec::new(),
        })
    }

    /// These users are another node's from now on, or were so.
    pub(super) fn forget_where(&mut self, is_gone: impl Fn(UserId) -> bool) {
        for (_, person) in self.people.extract_if(|user, _| is_gone(*user)) {
            person.watchers.iter().for_each(|watcher| left(&mut self.of_nodes, watcher));
        }
    }

    /// What a node was told may not have come there: its cores ask again.
    pub(super) fn forget_watchers(&mut self, node: NodeId) {
        self.people.retain(|_, person| {
            person.watchers.retain(|watcher| watcher.by.node != node);
            person.is_used()
        });
        self.of_nodes.remove(&node);
    }

    fn forget_if_unused(&mut self, user: UserId) {
        if self.people.get(&user).is_some_and(|person| !person.is_used()) {
            self.people.remove(&user);
        }
    }

    /// The connections of a user say something else than before, or one has come or gone. `is_clean`: with a goodbye. The version.
    pub(super) fn moved(
        &mut self,
        user: UserId,
        actual: Presence,
        (is_clean, shown): (bool, Shown),
        (now_ms, wall): (u64, TimestampMs),
    ) -> Version {
        let grace_ms = self.settings.grace_ms;
        let settles_ms = *self.settles_ms.get_or_insert(now_ms + grace_ms);
        let hold_ms = self.settings.hold_ms;
        let person = self.person(user, wall);
        let version = person.version;
        (person.shown, person.moved_ms) = (Some(shown), now_ms);
        if person.actual != actual {
            person.actual = actual;
            person.due_ms = match actual {
                Presence::Offline if person.announced == actual => None,
                Presence::Offline if is_clean => Some(now_ms),
                Presence::Offline => Some(now_ms + grace_ms),
                _ if person.announced == actual && !person.is_doubted => None,
                _ if person.announced == Presence::Offline && now_ms < settles_ms => Some(now_ms),
                _ => Some(now_ms + hold_ms),
            };
            let due_ms = person.due_ms;
            self.due.extend(due_ms.map(|due_ms| Reverse((due_ms, user))));
        }
        self.forget_if_unused(user);
        version
    }

    /// The sender of something for this user may have been told that they are not there, though watchers were not: when they are
    /// back, all are told.
    pub(super) fn doubt(&mut self, user: UserId, now_ms: u64) {
        let hold_ms = self.settings.hold_ms;
        let Some(person) = self.people.get_mut(&user) else { return };
        if person.announced == Presence::Offline || person.is_doubted {
            return;
        }
        if person.actual == Presence::Offline {
            person.is_doubted = true;
        } else if now_ms.saturating_sub(person.moved_ms) < hold_ms.max(ON_THE_WAY_MS) {
            // They have just come back, perhaps after the sender was told.
            person.is_doubted = true;
            let due_ms = *person.due_ms.get_or_insert(now_ms + hold_ms);
            self.due.push(Reverse((due_ms, user)));
        }
    }

    /// What has held is announced, of some people in each tick. How many users it was, those included whom nobody watches.
    pub(super) fn announce(&mut self, now_ms: u64, mut tell: impl FnMut(CoreAddress, Change)) -> u64 {
        let mut announced = 0;
        for _ in 0..ANNOUNCED_TICK_MAX {
            let next = self.due.peek().copied().filter(|Reverse((due_ms, _))| *due_ms <= now_ms);
            let Some(Reverse((due_ms, user))) = next else { break };
            self.due.pop();
            let Some(person) = self.people.get_mut(&user).filter(|person| person.due_ms == Some(due_ms)) else {
                continue;
            };
            person.due_ms = None;
            let is_new = person.announced != person.actual || person.is_doubted;
            (person.announced, person.is_doubted) = (person.actual, false);
            if is_new && person.sight().is_some_and(|sight| sight != Sight::NONE) {
                announced += 1;
                person.tell(user, person.version, None, &mut tell);
            }
            self.forget_if_unused(user);
        }
        announced
    }

    /// A user shows more or less of themselves than before.
    pub(super) fn shows(
        &mut self,
        user: UserId,
        visibility: Visibility,
        mut tell: impl FnMut(CoreAddress, Change),
    ) -> Option<Version> {
        let person = self.people.get_mut(&user)?;
        let before = person.sight();
        if let Some(shown) = &mut person.shown {
            shown.visibility = visibility;
        }
        if person.sight() != before {
            person.tell(user, person.version, None, &mut tell);
        }
        Some(person.version)
    }

    /// The verdict on what `with` may see of a user may be another from now on. The version, if anybody has a verdict.
    pub(super) fn related(
        &mut self,
        user: UserId,
        with: UserId,
        wall: TimestampMs,
        mut tell: impl FnMut(CoreAddress, Change),
    ) -> Option<Version> {
        let person = self.people.get_mut(&user)?;
        let before = person.version;
        person.version = Self::next_version(&mut self.last_version, wall);
        person.tell(user, before, Some(with), &mut tell);
        Some(person.version)
    }

    /// What is to be seen of a user, if anything is known without the store, and for which version verdicts are good.
    pub(super) fn sight(&self, user: UserId) -> Option<(Sight, Version)> {
        let person = self.people.get(&user)?;
        Some((person.sight()?, person.version))
    }

    /// A user is asked about: what changes until [`Self::end_read`] is seen by their version.
    pub(super) fn begin_read(&mut self, user: UserId, wall: TimestampMs) {
        self.person(user, wall).reads += 1;
    }

    /// The question is answered.
    pub(super) fn end_read(&mut self, user: UserId) {
        if let Some(person) = self.people.get_mut(&user) {
            // Who was another node's in between has begun anew.
            person.reads = person.reads.saturating_sub(1);
        }
        self.forget_if_unused(user);
    }

    /// For which version a verdict would be good that is given now.
    pub(super) fn version(&self, user: UserId) -> Version {
        self.people.get(&user).map(|person| person.version).unwrap_or_default()
    }

    /// What store and log say of a user, of whom nothing may have been known.
    pub(super) fn learn(&mut self, user: UserId, shown: Shown) {
        if let Some(person) = self.people.get_mut(&user) {
            person.shown.get_or_insert(shown);
        }
    }

    /// Whether a core is believed what a user of its node may see of this one: not, if it is another node's of whose users none may.
    pub(super) fn believes(&self, user: UserId, core: CoreAddress) -> bool {
        let is_known = |person: &Person| person.watchers.iter().any(|watcher| watcher.by == core && watcher.may);
        core.node == self.own || self.people.get(&user).is_some_and(is_known)
    }

    /// So many connections of a core watch a user. `may`: it was found that one of them may see. False: too many watch already, or the core's
    /// node too many users, and this core is not told of changes.
    pub(super) fn watch(&mut self, user: UserId, by: CoreAddress, (count, may): (u32, bool), now_ms: u64) -> bool {
        let (watchers_max, ends_s) = (self.settings.watchers_max, seconds(now_ms + self.settings.watch_ms()));
        let may = may || self.believes(user, by);
        let Some(person) = self.people.get_mut(&user) else { return false };
        let all = person.watchers();
        let known = person.watchers.iter().position(|watcher| watcher.by == by);
        let known_told = known.map_or(0, |at| person.watchers[at].told());
        let told = if may { u64::from(count) } else { 0 };
        if told > known_told && all - known_told + told > watchers_max {
            if let Some(at) = known {
                (person.watchers[at].ends_s, person.watchers[at].may) = (ends_s, may);
            }
            return false;
        }
        match known {
            Some(at) if count == 0 => left(&mut self.of_nodes, &person.watchers.swap_remove(at)),
            Some(at) => person.watchers[at] = Watcher { by, count, ends_s, may },
            None if count == 0 => {}
            None => {
                if by.node != self.own {
                    let of_node = self.of_nodes.entry(by.node).or_default();
                    if *of_node == PRESENCE_NODE_WATCHED_MAX {
                        return false;
                    }
                    *of_node += 1;
                }
                person.watchers.reserve_exact(1);
                person.watchers.push(Watcher { by, count, ends_s, may });
            }
        }
        self.forget_if_unused(user);
        true
    }

    /// Fewer connections of a core watch a user than it has said. More it says with a question, by which it is found whether they may.
    pub(super) fn count(&mut self, user: UserId, by: CoreAddress, count: u32) {
        let Some(person) = self.people.get_mut(&user) else { return };
        let Some(at) = person.watchers.iter().position(|watcher| watcher.by == by) else { return };
        match count {
            0 => left(&mut self.of_nodes, &person.watchers.swap_remove(at)),
            _ => person.watchers[at].count = count.min(person.watchers[at].count),
        }
        self.forget_if_unused(user);
    }

    /// Forgets watchers that have not been heard of for longer than a watch lasts: looks at some people in each tick, and at all within half
    /// of that time, if there are not very many.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        if self.sweeping.is_empty() && now_ms >= self.next_sweep_ms {
            self.next_sweep_ms = now_ms + self.settings.watch_ms() / 2;
            let is_watched = |(user, person): (&UserId, &Person)| (!person.watchers.is_empty()).then_some(*user);
            self.sweeping = self.people.iter().filter_map(is_watched).collect();
        }
        for user in self.sweeping.split_off(self.sweeping.len().saturating_sub(PEOPLE_SWEPT_TICK_MAX)) {
            if let Some(person) = self.people.get_mut(&user) {
                let gone = person.watchers.extract_if(.., |watcher| now_ms >= 1_000 * u64::from(watcher.ends_s));
                gone.for_each(|watcher| left(&mut self.of_nodes, &watcher));
            }
            self.forget_if_unused(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shard::topology::CoreId;

    const WALL: TimestampMs = TimestampMs(1_700_000_000_000);
    const USER: UserId = UserId(1);
    const CORE: CoreAddress = CoreAddress { node: NodeId(0), core: CoreId(3) };
    /// Of another node.
    const THERE: CoreAddress = CoreAddress { node: NodeId(1), core: CoreId(3) };
    const SHOWN: Shown = Shown { visibility: Visibility::from_bits(0), last_seen: TimestampMs(60_000) };
    const HOLD_MS: u64 = PresenceSettings::DEFAULT.hold_ms;
    const GRACE_MS: u64 = PresenceSettings::DEFAULT.grace_ms;

    /// Long after the start.
    const BEGIN_MS: u64 = 100_000;

    fn people() -> People {
        let mut people = People::new(PresenceSettings::DEFAULT, NodeId(0));
        people.settles_ms = Some(0);
        people
    }

    fn moved(people: &mut People, actual: Presence, now_ms: u64) {
        people.moved(USER, actual, (false, SHOWN), (now_ms, WALL));
    }

    fn announced(people: &mut People, now_ms: u64) -> Vec<Presence> {
        let mut told = Vec::new();
        people.announce(now_ms, |core, change| {
            assert_eq!((core, change.user), (CORE, USER));
            told.push(change.sight.state);
        });
        told
    }

    #[test]
    fn who_is_asked_about_is_forgotten_with_the_answer_unless_somebody_watches() {
        let mut people = people();
        people.begin_read(USER, WALL);
        assert_eq!(people.sight(USER), None, "the store has not answered");
        people.learn(USER, SHOWN);
        assert_eq!(people.sight(USER).map(|(sight, _)| sight.state), Some(Presence::Offline));
        people.end_read(USER);
        assert_eq!(people.len(), 0);
        people.begin_read(USER, WALL);
        people.learn(USER, SHOWN);
        assert!(people.watch(USER, CORE, (1, true), BEGIN_MS));
        people.end_read(USER);
        assert_eq!(people.len(), 1);
        people.sweep(BEGIN_MS + PresenceSettings::DEFAULT.watch_ms());
        assert_eq!(people.len(), 0, "nobody has renewed it");
    }

    #[test]
    fn who_is_watched_for_a_moment_again_and_again_takes_no_more_memory() {
        let mut people = people();
        for user in (0..10_000).map(UserId) {
            people.begin_read(user, WALL);
            people.learn(user, SHOWN);
            people.watch(user, CORE, (1, true), BEGIN_MS);
            people.end_read(user);
            people.watch(user, CORE, (0, true), BEGIN_MS);
            people.sweep(BEGIN_MS);
        }
        assert_eq!((people.len(), people.sweeping.len(), people.due.len()), (0, 0, 0));
    }

    #[test]
    fn another_node_is_told_nothing_until_one_of_its_users_may_see_and_is_believed_nothing_before() {
        let mut people = people();
        moved(&mut people, Presence::Away, BEGIN_MS);
        announced(&mut people, BEGIN_MS + HOLD_MS);
        assert!(people.watch(USER, THERE, (1, false), BEGIN_MS));
        assert!(people.believes(USER, CORE) && !people.believes(USER, THERE));
        moved(&mut people, Presence::Online, BEGIN_MS);
        assert_eq!(people.announce(BEGIN_MS + HOLD_MS, |_, change| panic!("{change:?}")), 1);
        let mut told = Vec::new();
        people.related(USER, UserId(2), WALL, |core, change| told.push((core, change.sight, change.only)));
        assert_eq!(told, [(THERE, Sight::NONE, Some(UserId(2)))], "that it may be otherwise now, and no more");
        assert!(people.watch(USER, THERE, (1, true), BEGIN_MS) && people.believes(USER, THERE));
        people.watch(USER, THERE, (3, false), BEGIN_MS);
        moved(&mut people, Presence::Away, BEGIN_MS);
        let mut told = Vec::new();
        people.announce(BEGIN_MS + HOLD_MS, |core, change| told.push((core, change.sight.state)));
        assert_eq!(told, [(THERE, Presence::Away)]);
    }

    #[test]
    fn who_may_not_see_takes_no_place_of_those_who_watch_and_a_count_makes_nobody_a_watcher() {
        let mut people = People::new(PresenceSettings { watchers_max: 3, ..PresenceSettings::DEFAULT }, NodeId(0));
        moved(&mut people, Presence::Online, BEGIN_MS);
        people.count(USER, THERE, 9);
        assert_eq!(people.people[&USER].watchers.len(), 0);
        assert!(people.watch(USER, THERE, (9, false), BEGIN_MS), "it is told of nothing");
        assert!(people.watch(USER, CORE, (3, true), BEGIN_MS), "there is room for all who are");
        people.count(USER, CORE, 9);
        assert_eq!(people.people[&USER].watchers(), 3, "fewer is all that it says");
        people.count(USER, CORE, 2);
        assert!(people.watch(USER, THERE, (1, true), BEGIN_MS));
        assert!(!people.watch(USER, THERE, (2, true), BEGIN_MS), "now it counts");
        people.count(USER, THERE, 0);
        assert_eq!(people.people[&USER].watchers.len(), 1);
    }

    #[test]
    fn the_watchers_of_a_node_are_forgotten_with_it_and_people_with_their_node() {
        let mut people = people();
        for user in (1..=3).map(UserId) {
            people.begin_read(user, WALL);
            people.learn(user, SHOWN);
            people.watch(user, THERE, (1, true), BEGIN_MS);
        }
        people.watch(USER, CORE, (1, true), BEGIN_MS);
        (1..=3).map(UserId).for_each(|user| people.end_read(user));
        people.forget_watchers(CORE.node);
        assert_eq!(people.len(), 3);
        people.watch(USER, CORE, (1, true), BEGIN_MS);
        people.forget_watchers(THERE.node);
        assert_eq!(people.len(), 1);
        assert!(!people.believes(USER, THERE), "its users are judged again");
        people.forget_where(|user| user == USER);
        assert_eq!(people.len(), 0);
    }

    #[test]
    fn a_node_is_remembered_to_watch_so_many_and_what_it_does_not_watch_any_more_makes_room() {
        let mut people = people();
        let watches = |people: &mut People, user, by, count| {
            people.begin_read(user, WALL);
            people.learn(user, SHOWN);
            let is_remembered = people.watch(user, by, (count, true), BEGIN_MS);
            people.end_read(user);
            is_remembered
        };
        let all = PRESENCE_NODE_WATCHED_MAX as u64;
        let fill = |people: &mut People| {
            assert!((0..all).all(|user| watches(people, UserId(user), THERE, 1)));
            assert!(!watches(people, UserId(all), THERE, 1) && people.len() == PRESENCE_NODE_WATCHED_MAX);
            assert!(watches(people, UserId(0), THERE, 2), "it has been remembered");
        };
        fill(&mut people);
        let third = CoreAddress { node: NodeId(2), ..THERE };
        for by in [CORE, third] {
            assert!(watches(&mut people, UserId(all), by, 1), "others have room of their own");
            people.count(UserId(all), by, 0);
        }
        assert!(watches(&mut people, UserId(1), THERE, 0) && watches(&mut people, UserId(1), THERE, 1));
        people.count(UserId(1), THERE, 0);
        assert!(watches(&mut people, UserId(1), THERE, 1));
        people.forget_where(|user| user.0 < 10);
        assert!((0..10).all(|user| watches(&mut people, UserId(user), THERE, 1)));
        people.forget_watchers(THERE.node);
        fill(&mut people);
        let end_ms = BEGIN_MS + PresenceSettings::DEFAULT.watch_ms();
        (0..=PRESENCE_NODE_WATCHED_MAX / PEOPLE_SWEPT_TICK_MAX).for_each(|_| people.sweep(end_ms));
        assert_eq!((people.len(), people.of_nodes[&THERE.node]), (0, 0));
    }

    #[test]
    fn no_version_is_given_twice() {
        let mut people = people();
        let mut versions = Vec::new();
        for _ in 0..3 {
            people.begin_read(USER, WALL);
            versions.push(people.version(USER));
            versions.extend(people.related(USER, UserId(2), WALL, |_, _| ()));
            people.end_read(USER);
        }
        assert!(versions.windows(2).all(|two| two[0] < two[1]), "{versions:?}");
    }

    proptest! {
        /// However somebody comes and goes: what is announced differs from what was before, and had held; and in the end it is the truth.
        #[test]
        fn what_is_announced_has_held(moves in prop::collection::vec((0_u8..3, 0_u64..20_000), 1..40)) {
            let mut people = people();
            moved(&mut people, Presence::Away, BEGIN_MS);
            people.watch(USER, CORE, (1, true), BEGIN_MS);
            let (mut now_ms, mut last) = (BEGIN_MS, Presence::Offline);
            let (mut actual, mut since_ms) = (Presence::Away, now_ms);
            for (to, wait_ms) in moves {
                for _ in 0..wait_ms / 50 {
                    now_ms += 50;
                    for state in announced(&mut people, now_ms) {
                        prop_assert!(state != last && state == actual);
                        let holds_ms = if state == Presence::Offline { GRACE_MS } else { HOLD_MS };
                        prop_assert!(now_ms - since_ms >= holds_ms);
                        last = state;
                    }
                }
                let to = [Presence::Offline, Presence::Away, Presence::Online][usize::from(to)];
                if to != actual {
                    (actual, since_ms) = (to, now_ms);
                    moved(&mut people, to, now_ms);
                }
            }
            last = announced(&mut people, now_ms + GRACE_MS).pop().unwrap_or(last);
            prop_assert_eq!(last, actual);
        }
    }
}
