//! Deliberate faults of presence: what cores say to each other of it is altered on its way, and what the directory says.

use std::collections::BTreeMap;

use proto_spec::{Presence, ServerFrame, TimestampMs, UserId};
use server::shard::{
    PresenceMail, Registration,
    presence::{Change, CoreAddress, PresenceNews, Sight, To, Typing, Version},
    topology::{CoreId, NodeId},
};

use super::super::{Simulation, faults::Fault, network::LinkId};

/// What a deliberate fault remembers.
#[derive(Debug, Default)]
pub(in crate::sim) struct Tricks {
    /// The version of a user that a core was told last, and what was to be seen.
    told: BTreeMap<(CoreId, UserId), (Version, Sight)>,
    /// Changes that are held back for a core.
    held: BTreeMap<CoreId, Vec<Change>>,
    /// What a connection was pushed last.
    pushed: BTreeMap<LinkId, Vec<u8>>,
}

impl Simulation {
    /// A core says something about presence to another one.
    pub(super) fn trick_mail(&mut self, to: CoreId, mail: &mut PresenceMail) {
        let Some(fault) = self.fault else { return };
        let tricks = &mut self.watching.tricks;
        match fault {
            Fault::KeepVerdicts => {
                for change in &mut mail.news.changes {
                    if let Some((version, _)) = tricks.told.get(&(to, change.user)) {
                        (change.version, change.before, change.only) = (*version, *version, None);
                    }
                }
            }
            Fault::LoseChanges => mail.news.changes.clear(),
            Fault::LoseCounts => {
                mail.news.counts.clear();
                mail.news.asks.iter_mut().flat_map(|ask| &mut ask.users).for_each(|asked| asked.count = 0);
            }
            Fault::ReorderChanges if !mail.news.changes.is_empty() => match tricks.held.remove(&to) {
                Some(held) => mail.news.changes.extend(held),
                None => _ = tricks.held.insert(to, std::mem::take(&mut mail.news.changes)),
            },
            Fault::VerdictsOfOthers => {
                for told in mail.news.answers.iter_mut().filter_map(|answer| answer.told.as_mut()) {
                    for at in 1..told.len() {
                        let (before, at) = (told[at - 1], &mut told[at]);
                        (at.verdict.may, at.sight) = (before.verdict.may, before.sight);
                    }
                }
            }
            Fault::ShowInvisible => {
                let told = mail.news.answers.iter_mut().filter_map(|answer| answer.told.as_mut()).flatten();
                let told = told.filter(|told| told.verdict.may).map(|told| (told.user, &mut told.sight));
                for (user, sight) in
                    mail.news.changes.iter_mut().map(|change| (change.user, &mut change.sight)).chain(told)
                {
                    if let Some((_, known)) = tricks.told.get(&(to, user)).filter(|_| *sight == Sight::NONE) {
                        *sight = *known;
                    }
                }
            }
            _ => {}
        }
        let told = mail.news.answers.iter().filter_map(|answer| answer.told.as_ref()).flatten();
        let told = told.filter(|told| told.verdict.may).map(|told| (told.user, told.verdict.version, told.sight));
        let changes = mail.news.changes.iter().map(|change| (change.user, change.version, change.sight));
        tricks.told.extend(told.chain(changes).map(|(user, version, sight)| ((to, user), (version, sight))));
    }

    /// Somebody types: it is passed on, whoever may know, and the directory says of whom it goes to that they may be seen.
    pub(super) fn trick_typing(&mut self, from: UserId, to: UserId) {
        let (Some(core), Some(home)) = (self.machine.home_of(from), self.machine.home_of(to)) else { return };
        if self.fault == Some(Fault::TypeToAll) && core != home {
            let Some(life) = &self.machine.alive else { return };
            let directory = &life.cores.common().directory;
            let [version, seen] = [from, to].map(|user| directory.version(user).unwrap_or_default());
            if directory.is_online(to) {
                directory.set(to, Registration::Here { version: seen, is_hidden: false });
            }
            self.forge(core, home, |news| news.typing.push(Typing { from, version, to, seen }));
        }
    }

    /// A user is gone without a goodbye, or has come: all other cores are told at once.
    pub(super) fn trick_moved(&mut self, user: UserId, is_there: bool) {
        let Some(home) = self.machine.home_of(user).filter(|_| self.fault == Some(Fault::AnnounceAtOnce)) else {
            return;
        };
        for core in self.machine.cores().into_iter().filter(|core| *core != home) {
            let Some((version, _)) = self.watching.tricks.told.get(&(core, user)).copied() else { continue };
            let state = if is_there { Presence::Online } else { Presence::Offline };
            let sight = Sight { state, last_seen: TimestampMs(0) };
            let change = Change { user, sight, version, before: version, only: None };
            self.forge(home, core, |news| news.changes.push(change));
        }
    }

    fn forge(&mut self, from: CoreId, to: CoreId, says: impl FnOnce(&mut PresenceNews)) {
        let from = CoreAddress { node: NodeId::default(), core: from };
        let mut mail = PresenceMail { from, to: To::Core(to), news: PresenceNews::default() };
        says(&mut mail.news);
        let said = self.watching.moment();
        self.put_presence(to, Box::new(mail), said);
    }

    /// The directory keeps what it said of those whom another core has been told of.
    pub(super) fn trick_directory(&self) {
        if self.fault != Some(Fault::StaleDirectory) {
            return;
        }
        let Some(life) = &self.machine.alive else { return };
        for ((_, user), (version, _)) in &self.watching.tricks.told {
            let registration = Registration::Here { version: *version, is_hidden: false };
            life.cores.common().directory.set(*user, registration);
        }
    }

    /// What is pushed to a connection is what was pushed there before.
    pub(in crate::sim) fn trick_push(&mut self, link: LinkId, frame: Option<&ServerFrame>, bytes: Vec<u8>) -> Vec<u8> {
        let is_push = matches!(frame, Some(ServerFrame::Presence { request, .. }) if request.0 == 0);
        let before = if is_push { self.watching.tricks.pushed.insert(link, bytes.clone()) } else { None };
        // The kernel takes no more than was queued.
        before.filter(|before| before.len() <= bytes.len()).unwrap_or(bytes)
    }

    /// The node begins another life.
    pub(super) fn forget_tricks(&mut self) {
        self.watching.tricks = Tricks::default();
    }
}
