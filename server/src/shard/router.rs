//! Router: envelopes to and from other users' homes. A local recipient takes the same path as a remote one.
//!
//! Links are at-least-once and in order per pair of shards; what arrives twice is found by the watermarks of the
//! conversation (see `sequencer`).

use proto_spec::{Content, ConversationId, Seq, UserId};

use super::{
    Shard, Turn,
    input::{Envelope, EnvelopeBody},
    residents::ConversationWaiting,
    user::{Forwarding, Waiting},
};
use crate::limits::UNCONFIRMED_KEPT;

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

    /// Sends a message to the other side of its conversation.
    pub(super) fn forward(
        &mut self,
        from: UserId,
        to: ConversationId,
        origin: Seq,
        content: Content,
        cx: &mut Turn<'_>,
    ) {
        let ConversationId::Person(to) = to;
        self.post(Envelope { to, from, body: EnvelopeBody::Forward { origin, content } }, cx);
    }

    /// An envelope for a user whose home is here.
    pub(super) fn envelope(&mut self, envelope: Envelope, cx: &mut Turn<'_>) {
        let (to, from) = (envelope.to, envelope.from);
        debug_assert_eq!(self.topology.home_of(to), self.core);
        match envelope.body {
            EnvelopeBody::Forwarded { origin } => self.forward_confirmed(to, origin, cx),
            EnvelopeBody::Receipted { received_as } => self.receipt_confirmed(to, received_as, cx),
            EnvelopeBody::Forward { .. } | EnvelopeBody::Receipt { .. } if self.users.resident(to).is_none() => {
                self.wait_for_user(to, Waiting::Envelope(envelope), cx);
            }
            EnvelopeBody::Forward { .. } | EnvelopeBody::Receipt { .. }
                if self.conversations.resident(to, from.into()).is_none() =>
            {
                self.wait_for_conversation(to, from.into(), ConversationWaiting::Envelope(envelope), cx);
            }
            EnvelopeBody::Forward { origin, content } => self.message_arrived(to, from, origin, content, cx),
            EnvelopeBody::Receipt { up_to, received_as } => self.receipt_arrived(to, from, up_to, received_as, cx),
        }
    }

    /// The recipient's home has the message in its log.
    fn forward_confirmed(&mut self, user_id: UserId, origin: Seq, cx: &mut Turn<'_>) {
        // A user who has been forgotten had no open duty: this is a second confirmation.
        let Some(user) = self.users.resident(user_id) else { return };
        // Confirmations mostly come in order.
        if user.unconfirmed.front() == Some(&origin) {
            user.unconfirmed.pop_front();
        } else if let Ok(index) = user.unconfirmed.binary_search(&origin) {
            user.unconfirmed.remove(index);
        }
        if user.unconfirmed.is_empty() {
            user.unconfirmed.shrink_to(UNCONFIRMED_KEPT);
            if user.forwarding != Forwarding::Direct {
                self.forward_from_log(user_id, cx);
            }
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
    }

    /// The sender's home has the report in its log.
    fn receipt_confirmed(&mut self, user_id: UserId, received_as: Seq, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        user.receipts.awaited.retain(|awaited| *awaited != received_as);
        if user.receipts.awaited.is_empty() && !user.receipts.reading {
            user.receipts.awaited.shrink_to(0);
            user.marks.receipted = user.marks.receipted.max(user.receipts.up_to);
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
    }
}
