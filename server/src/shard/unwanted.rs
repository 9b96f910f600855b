//! Unwanted: who has said lately that they take nothing from a user, where people are told so (`limits.tell_blocked`).
//!
//! It comes with the answer to a message, from the home of the one who blocks, and is believed for [`UNWANTED_MS`]: then one more message
//! asks again. So nothing is stored, and who is not blocked any more is heard within that time. The first message after it is
//! accepted, as it was before anybody knew, and dropped.

use proto_spec::ConversationId;

use crate::limits::{UNWANTED_MAX, UNWANTED_MS};

/// See the head of this file. Empty for all whom nobody blocks: then it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Unwanted(Vec<(ConversationId, u64)>);

impl Unwanted {
    /// The other side of a conversation takes nothing. Beyond so many the oldest is forgotten.
    pub(super) fn learn(&mut self, of: ConversationId, now_ms: u64) {
        self.0.retain(|(known, _)| *known != of);
        if self.0.len() == UNWANTED_MAX {
            self.0.remove(0);
        }
        self.0.push((of, now_ms + UNWANTED_MS));
    }

    /// Whether the other side of a conversation takes nothing, as far as is known.
    pub(super) fn is_known(&mut self, of: ConversationId, now_ms: u64) -> bool {
        if self.0.is_empty() {
            return false;
        }
        self.0.retain(|(_, until_ms)| now_ms < *until_ms);
        self.0.iter().any(|(known, _)| *known == of)
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::UserId;

    use super::*;

    #[test]
    fn what_is_known_ends_by_itself_and_is_bounded() {
        let of = |user: u64| ConversationId::from(UserId(user));
        let mut unwanted = Unwanted::default();
        unwanted.learn(of(1), 0);
        unwanted.learn(of(2), 10);
        assert!(unwanted.is_known(of(1), UNWANTED_MS - 1) && !unwanted.is_known(of(3), 0));
        assert!(!unwanted.is_known(of(1), UNWANTED_MS) && unwanted.is_known(of(2), UNWANTED_MS));
        (10..=10 + UNWANTED_MAX as u64).for_each(|user| unwanted.learn(of(user), UNWANTED_MS));
        assert_eq!(unwanted.0.len(), UNWANTED_MAX);
        assert!(!unwanted.is_known(of(10), UNWANTED_MS) && unwanted.is_known(of(11), UNWANTED_MS));
    }
}
