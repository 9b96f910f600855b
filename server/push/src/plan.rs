//! Plan: which notice goes to its provider next, and when. It has no clock, no chance and no connection.
//!
//! Invariants: of each thing (user, device, conversation) at most one notice waits and at most one is under way, and none goes while an
//! older one is under way, so that a device never sees an older one last. What waits is bounded in all and for each host, what is under
//! way as well. Each notice that comes in goes out once: as an attempt, which comes back, or with its outcome.

pub(crate) mod circuit;
mod wait;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use http::Uri;
use proto_spec::{ConversationId, DeviceId, UserId};
use serde::{Deserialize, Serialize};

use self::circuit::Circuit;
use crate::{
    limits::{HOST_UNDER_WAY_MAX, HOST_WAITING_MAX, HOSTS_MAX, LATER, TTL_MAX, TTL_MIN, UNDER_WAY_MAX, WAITING_MAX},
    notice::{Notice, Outcome, ProviderKind, Trouble},
    settings::Pace,
};

/// A time, as what has passed since the service began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

/// A host of one provider: what has its own circuit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName {
    /// By which provider.
    pub provider: ProviderKind,
    /// Host, and port where it is written.
    pub authority: Arc<str>,
}

impl HostName {
    /// The host of a URL that is absolute.
    pub(crate) fn of(provider: ProviderKind, url: &Uri) -> Self {
        let authority = url.authority().expect("URLs are absolute where they are read").as_str();
        Self { provider, authority: authority.to_ascii_lowercase().into() }
    }
}

/// A notice that is to go to its provider now. It comes back by [`Plan::ended`].
#[derive(Debug)]
pub struct Attempt {
    /// The notice.
    pub notice: Notice,
    /// Until when it is worth telling.
    pub expires: Moment,
    host: HostName,
    /// How many attempts failed before.
    failed: u32,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// So, for good.
    Final(Outcome),
    /// It may be repeated, not before this time has passed if the provider named one.
    Again(Trouble, Option<Duration>),
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// Send this.
    Begin(Attempt),
    /// Tell the caller.
    Ended(Notice, Outcome),
}

/// A notice with how it ended.
pub type Ended = (Notice, Outcome);

/// Which notices wait for what.
pub struct Plan {
    pace: Pace,
    things: HashMap<Thing, State>,
    hosts: HashMap<HostName, Host>,
    /// Hosts to which something may go, by when.
    agenda: BTreeSet<(Moment, HostName)>,
    /// How many have come: who came first goes first.
    arrivals: u64,
    waiting: usize,
    under_way: usize,
}

/// What two notices have in common of which the newer one replaces the older one.
type Thing = (UserId, DeviceId, ConversationId);

/// Of a thing at least one is there: a notice that waits, or one under way.
#[derive(Default)]
struct State {
    waiting: Option<Waiting>,
    is_under_way: bool,
}

struct Waiting {
    attempt: Attempt,
    arrival: u64,
    /// Not before this. While another one of the thing is under way it is in no host's list, and the end of that one decides.
    due: Moment,
    last: Option<Trouble>,
}

struct Host {
    due: BTreeSet<(Moment, u64, Thing)>,
    /// All that wait for it, listed or not.
    waiting: usize,
    under_way: usize,
    circuit: Circuit,
    /// Where it stands in the agenda.
    listed: Option<Moment>,
}

/// What there is of one provider at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Notices that wait.
    pub waiting: u64,
    /// Hosts whose circuit is open.
    pub circuits_open: u64,
}

impl Plan {
    /// Nothing waits.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            things: HashMap::new(),
            hosts: HashMap::new(),
            agenda: BTreeSet::new(),
            arrivals: 0,
            waiting: 0,
            under_way: 0,
        }
    }

    /// Whether one more can be offered.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.waiting + self.under_way < WAITING_MAX
    }

    /// Takes a notice for a host. What thereby ends is added to `ended`: an older one that it replaces, or itself where too much waits
    /// for its host.
    ///
    /// # Panics
    ///
    /// When there is no room.
    pub fn offer(&mut self, now: Moment, notice: Notice, host: HostName, ended: &mut Vec<Ended>) {
        assert!(self.has_room(), "a notice comes although {WAITING_MAX} are here");
        let thing = thing(&notice);
        let older = self.take_waiting(&thing);
        if !self.has_host_room(&host) {
            ended.extend(older.map(|older| (older.attempt.notice, Outcome::Superseded)));
            ended.push((notice, Outcome::Later(LATER)));
            self.forget_if_nothing(thing);
            return;
        }
        let expires = now.after(notice.ttl.clamp(TTL_MIN, TTL_MAX));
        let mut waiting = Waiting {
            attempt: Attempt { notice, expires, host, failed: 0 },
            arrival: self.arrivals,
            due: now,
            last: None,
        };
        self.arrivals += 1;
        if let Some(older) = older {
            // A provider that asked for patience gets it, whatever there is to say by now.
            if older.attempt.host == waiting.attempt.host {
                (waiting.attempt.failed, waiting.due, waiting.last) = (older.attempt.failed, older.due, older.last);
            }
            ended.push((older.attempt.notice, Outcome::Superseded));
        }
        self.let_wait(thing, waiting);
    }

    /// What is to be done now. To be asked until there is nothing more.
    pub fn next(&mut self, now: Moment) -> Option<Next> {
        if self.under_way >= UNDER_WAY_MAX || self.agenda.first()?.0 > now {
            return None;
        }
        let (_, name) = self.agenda.first()?.clone();
        let (_, _, thing) = *self.hosts[&name].due.first().expect("a host is in the agenda for what waits");
        let waiting = self.take_waiting(&thing).expect("what a host lists waits");
        if waiting.attempt.expires <= now {
            self.forget_if_nothing(thing);
            return Some(Next::Ended(waiting.attempt.notice, Outcome::Expired { last: waiting.last }));
        }
        self.things.entry(thing).or_default().is_under_way = true;
        self.under_way += 1;
        let host = self.hosts.get_mut(&name).expect("a host stays once it is known");
        host.under_way += 1;
        host.circuit = host.circuit.begun();
        self.list(&name);
        Some(Next::Begin(waiting.attempt))
    }

    /// When there is something to be done, if nothing happens before.
    #[must_use]
    pub fn wake(&self) -> Option<Moment> {
        if self.under_way >= UNDER_WAY_MAX { None } else { Some(self.agenda.first()?.0) }
    }

    /// An attempt ended. `chance` is in 0.0..1.0. What thereby ends is added to `ended`.
    pub fn ended(&mut self, now: Moment, attempt: Attempt, verdict: Verdict, chance: f64, ended: &mut Vec<Ended>) {
        let (thing, name) = (thing(&attempt.notice), attempt.host.clone());
        self.under_way -= 1;
        let host = self.hosts.get_mut(&name).expect("a host stays while something is under way to it");
        host.under_way -= 1;
        host.circuit = match &verdict {
            Verdict::Again(trouble, _) if trouble.is_of_host() => host.circuit.failed(now, &self.pace),
            Verdict::Again(..) | Verdict::Final(_) => Circuit::WELL,
        };
        let state = self.things.get_mut(&thing).expect("a thing stays while a notice of it is under way");
        state.is_under_way = false;
        let newer = self.take_waiting(&thing);
        match verdict {
            Verdict::Final(outcome) => {
                ended.push((attempt.notice, outcome));
                if let Some(newer) = newer {
                    self.let_wait(thing, newer);
                }
            }
            Verdict::Again(trouble, asked) => {
                let failed = attempt.failed.saturating_add(1);
                let due = now.after(wait::before_next(failed, asked, chance, &self.pace));
                let again = if let Some(newer) = newer {
                    ended.push((attempt.notice, Outcome::Superseded));
                    let same_host = newer.attempt.host == name;
                    if same_host { newer.after(failed, due, trouble) } else { newer }
                } else {
                    Waiting { attempt, arrival: self.arrivals, due, last: None }.after(failed, due, trouble)
                };
                self.arrivals += 1;
                if again.due >= again.attempt.expires {
                    ended.push((again.attempt.notice, Outcome::Expired { last: again.last }));
                } else {
                    self.let_wait(thing, again);
                }
            }
        }
        self.forget_if_nothing(thing);
        self.list(&name);
    }

    /// Takes away the notice that waits for the same thing as this one, if there is one.
    pub fn withdraw(&mut self, notice: &Notice) -> Option<Notice> {
        let thing = thing(notice);
        let waiting = self.take_waiting(&thing);
        self.forget_if_nothing(thing);
        Some(waiting?.attempt.notice)
    }

    /// Everything that waits, for a stop. What is under way still comes back.
    pub fn give_back(&mut self) -> Vec<Notice> {
        let things: Vec<Thing> = self.things.keys().copied().collect();
        let waiting = things.into_iter().filter_map(|thing| {
            let waiting = self.take_waiting(&thing);
            self.forget_if_nothing(thing);
            Some(waiting?.attempt.notice)
        });
        waiting.collect()
    }

    /// What there is, of each provider, in the order of [`ProviderKind::ALL`].
    #[must_use]
    pub fn figures(&self) -> [Figures; ProviderKind::ALL.len()] {
        let mut figures = [Figures::default(); ProviderKind::ALL.len()];
        for (name, host) in &self.hosts {
            let of = &mut figures[name.provider as usize];
            of.waiting += host.waiting as u64;
            of.circuits_open += u64::from(host.circuit.is_open());
        }
        figures
    }

    fn let_wait(&mut self, thing: Thing, waiting: Waiting) {
        let name = waiting.attempt.host.clone();
        let state = self.things.entry(thing).or_default();
        let host = self.hosts.entry(name.clone()).or_insert_with(Host::new);
        if !state.is_under_way {
            host.due.insert((waiting.due, waiting.arrival, thing));
        }
        host.waiting += 1;
        self.waiting += 1;
        assert!(state.waiting.replace(waiting).is_none(), "two notices of one thing wait");
        self.list(&name);
    }

    fn take_waiting(&mut self, thing: &Thing) -> Option<Waiting> {
        let waiting = self.things.get_mut(thing)?.waiting.take()?;
        let name = &waiting.attempt.host;
        let host = self.hosts.get_mut(name).expect("a host stays while something waits for it");
        host.due.remove(&(waiting.due, waiting.arrival, *thing));
        host.waiting -= 1;
        self.waiting -= 1;
        let name = name.clone();
        self.list(&name);
        Some(waiting)
    }

    fn forget_if_nothing(&mut self, thing: Thing) {
        if self.things.get(&thing).is_some_and(|state| state.waiting.is_none() && !state.is_under_way) {
            self.things.remove(&thing);
        }
    }

    /// Whether one more may wait for this host. Makes room for a host that is new.
    fn has_host_room(&mut self, name: &HostName) -> bool {
        if let Some(host) = self.hosts.get(name) {
            return host.waiting < HOST_WAITING_MAX;
        }
        if self.hosts.len() < HOSTS_MAX {
            return true;
        }
        // Such a one is here for its circuit alone.
        let idle = self.hosts.iter().find(|(_, host)| host.waiting == 0 && host.under_way == 0);
        let idle = idle.map(|(name, _)| name.clone());
        idle.is_some_and(|idle| self.hosts.remove(&idle).is_some())
    }

    /// Puts a host where it belongs in the agenda.
    fn list(&mut self, name: &HostName) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let first = host.due.first().filter(|_| host.under_way < HOST_UNDER_WAY_MAX);
        let at = first.and_then(|(due, ..)| Some(host.circuit.opens_at()?.max(*due)));
        if host.listed != at {
            if let Some(was) = host.listed {
                self.agenda.remove(&(was, name.clone()));
            }
            self.agenda.extend(at.map(|at| (at, name.clone())));
            host.listed = at;
        }
    }
}

impl Waiting {
    /// The same after one more attempt that failed.
    fn after(mut self, failed: u32, due: Moment, last: Trouble) -> Self {
        self.attempt.failed = failed;
        self.due = due;
        self.last = Some(last);
        self
    }
}

impl Host {
    const fn new() -> Self {
        Self { due: BTreeSet::new(), waiting: 0, under_way: 0, circuit: Circuit::NEW, listed: None }
    }
}

impl Moment {
    /// When the service began.
    pub const START: Self = Self(Duration::ZERO);

    /// This much later.
    #[must_use]
    pub const fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

fn thing(notice: &Notice) -> Thing {
    (notice.user, notice.device, notice.conversation)
}
