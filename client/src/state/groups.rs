//! Groups (SPEC 8.12): what the application asks for, and a page of one. What is known of them is [`Groups`](crate::Groups)'.

use proto_spec::{Act, Content, Direction, GroupId, GroupPage, Rules, Seq, UserId};

use super::{ClientState, Effects, ending::Flow};
use crate::{
    event::{ClientEvent, DisconnectReason, FetchError, FetchHandle, SendError, SendHandle},
    fetches::Range,
};

impl ClientState {
    /// Begins a group, whose id is a random number: the caller's, from all 64 bits. Members are added by sending
    /// [`Act::Add`] there, one by one. What became of it is an entry of the user's log: a pointer to the group, or why the group was refused.
    ///
    /// # Errors
    /// As [`ClientState::send`].
    pub fn create_group(
        &mut self,
        random: u64,
        name: &str,
        picture: &str,
        rules: Rules,
    ) -> Result<(GroupId, SendHandle), SendError> {
        // Zero is no group; that chance is as good as that of any other id.
        let group = GroupId(random.max(1));
        self.send(group, Content::act(&Act::Create { name, picture, rules })).map(|handle| (group, handle))
    }

    /// Asks for the user's groups with ids above `after` (zero: all), at most so many. The answer is [`ClientEvent::Groups`].
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_groups(&mut self, after: GroupId, limit: u64) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Groups(after), Seq::ZERO, Direction::Forwards, limit)
    }

    /// Asks for the members of a group with ids above `after` (zero: all), at most so many, and how many others have the entry `seq` (zero:
    /// that is not counted). The answer is [`ClientEvent::Members`].
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_members(
        &mut self,
        group: GroupId,
        after: UserId,
        limit: u64,
        seq: Seq,
    ) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Members(group, after), seq, Direction::Forwards, limit)
    }

    /// Asks for digests of a group's log, as [`ClientState::fetch_digest`] does of the own one. The answer is [`ClientEvent::Digest`].
    ///
    /// # Errors
    /// As [`ClientState::fetch_log`].
    pub fn fetch_group_digest(
        &mut self,
        group: GroupId,
        (first, last, width): (Seq, Seq, u64),
    ) -> Result<FetchHandle, FetchError> {
        self.fetch(Range::Digest { last, group }, first, Direction::Forwards, width)
    }

    /// The application has this entry of a group. Needed with [`crate::Acknowledging::ByApplication`] only.
    pub fn acknowledge_group(&mut self, group: GroupId, seq: Seq) {
        if !self.replacing.is_going_on() {
            self.receipts.has(group, seq);
        }
    }

    pub(super) fn on_group_page(&mut self, page: GroupPage, effects: &mut Effects) -> Flow {
        if let Err(reason) = check_group_page(&page) {
            return Flow::Break(reason.into());
        }
        let direction = self.fetches.direction(page.request).unwrap_or(Direction::Forwards);
        let asked = self.fetches.answered(page.request);
        page.entries.last().iter().for_each(|last| self.receipts.handed_out(page.group, last.seq));
        self.answer(asked, effects, |fetch| ClientEvent::GroupPage { fetch, direction, page })
    }
}

/// Entries ascend and lie in the range that the page speaks for.
fn check_group_page(page: &GroupPage) -> Result<(), DisconnectReason> {
    let mut above = page.first.previous();
    for entry in &page.entries {
        if entry.seq <= above || entry.seq > page.last {
            let (group, GroupPage { first, last, .. }) = (page.group, page);
            let what = format!("seq {} in a page of {first} to {last} of group {group}", entry.seq);
            return Err(DisconnectReason::Protocol(what));
        }
        above = entry.seq;
    }
    Ok(())
}
