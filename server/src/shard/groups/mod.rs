//! Groups (SPEC 8.12; the reasons in `docs/GROUPS.md`). In the order of a message's journey: the home of its author keeps it as it keeps
//! any (`sequencer`, `duties`), and says what became of it (`own`); the home of the group judges and numbers it (`home`), tells users how
//! they stand (`owed`) and that there is something to notify them of (`telling`), and clients what they ask (`pages`, at whose core `asks` is); cores with members who are connected pass it on
//! (`following`). What goes between homes of users and of groups are envelopes, all else is `mail`.

mod asks;
mod changes;
mod following;
mod home;
mod mail;
mod owed;
mod own;
mod pages;
mod receipts;
mod telling;
mod typing;

use proto_spec::{Content, ErrorCode, GroupId, Seq, UserId};
use storage::{GroupSnapshot, Query};

pub use self::mail::{AskId, GroupMail, GroupSaid, GroupTold, GroupWish};
pub(super) use self::{
    asks::{Asks, GroupList},
    changes::Sent,
    following::Following,
    home::Group,
    own::{Outcome, group_of},
    pages::PageFetch,
};
use super::{
    Shard, Turn,
    input::{Envelope, EnvelopeBody},
    loading::UserWaiting,
    question::Question,
    residents::{Residents, Waits},
};
use crate::limits::{ENVELOPE_BYTES, QUERIES_IN_FLIGHT_MAX, WAITING_ENVELOPES_MAX};

/// The groups of a shard.
pub(super) type Groups = Residents<GroupId, Box<Group>, GroupWaiting>;

/// What waits until a group is loaded.
#[derive(Debug)]
pub(super) enum GroupWaiting {
    Sent(Envelope),
    Mail(Box<GroupMail>),
    /// Nothing but what it owes since before a restart.
    Duties,
}

impl Waits for GroupWaiting {
    fn bytes(&self) -> usize {
        match self {
            Self::Sent(envelope) => envelope.bytes(),
            Self::Mail(_) => ENVELOPE_BYTES,
            Self::Duties => 0,
        }
    }
}

impl Shard {
    /// An envelope between the home of a group and that of a user, which is for here.
    pub(super) fn group_envelope(&mut self, envelope: Envelope, cx: &mut Turn<'_>) {
        let Envelope { to, from, body } = envelope;
        // Of the two, one is a group: the user that it lies beside has its number.
        let (of_to, of_from) = (GroupId(to.0), GroupId(from.0));
        match body {
            EnvelopeBody::GroupSend { origin, after, content } => {
                self.send_to_group(of_to, from, (origin, after), content, cx);
            }
            EnvelopeBody::GroupRead { origin, after, up_to } => {
                self.read_in_group(of_to, from, (origin, after), up_to, cx)
            }
            EnvelopeBody::GroupReadTaken { origin } => self.forward_confirmed_by(to, of_from.into(), origin, cx),
            EnvelopeBody::Stood { at } => self.stood(of_to, from, at, cx),
            EnvelopeBody::Declined { at, reads } => self.declined(of_to, from, (at, reads), cx),
            EnvelopeBody::StandPutOff { at } => self.stand_put_off(of_to, from, at, cx),
            EnvelopeBody::ReachedTaken { up_to, is_subscribed } => {
                self.reached_taken(of_to, from, up_to, is_subscribed, cx);
            }
            EnvelopeBody::Reached { up_to } if self.users.is_resident(to) => {
                self.group_reached_to(to, of_from, up_to, cx)
            }
            // It is told again.
            EnvelopeBody::Reached { .. } if !self.may_wait(self.users.waiting(to)) => {}
            EnvelopeBody::Reached { .. } => {
                self.wait_for_user(to, UserWaiting::Envelope(Envelope { to, from, body }), cx);
            }
            EnvelopeBody::Placed { origin, standing } => self.placed(to, of_from, origin, Ok(standing), cx),
            EnvelopeBody::NotPlaced { origin, code } => self.placed(to, of_from, origin, Err(code), cx),
            EnvelopeBody::GroupPutOff { origin } => self.forward_put_off(to, of_from.into(), origin, cx),
            EnvelopeBody::Stand { at, by, standing } if self.users.is_resident(to) => {
                self.stand((to, of_from), at, by, standing, cx);
            }
            EnvelopeBody::Stand { .. } if !self.may_wait(self.users.waiting(to)) => {
                self.put_off(&Envelope { to, from, body }, cx);
            }
            EnvelopeBody::Stand { .. } => {
                self.wait_for_user(to, UserWaiting::Envelope(Envelope { to, from, body }), cx);
            }
            EnvelopeBody::Forward { .. }
            | EnvelopeBody::Forwarded { .. }
            | EnvelopeBody::ForwardPutOff { .. }
            | EnvelopeBody::Receipt { .. }
            | EnvelopeBody::Receipted { .. }
            | EnvelopeBody::ReceiptPutOff { .. } => unreachable!("it goes from a user to a user"),
        }
    }

    fn send_to_group(
        &mut self,
        group: GroupId,
        from: UserId,
        (origin, after): (Seq, Seq),
        content: Content,
        cx: &mut Turn<'_>,
    ) {
        if self.is_ready_for(group, from) {
            return self.group_sent(&Sent { group, from, places: (origin, after), content }, None, cx);
        }
        let to = storage::group::beside(group);
        self.wait_at_group(group, Envelope { to, from, body: EnvelopeBody::GroupSend { origin, after, content } }, cx);
    }

    fn read_in_group(
        &mut self,
        group: GroupId,
        from: UserId,
        (origin, after): (Seq, Seq),
        up_to: Seq,
        cx: &mut Turn<'_>,
    ) {
        if self.is_ready_for(group, from) {
            return self.group_read(group, from, (origin, after), up_to, cx);
        }
        let to = storage::group::beside(group);
        self.wait_at_group(group, Envelope { to, from, body: EnvelopeBody::GroupRead { origin, after, up_to } }, cx);
    }

    /// Whether what comes of an author may be looked at now.
    fn is_ready_for(&self, group: GroupId, from: UserId) -> bool {
        self.looking.waiting((from, group.into())).is_none() && self.groups.is_resident(group)
    }

    /// Lets it wait until the group is loaded, or what came before of the same author is done.
    fn wait_at_group(&mut self, group: GroupId, envelope: Envelope, cx: &mut Turn<'_>) {
        let behind = (envelope.from, group.into());
        match self.looking.waiting(behind) {
            Some(waiting) if self.may_wait(waiting) => self.looking.wait(behind, envelope),
            None if self.may_wait(self.groups.waiting(group)) => {
                self.wait_for_group(group, GroupWaiting::Sent(envelope), cx);
            }
            Some(_) | None => self.put_off(&envelope, cx),
        }
    }

    /// Group mail for this core.
    pub(super) fn group_mail(&mut self, mail: Box<GroupMail>, cx: &mut Turn<'_>) {
        let id = mail.group;
        if mail.said.is_for_home() {
            if self.homes.elsewhere(storage::group::beside(id)).is_some() {
                // It has moved since: whoever wants to know follows, or asks, anew.
                return;
            }
            if !self.groups.is_resident(id) {
                return self.mail_waits(mail, cx);
            }
        }
        let GroupMail { group, core, said } = *mail;
        match said {
            GroupSaid::Follow { users } => self.followed_by(group, core, &users, cx),
            GroupSaid::Unfollow => {
                if let Some(known) = self.groups.resident(group) {
                    _ = known.unfollows(|follower| follower == core);
                }
                self.members_left(group, |_, of| of == core, cx);
                self.forget_group_if_unused(group);
            }
            GroupSaid::Ask { ask, user, wish } => {
                self.group_asked(group, (core, ask), user, wish, cx);
                self.forget_group_if_unused(group);
            }
            GroupSaid::Following { head, members, strangers } => {
                self.following_told(group, head, (&members, &strangers), cx);
            }
            GroupSaid::Pushed(entry) => self.pushed(group, entry, cx),
            GroupSaid::Wants { user, wants, is_here } => self.member_wants(group, core, user, (wants, is_here), cx),
            GroupSaid::Away { user } => self.member_away(group, user, cx),
            GroupSaid::Types { user } => self.member_types(group, user, cx),
            GroupSaid::Have { marks } => self.members_have(group, &marks, cx),
            GroupSaid::Typing { user } => self.tell_typing(group, user, cx),
            GroupSaid::Told { ask, told } => self.ask_told(ask, told, cx),
        }
    }

    /// Group mail for a home whose group is not loaded. Who follows comes again if nobody hears it, and who leaves says so again when they
    /// are told that they follow; a question is refused.
    fn mail_waits(&mut self, mail: Box<GroupMail>, cx: &mut Turn<'_>) {
        let id = mail.group;
        let is_busy = self.questions.len() >= QUERIES_IN_FLIGHT_MAX;
        match mail.said {
            GroupSaid::Unfollow | GroupSaid::Types { .. } | GroupSaid::Have { .. } | GroupSaid::Away { .. } => {}
            GroupSaid::Ask { ask, .. } if is_busy || self.groups.waiting(id) >= WAITING_ENVELOPES_MAX => {
                self.tell_asker(id, (mail.core, ask), Err(ErrorCode::Overloaded), cx);
            }
            _ if self.groups.waiting(id) < WAITING_ENVELOPES_MAX => {
                self.wait_for_group(id, GroupWaiting::Mail(mail), cx);
            }
            _ => {}
        }
    }

    fn wait_for_group(&mut self, group: GroupId, waiting: GroupWaiting, cx: &mut Turn<'_>) {
        if self.groups.wait(group, waiting) {
            self.ask(Query::Group(group), Question::Group(group), cx);
        }
    }

    /// A restart has left something that this group owes.
    pub(super) fn load_unfinished_group(&mut self, group: GroupId, cx: &mut Turn<'_>) {
        if !self.groups.is_resident(group) {
            self.wait_for_group(group, GroupWaiting::Duties, cx);
        }
    }

    /// The store has told what it knows of a group; none: it could not be read.
    pub(super) fn group_loaded(&mut self, id: GroupId, snapshot: Option<GroupSnapshot>, cx: &mut Turn<'_>) {
        let Some(snapshot) = snapshot else {
            for waiting in self.groups.unreadable(id) {
                match waiting {
                    GroupWaiting::Sent(envelope) => self.put_off(&envelope, cx),
                    // Whoever follows or asks does so again.
                    GroupWaiting::Mail(_) => {}
                    GroupWaiting::Duties => self.unread_groups.push(cx.now.monotonic_ms, id),
                }
            }
            return;
        };
        let is_unfinished = snapshot.unfinished;
        let mut group = Box::new(Group::load(snapshot));
        if self.settings.push.is_none() {
            // Nobody is notified here, whoever wanted it before.
            group.telling = telling::Telling::default();
        }
        // Held while those who wait are served: one who is done at once must not take the group from the others.
        group.held = 1;
        let waiting = self.groups.loaded(id, group);
        if is_unfinished {
            self.owing_groups.insert(id);
            self.mark_group_dirty(id, cx);
            self.wake_telling(id, cx.now.monotonic_ms);
        }
        for waiting in waiting {
            match waiting {
                GroupWaiting::Sent(envelope) => self.group_envelope(envelope, cx),
                GroupWaiting::Mail(mail) => self.group_mail(mail, cx),
                GroupWaiting::Duties => {}
            }
        }
        if let Some(group) = self.groups.resident(id) {
            group.held -= 1;
        }
        self.forget_group_if_unused(id);
    }

    /// Time has passed.
    pub(super) fn tick_groups(&mut self, cx: &mut Turn<'_>) {
        self.follow_late(cx);
        self.tell_receipts(cx);
        self.tick_telling(cx);
        self.give_up_asks(cx);
        while let Some(group) = self.unread_groups.take_due(cx.now.monotonic_ms) {
            // Another node may own it by now, which does what it owes.
            if self.homes.elsewhere(storage::group::beside(group)).is_none() {
                self.load_unfinished_group(group, cx);
            }
        }
    }

    /// A node can not be reached: its cores follow nothing any more.
    pub(super) fn followers_lost(&mut self, node: super::topology::NodeId, cx: &mut Turn<'_>) {
        let mut left = Vec::new();
        for (id, group) in self.groups.iter_mut() {
            if group.unfollows(|core| core.node == node) {
                left.push(id);
            }
        }
        for id in left {
            self.members_left(id, |_, core| core.node == node, cx);
            self.forget_group_if_unused(id);
        }
    }
}
