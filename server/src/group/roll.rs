//! The roll of a group: how each user stands to it, and which parts of its log they may read. A fold of the log, kept as rows beside it.
//!
//! Invariants: the parts of one user do not overlap, and ascend; the last one is open if and only if the user is a member; there is one
//! owner as long as the group goes on.

use std::{cmp::Reverse, collections::BTreeMap};

use proto_spec::{Direction, MemberInfo, Role, Rules, Seq, Standing, UserId};
use storage::MemberRow;

use crate::limits::SPANS_MAX;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Roll {
    rows: BTreeMap<UserId, MemberRow>,
    members: usize,
}

impl Roll {
    /// A roll of these rows.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = (UserId, MemberRow)>) -> Self {
        let mut roll = Self::default();
        rows.into_iter().for_each(|(user, row)| roll.set(user, row));
        roll
    }

    /// A row from now on.
    pub fn set(&mut self, user: UserId, row: MemberRow) {
        self.members += usize::from(row.standing.is_member());
        if self.rows.insert(user, row).is_some_and(|before| before.standing.is_member()) {
            self.members -= 1;
        }
    }

    /// The row of a user who is, or was, a member.
    #[must_use]
    pub fn row(&self, user: UserId) -> Option<&MemberRow> {
        self.rows.get(&user)
    }

    /// The row of a member.
    #[must_use]
    pub fn member(&self, user: UserId) -> Option<&MemberRow> {
        self.row(user).filter(|row| row.standing.is_member())
    }

    /// How many members there are.
    #[must_use]
    pub const fn members(&self) -> usize {
        self.members
    }

    /// How many are members, or were.
    #[must_use]
    pub fn known(&self) -> usize {
        self.rows.len()
    }

    /// Members with ids above `after`, by ascending id, at most so many; and whether there are more. `tells`: how far each of them is as well.
    #[must_use]
    pub fn page(&self, after: UserId, most: usize, tells: bool) -> (Vec<MemberInfo>, bool) {
        let mut behind = self.rows.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let mut members = behind.by_ref().filter(|(_, row)| row.standing.is_member());
        let page = members.by_ref().take(most);
        let page: Vec<_> = page.map(|(user, row)| info(*user, row, tells)).collect();
        let more = members.next().is_some();
        (page, more)
    }

    /// How many other members have this entry, and how many of these have read it, as far as they let others know.
    #[must_use]
    pub fn count(&self, seq: Seq, of: UserId) -> (u64, u64) {
        let others = self.rows.iter().filter(|(user, row)| **user != of && row.standing.is_member());
        others.fold((0, 0), |(have, read), (_, row)| {
            (have + u64::from(delivered(row) >= seq), read + u64::from(row.read >= seq))
        })
    }

    /// The row of somebody who becomes a member with the entry `at`; none: they have come and gone too often.
    #[must_use]
    pub fn admitted(&self, user: UserId, role: Role, at: Seq, rules: Rules) -> Option<MemberRow> {
        let mut spans = self.row(user).map(|row| row.spans.clone()).unwrap_or_default();
        if rules.has(Rules::HISTORY) {
            spans = vec![(Seq(1), MemberRow::OPEN)];
        } else {
            spans.push((at, MemberRow::OPEN));
        }
        (spans.len() <= SPANS_MAX).then_some(MemberRow {
            standing: Standing::Member,
            role,
            since: at,
            spans,
            read: Seq::ZERO,
            delivered: Seq::ZERO,
        })
    }

    /// The row of a member who is none any more from the entry `at` on, which they still see.
    #[must_use]
    pub fn dismissed(row: &MemberRow, standing: Standing, at: Seq) -> MemberRow {
        let mut spans = row.spans.clone();
        if let Some((_, last)) = spans.last_mut().filter(|(_, last)| *last == MemberRow::OPEN) {
            *last = at;
        }
        MemberRow { standing, role: Role::Member, since: at, spans, read: Seq::ZERO, delivered: Seq::ZERO }
    }

    /// The row of a member who was added and declines, with the entry `at`. They have seen nothing since, and may read what they could before;
    /// if what newcomers are shown has taken the place of that, the part that their own log has last.
    #[must_use]
    pub fn declined(row: &MemberRow, reads: (Seq, Seq), at: Seq) -> MemberRow {
        let mut spans = row.spans.clone();
        if let Some((first, _)) = spans.pop()
            && first < row.since
            && reads.1 > Seq::ZERO
        {
            spans.push(reads);
        }
        let (standing, role) = (Standing::Left, Role::Member);
        MemberRow { standing, role, since: at, spans, read: Seq::ZERO, delivered: Seq::ZERO }
    }

    /// To whom an owner who leaves hands the group over: to who has been an admin for longest, or a member.
    #[must_use]
    pub fn heir(&self, owner: UserId) -> Option<UserId> {
        let others = self.rows.iter().filter(|(user, row)| **user != owner && row.standing.is_member());
        others.min_by_key(|(_, row)| (Reverse(row.role), row.since)).map(|(user, _)| *user)
    }

    /// The row of a member who lets others know that they have read up to `read`, in a log that ends at `head`; none: they did before.
    #[must_use]
    pub fn having_read(row: &MemberRow, read: Seq, head: Seq) -> Option<MemberRow> {
        let read = read.min(head);
        (read > row.read).then(|| MemberRow { read, ..row.clone() })
    }

    /// The row of a member of whom a device has everything up to `up_to`, in a log that ends at `head`; none: it was known.
    #[must_use]
    pub fn having(row: &MemberRow, up_to: Seq, head: Seq) -> Option<MemberRow> {
        let delivered = up_to.min(head);
        (delivered > row.delivered).then(|| MemberRow { delivered, ..row.clone() })
    }

    /// The first seq that somebody may read since they are a member, and the last one, in a log that ends at `head`.
    #[must_use]
    pub fn readable(row: &MemberRow, head: Seq) -> (Seq, Seq) {
        row.spans.last().map_or((Seq::ZERO, Seq::ZERO), |(first, last)| (*first, (*last).min(head)))
    }

    /// Whether somebody may read this entry.
    #[must_use]
    pub fn may_read(row: &MemberRow, seq: Seq) -> bool {
        row.spans.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// What of a log that ends at `head` somebody may read next, from `from` on in this direction: one part, and whether there is more
    /// behind it. None: nothing.
    #[must_use]
    pub fn clip(row: &MemberRow, from: Seq, direction: Direction, head: Seq) -> Option<((Seq, Seq), bool)> {
        let spans = row.spans.iter().map(|(first, last)| (*first, (*last).min(head))).filter(|(a, b)| a <= b);
        match direction {
            Direction::Forwards => {
                let mut ahead = spans.filter(|(_, last)| *last >= from);
                let (first, last) = ahead.next()?;
                Some(((first.max(from), last), ahead.next().is_some()))
            }
            Direction::Backwards => {
                let from = if from == Seq::ZERO { head } else { from };
                let mut behind = spans.rev().filter(|(first, _)| *first <= from);
                let (first, last) = behind.next()?;
                Some(((first, last.min(from)), behind.next().is_some()))
            }
        }
    }
}

/// `tells`: how far they are as well.
fn info(user: UserId, row: &MemberRow, tells: bool) -> MemberInfo {
    let (read, delivered) = if tells { (row.read, delivered(row)) } else { (Seq::ZERO, Seq::ZERO) };
    MemberInfo { user, role: row.role, since: row.since, read_up_to: read, delivered_up_to: delivered }
}

/// Who has read something has it.
fn delivered(row: &MemberRow) -> Seq {
    row.delivered.max(row.read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserId = UserId(7);

    fn row(spans: &[(u64, u64)]) -> MemberRow {
        let spans = spans.iter().map(|(first, last)| (Seq(*first), Seq(*last))).collect();
        MemberRow {
            standing: Standing::Member,
            role: Role::Member,
            since: Seq(1),
            spans,
            read: Seq::ZERO,
            delivered: Seq::ZERO,
        }
    }

    #[test]
    fn who_comes_and_goes_may_read_what_was_said_while_they_were_there() {
        let mut roll = Roll::default();
        let came = roll.admitted(USER, Role::Member, Seq(3), Rules::default()).unwrap();
        roll.set(USER, came.clone());
        assert_eq!((roll.members(), Roll::readable(&came, Seq(9))), (1, (Seq(3), Seq(9))));
        let left = Roll::dismissed(&came, Standing::Left, Seq(5));
        roll.set(USER, left.clone());
        assert!(roll.members() == 0 && roll.member(USER).is_none() && roll.row(USER).is_some());
        assert_eq!(Roll::readable(&left, Seq(9)), (Seq(3), Seq(5)));
        let again = roll.admitted(USER, Role::Member, Seq(8), Rules::default()).unwrap();
        assert_eq!(again.spans, [(Seq(3), Seq(5)), (Seq(8), MemberRow::OPEN)]);
        let with_history = roll.admitted(USER, Role::Member, Seq(8), Rules::HISTORY).unwrap();
        assert_eq!(with_history.spans, [(Seq(1), MemberRow::OPEN)]);
    }

    #[test]
    fn a_page_is_of_one_part_and_says_whether_there_are_others() {
        use Direction::{Backwards, Forwards};
        let row = row(&[(3, 5), (8, u64::MAX)]);
        let clip = |from, direction, head| {
            Roll::clip(&row, Seq(from), direction, Seq(head)).map(|((first, last), more)| (first.0, last.0, more))
        };
        assert_eq!(clip(1, Forwards, 9), Some((3, 5, true)));
        assert_eq!(clip(4, Forwards, 9), Some((4, 5, true)));
        assert_eq!(clip(6, Forwards, 9), Some((8, 9, false)));
        assert_eq!(clip(10, Forwards, 9), None);
        assert_eq!(clip(1, Forwards, 6), Some((3, 5, false)), "the log has not come to the second part");
        assert_eq!(clip(0, Backwards, 9), Some((8, 9, true)));
        assert_eq!(clip(7, Backwards, 9), Some((3, 5, false)));
        assert_eq!(clip(4, Backwards, 9), Some((3, 4, false)));
        assert_eq!(clip(2, Backwards, 9), None);
    }

    #[test]
    fn who_has_come_and_gone_too_often_is_not_let_in_again() {
        let mut roll = Roll::default();
        for at in 1..=SPANS_MAX as u64 {
            let came = roll.admitted(USER, Role::Member, Seq(2 * at), Rules::default()).unwrap();
            roll.set(USER, Roll::dismissed(&came, Standing::Left, Seq(2 * at + 1)));
        }
        assert_eq!(roll.admitted(USER, Role::Member, Seq(1_000), Rules::default()), None);
        assert!(roll.admitted(USER, Role::Member, Seq(1_000), Rules::HISTORY).is_some());
    }

    #[test]
    fn members_are_listed_by_pages() {
        let mut roll = Roll::default();
        for user in 1..=5 {
            let mut row = row(&[(1, u64::MAX)]);
            row.standing = if user == 3 { Standing::Left } else { Standing::Member };
            roll.set(UserId(user), row);
        }
        let page = |after, most| {
            let (members, more) = roll.page(UserId(after), most, true);
            (members.iter().map(|member| member.user.0).collect::<Vec<_>>(), more)
        };
        assert_eq!(page(0, 2), (vec![1, 2], true));
        assert_eq!(page(2, 2), (vec![4, 5], false));
        assert_eq!(page(5, 2), (vec![], false));
    }
}
