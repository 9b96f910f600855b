//! What the welcome tells of what this server takes (SPEC 8.7). Each kind comes from the table by which it is taken.

use proto_spec::{Capabilities, ClientKind, ConversationKind};

use super::{contents::CONTENT_KINDS, rates::Limits};

/// What a client may send, and for how long it may change what it sent.
pub(super) fn capabilities(limits: &Limits) -> Capabilities {
    Capabilities {
        content_kinds: CONTENT_KINDS.iter().map(|kind| kind.byte()).collect(),
        // What the codec knows is what is taken: the shard names each kind of these.
        conversation_kinds: ConversationKind::ALL.iter().map(|kind| kind.byte()).collect(),
        frame_kinds: ClientKind::ALL.iter().filter(|kind| is_taken(**kind)).map(|kind| kind.byte()).collect(),
        edit_within_s: told_seconds(limits.edit_within_ms),
        unsend_within_s: told_seconds(limits.unsend_within_ms),
    }
}

/// It notifies nobody.
const fn is_taken(kind: ClientKind) -> bool {
    !matches!(kind, ClientKind::Subscribe | ClientKind::Unsubscribe | ClientKind::FetchSubscription)
}

/// Zero is no limit. What is told is not less than what holds, or a client would refuse what the server takes.
const fn told_seconds(within_ms: u64) -> u64 {
    if within_ms == u64::MAX { 0 } else { within_ms.div_ceil(1_000) }
}
