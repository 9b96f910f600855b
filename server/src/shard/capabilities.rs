//! What the welcome tells of what this server takes (SPEC 8.7). Each kind comes from the table by which it is taken.

use proto_spec::{Capabilities, ClientKind, ConversationKind};

use super::{Settings, contents::CONTENT_KINDS};

/// What a client may send, and for how long it may change what it sent.
pub(super) fn capabilities(settings: &Settings) -> Capabilities {
    let limits = &settings.limits;
    Capabilities {
        content_kinds: CONTENT_KINDS.iter().map(|kind| kind.byte()).collect(),
        // What the codec knows is what is taken: the shard names each kind of these.
        conversation_kinds: ConversationKind::ALL.iter().map(|kind| kind.byte()).collect(),
        frame_kinds: ClientKind::ALL.iter().filter(|kind| takes(settings, **kind)).map(|kind| kind.byte()).collect(),
        edit_within_s: told_seconds(limits.edit_within_ms),
        unsend_within_s: told_seconds(limits.unsend_within_ms),
    }
}

/// Whether frames of this kind are taken: the others are unknown here.
pub(super) const fn takes(settings: &Settings, kind: ClientKind) -> bool {
    match kind {
        ClientKind::Subscribe | ClientKind::Unsubscribe | ClientKind::FetchSubscription => settings.push.is_some(),
        _ => true,
    }
}

/// Zero is no limit. What is told is not less than what holds, or a client would refuse what the server takes.
const fn told_seconds(within_ms: u64) -> u64 {
    if within_ms == u64::MAX { 0 } else { within_ms.div_ceil(1_000) }
}
