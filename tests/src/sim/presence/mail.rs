//! Mail: what homes say to other cores, which is all that those can know. A deliberate fault alters it on its way.

use std::collections::{BTreeMap, HashMap, VecDeque};

use proto_spec::{Presence, UserId};
use server::{
    limits::PRESENCE_MAILS_MAX,
    shard::{
        PresenceMail,
        presence::{LookId, Sight},
        topology::CoreId,
    },
};

use super::{super::Simulation, Moment};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Mails {
    /// When what lies in each mailbox was put there.
    waiting: BTreeMap<CoreId, VecDeque<Moment>>,
    /// When what is being heard was said.
    pub(super) heard: Option<Moment>,
    /// When a core has asked what is not answered.
    asked_ms: HashMap<(CoreId, LookId), u64>,
    /// What a core has heard last of a user, in one message.
    known: BTreeMap<(CoreId, UserId), Vec<(Sight, Moment)>>,
}

impl Mails {
    /// What a core has heard last of a user, and when that was said.
    pub(super) fn known(&self, core: CoreId, user: UserId) -> &[(Sight, Moment)] {
        self.known.get(&(core, user)).map_or(&[], Vec::as_slice)
    }

    fn hears(&mut self, core: CoreId, mail: &PresenceMail) {
        let said = self.waiting.entry(core).or_default().pop_front().unwrap_or_default();
        self.heard = Some(said);
        let told = mail.news.answers.iter().flat_map(|answer| answer.told.iter().flatten());
        let told = told.filter(|told| told.verdict.may).map(|told| (told.user, told.sight));
        let mut all: BTreeMap<UserId, Vec<(Sight, Moment)>> = BTreeMap::new();
        for (user, sight) in told.chain(mail.news.changes.iter().map(|change| (change.user, change.sight))) {
            all.entry(user).or_default().push((sight, said));
        }
        self.known.extend(all.into_iter().map(|(user, sights)| ((core, user), sights)));
    }
}

impl Simulation {
    /// A core says something about presence to another one, which may be lost on the way.
    pub(in crate::sim) fn post_presence(&mut self, to: CoreId, mut mail: Box<PresenceMail>) -> bool {
        let said = self.watching.moment();
        self.trick_mail(to, &mut mail);
        let is_lost = !self.healing && self.rng.chance(10);
        if is_lost {
            self.reached("word of presence lost");
            return false;
        }
        self.put_presence(to, mail, said)
    }

    /// Lays it into the mailbox.
    pub(super) fn put_presence(&mut self, to: CoreId, mail: Box<PresenceMail>, said: Moment) -> bool {
        self.note(|| format!("to core {}: {mail:?}", to.0));
        self.check_posted(to, &mail);
        self.count_asks(&mail);
        let Some(life) = &mut self.machine.alive else { return true };
        if !life.cores.post_presence(to, mail, PRESENCE_MAILS_MAX) {
            return false;
        }
        self.watching.mails.waiting.entry(to).or_default().push_back(said);
        self.deliver_soon(to);
        true
    }

    /// Situations in which a core asks.
    fn count_asks(&mut self, mail: &PresenceMail) {
        if self.watching.is_tick && !mail.news.asks.is_empty() {
            self.reached("verdict asked for again");
        }
        for ask in &mail.news.asks {
            let has_verdict = ask.users.iter().any(|asked| asked.verdict.is_some());
            let mut lines = self.watching.lines.values().filter(|line| line.user == ask.looks);
            if has_verdict && lines.all(|line| !line.has_watched) {
                self.reached("watch taken over from a lost connection");
            }
        }
    }

    /// A core hears what was said about presence.
    pub(in crate::sim) fn hear_presence(&mut self, core: CoreId) {
        let Some(mail) = self.machine.alive.as_mut().and_then(|life| life.cores.take_presence(core)) else { return };
        self.watching.mails.hears(core, &mail);
        self.act(core, |core, now| core.presence(now, mail));
        self.watching.mails.heard = None;
    }

    /// What a home says of a user's state may have been announced by then: with this tick, the one before, or since it was asked.
    fn check_posted(&mut self, to: CoreId, mail: &PresenceMail) {
        let now_ms = self.now.monotonic_ms;
        let watching = &mut self.watching;
        let last_ms = watching.ticks_ms[0];
        watching.mails.asked_ms.extend(mail.news.asks.iter().map(|ask| ((mail.from.core, ask.look), now_ms)));
        let changes = mail.news.changes.iter().map(|change| (change.user, change.sight.state, last_ms));
        let asked = &mut watching.mails.asked_ms;
        let answers: Vec<_> = mail
            .news
            .answers
            .iter()
            .map(|answer| (answer, asked.remove(&(to, answer.look)).unwrap_or(now_ms).min(last_ms)))
            .collect();
        let told = answers.into_iter().flat_map(|(answer, since_ms)| {
            answer.told.iter().flatten().map(move |told| (told.user, told.sight.state, since_ms))
        });
        let of = |(user, state, since_ms): &(UserId, Presence, u64)| !watching.may_be(*user, *state, *since_ms, now_ms);
        let wrong = changes.chain(told).find(of);
        if let Some((user, state, since_ms)) = wrong {
            let times = self.watching.times.get(&user);
            let sentence = format!("user {user} is announced as {state:?} between {since_ms} and {now_ms}: {times:?}");
            self.oracle.fail(|| sentence);
        }
    }
}

impl super::Watching {
    /// Whether a user may have been announced to be so. Of those who never connect: as gone.
    pub(super) fn may_be(&self, user: UserId, state: Presence, from_ms: u64, to_ms: u64) -> bool {
        match self.times.get(&user) {
            Some(times) => times.may_be(state, from_ms, to_ms),
            None => state <= Presence::Offline,
        }
    }

    /// The node begins another life.
    pub(super) fn forget_mail(&mut self) {
        self.mails = Mails::default();
    }
}
