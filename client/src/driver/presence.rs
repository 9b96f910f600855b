//! Who is there and who types, as [`Client`] offers it.

use proto_spec::{ConversationId, Status, UserId, Visibility};

use super::Client;
use crate::event::{FetchError, FetchHandle};

impl Client {
    /// From now on these users are watched, and no others: [`ClientEvent::Presence`](crate::ClientEvent::Presence) tells when one of
    /// them comes, goes, or is away. Each begins as unknown. The same set again costs nothing; without a connection it waits for one.
    ///
    /// # Errors
    /// More than [`WATCHED_MAX`](crate::WATCHED_MAX) users, or the client has stopped. Then the earlier set stays.
    pub fn watch(&self, users: &[UserId]) -> Result<(), FetchError> {
        self.call(|state| state.watch(users))
    }

    /// Asks once who of these is there. The answer is [`ClientEvent::Presences`](crate::ClientEvent::Presences).
    ///
    /// # Errors
    /// More than [`PRESENCE_USERS_MAX`](crate::PRESENCE_USERS_MAX) users; else as [`Client::fetch_log`].
    pub fn fetch_presence(&self, users: &[UserId]) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.fetch_presence(users))
    }

    /// Whether somebody looks at the application. It begins as [`Status::Here`], and holds over all connections.
    pub fn set_status(&self, status: Status) {
        self.call(|state| state.set_status(status));
    }

    /// What the user hides of their presence from now on: these too, and those not. The answer is
    /// [`ClientEvent::Marked`](crate::ClientEvent::Marked); what it changes comes as an entry, on all devices
    /// ([`Event::Visibility`](crate::Event::Visibility)).
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn set_visibility(&self, set: Visibility, cleared: Visibility) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.set_visibility(set, cleared))
    }

    /// Somebody types in this conversation. To be called with each key: it is said at most every
    /// [`TYPING_AGAIN_AFTER_MS`](crate::limits::TYPING_AGAIN_AFTER_MS), and not at all while there is no connection.
    pub fn typing(&self, conversation: impl Into<ConversationId>) {
        self.call(|state| state.typing(conversation));
    }
}
