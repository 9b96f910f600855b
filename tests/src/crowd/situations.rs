//! Situations: what is rarely reached, and where bugs live.

use proto_spec::{Act, Body, Content, ErrorCode, Role, Standing};
use server::{
    core::CoreMessage,
    shard::{EnvelopeBody, GroupSaid},
};

use super::{Crowd, truth::Outcome};

/// Every situation that is counted. All must be reached in the standard run.
pub const SITUATIONS: &[&str] = &[
    "a member notified",
    "app restarted with unanswered sends",
    "app stalled",
    "asked for a group that can not be read",
    "banned",
    "change of a message by somebody else refused",
    "change of what is not theirs to read refused",
    "change of what was taken back refused",
    "connection cut",
    "connection fell behind",
    "declined",
    "followed a group for somebody who is no member",
    "group created twice",
    "group ended",
    "group full",
    "group handed over",
    "invitation used",
    "message changed",
    "message taken back",
    "node died",
    "node died while a member slept",
    "node died with batches that were not durable",
    "not allowed",
    "not invited",
    "pointer before the push that it speaks of",
    "reaction",
    "removed",
    "removed, and back",
    "send put off by a group's home",
    "send that came twice to a group's home",
    "something survived that nobody was told of",
    "standing put off by a user's home",
    "store unreadable",
    "taken off a screen",
    "unbanned",
    "wrote when no member any more",
];

impl Crowd {
    pub(super) fn reached(&mut self, situation: &'static str) {
        debug_assert!(SITUATIONS.contains(&situation), "{situation}");
        *self.coverage.counts.entry(situation).or_default() += 1;
    }

    /// What lies in a mailbox of a core.
    pub(super) fn look_at_mail(&mut self, message: &CoreMessage) {
        match message {
            CoreMessage::Envelope(envelope) => match envelope.body {
                EnvelopeBody::GroupPutOff { .. } => self.reached("send put off by a group's home"),
                EnvelopeBody::Declined { .. } => self.reached("declined"),
                EnvelopeBody::StandPutOff { .. } => self.reached("standing put off by a user's home"),
                _ => {}
            },
            CoreMessage::Group(mail) => match &mail.said {
                GroupSaid::Following { strangers, .. } if !strangers.is_empty() => {
                    self.reached("followed a group for somebody who is no member");
                }
                GroupSaid::Told { told: Err(ErrorCode::StorageFailed), .. } => {
                    self.reached("asked for a group that can not be read");
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// The cores have counted something since their start.
    pub(super) fn look_at_counters(&mut self) {
        if self.world.total(|counters| counters.duplicates) > 0 {
            self.reached("send that came twice to a group's home");
        }
        if self.world.total(|counters| counters.fell_behind) > 0 {
            self.reached("connection fell behind");
        }
    }

    /// What became of all that was sent.
    pub(super) fn look_at_outcomes(&mut self) {
        let mut reached = Vec::new();
        for (key, outcome) in &self.truth.outcomes {
            let Some(sent) = self.truth.sent.get(key) else { continue };
            let Some(log) = self.truth.logs.get(&sent.group) else { continue };
            match outcome {
                Outcome::Refused(code) => {
                    let was_member = log.durable_law().people.contains_key(&key.0);
                    reached.extend(refused(*code, was_member));
                }
                Outcome::Placed(at) => {
                    let law = &log.laws[at.0 as usize - 1];
                    let was_there =
                        |user| law.people.get(&user).is_some_and(|person| person.standing != Standing::Unknown);
                    reached.extend(placed(&sent.content, was_there));
                }
            }
        }
        reached.into_iter().for_each(|situation| self.reached(situation));
    }
}

fn refused(code: ErrorCode, was_member: bool) -> Option<&'static str> {
    match code {
        ErrorCode::GroupFull => Some("group full"),
        ErrorCode::GroupExists => Some("group created twice"),
        ErrorCode::NotAllowed => Some("not allowed"),
        ErrorCode::NotInvited => Some("not invited"),
        ErrorCode::NoSuchGroup if was_member => Some("wrote when no member any more"),
        ErrorCode::NotTheAuthor => Some("change of a message by somebody else refused"),
        ErrorCode::NoSuchMessage => Some("change of what is not theirs to read refused"),
        ErrorCode::TakenBack => Some("change of what was taken back refused"),
        _ => None,
    }
}

fn placed(content: &Content, was_there: impl Fn(proto_spec::UserId) -> bool) -> Option<&'static str> {
    match content.body() {
        Ok(Body::Act(Act::Add { user })) if was_there(user) => Some("removed, and back"),
        Ok(Body::Act(Act::Remove { .. })) => Some("removed"),
        Ok(Body::Act(Act::Ban { .. })) => Some("banned"),
        Ok(Body::Act(Act::Unban { .. })) => Some("unbanned"),
        Ok(Body::Act(Act::Join { .. })) => Some("invitation used"),
        Ok(Body::Act(Act::End)) => Some("group ended"),
        Ok(Body::Act(Act::SetRole { role: Role::Owner, .. })) => Some("group handed over"),
        Ok(Body::Edit(_)) => Some("message changed"),
        Ok(Body::Unsend(_)) => Some("message taken back"),
        Ok(Body::Reaction(_)) => Some("reaction"),
        _ => None,
    }
}
