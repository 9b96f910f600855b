//! Router: envelopes to and from other users' homes. A local recipient takes the same path as a remote one.
//!
//! Links are at-least-once and in order per pair of shards; what arrives twice is found by the watermarks of the
//! conversation (see `sequencer`). Who can not be loaded, or for whom too much waits already, puts off what comes: it is in the log
//! of its author, whose home tries again (see `duties`).

use proto_spec::{Content, ConversationId, Seq, UserId};

use super::{
    Shard, Turn,
    input::{Envelope, EnvelopeBody},
    residents::ConversationWaiting,
    user::Waiting,
};
use crate::limits::WAITING_ENVELOPES_MAX;

impl Shard {
    /// Sends an envelope to the home of the user it is for.
    pub(super) fn post(&mut self, envelope: Envelope, cx: &mut Turn<'_>) {
        let home = self.topology.home_of(envelope.to);
        if home == self.core {
            self.local.push_back(envelope);
        } else {
            cx.effects.envelopes.push((home, envelope));
        }
    }

    /// Sends a message to the other side of its conversation, to go after the one that is on the way there.
    pub(super) fn forward(
        &mut self,
        from: UserId,
        to: ConversationId,
        (origin, after): (Seq, Seq),
        content: Content,
        cx: &mut Turn<'_>,
    ) {
        let ConversationId::Person(to) = to;
        self.post(Envelope { to, from, body: EnvelopeBody::Forward { origin, after, content } }, cx);
    }

    /// An envelope for a user whose home is here.
    pub(super) fn envelope(&mut self, envelope: Envelope, cx: &mut Turn<'_>) {
        let (to, from) = (envelope.to, envelope.from);
        debug_assert_eq!(self.topology.home_of(to), self.core);
        match envelope.body {
            EnvelopeBody::Forwarded { origin } => self.forward_confirmed(to, from, origin, cx),
            EnvelopeBody::ForwardPutOff { origin } => self.forward_put_off(to, from, origin, cx),
            EnvelopeBody::Receipted { received_as } => self.receipt_confirmed(to, from, received_as, cx),
            EnvelopeBody::ReceiptPutOff { received_as } => self.receipt_put_off(to, from, received_as, cx),
            EnvelopeBody::Forward { .. } | EnvelopeBody::Receipt { .. } if self.users.resident(to).is_none() => {
                if let Some(envelope) = self.admit_waiting(self.users.envelopes_waiting(to), envelope, cx) {
                    self.wait_for_user(to, Waiting::Envelope(envelope), cx);
                }
            }
            EnvelopeBody::Forward { .. } | EnvelopeBody::Receipt { .. }
                if self.conversations.resident(to, from.into()).is_none() =>
            {
                let waiting = self.conversations.envelopes_waiting(to, from.into());
                if let Some(envelope) = self.admit_waiting(waiting, envelope, cx) {
                    self.wait_for_conversation(to, from.into(), ConversationWaiting::Envelope(envelope), cx);
                }
            }
            EnvelopeBody::Forward { origin, after, content } => {
                self.message_arrived(to, from, (origin, after), content, cx);
            }
            EnvelopeBody::Receipt { up_to, received_as } => self.receipt_arrived(to, from, up_to, received_as, cx),
        }
    }

    /// Lets an envelope wait behind so many others until its user or conversation is loaded. If that would be too much it is put
    /// off: its author's log has it.
    fn admit_waiting(&mut self, waiting: usize, envelope: Envelope, cx: &mut Turn<'_>) -> Option<Envelope> {
        if waiting < WAITING_ENVELOPES_MAX && self.held_bytes() <= self.settings.limits.memory_bytes {
            self.waiting_bytes += envelope.bytes();
            return Some(envelope);
        }
        self.put_off(&envelope, cx);
        None
    }

    /// An envelope no longer waits: its bytes are no longer held here.
    pub(super) fn release_waiting(&mut self, envelope: Envelope) -> Envelope {
        self.waiting_bytes -= envelope.bytes();
        envelope
    }

    /// Answers that an envelope can not be taken now.
    pub(super) fn put_off(&mut self, envelope: &Envelope, cx: &mut Turn<'_>) {
        if let Some(answer) = envelope.put_off() {
            self.counters.put_off += 1;
            self.post(answer, cx);
        }
    }
}
