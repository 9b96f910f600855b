//! Router: envelopes to and from other users' homes. A local recipient takes the same path as a remote one.
//!
//! Links are at-least-once and in order per pair of shards; what arrives twice is found by the watermarks of the
//! conversation (see `sequencer`). Who can not be loaded, or for whom too much waits already, puts off what comes: it is in the log
//! of its author, whose home tries again (see `duties`).

use proto_spec::{ConversationId, Seq, UserId};
use storage::group::beside;

use super::{
    Shard, Turn,
    changes::Arrival,
    input::{Envelope, EnvelopeBody, Parcel},
    loading::{ConversationWaiting, UserWaiting},
    topology::Home,
};

impl Shard {
    /// Sends an envelope to the home of the user it is for.
    pub(super) fn post(&mut self, envelope: Envelope, cx: &mut Turn<'_>) {
        match self.homes.of(envelope.to) {
            Home::Here(core) if core == self.core => self.local.push_back(envelope),
            Home::Here(core) => cx.effects.envelopes.push((core, envelope)),
            Home::Elsewhere(node) => self.post_elsewhere(node, envelope, cx),
        }
    }

    /// Sends a message or a read mark to the other side of its conversation, to go after the one that is on the way there.
    pub(super) fn forward(
        &mut self,
        from: UserId,
        to: ConversationId,
        (origin, after): (Seq, Seq),
        parcel: Parcel,
        cx: &mut Turn<'_>,
    ) {
        match (to, parcel) {
            (ConversationId::Person(to), parcel) => {
                self.post(Envelope { to, from, body: EnvelopeBody::Forward { origin, after, parcel } }, cx);
            }
            (ConversationId::Group(group), Parcel::Message(content)) => {
                let body = EnvelopeBody::GroupSend { origin, after, content };
                self.post(Envelope { to: beside(group), from, body }, cx);
            }
            (ConversationId::Group(group), Parcel::Read(up_to)) => {
                let body = EnvelopeBody::GroupRead { origin, after, up_to };
                self.post(Envelope { to: beside(group), from, body }, cx);
            }
        }
    }

    /// An envelope for a user whose home is here.
    pub(super) fn envelope(&mut self, envelope: Envelope, cx: &mut Turn<'_>) {
        let (to, from) = (envelope.to, envelope.from);
        if self.homes.elsewhere(to).is_some() {
            // The slot has moved since.
            return self.put_off(&envelope, cx);
        }
        debug_assert_eq!(self.homes.of(to), Home::Here(self.core));
        if matches!(envelope.body, EnvelopeBody::Forward { parcel: Parcel::Message(_), .. }) {
            self.written_to(to, cx);
        }
        if envelope.is_of_group() {
            return self.group_envelope(envelope, cx);
        }
        match envelope.body {
            EnvelopeBody::Forwarded { origin, is_unwanted } => {
                self.forward_confirmed(to, from, (origin, is_unwanted), cx);
            }
            EnvelopeBody::ForwardPutOff { origin } => self.forward_put_off(to, from.into(), origin, cx),
            EnvelopeBody::Receipted { received_as } => self.receipt_confirmed(to, from, received_as, cx),
            EnvelopeBody::ReceiptPutOff { received_as } => self.receipt_put_off(to, from, received_as, cx),
            EnvelopeBody::Forward { .. } | EnvelopeBody::Receipt { .. } if !self.users.is_resident(to) => {
                if !self.may_wait(self.users.waiting(to)) {
                    return self.put_off(&envelope, cx);
                }
                self.wait_for_user(to, UserWaiting::Envelope(envelope), cx);
            }
            EnvelopeBody::Forward { .. } | EnvelopeBody::Receipt { .. }
                if !self.conversations.is_resident((to, from.into())) =>
            {
                if !self.may_wait(self.conversations.waiting((to, from.into()))) {
                    return self.put_off(&envelope, cx);
                }
                self.wait_for_conversation(to, from.into(), ConversationWaiting::Envelope(envelope), cx);
            }
            EnvelopeBody::Forward { .. } if let Some(waiting) = self.looking.waiting((to, from.into())) => {
                if !self.may_wait(waiting) {
                    return self.put_off(&envelope, cx);
                }
                self.looking.wait((to, from.into()), envelope);
            }
            EnvelopeBody::Forward { origin, after, parcel } => {
                self.arrived(Arrival { to, from, places: (origin, after), parcel }, None, cx);
            }
            EnvelopeBody::Receipt { up_to, received_as } => self.receipt_arrived(to, from, up_to, received_as, cx),
            EnvelopeBody::GroupSend { .. }
            | EnvelopeBody::GroupRead { .. }
            | EnvelopeBody::GroupReadTaken { .. }
            | EnvelopeBody::Placed { .. }
            | EnvelopeBody::NotPlaced { .. }
            | EnvelopeBody::GroupPutOff { .. }
            | EnvelopeBody::Stand { .. }
            | EnvelopeBody::Stood { .. }
            | EnvelopeBody::Declined { .. }
            | EnvelopeBody::StandPutOff { .. }
            | EnvelopeBody::Reached { .. }
            | EnvelopeBody::ReachedTaken { .. } => unreachable!("it is of a group"),
        }
    }

    /// Answers that an envelope can not be taken now.
    pub(super) fn put_off(&mut self, envelope: &Envelope, cx: &mut Turn<'_>) {
        if let Some(answer) = envelope.put_off() {
            self.counters.put_off += 1;
            self.post(answer, cx);
        }
    }
}
