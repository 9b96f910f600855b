//! Presence: what the people of a lane do that others may see, and whether what devices are told of them can be so (SPEC 8.10). Pure.
//!
//! A state is told once it has lasted; so of what a user was, some spans may have been announced, some must have been, and some are too
//! short for that. What is told must be a state that may be announced now: the newest span that must have been, or a later one
//! that may have been. Never may anything be told of who is not to be seen.

use std::collections::{BTreeMap, HashMap, VecDeque};

use proto_spec::{Presence, UserId};

/// Spans of one user that are remembered, and changes of what may be seen: far more than there can be in the time that counts.
const SPANS_MAX: usize = 128;

/// How the server is set up: `[presence]` of its configuration.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Patience {
    /// The server's `presence.hold_ms`: how long a state lasts before it is told
    #[arg(long, value_name = "MS", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub hold_ms: u64,

    /// The server's `presence.grace_ms`: how long somebody is gone without a goodbye before it is told
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(..=600_000))]
    pub grace_ms: u64,

    /// The server's `presence.tick_ms`: how often a device is told of changes at most
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub tick_ms: u64,
}

/// How much later than it should something may be told or noticed on a machine that is busy, in milliseconds.
pub const LATE_MS: u64 = 2_000;

impl Patience {
    /// After so long without a change everybody must have been told everything, in microseconds.
    #[must_use]
    pub fn quiet_us(&self) -> u64 {
        1_000 * (self.hold_ms.max(self.grace_ms) + 2 * self.tick_ms + LATE_MS)
    }

    const fn late_us(&self) -> u64 {
        1_000 * (2 * self.tick_ms + LATE_MS)
    }
}

/// How a device lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It said bye.
    Bye,
    /// It was cut on purpose.
    Cut,
    /// Nobody meant it to: the server may have gone too, and knows nobody when it is back.
    Lost,
}

/// Since when somebody has been so.
#[derive(Clone, Copy, Debug)]
struct Span {
    since_us: u64,
    state: Presence,
    /// How long it has to last before it may be announced, and before it must be.
    may_us: u64,
    must_us: u64,
}

/// For a while after it has started a server does not let those who come wait: most of them were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    /// A server may have started, and nobody has come since.
    Begins,
    Until(u64),
}

/// Something that is so or not.
#[derive(Clone, Debug, Default)]
struct Flag(VecDeque<(u64, bool)>);

impl Flag {
    fn set(&mut self, now_us: u64, is_so: bool) {
        self.0.push_back((now_us, is_so));
        if self.0.len() > SPANS_MAX {
            self.0.pop_front();
        }
    }

    fn is_so(&self) -> bool {
        self.0.back().is_some_and(|(_, is_so)| *is_so)
    }

    /// Whether it has been so, or has not, all the time since then.
    fn has_been(&self, is_so: bool, since_us: u64) -> bool {
        let was = self.0.iter().rfind(|(at, _)| *at <= since_us).is_some_and(|(_, was)| *was);
        was == is_so && self.0.iter().filter(|(at, _)| *at > since_us).all(|(_, then)| *then == is_so)
    }
}

/// One user.
#[derive(Clone, Debug, Default)]
struct Person {
    /// What their devices say, by number.
    devices: Vec<Presence>,
    spans: VecDeque<Span>,
    is_hidden: Flag,
}

/// What the two of a pair are to each other, as the log of the one who is looked at says.
#[derive(Clone, Debug, Default)]
struct Relation {
    /// Who is looked at has written to who looks.
    has_written: bool,
    /// Who looks has written to them.
    has_received: bool,
    is_blocked: Flag,
}

/// What can be said of what one may know of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    Yes,
    No,
    /// It has changed lately, or it depends on how the server is set up.
    Perhaps,
}

/// What a device may be told of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// This, if it has been told everything.
    Is(Presence),
    /// It changes just now.
    Moves,
}

/// See the head of this file.
#[derive(Debug)]
pub struct People {
    patience: Patience,
    people: HashMap<UserId, Person>,
    /// By who is looked at, and who looks.
    relations: BTreeMap<(UserId, UserId), Relation>,
    /// Who has not written to each other in this run has not before.
    has_strangers: bool,
    settling: Settling,
}

impl People {
    /// Nobody is known.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            people: HashMap::new(),
            relations: BTreeMap::new(),
            has_strangers: true,
            settling: Settling::Begins,
        }
    }

    /// How the server is set up.
    #[must_use]
    pub const fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Whether those who have not written to each other in this run have not before.
    pub const fn has_strangers(&mut self, has_strangers: bool) {
        self.has_strangers = has_strangers;
    }

    /// A device of a user is there and says so, or something else than before.
    pub fn says(&mut self, (user, device): (UserId, u16), state: Presence, now_us: u64) {
        let (hold_us, grace_us) = (self.patience.hold_ms * 1_000, self.patience.grace_ms * 1_000);
        if self.settling == Settling::Begins {
            self.settling = Settling::Until(now_us + grace_us + self.patience.late_us());
        }
        let settles = matches!(self.settling, Settling::Until(until_us) if now_us < until_us);
        self.becomes((user, device), state, (if settles { 0 } else { hold_us }, hold_us), now_us);
    }

    /// A device of a user is gone.
    pub fn left(&mut self, (user, device): (UserId, u16), how: Left, now_us: u64) {
        let grace_us = self.patience.grace_ms * 1_000;
        let (may_us, must_us) = match how {
            Left::Bye => (0, 0),
            Left::Cut => (grace_us, grace_us),
            Left::Lost => (0, grace_us),
        };
        if how == Left::Lost {
            self.settling = Settling::Begins;
        }
        self.becomes((user, device), Presence::Offline, (may_us, must_us), now_us);
    }

    fn becomes(&mut self, (user, device): (UserId, u16), state: Presence, (may_us, must_us): (u64, u64), now_us: u64) {
        let hold_us = self.patience.hold_ms * 1_000;
        let person = self.people.entry(user).or_default();
        let device = usize::from(device);
        if person.devices.len() <= device {
            person.devices.resize(device + 1, Presence::Offline);
        }
        person.devices[device] = state;
        let all = person.devices.iter().copied().max().unwrap_or(Presence::Offline);
        // What another device says has to last as anything else.
        let (may_us, must_us) = if all == state { (may_us, must_us) } else { (hold_us, hold_us) };
        if person.spans.is_empty() {
            person.spans.push_back(Span { since_us: 0, state: Presence::Offline, may_us: 0, must_us: 0 });
        }
        if person.spans.back().is_some_and(|span| span.state != all) {
            person.spans.push_back(Span { since_us: now_us, state: all, may_us, must_us });
            if person.spans.len() > SPANS_MAX {
                person.spans.pop_front();
            }
        }
    }

    /// A user hides, said when it is done, or shows themselves, said when it is asked for and when it is done.
    pub fn hides(&mut self, user: UserId, is_hidden: bool, now_us: u64) {
        self.people.entry(user).or_default().is_hidden.set(now_us, is_hidden);
    }

    /// A user blocks another one, said when it is done, or does no longer, said when it is asked for and when it is done.
    pub fn blocks(&mut self, user: UserId, whom: UserId, is_blocked: bool, now_us: u64) {
        self.relations.entry((user, whom)).or_default().is_blocked.set(now_us, is_blocked);
    }

    /// A user has written to another one.
    pub fn writes(&mut self, user: UserId, to: UserId) {
        self.relations.entry((user, to)).or_default().has_written = true;
        self.relations.entry((to, user)).or_default().has_received = true;
    }

    /// Whether a user is hidden.
    #[must_use]
    pub fn is_hidden(&self, user: UserId) -> bool {
        self.people.get(&user).is_some_and(|person| person.is_hidden.is_so())
    }

    /// Whether a user is hidden and has been for so long that nobody may be told of them any more.
    #[must_use]
    pub fn has_been_hidden(&self, user: UserId, now_us: u64) -> bool {
        let since_us = now_us.saturating_sub(self.patience.late_us());
        self.people.get(&user).is_some_and(|person| person.is_hidden.has_been(true, since_us))
    }

    /// Whether one could see the other, as far as is certain.
    fn may(&self, looks: UserId, user: UserId, now_us: u64) -> May {
        let since_us = now_us.saturating_sub(self.patience.late_us());
        let Some(person) = self.people.get(&user) else { return May::No };
        let unknown = if self.has_strangers { May::No } else { May::Perhaps };
        let Some(relation) = self.relations.get(&(user, looks)) else { return unknown };
        let both = [Some(relation), self.relations.get(&(looks, user))].into_iter().flatten();
        let is_blocked = both.clone().any(|one| one.is_blocked.has_been(true, since_us));
        let is_none_blocked = both.into_iter().all(|one| one.is_blocked.has_been(false, since_us));
        let is_known = relation.has_written || relation.has_received;
        if !is_known {
            unknown
        } else if person.is_hidden.has_been(true, since_us) || is_blocked {
            May::No
        } else if relation.has_written && person.is_hidden.has_been(false, since_us) && is_none_blocked {
            May::Yes
        } else {
            May::Perhaps
        }
    }

    /// Whether one may be told something of the other, as far as is certain.
    #[must_use]
    pub fn may_know(&self, looks: UserId, user: UserId, now_us: u64) -> bool {
        self.may(looks, user, now_us) != May::No
    }

    /// What a device of `looks` has to have been told of a user by now.
    #[must_use]
    pub fn truth(&self, looks: UserId, user: UserId, now_us: u64) -> Truth {
        match self.may(looks, user, now_us) {
            May::No => Truth::Is(Presence::Unknown),
            May::Perhaps => Truth::Moves,
            May::Yes => self.people.get(&user).map_or(Truth::Moves, |person| {
                let late_us = self.patience.late_us();
                let mut announced = Announced::of(person, now_us, late_us);
                match (announced.next(), announced.next()) {
                    (Some(only), None) => Truth::Is(only),
                    _ => Truth::Moves,
                }
            }),
        }
    }

    /// What is wrong with what a device of `looks` is told of a user, if anything is.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self, looks: UserId, user: UserId, told: Presence, now_us: u64) -> Result<(), String> {
        // While nothing is known, that is what is told.
        if told == Presence::Unknown {
            return Ok(());
        }
        if self.may(looks, user, now_us) == May::No {
            return Err(format!("is told that user {user} is {told:?}, which they may not know"));
        }
        let Some(person) = self.people.get(&user) else { return Ok(()) };
        if Announced::of(person, now_us, self.patience.late_us()).any(|state| state == told) {
            return Ok(());
        }
        let spans = person.spans.iter().rev().take(4);
        let lately: Vec<_> = spans
            .map(|span| format!("{:?} for {} ms", span.state, now_us.saturating_sub(span.since_us) / 1_000))
            .collect();
        Err(format!("is told that user {user} is {told:?}, who has been {}", lately.join(", and before ")))
    }
}

/// The states of a user that may be announced now, the newest first.
struct Announced<'a> {
    spans: std::iter::Rev<std::collections::vec_deque::Iter<'a, Span>>,
    end_us: u64,
    late_us: u64,
    is_certain: bool,
    last: Option<Presence>,
}

impl<'a> Announced<'a> {
    fn of(person: &'a Person, now_us: u64, late_us: u64) -> Self {
        Self { spans: person.spans.iter().rev(), end_us: now_us, late_us, is_certain: false, last: None }
    }
}

impl Iterator for Announced<'_> {
    type Item = Presence;

    fn next(&mut self) -> Option<Presence> {
        while !self.is_certain {
            let span = *self.spans.next()?;
            let lasted_us = self.end_us.saturating_sub(span.since_us);
            self.end_us = span.since_us;
            self.is_certain = lasted_us >= span.must_us + self.late_us;
            // The server sees a span begin and end a little later than the device does.
            if lasted_us * 3 >= span.may_us * 2 && self.last != Some(span.state) {
                self.last = Some(span.state);
                return self.last;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { hold_ms: 3_000, grace_ms: 10_000, tick_ms: 1_000 };
    const A: UserId = UserId(1);
    const B: UserId = UserId(2);
    const S: u64 = 1_000_000;
    /// When everything begins: long after nobody was there.
    const T: u64 = 100 * S;

    /// A and B know each other; B has been online for long at `T`.
    fn people() -> People {
        let mut people = People::new(PATIENCE);
        people.writes(A, B);
        people.writes(B, A);
        people.says((B, 0), Presence::Online, T - 60 * S);
        people
    }

    #[test]
    fn a_state_that_lasts_may_be_told_then_and_must_be_told_later() {
        let mut people = people();
        assert_eq!(people.truth(A, B, T), Truth::Is(Presence::Online));
        people.says((B, 0), Presence::Away, T);
        assert!(people.check(A, B, Presence::Away, T + S).is_err());
        assert_eq!(people.check(A, B, Presence::Online, T + 5 * S), Ok(()));
        assert_eq!(people.truth(A, B, T + 5 * S), Truth::Moves);
        assert_eq!(people.check(A, B, Presence::Away, T + 5 * S), Ok(()));
        assert_eq!(people.truth(A, B, T + 8 * S), Truth::Is(Presence::Away));
        assert!(people.check(A, B, Presence::Online, T + 8 * S).is_err());
    }

    #[test]
    fn who_flaps_is_what_they_were_before() {
        let mut people = people();
        for n in 0..20 {
            people.left((B, 0), Left::Cut, T + 2 * n * S);
            people.says((B, 0), Presence::Online, T + (2 * n + 1) * S);
        }
        assert_eq!(people.truth(A, B, T + 40 * S), Truth::Is(Presence::Online));
        assert!(people.check(A, B, Presence::Offline, T + 40 * S).is_err());
        // One who comes for a moment again and again was never there.
        people.left((B, 0), Left::Bye, T + 50 * S);
        for n in 0..20 {
            people.says((B, 0), Presence::Online, T + (60 + 2 * n) * S);
            people.left((B, 0), Left::Bye, T + (61 + 2 * n) * S);
        }
        assert!(people.check(A, B, Presence::Online, T + 100 * S).is_err());
    }

    #[test]
    fn a_goodbye_is_told_at_once_and_a_cut_only_when_it_lasts() {
        let mut people = people();
        people.left((B, 0), Left::Cut, T);
        assert!(people.check(A, B, Presence::Offline, T + 3 * S).is_err());
        assert_eq!(people.check(A, B, Presence::Offline, T + 11 * S), Ok(()));
        people.says((B, 0), Presence::Online, T + 20 * S);
        people.left((B, 0), Left::Bye, T + 40 * S);
        assert_eq!(people.check(A, B, Presence::Offline, T + 40 * S), Ok(()));
        assert_eq!(people.truth(A, B, T + 45 * S), Truth::Is(Presence::Offline));
    }

    #[test]
    fn a_server_that_starts_lets_nobody_wait_who_comes_back() {
        let mut people = people();
        people.left((B, 0), Left::Lost, T);
        assert_eq!(people.check(A, B, Presence::Offline, T + S), Ok(()));
        people.says((B, 0), Presence::Online, T + S);
        assert_eq!(people.check(A, B, Presence::Online, T + S), Ok(()));
        people.left((B, 0), Left::Bye, T + 60 * S);
        people.says((B, 0), Presence::Online, T + 90 * S);
        assert!(people.check(A, B, Presence::Online, T + 91 * S).is_err());
    }

    #[test]
    fn the_most_present_device_counts() {
        let mut people = people();
        people.says((B, 1), Presence::Away, T);
        assert_eq!(people.truth(A, B, T + 60 * S), Truth::Is(Presence::Online));
        people.left((B, 0), Left::Bye, T + 60 * S);
        assert_eq!(people.truth(A, B, T + 90 * S), Truth::Is(Presence::Away));
    }

    #[test]
    fn nothing_may_be_told_of_strangers_of_who_hides_and_of_who_blocks() {
        let mut people = people();
        let stranger = UserId(3);
        assert!(people.check(stranger, B, Presence::Online, T).unwrap_err().contains("may not know"));
        assert!(people.check(A, UserId(9), Presence::Offline, T).is_err());
        assert_eq!(people.truth(stranger, B, T), Truth::Is(Presence::Unknown));
        assert_eq!(people.check(stranger, B, Presence::Unknown, T), Ok(()));
        people.hides(B, true, T);
        assert_eq!(people.check(A, B, Presence::Online, T + S), Ok(()));
        assert!(people.check(A, B, Presence::Online, T + 5 * S).is_err());
        people.hides(B, false, T + 10 * S);
        assert_eq!(people.truth(A, B, T + 11 * S), Truth::Moves);
        assert_eq!(people.truth(A, B, T + 20 * S), Truth::Is(Presence::Online));
        people.blocks(B, A, true, T + 20 * S);
        assert!(people.check(A, B, Presence::Online, T + 25 * S).is_err());
        people.says((A, 0), Presence::Online, T);
        assert_eq!(people.truth(B, A, T + 25 * S), Truth::Is(Presence::Unknown), "nor the other way round");
    }

    #[test]
    fn whom_only_the_other_side_has_written_to_depends_on_the_server() {
        let mut people = people();
        people.says((UserId(3), 0), Presence::Online, T - 60 * S);
        people.writes(A, UserId(3));
        assert_eq!(people.truth(A, UserId(3), T), Truth::Moves);
        assert_eq!(people.check(A, UserId(3), Presence::Online, T), Ok(()));
    }
}
