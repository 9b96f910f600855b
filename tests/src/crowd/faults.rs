//! Deliberate faults: what a server with a bug in one place would do with groups. Each is played at a seam between the production parts
//! (mail between cores, batches, what the store answers, a start), so that these stay as they are; every one must be found
//! (`tests/crowd.rs`).

use std::sync::Arc;

use proto_spec::{GroupEntry, GroupId, Seq, UserId};
use server::{
    core::CoreMessage,
    shard::{Envelope, EnvelopeBody, GroupMail, GroupSaid, GroupStanding, presence::CoreAddress, topology::NodeId},
};
use storage::{Answer, Record};

use super::Crowd;

/// One deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An entry is pushed when it is numbered, and not when it is durable.
    PushEarly,
    /// A core that begins to follow is not told how far the log is.
    FollowWithoutHead,
    /// What is pushed to a core gets lost.
    LosePush,
    /// That nobody is there any more is not told.
    ForgetUnfollow,
    /// The rows that remember what was refused are written without that.
    ForgetRefusals,
    /// The store does not know what has come to a group of whom.
    ForgetCame,
    /// The rows of a roll are not written.
    ForgetRoll,
    /// How a group is called, its rules and its end, is not written.
    ForgetState,
    /// A refusal gets to its author as if the message had been taken.
    RefusalIsPlace,
    /// What was put off by a group's home counts as taken.
    PutOffIsPlace,
    /// How a user stands to a group is not told, and counts as told.
    LoseStanding,
    /// Whoever adds somebody counts as not blocked.
    IgnoreBlock,
    /// That somebody declines is taken for that they know.
    ForgetDecline,
    /// How far somebody has read a group counts as kept, and is not.
    LoseRead,
    /// What members have is not told to the group's home.
    LoseReceipts,
    /// A restart does not look for what groups owe.
    ForgetUnfinished,
    /// Pages are made for somebody who may read everything.
    PageForOwner,
    /// What an entry of a group supersedes is not written.
    ForgetSuperseded,
    /// The store does not tell who has reacted to a message of a group.
    AddReactions,
    /// The store leaves the first entry out of a part of a group's log.
    LogWithHole,
    /// A group's home is not told that a member is subscribed to notifications.
    LoseWants,
    /// It does not write that down.
    ForgetWants,
    /// That there is something to notify a member of counts as known by their home, and is not.
    LoseReached,
}

impl Fault {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::PushEarly,
        Self::FollowWithoutHead,
        Self::LosePush,
        Self::ForgetUnfollow,
        Self::ForgetRefusals,
        Self::ForgetCame,
        Self::ForgetRoll,
        Self::ForgetState,
        Self::RefusalIsPlace,
        Self::PutOffIsPlace,
        Self::LoseStanding,
        Self::IgnoreBlock,
        Self::ForgetDecline,
        Self::LoseRead,
        Self::LoseReceipts,
        Self::ForgetUnfinished,
        Self::PageForOwner,
        Self::ForgetSuperseded,
        Self::AddReactions,
        Self::LogWithHole,
        Self::LoseWants,
        Self::ForgetWants,
        Self::LoseReached,
    ];
}

impl Crowd {
    /// The fault, if it is this one and chance lets it strike.
    pub(super) fn strikes(&mut self, fault: Fault, percent: u64) -> bool {
        self.fault == Some(fault) && self.rng.chance(percent)
    }

    /// What a core hears in place of a message that lay in its mailbox.
    pub(super) fn meddle(&mut self, message: CoreMessage) -> Vec<CoreMessage> {
        self.look_at_mail(&message);
        match message {
            CoreMessage::Group(mail) => self.meddle_with_mail(mail),
            CoreMessage::Envelope(envelope) => self.meddle_with_envelope(envelope),
            message => vec![message],
        }
    }

    fn meddle_with_mail(&mut self, mut mail: Box<GroupMail>) -> Vec<CoreMessage> {
        let GroupMail { group, said, .. } = &mut *mail;
        match said {
            GroupSaid::Following { head, .. } if self.strikes(Fault::FollowWithoutHead, 100) => *head = Seq::ZERO,
            GroupSaid::Unfollow if self.strikes(Fault::ForgetUnfollow, 50) => return Vec::new(),
            GroupSaid::Pushed(_) if self.strikes(Fault::LosePush, 30) => return Vec::new(),
            GroupSaid::Have { .. } if self.strikes(Fault::LoseReceipts, 50) => return Vec::new(),
            GroupSaid::Wants { .. } if self.strikes(Fault::LoseWants, 80) => return Vec::new(),
            GroupSaid::Ask { user, .. } if self.strikes(Fault::PageForOwner, 100) => {
                let group = *group;
                let law = self.truth.log(group).durable_law();
                if law.people.contains_key(user) {
                    let most = law.people.iter().max_by_key(|(_, person)| person.parts.len());
                    let owner = law.members().find(|(_, person)| person.role == proto_spec::Role::Owner);
                    *user = owner.map(|(user, _)| user).or(most.map(|(user, _)| *user)).unwrap_or(*user);
                }
            }
            _ => {}
        }
        vec![CoreMessage::Group(mail)]
    }

    fn meddle_with_envelope(&mut self, mut envelope: Envelope) -> Vec<CoreMessage> {
        let (to, from) = (envelope.to, envelope.from);
        match envelope.body {
            EnvelopeBody::NotPlaced { origin, .. } if self.strikes(Fault::RefusalIsPlace, 20) => {
                let standing = self.standing_told(to, GroupId(from.0));
                envelope.body = EnvelopeBody::Placed { origin, standing };
            }
            EnvelopeBody::GroupPutOff { origin } if self.strikes(Fault::PutOffIsPlace, 50) => {
                let standing = self.standing_told(to, GroupId(from.0));
                envelope.body = EnvelopeBody::Placed { origin, standing };
            }
            EnvelopeBody::Stand { at, .. } if self.strikes(Fault::LoseStanding, 20) => {
                let home = self.world.home_of(from);
                self.world.put(
                    home,
                    CoreMessage::Envelope(Envelope { to: from, from: to, body: EnvelopeBody::Stood { at } }),
                );
                return Vec::new();
            }
            EnvelopeBody::Stand { at, standing, .. } if self.fault == Some(Fault::IgnoreBlock) => {
                envelope.body = EnvelopeBody::Stand { at, by: to, standing };
            }
            EnvelopeBody::Declined { at, .. } if self.fault == Some(Fault::ForgetDecline) => {
                envelope.body = EnvelopeBody::Stood { at };
            }
            EnvelopeBody::Reached { up_to } if self.strikes(Fault::LoseReached, 50) => {
                let home = self.world.home_of(from);
                let body = EnvelopeBody::ReachedTaken { up_to, is_subscribed: true };
                self.world.put(home, CoreMessage::Envelope(Envelope { to: from, from: to, body }));
                return Vec::new();
            }
            EnvelopeBody::GroupRead { origin, .. } if self.strikes(Fault::LoseRead, 50) => {
                let home = self.world.home_of(from);
                let body = EnvelopeBody::GroupReadTaken { origin };
                self.world.put(home, CoreMessage::Envelope(Envelope { to: from, from: to, body }));
                return Vec::new();
            }
            _ => {}
        }
        vec![CoreMessage::Envelope(envelope)]
    }

    fn standing_told(&self, user: UserId, group: GroupId) -> GroupStanding {
        let told = self.truth.pointers.get(&(user, group)).copied().unwrap_or_default();
        GroupStanding { standing: told.standing, first: told.first, up_to: told.up_to }
    }

    /// Before the journal or the database has what was decided.
    pub(super) fn meddle_with_decided(&mut self) {
        let known = self.decided;
        match self.fault {
            Some(Fault::ForgetRefusals) => self.world.meddle_with_decided(known, |records| {
                for record in records {
                    if let Record::GroupCame { row, .. } = record {
                        row.refused.clear();
                    }
                }
            }),
            Some(Fault::ForgetSuperseded) => self.world.meddle_with_decided(known, |records| {
                for record in records {
                    if let Record::GroupAppend { of, .. } = record {
                        *of = None;
                    }
                }
            }),
            Some(Fault::ForgetWants) => self.world.meddle_with_decided(known, |records| {
                records.retain(|record| !matches!(record, Record::GroupWants { .. }));
            }),
            Some(Fault::ForgetRoll) => self.world.meddle_with_decided(known, |records| {
                records.retain(|record| !matches!(record, Record::GroupMember { .. }));
            }),
            Some(Fault::ForgetState) => self.world.meddle_with_decided(known, |records| {
                let mut is_first = records
                    .iter()
                    .any(|record| matches!(record, Record::GroupAppend { entry, .. } if entry.seq == Seq(1)));
                records.retain(|record| !matches!(record, Record::GroupState { .. }) || std::mem::take(&mut is_first));
            }),
            _ => {}
        }
    }

    /// What leaves with the turn that has numbered it.
    pub(super) fn push_early(&mut self, entries: Vec<(GroupId, GroupEntry)>) {
        if self.fault != Some(Fault::PushEarly) {
            return;
        }
        for (group, entry) in entries {
            let entry = Arc::new(entry);
            for core in self.world.core_ids() {
                let said = GroupSaid::Pushed(Arc::clone(&entry));
                let at = CoreAddress { node: NodeId::default(), core };
                self.world.put(core, CoreMessage::Group(Box::new(GroupMail { group, core: at, said })));
            }
        }
    }
}

/// What the store answers in place of this.
pub(super) fn meddle_with_answer(fault: Option<Fault>, answer: &mut Answer) {
    match (fault, answer) {
        (Some(Fault::ForgetCame), Answer::Group(snapshot)) => snapshot.came.clear(),
        (Some(Fault::AddReactions), Answer::GroupMessage(Some(message))) => message.reactions.clear(),
        (Some(Fault::LogWithHole), Answer::GroupEntries(read)) if read.entries.len() > 1 => {
            read.entries.remove(0);
        }
        _ => {}
    }
}
