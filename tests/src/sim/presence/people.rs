//! People: what apps ask for of presence, beside all else that they do. Their frames are the simulator's own: what the client does not
//! know it passes over.

use std::collections::BTreeSet;

use proto_spec::{ClientFrame, RequestId, Settings, Status, UserId, Visibility};
use server::shard::topology::CoreId;

use super::{
    super::{Happening, Simulation, network::LinkId, node::STRANGERS},
    NOBODY, Noticed, Question, Times,
    hiding::What,
};

impl Simulation {
    /// A person looks, hides, types or goes.
    pub(in crate::sim) fn on_app_look(&mut self, index: usize) {
        if self.healing || !self.apps[index].is_running() {
            self.apps[index].looks = false;
            return;
        }
        match self.rng.within(0, 99) {
            0..=14 => {
                let users = self.some_users();
                self.look(index, users, true);
            }
            15..=24 => {
                let users = self.apps[index].watches.clone();
                self.look(index, users, true);
            }
            25..=34 => {
                let users = self.some_users();
                self.look(index, users, false);
            }
            35..=52 => self.set_status(index),
            53..=62 => self.hide_or_show(index),
            63..=72 if self.watching.blocks => self.block_or_not(index),
            73..=84 => self.type_to(index),
            85..=87 => self.say_bye(index),
            _ => {}
        }
        let delay = self.rng.within(10, 500);
        self.schedule(delay, Happening::AppLook(index));
    }

    /// Some who are there, some who never are, and nobody; some of them twice.
    fn some_users(&mut self) -> Vec<UserId> {
        let people: Vec<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        let mut users = Vec::new();
        for _ in 0..self.rng.within(0, 5) {
            users.push(match self.rng.within(0, 9) {
                0 => NOBODY,
                1 => UserId(self.rng.within(*STRANGERS.start(), *STRANGERS.start() + 3)),
                _ => *self.rng.pick(&people),
            });
        }
        users
    }

    /// Writes a frame, if the connection has been welcomed.
    pub(super) fn say_presence(&mut self, index: usize, frame: &ClientFrame) -> Option<LinkId> {
        let link = self.apps[index].welcomed_link().filter(|link| self.watching.lines.contains_key(link))?;
        self.note(|| format!("app {index}: {frame:?}"));
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.write_to_server(link, &bytes);
        Some(link)
    }

    pub(super) fn next_request(&mut self) -> RequestId {
        self.watching.next_request += 1;
        RequestId(self.watching.next_request)
    }

    /// Asks who is there, once or from now on.
    pub(super) fn look(&mut self, index: usize, users: Vec<UserId>, is_watch: bool) {
        let request = self.next_request();
        let frame = match is_watch {
            true => ClientFrame::Watch { request, users: users.clone() },
            false => ClientFrame::FetchPresence { request, users: users.clone() },
        };
        let Some(link) = self.say_presence(index, &frame) else { return };
        let (at, at_ms) = (self.watching.moment(), self.now.monotonic_ms);
        if is_watch {
            self.apps[index].watches.clone_from(&users);
        }
        let mut seen = BTreeSet::new();
        let users = users.into_iter().filter(|user| seen.insert(*user)).collect();
        if let Some(line) = self.watching.lines.get_mut(&link) {
            line.questions.insert(request, Question { at, at_ms, users, is_watch });
        }
    }

    pub(super) fn set_status(&mut self, index: usize) {
        let is_away = self.rng.chance(50);
        let status = if is_away { Status::Away } else { Status::Here };
        if let Some(link) = self.say_presence(index, &ClientFrame::SetStatus { status }) {
            self.will_notice(link, Noticed::IsAway(is_away));
        }
    }

    /// An app says goodbye, and comes back as its client does.
    pub(super) fn say_bye(&mut self, index: usize) {
        if let Some(link) = self.say_presence(index, &ClientFrame::Bye) {
            self.will_notice(link, Noticed::Bye);
        }
    }

    pub(super) fn hide_or_show(&mut self, index: usize) {
        let (bit, what) = match self.rng.chance(75) {
            true => (Visibility::INVISIBLE, What::All),
            false => (Visibility::HIDE_LAST_SEEN, What::LastSeen),
        };
        let hides = self.rng.chance(55);
        let (user, none, request) = (self.apps[index].key.0, Visibility::default(), self.next_request());
        let (set, cleared) = if hides { (bit, none) } else { (none, bit) };
        self.wish(index, (user, what), hides, ClientFrame::SetVisibility { request, set, cleared }, request);
        self.oracle.hides.insert(user);
    }

    pub(super) fn block_or_not(&mut self, index: usize) {
        let people: Vec<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        let (user, peer) = (self.apps[index].key.0, *self.rng.pick(&people));
        if user == peer {
            return;
        }
        let hides = self.rng.chance(55);
        let (bit, none, request) = (Settings::BLOCKED, Settings::default(), self.next_request());
        let (set, cleared) = if hides { (bit, none) } else { (none, bit) };
        let frame = ClientFrame::SetConversation { request, conversation: peer.into(), set, cleared };
        self.wish(index, (user, What::From(peer)), hides, frame, request);
        self.oracle.estranged.insert((user, peer));
    }

    fn wish(&mut self, index: usize, of: (UserId, What), hides: bool, frame: ClientFrame, request: RequestId) {
        if let Some(link) = self.say_presence(index, &frame) {
            let now = self.watching.moment();
            self.watching.hidings.asks(of, hides, (link, request), now);
        }
    }

    pub(super) fn type_to(&mut self, index: usize) {
        let people: Vec<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        let to = *self.rng.pick(&people);
        if to != self.apps[index].key.0 {
            self.say_presence(index, &ClientFrame::Typing { conversation: to.into() });
            self.trick_typing(self.apps[index].key.0, to);
        }
    }

    // ---- what the server knows of it

    /// Whether the server has a connection of this user.
    pub(super) fn is_served(&mut self, user: UserId) -> bool {
        self.links.ids().into_iter().any(|id| {
            self.links.get(id).is_some_and(|link| link.server.place().is_some() && self.apps[link.app].key.0 == user)
        })
    }

    /// What has just been written will be noticed when the server has read it.
    fn will_notice(&mut self, link: LinkId, what: Noticed) {
        let Some(written) = self.links.get(link).map(|of| of.written) else { return };
        if let Some(line) = self.watching.lines.get_mut(&link) {
            line.noticed.push_back((written, what));
        }
    }

    /// The server is about to read up to here.
    pub(in crate::sim) fn notices(&mut self, link: LinkId, read: u64) {
        let now_ms = self.now.monotonic_ms;
        let watching = &mut self.watching;
        let Some(line) = watching.lines.get_mut(&link) else { return };
        while line.noticed.front().is_some_and(|(at, _)| *at <= read) {
            let Some((_, what)) = line.noticed.pop_front() else { break };
            let Some(times) = watching.times.get_mut(&line.user) else { continue };
            match what {
                Noticed::IsAway(is_away) => {
                    line.is_away = is_away;
                    times.moves(&watching.settings, now_ms);
                }
                Noticed::Bye => times.says_bye(now_ms),
            }
        }
    }

    /// A core has had a turn: who is there now, of those whose home it is.
    pub(in crate::sim) fn look_who_is_there(&mut self, core: CoreId) {
        let Some(life) = &self.machine.alive else { return };
        let common = life.cores.common();
        let (topology, now_ms) = (common.topology, self.now.monotonic_ms);
        let super::Watching { settings, times, settles, .. } = &mut self.watching;
        let mut moved = Vec::new();
        for (user, times) in times.iter_mut().filter(|(user, _)| topology.home_of(**user) == core) {
            let is_there = common.directory.is_online(*user);
            if is_there {
                settles.entry(core).or_insert(now_ms + settings.grace_ms);
            }
            let settles_ms = settles.get(&core).copied().unwrap_or_default();
            if times.look(is_there, settings, settles_ms, now_ms) {
                moved.push((*user, is_there));
            }
        }
        moved.into_iter().for_each(|(user, is_there)| self.trick_moved(user, is_there));
        self.trick_directory();
    }

    /// All cores are about to have a tick.
    pub(in crate::sim) const fn before_ticks(&mut self) {
        self.watching.ticks_ms = [self.watching.ticks_ms[1], self.now.monotonic_ms];
        self.watching.is_tick = true;
    }

    /// They have had it.
    pub(in crate::sim) fn after_ticks(&mut self) {
        self.watching.is_tick = false;
        let (settings, now_ms) = (self.watching.settings, self.now.monotonic_ms);
        // Who is served and not welcomed counts from some moment on.
        let unwelcomed = self.links.served().filter(|(link, _)| !self.watching.lines.contains_key(link));
        for (_, app) in unwelcomed.collect::<Vec<_>>() {
            self.watching.moves(self.apps[app].key.0, now_ms);
        }
        self.watching.times.values_mut().for_each(|times| times.tick(&settings, now_ms));
    }

    /// The node begins another life: nobody is there, and what was hidden is.
    pub(in crate::sim) fn begin_presence(&mut self) {
        let (now, now_ms) = (self.watching.moment(), self.now.monotonic_ms);
        self.watching.forget_mail();
        self.forget_tricks();
        self.watching.ticks_ms = [now_ms; 2];
        self.watching.settles.clear();
        let users: BTreeSet<UserId> = self.apps.iter().map(|app| app.key.0).collect();
        self.watching.times = users.into_iter().map(|user| (user, Times::new(now_ms))).collect();
        let oracle = &self.oracle;
        let is_hidden = |user: UserId, what: What| oracle.says_hidden(user, what);
        if let Some((user, what)) = self.watching.hidings.restarted(is_hidden, now) {
            self.oracle.fail(|| format!("user {user}: what was said to be hidden or shown is not, {what:?}"));
        }
    }
}
