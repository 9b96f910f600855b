//! Hiding: what users have hidden for sure, as the answers that left the server say. What was asked for and not answered is neither.

use std::collections::BTreeMap;

use proto_spec::{RequestId, UserId};

use super::{super::network::LinkId, Moment};

/// What is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// Everything, from everybody.
    All,
    /// When they were last seen, from everybody.
    LastSeen,
    /// Everything, from this user, whom they block.
    From(UserId),
}

#[derive(Clone, Copy, Debug)]
struct Wish {
    hides: bool,
    link: LinkId,
    request: RequestId,
    asked: Moment,
    /// Its connection is over: whether it was heard is not known.
    lost: Option<Moment>,
}

#[derive(Debug, Default)]
struct Hiding {
    is_hidden: bool,
    /// Somebody has asked since that it be shown.
    is_doubted: bool,
    since: Moment,
    wishes: Vec<Wish>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Hidings(BTreeMap<(UserId, What), Hiding>);

impl Hidings {
    /// Since when it is hidden, if that is certain.
    pub(super) fn since(&self, user: UserId, what: What) -> Option<Moment> {
        let hiding = self.0.get(&(user, what))?;
        (hiding.is_hidden && !hiding.is_doubted).then_some(hiding.since)
    }

    /// An app asks for it.
    pub(super) fn asks(&mut self, of: (UserId, What), hides: bool, by: (LinkId, RequestId), now: Moment) {
        let hiding = self.0.entry(of).or_default();
        hiding.is_doubted |= !hides;
        hiding.wishes.push(Wish { hides, link: by.0, request: by.1, asked: now, lost: None });
    }

    /// It is answered: done, or refused.
    pub(super) fn answered(&mut self, by: (LinkId, RequestId), is_done: bool, now: Moment) {
        for hiding in self.0.values_mut() {
            let is_it = |wish: &Wish| (wish.link, wish.request) == by;
            let Some(at) = hiding.wishes.iter().position(is_it) else { continue };
            let wish = hiding.wishes.remove(at);
            if !is_done {
                continue;
            }
            // What was lost before it was asked for has been heard before, or never will be.
            hiding.wishes.retain(|other| other.lost.is_none_or(|lost| lost > wish.asked));
            if wish.hides && (!hiding.is_hidden || hiding.is_doubted) {
                hiding.since = now;
            }
            hiding.is_hidden = wish.hides;
            hiding.is_doubted = hiding.wishes.iter().any(|wish| !wish.hides);
        }
    }

    pub(super) fn line_gone(&mut self, link: LinkId, now: Moment) {
        let wishes = self.0.values_mut().flat_map(|hiding| &mut hiding.wishes);
        wishes.filter(|wish| wish.link == link).for_each(|wish| wish.lost = Some(now));
    }

    /// The node begins again: what the logs say counts, which is no less than was answered. Who was told more, if anybody.
    pub(super) fn restarted(
        &mut self,
        is_hidden: impl Fn(UserId, What) -> bool,
        now: Moment,
    ) -> Option<(UserId, What)> {
        let mut broken = None;
        for ((user, what), hiding) in &mut self.0 {
            let is_so = is_hidden(*user, *what);
            let was_certain = hiding.wishes.is_empty() && !hiding.is_doubted;
            if was_certain && is_so != hiding.is_hidden {
                broken = Some((*user, *what));
            }
            if is_so && (!hiding.is_hidden || hiding.is_doubted) {
                hiding.since = now;
            }
            (hiding.is_hidden, hiding.is_doubted) = (is_so, false);
            hiding.wishes.clear();
        }
        broken
    }
}
