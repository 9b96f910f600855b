//! Groups, as the application calls for them.

use proto_spec::{Content, GroupId, Rules, Seq, UserId};

use super::Client;
use crate::{
    event::{FetchError, FetchHandle, SendError, SendHandle},
    invitation::Invitation,
};

impl Client {
    /// Begins a group under an id that is drawn here. Members are added by sending [`Act::Add`](crate::Act::Add) there, one by one. What
    /// became of it is an entry of the user's log: a pointer to the group, or why the group was refused.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn create_group(&self, name: &str, picture: &str, rules: Rules) -> Result<(GroupId, SendHandle), SendError> {
        let random = rand::random();
        self.call(|state| state.create_group(random, name, picture, rules))
    }

    /// Invites whoever knows a secret that is drawn here, and is passed on by the application, into a group. An earlier one is void.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn invite(&self, group: GroupId) -> Result<(Invitation, SendHandle), SendError> {
        let invitation = Invitation::new(rand::random());
        let handle = self.send(group, Content::act(&invitation.act()))?;
        Ok((invitation, handle))
    }

    /// Asks for the user's groups with ids above `after` (zero: all), at most so many. The answer is
    /// [`ClientEvent::Groups`](crate::ClientEvent::Groups).
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn fetch_groups(&self, after: GroupId, limit: u64) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.fetch_groups(after, limit))
    }

    /// Asks for the members of a group with ids above `after` (zero: all), at most so many, and how many others have the entry `seq` (zero:
    /// that is not counted). The answer is
    /// [`ClientEvent::Members`](crate::ClientEvent::Members).
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn fetch_members(
        &self,
        group: GroupId,
        after: UserId,
        limit: u64,
        seq: Seq,
    ) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.fetch_members(group, after, limit, seq))
    }

    /// Asks for digests of a group's log, as [`Client::fetch_digest`] does of the own one. The answer is
    /// [`ClientEvent::Digest`](crate::ClientEvent::Digest).
    ///
    /// # Errors
    /// As [`Client::fetch_log`].
    pub fn fetch_group_digest(&self, group: GroupId, range: (Seq, Seq, u64)) -> Result<FetchHandle, FetchError> {
        self.call(|state| state.fetch_group_digest(group, range))
    }

    /// The application has this entry of a group. See [`crate::Acknowledging::ByApplication`].
    pub fn acknowledge_group(&self, group: GroupId, seq: Seq) {
        self.call(|state| state.acknowledge_group(group, seq));
    }
}
