//! Contents: what a send may carry.

use proto_spec::{Content, ContentKind, ErrorCode};

/// The kinds of content that this server takes.
pub const CONTENT_KINDS: &[ContentKind] = &[
    ContentKind::Text,
    ContentKind::Reply,
    ContentKind::Attachment,
    ContentKind::Opaque,
    ContentKind::Edit,
    ContentKind::Unsend,
    ContentKind::Reaction,
    ContentKind::Act,
    ContentKind::Mention,
];

/// Why this content will never be taken, if so.
pub(super) fn fault(content: &Content) -> Option<ErrorCode> {
    let kind = ContentKind::from_byte(content.parts().0);
    let is_taken = kind.is_some_and(|kind| CONTENT_KINDS.contains(&kind));
    if is_taken { content.fault() } else { Some(ErrorCode::ContentKind) }
}

/// Why a user can not be sent it, if so.
pub(super) const fn fault_for_user(content: &Content) -> Option<ErrorCode> {
    match content {
        // Something is done to groups alone.
        Content::Act(_) => Some(ErrorCode::ContentKind),
        _ => None,
    }
}
