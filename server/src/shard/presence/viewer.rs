//! Viewer: which connections of a core watch whom, and what each has been told.
//!
//! A device watches a set of users; a core knows of each user who is watched what their home said last, once for all who watch there. A
//! frame is what differs between that and what the device was told, so it says each change once, and nothing that came and went.
//! Pure data. Invariants: nothing of a user is told to a watch whose verdict is not of the version that is known last; a watch is told
//! at most once in [`PresenceSettings::tick_ms`], and asks again at most once in [`PRESENCE_ASK_AGAIN_MS`].

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
};

use foldhash::fast::RandomState;
use proto_spec::{DeviceId, Presence, PresenceState, TimestampMs, UserId};

use super::{
    PresenceSettings,
    mail::{Asked, Change, Sight, Told, Verdict, Version},
};
use crate::{limits::PRESENCE_ASK_AGAIN_MS, shard::ConnId};

/// A watch of this core. Never given twice: `slot` is reused, `life` tells lives apart, so an answer that comes late is nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::shard) struct WatchId {
    slot: u32,
    life: u32,
}

/// What a watch knows of one user.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// What the device was told.
    state: Presence,
    /// Whether it may be told more; none: that is to be asked.
    may: Option<bool>,
    /// The user has too many watchers.
    is_crowded: bool,
    /// The device knows better than what the home said last.
    is_corrected: bool,
    /// Of the sight that it was told.
    stamp: u8,
}

impl Shown {
    const NOTHING: Self =
        Self { state: Presence::Unknown, may: None, is_crowded: false, is_corrected: false, stamp: 0 };
}

/// What one device watches.
#[derive(Debug)]
struct Watch {
    user: UserId,
    device: DeviceId,
    /// None: it was lost, and may come back.
    conn: Option<ConnId>,
    ends_ms: u64,
    /// Nothing is told before this.
    next_ms: u64,
    /// Nor asked again before this.
    asks_ms: u64,
    /// When it is looked at next.
    timer_ms: u64,
    /// Questions to its home cores that are not answered: what they say is told as an answer to the last one.
    asking: u32,
    /// By ascending id.
    users: Box<[UserId]>,
    told: Box<[Shown]>,
}

/// A place for a watch.
#[derive(Debug, Default)]
struct Slot {
    /// Of the watch that is in it, or of the next one.
    life: u32,
    watch: Option<Watch>,
}

impl Watch {
    fn place(&self, user: UserId) -> Option<usize> {
        self.users.binary_search(&user).ok()
    }
}

/// A user who is watched here.
#[derive(Debug)]
struct Watched {
    sight: Sight,
    version: Version,
    /// What was told with the last `Offline`.
    last_seen: TimestampMs,
    /// Counts what that has been.
    stamp: u8,
    watches: Vec<WatchId>,
}

impl Watched {
    /// The home says this. Whether it is news.
    fn show(&mut self, sight: Sight) -> bool {
        let before = std::mem::replace(&mut self.sight, sight);
        if sight.state == Presence::Offline && sight.last_seen != self.last_seen {
            self.last_seen = sight.last_seen;
            self.stamp = self.stamp.wrapping_add(1);
        }
        before != sight
    }
}

/// What is to be told to a connection.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) watch: WatchId,
    pub(super) conn: ConnId,
    pub(super) looks: UserId,
    pub(super) states: Vec<PresenceState>,
    /// Of whom the verdict has to be asked for again.
    pub(super) unsure: Vec<Asked>,
}

/// What is to be done about a watch whose time has come.
#[derive(Debug)]
pub(super) enum Due {
    /// Nothing: it was told already, or can not be told now.
    Nothing,
    /// Its connection is to be told something.
    Flush(Flush),
    /// It has ended. Its number may be another's from now on.
    Ended {
        /// Whose it was, if that is still there.
        conn: Option<ConnId>,
        /// Who is watched by fewer than before, with how many they are now.
        fewer: Vec<(UserId, u32)>,
    },
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Viewer {
    settings: PresenceSettings,
    watches: Vec<Slot>,
    free: Vec<u32>,
    /// Watches of devices that have lost their connection: who comes back does not have to be judged anew.
    lost: HashMap<(UserId, DeviceId), WatchId, RandomState>,
    watched: HashMap<UserId, Watched, RandomState>,
    /// Which watch is to be looked at when; those that do not stand any more among them.
    timers: BinaryHeap<Reverse<(u64, WatchId)>>,
    /// Changes that a watch is told together with an earlier one.
    merged: u64,
}

impl Viewer {
    pub(super) fn new(settings: PresenceSettings) -> Self {
        Self {
            settings,
            watches: Vec::new(),
            free: Vec::new(),
            lost: HashMap::default(),
            watched: HashMap::default(),
            timers: BinaryHeap::new(),
            merged: 0,
        }
    }

    /// How many devices watch somebody.
    pub(super) const fn len(&self) -> usize {
        self.watches.len() - self.free.len()
    }

    /// How many changes were told as a part of a later one, or not at all.
    pub(super) const fn merged(&self) -> u64 {
        self.merged
    }

    fn look_at(&self, watch: WatchId) -> Option<&Watch> {
        let slot = self.watches.get(watch.slot as usize)?;
        slot.watch.as_ref().filter(|_| slot.life == watch.life)
    }

    fn get(&mut self, watch: WatchId) -> Option<&mut Watch> {
        let slot = self.watches.get_mut(watch.slot as usize)?;
        slot.watch.as_mut().filter(|_| slot.life == watch.life)
    }

    /// A device watches these users, by ascending id, and nobody else. `before`: its connection's watch. Which watch it is, and who is
    /// watched by fewer than before, with how many they are now.
    pub(super) fn watch(
        &mut self,
        (user, device, conn): (UserId, DeviceId, ConnId),
        before: Option<WatchId>,
        users: Box<[UserId]>,
        now_ms: u64,
    ) -> (WatchId, Vec<(UserId, u32)>) {
        let before = before.filter(|before| self.look_at(*before).is_some());
        let known = before.or_else(|| self.lost.remove(&(user, device)));
        let watch = known.unwrap_or_else(|| {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.watches.push(Slot::default());
                self.watches.len() as u32 - 1
            });
            WatchId { slot, life: self.watches[slot as usize].life }
        });
        let before = self.watches[watch.slot as usize].watch.take();
        let (old_users, next_ms, asks_ms, timer_ms, asking) = before
            .as_ref()
            .map_or((&[][..], 0, 0, u64::MAX, 0), |of| (&of.users[..], of.next_ms, of.asks_ms, of.timer_ms, of.asking));
        let gone: Vec<_> = old_users.iter().copied().filter(|user| users.binary_search(user).is_err()).collect();
        let told = users.iter().map(|user| {
            let place = before.as_ref().and_then(|before| Some((before, before.place(*user)?)));
            if let Some((before, place)) = place
                && !before.told[place].is_crowded
            {
                return before.told[place];
            }
            let watched = self.watched.entry(*user).or_insert_with(|| Watched {
                sight: Sight::NONE,
                version: Version::default(),
                last_seen: TimestampMs(0),
                stamp: 0,
                watches: Vec::new(),
            });
            if watched.watches.len() == watched.watches.capacity() {
                // Not twice as many: most are watched by few.
                watched.watches.reserve_exact(watched.watches.len() / 4 + 1);
            }
            watched.watches.push(watch);
            Shown::NOTHING
        });
        let told = told.collect();
        let ends_ms = now_ms + self.settings.lifetime_ms;
        self.watches[watch.slot as usize].watch = Some(Watch {
            user,
            device,
            conn: Some(conn),
            ends_ms,
            next_ms,
            asks_ms,
            timer_ms,
            asking: asking + 1,
            users,
            told,
        });
        let fewer = gone.into_iter().filter_map(|user| self.unwatch(user, watch)).collect();
        self.wake(watch, ends_ms);
        (watch, fewer)
    }

    /// A watch does not watch this user any more. How many do here, unless it did not.
    fn unwatch(&mut self, user: UserId, watch: WatchId) -> Option<(UserId, u32)> {
        let watched = self.watched.get_mut(&user)?;
        let at = watched.watches.iter().position(|known| *known == watch)?;
        watched.watches.swap_remove(at);
        let left = watched.watches.len() as u32;
        if left == 0 {
            self.watched.remove(&user);
        }
        Some((user, left))
    }

    /// What the homes of those who are watched are to be asked.
    pub(super) fn asked(&self, watch: WatchId) -> Vec<Asked> {
        let Some(of) = self.look_at(watch) else { return Vec::new() };
        let asked = |(user, told): (&UserId, &Shown)| {
            let watched = self.watched.get(user)?;
            let verdict = told.may.map(|may| Verdict { version: watched.version, may });
            Some(Asked { user: *user, verdict, count: watched.watches.len() as u32, blocks: None })
        };
        of.users.iter().zip(&of.told).filter_map(asked).collect()
    }

    /// A home has said what is to be seen of a user. `by`: the watch that it was asked for.
    pub(super) fn take(&mut self, told: &Told, by: Option<WatchId>) {
        let Told { user, verdict, sight, is_crowded } = *told;
        if let Some(watched) = self.watched.get_mut(&user) {
            // Without one there is nothing to see: it says so of the version in which the home is, whichever that is.
            let version = if verdict.version == Version::UNTOLD { watched.version } else { verdict.version };
            if version < watched.version {
                // Overtaken by a change: it is asked again.
                return;
            }
            let is_other = std::mem::replace(&mut watched.version, version) != version;
            // Only if it is news: with each renewal of one, all who watch this user would be looked at.
            let is_new = (verdict.may && watched.show(sight)) || is_other;
            if is_new {
                self.changed(user, is_other.then_some(None));
            }
        }
        let Some(watch) = by else { return };
        let Some(of) = self.get(watch) else { return };
        let Some(place) = of.place(user) else { return };
        let was_unsure = of.told[place].may.replace(verdict.may).is_none();
        of.told[place].is_corrected &= !was_unsure;
        let was_crowded = std::mem::replace(&mut of.told[place].is_crowded, is_crowded);
        if is_crowded {
            self.unwatch(user, watch);
        } else if was_crowded && let Some(watched) = self.watched.get_mut(&user) {
            // Of two questions at a time the later one has found room.
            watched.watches.push(watch);
        }
        self.wake_to_tell(watch);
    }

    /// A user has changed. False: nobody watches here.
    pub(super) fn change(&mut self, change: &Change) -> bool {
        let Some(watched) = self.watched.get_mut(&change.user) else { return false };
        watched.show(change.sight);
        if change.version == Version::UNTOLD {
            self.changed(change.user, change.only.map(Some));
            return true;
        }
        let known = std::mem::replace(&mut watched.version, change.version);
        let unsure = if known == change.version || (known == change.before && change.only.is_none()) {
            None
        } else if known == change.before {
            Some(change.only)
        } else {
            Some(None)
        };
        self.changed(change.user, unsure);
        true
    }

    /// Those who watch a user are to be told. `unsure`: the verdicts of one who looks, or of all, are good no more.
    fn changed(&mut self, user: UserId, unsure: Option<Option<UserId>>) {
        let Some(watched) = self.watched.get_mut(&user) else { return };
        let watches = std::mem::take(&mut watched.watches);
        for &watch in &watches {
            let Some(of) = self.get(watch) else { continue };
            let is_unsure = unsure.is_some_and(|only| only.is_none_or(|only| only == of.user));
            let waits = of.conn.is_some() && of.timer_ms <= of.next_ms;
            if let Some(place) = of.place(user) {
                let told = &mut of.told[place];
                let is_merged = waits && told.may == Some(true);
                told.is_corrected = false;
                if is_unsure {
                    told.may = None;
                }
                self.merged += u64::from(is_merged);
            }
            self.wake_to_tell(watch);
        }
        if let Some(watched) = self.watched.get_mut(&user) {
            watched.watches = watches;
        }
    }

    /// Looks at a watch then, if not earlier.
    fn wake(&mut self, watch: WatchId, at_ms: u64) {
        let Some(of) = self.get(watch) else { return };
        if at_ms < of.timer_ms {
            of.timer_ms = at_ms;
            self.timers.push(Reverse((at_ms, watch)));
        }
    }

    fn wake_to_tell(&mut self, watch: WatchId) {
        if let Some(of) = self.get(watch)
            && of.conn.is_some()
            && of.asking == 0
        {
            let next_ms = of.next_ms;
            self.wake(watch, next_ms);
        }
    }

    /// Whether the time of a watch has come, or had.
    pub(super) fn has_due(&self, up_to_ms: u64) -> bool {
        self.timers.peek().is_some_and(|Reverse((at_ms, _))| *at_ms <= up_to_ms)
    }

    /// What is to be done about the next watch whose time has come. `takes`: whether a connection can be told something, if not it is told
    /// later. None: no more just now.
    pub(super) fn due(&mut self, up_to_ms: u64, now_ms: u64, mut takes: impl FnMut(ConnId) -> bool) -> Option<Due> {
        while self.has_due(up_to_ms) {
            let Reverse((at_ms, watch)) = self.timers.pop()?;
            let Some(of) = self.get(watch).filter(|of| of.timer_ms == at_ms) else { continue };
            of.timer_ms = u64::MAX;
            let (ends_ms, conn) = (of.ends_ms, of.conn);
            if ends_ms <= now_ms {
                return Some(Due::Ended { conn, fewer: self.end(watch) });
            }
            self.wake(watch, ends_ms);
            if conn.is_some_and(|conn| !takes(conn)) {
                self.wake(watch, now_ms + self.settings.tick_ms);
            } else if let Some(flush) = self.flush(watch, now_ms) {
                return Some(Due::Flush(flush));
            } else {
                return Some(Due::Nothing);
            }
        }
        None
    }

    fn flush(&mut self, watch: WatchId, now_ms: u64) -> Option<Flush> {
        let tick_ms = self.settings.tick_ms;
        let slot = self.watches.get_mut(watch.slot as usize).filter(|slot| slot.life == watch.life)?;
        let of = slot.watch.as_mut().filter(|of| of.asking == 0)?;
        let conn = of.conn?;
        let (looks, asks_ms, next_ms) = (of.user, of.asks_ms, of.next_ms);
        let tells = now_ms >= next_ms;
        let (mut states, mut unsure, mut asks_later) = (Vec::new(), Vec::new(), false);
        for (user, told) in of.users.iter().zip(&mut of.told) {
            let Some(watched) = self.watched.get(user).filter(|_| !told.is_crowded) else { continue };
            match told.may {
                Some(may) if tells => states.extend(told.tell(*user, may, watched)),
                Some(_) => {}
                None if now_ms < asks_ms => asks_later = true,
                None => {
                    let count = watched.watches.len() as u32;
                    unsure.push(Asked { user: *user, verdict: None, count, blocks: None });
                }
            }
        }
        if !states.is_empty() {
            of.next_ms = now_ms + tick_ms;
        }
        of.asking += u32::from(!unsure.is_empty());
        if asks_later {
            self.wake(watch, asks_ms);
        }
        if !tells {
            self.wake(watch, next_ms);
        }
        (!states.is_empty() || !unsure.is_empty()).then_some(Flush { watch, conn, looks, states, unsure })
    }

    /// The homes have answered a question about these users. With what the watch's device is to be told of each whom it watches now, by
    /// ascending id; of others than these it is not told, since a later question has asked for them.
    pub(super) fn asked_all(&mut self, watch: WatchId, users: &[UserId], now_ms: u64) -> Vec<PresenceState> {
        let users: BTreeSet<_> = users.iter().collect();
        let (tick_ms, ask_again_ms) = (self.settings.tick_ms, self.settings.lifetime_ms);
        let slot = self.watches.get_mut(watch.slot as usize).filter(|slot| slot.life == watch.life);
        let Some(of) = slot.and_then(|slot| slot.watch.as_mut()) else { return Vec::new() };
        of.asking = of.asking.saturating_sub(1);
        (of.next_ms, of.asks_ms) = (now_ms + tick_ms, now_ms + PRESENCE_ASK_AGAIN_MS);
        let (mut states, mut is_all_told) = (Vec::with_capacity(of.users.len()), true);
        for (user, told) in of.users.iter().zip(&mut of.told) {
            // Of who is not asked about here something may have come meanwhile.
            is_all_told &= users.contains(user) && told.may.is_some();
            if !users.contains(user) {
                continue;
            }
            let mut state = PresenceState {
                user: *user,
                state: told.state,
                last_seen: TimestampMs(0),
                ask_again_ms: if told.is_crowded { ask_again_ms } else { 0 },
            };
            if let (Some(watched), Some(may), false) = (self.watched.get(user), told.may, told.is_crowded) {
                let sight = if may { watched.sight } else { Sight::NONE };
                (told.state, told.stamp, told.is_corrected) = (sight.state, watched.stamp, false);
                (state.state, state.last_seen) = (sight.state, sight.last_seen);
            }
            states.push(state);
        }
        if !is_all_told {
            self.wake_to_tell(watch);
        }
        states
    }

    /// What a watch that was asked again for is told of a user with too many watchers: this once, since no changes will come.
    pub(super) fn tell_crowded(&mut self, watch: WatchId, told: &Told) -> Option<PresenceState> {
        let of = self.get(watch)?;
        let place = of.place(told.user)?;
        let Sight { state, last_seen } = told.sight;
        let known = std::mem::replace(&mut of.told[place].state, state);
        (known != state).then_some(PresenceState { user: told.user, state, last_seen, ask_again_ms: 0 })
    }

    /// What was asked again has been answered, or is not: what differs is told with the next look.
    pub(super) fn asked_again(&mut self, watch: WatchId, now_ms: u64) {
        if let Some(of) = self.get(watch) {
            of.asking = of.asking.saturating_sub(1);
            of.asks_ms = now_ms + PRESENCE_ASK_AGAIN_MS;
        }
        self.wake_to_tell(watch);
    }

    /// Who might not be seen may be so by now: it is asked again. `is_other`: or the other way round.
    pub(super) fn hope(&mut self, watch: WatchId, user: UserId, is_other: bool) {
        let Some(of) = self.get(watch) else { return };
        if let Some(place) = of.place(user)
            && (is_other || of.told[place].may == Some(false))
        {
            of.told[place].may = None;
            self.wake_to_tell(watch);
        }
    }

    /// These users may be seen otherwise than is known here, and in versions of another home: all who watch them ask again.
    pub(super) fn ask_anew(&mut self, is_meant: impl Fn(UserId) -> bool) {
        let users: Vec<_> = self.watched.keys().copied().filter(|user| is_meant(*user)).collect();
        for user in users {
            if let Some(watched) = self.watched.get_mut(&user) {
                watched.version = Version::default();
            }
            self.changed(user, Some(None));
        }
    }

    /// The home of a user can not be asked: nothing is known of them.
    pub(super) fn unreachable(&mut self, watch: Option<WatchId>, user: UserId) {
        if let Some(watch) = watch
            && let Some(of) = self.get(watch)
            && let Some(place) = of.place(user)
        {
            of.told[place].may = Some(false);
            self.wake_to_tell(watch);
        }
    }

    /// What a watch may see of a user, and in which version, as far as is known here.
    pub(super) fn sees(&self, watch: WatchId, user: UserId) -> Option<(Version, Sight)> {
        let of = self.look_at(watch)?;
        let told = of.told[of.place(user)?];
        let watched = self.watched.get(&user)?;
        let sees = told.may == Some(true) && !told.is_crowded && watched.sight != Sight::NONE;
        sees.then_some((watched.version, watched.sight))
    }

    /// Whether the device of a watch was told last that a user is there.
    pub(super) fn has_told_of(&self, watch: WatchId, user: UserId) -> bool {
        let of = self.look_at(watch);
        of.and_then(|of| of.place(user).map(|place| of.told[place].state)) > Some(Presence::Offline)
    }

    /// The device of a watch has been told by other means that a user is not there, if it was told that they are.
    pub(super) fn correct(&mut self, watch: WatchId, user: UserId) {
        if let Some(of) = self.get(watch)
            && let Some(place) = of.place(user)
        {
            let told = &mut of.told[place];
            if told.state > Presence::Offline {
                (told.state, told.is_corrected) = (Presence::Offline, true);
            }
        }
    }

    /// A connection is lost: its watch tells nothing until the device is back, and ends when it would have. Who is watched by fewer than
    /// before, since an earlier one of the device ends, with how many they are now.
    pub(super) fn lose(&mut self, watch: WatchId) -> Vec<(UserId, u32)> {
        let Some(of) = self.get(watch) else { return Vec::new() };
        of.conn = None;
        let device = (of.user, of.device);
        let older = self.lost.insert(device, watch).filter(|older| *older != watch);
        older.map_or_else(Vec::new, |older| self.end(older))
    }

    /// A watch ends. Who is watched by fewer than before, with how many they are now.
    pub(super) fn end(&mut self, watch: WatchId) -> Vec<(UserId, u32)> {
        let slot = &mut self.watches[watch.slot as usize];
        let Some(of) = slot.watch.take_if(|_| slot.life == watch.life) else { return Vec::new() };
        slot.life = slot.life.wrapping_add(1);
        self.free.push(watch.slot);
        let device = (of.user, of.device);
        if self.lost.get(&device) == Some(&watch) {
            self.lost.remove(&device);
        }
        of.users.iter().filter_map(|user| self.unwatch(*user, watch)).collect()
    }
}

impl Shown {
    /// What the device is to be told of a user, if that differs from what it was told.
    fn tell(&mut self, user: UserId, may: bool, watched: &Watched) -> Option<PresenceState> {
        let Sight { state, last_seen } = if may { watched.sight } else { Sight::NONE };
        if may && self.is_corrected {
            return None;
        }
        let is_same = self.state == state && (state != Presence::Offline || self.stamp == watched.stamp);
        (self.state, self.stamp) = (state, watched.stamp);
        (!is_same).then_some(PresenceState { user, state, last_seen, ask_again_ms: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LOOKS: UserId = UserId(1);
    const CONN: ConnId = ConnId { slot: 1, generation: 1 };
    const TICK_MS: u64 = PresenceSettings::DEFAULT.tick_ms;
    const WATCHED: [UserId; 3] = [UserId(10), UserId(11), UserId(12)];

    /// A device that watches three users, of whom it may see the first two.
    fn viewer() -> (Viewer, WatchId) {
        let mut viewer = Viewer::new(PresenceSettings::DEFAULT);
        let (watch, fewer) = viewer.watch((LOOKS, DeviceId(1), CONN), None, WATCHED.into(), 0);
        assert!(fewer.is_empty());
        for user in WATCHED {
            let verdict = Verdict { version: Version(1), may: user != WATCHED[2] };
            let sight = if verdict.may { sight(Presence::Offline, 1) } else { Sight::NONE };
            viewer.take(&Told { user, verdict, sight, is_crowded: false }, Some(watch));
        }
        assert_eq!(viewer.asked_all(watch, &WATCHED, 0).len(), WATCHED.len());
        (viewer, watch)
    }

    const fn sight(state: Presence, minute: u64) -> Sight {
        let last_seen = TimestampMs(if matches!(state, Presence::Offline) { 60_000 * minute } else { 0 });
        Sight { state, last_seen }
    }

    /// A change that leaves verdicts as they are.
    const fn seen(user: UserId, state: Presence) -> Change {
        Change { user, sight: sight(state, 0), version: Version(1), before: Version(1), only: None }
    }

    fn flush(viewer: &mut Viewer, now_ms: u64) -> Option<Flush> {
        match viewer.due(now_ms, now_ms, |_| true)? {
            Due::Flush(flush) => Some(flush),
            Due::Nothing => None,
            Due::Ended { .. } => panic!("it lives for longer"),
        }
    }

    #[test]
    fn a_watch_takes_less_memory_than_it_may() {
        // The wanted 400 bytes for 20 users: the watch, its place and its timer, its users, and its place with each of them.
        let of_all = size_of::<Slot>() + size_of::<Reverse<(u64, WatchId)>>() + size_of::<Option<WatchId>>();
        let of_one = size_of::<UserId>() + size_of::<Shown>();
        assert!(of_all + 20 * of_one <= 400, "{}", of_all + 20 * of_one);
        // And 64 for each user that is watched, beside what the user costs once for the core.
        assert!(size_of::<WatchId>() <= 64);
    }

    #[test]
    fn a_verdict_that_a_change_has_overtaken_is_asked_for_again() {
        let (mut viewer, watch) = viewer();
        let change = Change {
            user: WATCHED[0],
            sight: sight(Presence::Online, 0),
            version: Version(5),
            before: Version(1),
            only: Some(LOOKS),
        };
        assert!(viewer.change(&change));
        let old = Verdict { version: Version(1), may: true };
        let told = Told { user: WATCHED[0], verdict: old, sight: sight(Presence::Away, 0), is_crowded: false };
        viewer.take(&told, Some(watch));
        let flush = flush(&mut viewer, TICK_MS).unwrap();
        assert_eq!((flush.states.len(), flush.unsure.len()), (0, 1), "{flush:?}");
        assert_eq!(viewer.sees(watch, WATCHED[0]), None);
    }

    #[test]
    fn a_change_for_somebody_else_leaves_a_verdict_as_it_is() {
        let (mut viewer, watch) = viewer();
        let change = Change {
            user: WATCHED[0],
            sight: sight(Presence::Offline, 1),
            version: Version(5),
            before: Version(1),
            only: Some(UserId(2)),
        };
        viewer.change(&change);
        assert!(flush(&mut viewer, TICK_MS).is_none(), "nothing differs, and nothing is unsure");
        assert_eq!(viewer.sees(watch, WATCHED[0]).map(|(version, _)| version), Some(Version(5)));
        // One was lost before this one: then nobody is sure.
        let change = Change { version: Version(9), before: Version(7), ..change };
        viewer.change(&change);
        assert_eq!(flush(&mut viewer, 2 * TICK_MS).unwrap().unsure.len(), 1);
    }

    #[test]
    fn who_has_another_home_or_none_that_answers_is_asked_about_again_and_unknown() {
        let (mut viewer, watch) = viewer();
        viewer.ask_anew(|user| user == WATCHED[0]);
        assert_eq!(viewer.sees(watch, WATCHED[0]), None);
        let told = flush(&mut viewer, TICK_MS).unwrap();
        assert_eq!((told.states.len(), told.unsure.len()), (0, 1), "what was told stands: {told:?}");
        // The clock of the new home is behind.
        let verdict = Verdict { version: Version(0), may: true };
        viewer
            .take(&Told { user: WATCHED[0], verdict, sight: sight(Presence::Away, 0), is_crowded: false }, Some(watch));
        viewer.asked_again(watch, TICK_MS);
        let told = flush(&mut viewer, 2 * TICK_MS).unwrap();
        assert_eq!((told.states[0].state, told.unsure.len()), (Presence::Away, 0));
        viewer.unreachable(Some(watch), WATCHED[0]);
        let told = flush(&mut viewer, 3 * TICK_MS).unwrap();
        assert_eq!((told.states[0].state, told.unsure.len()), (Presence::Unknown, 0));
        assert!(flush(&mut viewer, 4 * TICK_MS).is_none(), "once");
    }

    #[test]
    fn however_often_a_home_says_otherwise_it_is_asked_again_once_in_a_while() {
        let (mut viewer, watch) = viewer();
        let (mut asked, last_ms) = (0, 20 * PRESENCE_ASK_AGAIN_MS);
        for now_ms in (0..last_ms).step_by(10) {
            let [before, version] = [2 * now_ms + 1, 2 * now_ms + 21].map(Version);
            let sight = sight(Presence::Online, 0);
            viewer.change(&Change { user: WATCHED[0], sight, version, before, only: Some(LOOKS) });
            while let Some(flush) = flush(&mut viewer, now_ms) {
                let Some(of) = flush.unsure.first() else { continue };
                asked += 1;
                // One verdict is of an earlier version, and is not taken; the next one is.
                let verdict = Verdict { version: if asked % 2 == 0 { before } else { version }, may: true };
                viewer.take(&Told { user: of.user, verdict, sight, is_crowded: false }, Some(watch));
                viewer.asked_again(watch, now_ms);
            }
        }
        assert_eq!(asked, 19, "once in each second but for the first one, in which all have just been answered");
    }

    #[test]
    fn when_a_home_is_asked_again_between_two_frames_the_next_one_is_not_told_earlier() {
        let (mut viewer, watch) = viewer();
        let tick_ms = PRESENCE_ASK_AGAIN_MS / 5 * 2;
        viewer.settings.tick_ms = tick_ms;
        viewer.asked_all(watch, &WATCHED, 0);
        let change = |viewer: &mut Viewer, user, state, version: [u64; 2]| {
            let [before, version] = version.map(Version);
            viewer.change(&Change { user, sight: sight(state, 0), version, before, only: Some(LOOKS) });
        };
        // Something about the first user was lost, and may be asked about once all that was answered is old enough.
        change(&mut viewer, WATCHED[0], Presence::Online, [7, 8]);
        assert!(flush(&mut viewer, tick_ms).is_none());
        let first_ms = PRESENCE_ASK_AGAIN_MS - tick_ms / 2;
        change(&mut viewer, WATCHED[1], Presence::Online, [1, 1]);
        assert_eq!(flush(&mut viewer, first_ms).unwrap().states.len(), 1);
        change(&mut viewer, WATCHED[1], Presence::Away, [1, 1]);
        let asked = flush(&mut viewer, PRESENCE_ASK_AGAIN_MS).unwrap();
        assert_eq!((asked.states.len(), asked.unsure.len()), (0, 1), "{asked:?}");
        viewer.asked_again(asked.watch, PRESENCE_ASK_AGAIN_MS);
        assert!(flush(&mut viewer, first_ms + tick_ms - 1).is_none());
        assert!(flush(&mut viewer, first_ms + tick_ms).unwrap().states.iter().any(|state| state.user == WATCHED[1]));
    }

    #[test]
    fn what_a_later_question_asks_for_is_told_by_its_answer_and_not_pushed_before() {
        let (mut viewer, watch) = viewer();
        let by = (LOOKS, DeviceId(1), CONN);
        viewer.watch(by, Some(watch), [WATCHED[1]].into(), 10);
        viewer.watch(by, Some(watch), [WATCHED[0], WATCHED[1]].into(), 20);
        viewer.change(&seen(WATCHED[1], Presence::Online));
        let verdict = Verdict { version: Version(1), may: true };
        let told = Told { user: WATCHED[0], verdict, sight: sight(Presence::Offline, 1), is_crowded: false };
        viewer.take(&told, Some(watch));
        let state = |states: &[PresenceState], of: UserId| states.iter().find(|state| state.user == of).unwrap().state;
        assert_eq!(state(&viewer.asked_all(watch, &WATCHED[1..], 30), WATCHED[1]), Presence::Online);
        assert!(flush(&mut viewer, 30 + TICK_MS).is_none(), "the second question is not answered");
        let states = viewer.asked_all(watch, &WATCHED[..2], 40 + TICK_MS);
        assert_eq!([WATCHED[0], WATCHED[1]].map(|of| state(&states, of)), [Presence::Offline, Presence::Online]);
        assert!(flush(&mut viewer, 50 + 2 * TICK_MS).is_none(), "all is told");
    }

    #[test]
    fn what_the_answer_to_an_earlier_question_does_not_tell_is_pushed_behind_it() {
        let (mut viewer, watch) = viewer();
        let by = (LOOKS, DeviceId(1), CONN);
        viewer.watch(by, Some(watch), [WATCHED[0]].into(), 10);
        viewer.watch(by, Some(watch), [WATCHED[0], WATCHED[1]].into(), 20);
        let verdict = Verdict { version: Version(1), may: true };
        let told = Told { user: WATCHED[1], verdict, sight: sight(Presence::Online, 0), is_crowded: false };
        viewer.take(&told, Some(watch));
        // The second question is answered first; what changes then is in no answer.
        assert_eq!(viewer.asked_all(watch, &WATCHED[..2], 30).len(), 2);
        viewer.change(&seen(WATCHED[1], Presence::Away));
        assert_eq!(viewer.asked_all(watch, &WATCHED[..1], 40).len(), 1);
        let pushed = flush(&mut viewer, 40 + TICK_MS).unwrap().states;
        assert_eq!(pushed.iter().map(|of| (of.user, of.state)).collect::<Vec<_>>(), [(WATCHED[1], Presence::Away)]);
        // One that can not be answered leaves what an earlier one told.
        viewer.watch(by, Some(watch), [WATCHED[1]].into(), 5_000);
        viewer.watch(by, Some(watch), [WATCHED[0], WATCHED[1]].into(), 5_010);
        viewer.asked_all(watch, &WATCHED[1..2], 5_020);
        viewer.asked_again(watch, 5_030);
        viewer.change(&seen(WATCHED[1], Presence::Online));
        let pushed = flush(&mut viewer, 5_030 + TICK_MS).unwrap().states;
        assert!(pushed.iter().any(|of| (of.user, of.state) == (WATCHED[1], Presence::Online)), "{pushed:?}");
    }

    #[test]
    fn a_watch_that_is_replaced_or_ends_leaves_nothing() {
        let (mut viewer, watch) = viewer();
        let (again, fewer) = viewer.watch((LOOKS, DeviceId(1), CONN), Some(watch), [WATCHED[1]].into(), 10);
        assert_eq!((again, fewer), (watch, vec![(WATCHED[0], 0), (WATCHED[2], 0)]));
        assert_eq!(viewer.asked(watch)[0].verdict, Some(Verdict { version: Version(1), may: true }), "it is kept");
        assert_eq!(viewer.end(watch), [(WATCHED[1], 0)]);
        assert!(viewer.watched.is_empty() && viewer.len() == 0);
        assert!(!viewer.has_due(0) && viewer.due(u64::MAX, u64::MAX, |_| true).is_none());
    }

    #[test]
    fn who_shows_others_again_and_again_takes_no_more_memory() {
        let (mut viewer, mut watch) = viewer();
        for now_ms in 0..10_000 {
            let users = [UserId(100 + now_ms % 7), UserId(200 + now_ms % 5)];
            (watch, _) = viewer.watch((LOOKS, DeviceId(1), CONN), Some(watch), users.into(), now_ms);
        }
        assert!(viewer.timers.len() < 10 && viewer.watched.len() == 2, "{}", viewer.timers.len());
    }

    proptest! {
        /// Whatever the home says, and whenever: the device's view is the home's in the end, of whom it may see, no frame says what the
        /// device knew, and frames are a tick apart.
        #[test]
        fn a_view_follows_what_homes_say(
            steps in prop::collection::vec((0_usize..3, 1_u8..4, 0_u64..4, 0_u64..1_500), 1..60)
        ) {
            let (mut viewer, _) = viewer();
            let mut view: BTreeMap<UserId, (Presence, TimestampMs)> = BTreeMap::new();
            for user in &WATCHED[..2] {
                view.insert(*user, (Presence::Offline, TimestampMs(60_000)));
            }
            let (mut truth, mut now_ms, mut last_ms) = (view.clone(), 0, 0);
            let mut hear = |viewer: &mut Viewer, now_ms: u64, view: &mut BTreeMap<_, _>| {
                while let Some(flush) = flush(viewer, now_ms) {
                    assert!(now_ms >= last_ms + TICK_MS && flush.unsure.is_empty());
                    last_ms = now_ms;
                    for state in flush.states {
                        let told = (state.state, state.last_seen);
                        assert_ne!(view.insert(state.user, told), Some(told));
                    }
                }
            };
            let mut minute = 1;
            for (of, state, minutes, wait_ms) in steps {
                minute += minutes;
                let state = Presence::from_byte(state).unwrap();
                let (user, sight) = (WATCHED[of], sight(state, minute));
                let change = Change { user, sight, version: Version(1), before: Version(1), only: None };
                prop_assert!(viewer.change(&change));
                if of < 2 {
                    truth.insert(user, (sight.state, sight.last_seen));
                }
                now_ms += wait_ms;
                hear(&mut viewer, now_ms, &mut view);
            }
            hear(&mut viewer, now_ms + 2 * TICK_MS, &mut view);
            prop_assert_eq!(view, truth);
        }
    }
}
