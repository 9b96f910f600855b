//! New in a group: what a notification of a group says is in the group's log, so its home is asked when the time has come, for the last
//! message and how many are unread, and where only messages that name the user count, for these.

use proto_spec::{Body, Content, Direction, ErrorCode, GroupEntry, GroupId, Seq, UserId, limits::INBOX_TEXT_BYTES};
use storage::Wants;

use super::{dues::words, notices::Told, why::PushVerdict};
use crate::{
    limits::{ASK_AGAIN_MS, LOOK_BACK_ENTRIES},
    shard::{
        Shard, Turn,
        groups::{GroupTold, GroupWish},
    },
};

/// Bytes of a character in UTF-8 at most: by less than that a text is cut too soon.
const MAX_CHAR_BYTES: usize = 4;

/// What is asked, and what is known by then.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct NewInGroup {
    pub(in crate::shard) user: UserId,
    pub(in crate::shard) group: GroupId,
    /// Up to where the group was told to have come.
    up_to: Seq,
    /// Up to where the user has read it.
    read: Seq,
    wants: Wants,
    /// How many are unread, once that is known.
    unread: Option<u64>,
}

impl Shard {
    /// Asks what there is to notify a user of.
    pub(super) fn ask_what_is_new(
        &mut self,
        user: UserId,
        group: GroupId,
        (read, wants): (Seq, Wants),
        cx: &mut Turn<'_>,
    ) {
        let Some(due) = self.dues(user).and_then(|dues| dues.get(group.into())) else { return };
        due.is_loading = true;
        let asked = NewInGroup { user, group, up_to: due.last, read, wants, unread: None };
        self.ask_of_group(asked, GroupWish::Row { read }, cx);
    }

    /// The group's home has answered, or has not in time.
    pub(in crate::shard) fn new_in_group_told(
        &mut self,
        asked: NewInGroup,
        told: Result<GroupTold, ErrorCode>,
        cx: &mut Turn<'_>,
    ) {
        let NewInGroup { user, group, up_to, read, wants, unread } = asked;
        let conversation = group.into();
        let Some(due) = self.dues(user).and_then(|dues| dues.get(conversation)) else { return };
        let verdict = match told {
            Ok(GroupTold::Row(row)) if !row.standing.is_member() => PushVerdict::Left,
            Ok(GroupTold::Row(row)) if row.unread == 0 => PushVerdict::Read,
            Ok(GroupTold::Row(row)) => {
                let wish = match row.last {
                    Some(last) if last.from != user && wants != Wants::Named => {
                        // A list shows no more of a long text.
                        let is_cut = |text: Box<str>| text.len() > INBOX_TEXT_BYTES - MAX_CHAR_BYTES;
                        if !words(&last.content).is_some_and(is_cut) {
                            return self.found_in_group(asked, &last, row.unread, cx);
                        }
                        GroupWish::Page { from: last.seq, direction: Direction::Backwards, limit: 1 }
                    }
                    // Behind the last message of somebody else is much that is none, or one of their own.
                    _ => look_back(row.head),
                };
                return self.ask_of_group(NewInGroup { unread: Some(row.unread), ..asked }, wish, cx);
            }
            Ok(GroupTold::Page { first, more, entries, .. }) => {
                let is_wanted = |entry: &&GroupEntry| {
                    entry.from != user
                        && entry.place() > Some(read)
                        && (wants != Wants::Named || names(&entry.content, user))
                };
                match entries.iter().filter(is_wanted).max_by_key(|entry| entry.place()) {
                    Some(entry) => return self.found_in_group(asked, entry, unread.unwrap_or_default(), cx),
                    None if wants == Wants::Named => PushVerdict::NotNamed,
                    None if more && first > read.next() => {
                        return self.ask_of_group(asked, look_back(first.previous()), cx);
                    }
                    None => PushVerdict::Read,
                }
            }
            Err(ErrorCode::NoSuchGroup) => PushVerdict::Left,
            Ok(GroupTold::Members { .. } | GroupTold::Digests(_)) | Err(_) => {
                (due.is_loading, due.due_ms) = (false, cx.now.monotonic_ms + ASK_AGAIN_MS);
                return self.set_wake(user, cx);
            }
        };
        if verdict == PushVerdict::NotNamed {
            self.say_wants(user, group, Some(wants), cx);
        }
        self.not_notified_up_to(asked, up_to, verdict, cx);
    }

    /// This message is the last of which the user is to be notified, if they have not been.
    fn found_in_group(&mut self, asked: NewInGroup, entry: &GroupEntry, count: u64, cx: &mut Turn<'_>) {
        let NewInGroup { user: user_id, group, up_to, .. } = asked;
        let conversation = group.into();
        let Some(user) = self.users.resident(user_id) else { return };
        let (delivered, with_text) = (user.delivered(), user.shows_text());
        let Some(dues) = &mut user.dues else { return };
        let last = entry.place().unwrap_or(entry.seq);
        let was_told = dues.was_told(conversation, last);
        let Some(due) = dues.get(conversation) else { return };
        // A device for which there was no room has not.
        let was_told = was_told && due.put_off.is_empty();
        if due.own <= delivered || was_told {
            let verdict = if was_told { PushVerdict::Told } else { PushVerdict::Acknowledged };
            return self.not_notified_up_to(asked, up_to, verdict, cx);
        }
        due.is_loading = false;
        (due.at, due.text) = (entry.time, if with_text { words(&entry.content) } else { None });
        self.offer_message(user_id, conversation, Told { from: entry.from, count, up_to, last }, cx);
        self.set_wake(user_id, cx);
    }

    /// It was decided that the user is not notified, as the group was up to there: what came since is looked at by itself.
    fn not_notified_up_to(&mut self, asked: NewInGroup, up_to: Seq, verdict: PushVerdict, cx: &mut Turn<'_>) {
        let NewInGroup { user, group, .. } = asked;
        let Some(due) = self.dues(user).and_then(|dues| dues.get(group.into())) else { return };
        due.is_loading = false;
        if due.last > up_to {
            return self.look_at_dues(user, cx);
        }
        self.not_notified(user, group.into(), up_to, verdict, cx);
        self.set_wake(user, cx);
    }
}

/// Entries up to there, the last first.
const fn look_back(from: Seq) -> GroupWish {
    GroupWish::Page { from, direction: Direction::Backwards, limit: LOOK_BACK_ENTRIES }
}

/// Whether a message, or what it says since it was edited, names this user (SPEC 5.4.9).
fn names(content: &Content, user: UserId) -> bool {
    match content.body() {
        Ok(Body::Mention(mention)) => mention.users().any(|named| named == user),
        Ok(Body::Edit(edit)) => {
            let edited = edit.content();
            matches!(edited.body(), Ok(Body::Mention(mention)) if mention.users().any(|named| named == user))
        }
        _ => false,
    }
}
