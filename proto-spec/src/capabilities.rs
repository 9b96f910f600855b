//! What a server takes (SPEC 8.7): told in its welcome, so that a client need not be refused to learn it.
//!
//! Everything that a client must know before it uses it has a kind: of frame, of content or of conversation. So whoever adds one of
//! these has nothing to do here: servers tell all that they decode, and a client asks [`Capabilities`] for the kind that it is about
//! to send.

use crate::{
    content::{Body, Content, ContentKind},
    frame::ClientKind,
    ids::ConversationKind,
};

/// A set of kinds, each below 64, as a number whose bit `k` stands for kind `k`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kinds(pub u64);

impl Kinds {
    /// Whether this kind is in the set.
    #[must_use]
    pub const fn contains(self, kind: u8) -> bool {
        kind < 64 && self.0 >> kind & 1 == 1
    }
}

impl FromIterator<u8> for Kinds {
    /// # Panics
    /// A kind is 64 or more. SPEC 10 gives no such number.
    fn from_iter<T: IntoIterator<Item = u8>>(kinds: T) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| {
            assert!(kind < 64, "kind {kind} has no bit in a welcome");
            bits | 1 << kind
        }))
    }
}

/// What a server takes, and limits that its operator sets (SPEC 8.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Kinds of content that it takes in a send. Empty: the server tells nothing of all this.
    pub content_kinds: Kinds,
    /// Kinds of conversations.
    pub conversation_kinds: Kinds,
    /// Kinds of frames from a client.
    pub frame_kinds: Kinds,
    /// For how long a message can be edited after it was written, in seconds; 0: no limit is told.
    pub edit_within_s: u64,
    /// For how long a message can be taken back, in seconds; 0: no limit is told.
    pub unsend_within_s: u64,
}

/// Frames that every server of version 1 takes: those that came later are told.
const FIRST_FRAME_KINDS: &[ClientKind] = &[
    ClientKind::Hello,
    ClientKind::Send,
    ClientKind::Acknowledge,
    ClientKind::FetchLog,
    ClientKind::FetchConversation,
    ClientKind::Ping,
    ClientKind::Pong,
    ClientKind::Bye,
];

impl Capabilities {
    /// Whether the server takes a frame of this kind.
    #[must_use]
    pub const fn takes_frame(&self, kind: ClientKind) -> bool {
        self.frame_kinds.contains(kind.byte())
    }

    /// The kind because of which the server does not take this in a send, if so: its own or, of an edit, that of what it says.
    #[must_use]
    pub fn lacks(&self, content: &Content) -> Option<u8> {
        let said = match content.body() {
            Ok(Body::Edit(edit)) => Some(edit.kind),
            _ => None,
        };
        let mut kinds = [content.parts().0].into_iter().chain(said);
        kinds.find(|kind| !self.content_kinds.contains(*kind))
    }

    /// What a client may rely on with a server whose welcome tells nothing: what version 1 began with.
    #[must_use]
    pub fn first() -> Self {
        Self {
            content_kinds: Kinds::from_iter([ContentKind::Text.byte()]),
            conversation_kinds: Kinds::from_iter([ConversationKind::User.byte()]),
            frame_kinds: FIRST_FRAME_KINDS.iter().map(|kind| kind.byte()).collect(),
            edit_within_s: 0,
            unsend_within_s: 0,
        }
    }

    /// What a client may rely on when a welcome tells this.
    #[must_use]
    pub fn or_first(self) -> Self {
        if self.content_kinds == Kinds::default() { Self::first() } else { self }
    }
}
