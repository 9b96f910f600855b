//! Records and rows of groups, to bytes and back.

use proto_spec::{Body, ErrorCode, GroupEntry, Role, Rules, Standing};

use super::{
    lists::{StoredGone, StoredSpans},
    *,
};
use crate::group::{CameRow, GroupMarks, GroupRewrite, GroupState, MemberRow, StandingRow, Wants};

/// An entry of a group's log without its seq, in a record and in a row.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredGroupEntry<'a> {
    time: u64,
    pub(crate) from: u64,
    pub(crate) origin: u64,
    messages: u64,
    pub(crate) content: StoredContent<'a>,
}

#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredGroupRewrite<'a> {
    place: u64,
    now: StoredShown<'a>,
    replaces: StoredGone<'a>,
}

/// In a record and in a row.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredGroupState<'a> {
    name: &'a str,
    picture: &'a str,
    rules: u64,
    invitation: Option<[u8; 32]>,
    has_ended: bool,
}

/// In a record and in a row.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredMemberRow<'a> {
    standing: u8,
    role: u8,
    since: u64,
    spans: StoredSpans<'a>,
    read: u64,
    delivered: u64,
}

/// In a record and in a row.
#[derive(Encode, BorrowDecode)]
pub(crate) struct StoredCameRow<'a> {
    up_to: u64,
    /// Pairs: what was refused, and the number of the code.
    refused: StoredSpans<'a>,
}

/// In a record and in a row.
#[derive(Clone, Copy, Encode, BorrowDecode)]
pub(crate) enum StoredWants {
    All,
    Named,
    Nothing,
}

impl From<Wants> for StoredWants {
    fn from(wants: Wants) -> Self {
        match wants {
            Wants::All => Self::All,
            Wants::Named => Self::Named,
            Wants::Nothing => Self::Nothing,
        }
    }
}

impl From<StoredWants> for Wants {
    fn from(stored: StoredWants) -> Self {
        match stored {
            StoredWants::All => Self::All,
            StoredWants::Named => Self::Named,
            StoredWants::Nothing => Self::Nothing,
        }
    }
}

fn refused(row: &CameRow) -> Vec<u8> {
    let pairs: Vec<_> = row.refused.iter().map(|(origin, code)| (*origin, Seq(code.number().into()))).collect();
    lists::spans(&pairs)
}

impl<'a> StoredCameRow<'a> {
    fn of(row: &CameRow, refused: &'a [u8]) -> Self {
        Self { up_to: row.up_to.0, refused: StoredSpans::of(refused) }
    }
}

impl From<StoredCameRow<'_>> for CameRow {
    fn from(stored: StoredCameRow<'_>) -> Self {
        let code = |number: Seq| ErrorCode::from_number(u16::try_from(number.0).unwrap_or_default());
        let refused = stored.refused.spans().map(|(origin, number)| (origin, code(number)));
        Self { up_to: Seq(stored.up_to), refused: refused.collect() }
    }
}

impl<'a> From<&'a GroupEntry> for StoredGroupEntry<'a> {
    fn from(entry: &'a GroupEntry) -> Self {
        let GroupEntry { seq: _, time, from, origin, messages, content } = entry;
        Self { time: time.0, from: from.0, origin: origin.0, messages: *messages, content: content.into() }
    }
}

impl StoredGroupEntry<'_> {
    pub(super) fn into_entry(self, seq: Seq) -> GroupEntry {
        let Self { time, from, origin, messages, content } = self;
        let (time, from, origin) = (TimestampMs(time), UserId(from), Seq(origin));
        GroupEntry { seq, time, from, origin, messages, content: content.into() }
    }

    /// Whether somebody stands to the group otherwise since, and is to be told.
    pub(crate) fn changes_standing(&self) -> bool {
        // Nearly all content is a message: its body is not looked at.
        if self.content.kind != ContentKind::Act.byte() {
            return false;
        }
        let content = Content::from_parts(self.content.kind, self.content.body.into());
        matches!(content.body(), Ok(Body::Act(act)) if act.concerns(UserId(self.from)).is_some())
    }
}

impl From<StoredGroupRewrite<'_>> for GroupRewrite {
    fn from(stored: StoredGroupRewrite<'_>) -> Self {
        let replaces = stored.replaces.seqs().flatten().map(Seq).collect();
        Self { place: Seq(stored.place), now: stored.now.into(), replaces }
    }
}

impl<'a> From<&'a GroupState> for StoredGroupState<'a> {
    fn from(state: &'a GroupState) -> Self {
        let GroupState { name, picture, rules, invitation, has_ended } = state;
        Self { name, picture, rules: rules.bits(), invitation: *invitation, has_ended: *has_ended }
    }
}

impl From<StoredGroupState<'_>> for GroupState {
    fn from(stored: StoredGroupState<'_>) -> Self {
        let StoredGroupState { name, picture, rules, invitation, has_ended } = stored;
        Self { name: name.into(), picture: picture.into(), rules: Rules::from_bits(rules), invitation, has_ended }
    }
}

impl<'a> StoredMemberRow<'a> {
    fn of(row: &MemberRow, spans: &'a [u8]) -> Self {
        let MemberRow { standing, role, since, spans: _, read, delivered } = row;
        let (spans, read, delivered) = (StoredSpans::of(spans), read.0, delivered.0);
        Self { standing: standing.byte(), role: role.byte(), since: since.0, spans, read, delivered }
    }
}

impl From<StoredMemberRow<'_>> for MemberRow {
    fn from(stored: StoredMemberRow<'_>) -> Self {
        Self {
            standing: standing_of(stored.standing),
            // One of a newer version may do what all may.
            role: Role::from_byte(stored.role).unwrap_or(Role::Member),
            since: Seq(stored.since),
            spans: stored.spans.spans().collect(),
            read: Seq(stored.read),
            delivered: Seq(stored.delivered),
        }
    }
}

/// One of a newer version counts as not being a member.
pub(crate) fn standing_of(byte: u8) -> Standing {
    Standing::from_byte(byte).unwrap_or_default()
}

/// Appends the record of an entry of a group, without taking the entry.
pub(crate) fn put_group_append(out: &mut Vec<u8>, group: GroupId, entry: &GroupEntry, of: Option<&GroupRewrite>) {
    let lists = of.map(|of| (lists::reactions(&of.now), lists::gone(&of.replaces)));
    let of = of.zip(lists.as_ref()).map(|(of, (reactions, replaces))| StoredGroupRewrite {
        place: of.place.0,
        now: StoredShown { says: of.now.says.0, reactions: StoredReactions::of(reactions) },
        replaces: StoredGone::of(replaces),
    });
    put(out, &StoredRecord::GroupAppend { group: group.0, seq: entry.seq.0, of });
    put(out, &StoredGroupEntry::from(entry));
}

/// Appends the record of a row of a group's roll.
pub(super) fn put_group_member(out: &mut Vec<u8>, group: GroupId, user: UserId, row: &MemberRow) {
    let spans = lists::spans(&row.spans);
    put(out, &StoredRecord::GroupMember { group: group.0, user: user.0, row: StoredMemberRow::of(row, &spans) });
}

/// Appends the record of what has come of an author.
pub(super) fn put_group_came(out: &mut Vec<u8>, group: GroupId, from: UserId, row: &CameRow) {
    let refused = refused(row);
    put(out, &StoredRecord::GroupCame { group: group.0, from: from.0, row: StoredCameRow::of(row, &refused) });
}

/// Takes the entry of a group's record off the front of `bytes`, and gives its bytes as well: they are those of its row, see
/// [`put_stored_entry`].
pub(crate) fn take_group_entry<'a>(bytes: &mut &'a [u8]) -> Result<(StoredGroupEntry<'a>, &'a [u8]), CodecError> {
    take_with_bytes(bytes)
}

/// Appends the value of the row of a group's log.
#[cfg(test)]
pub(crate) fn put_group_entry(out: &mut Vec<u8>, entry: &GroupEntry) {
    put_value(out, &StoredGroupEntry::from(entry));
}

/// Reads the value of the row of a group's log of `seq`.
pub(crate) fn group_entry(seq: Seq, bytes: &[u8]) -> Result<GroupEntry, CodecError> {
    Ok(read_value::<StoredGroupEntry<'_>>("a row of a group's log", bytes)?.into_entry(seq))
}

/// Appends the value of the row of a group's state: what a record has of it.
pub(crate) fn put_stored_group_state(out: &mut Vec<u8>, state: &StoredGroupState<'_>) {
    put_value(out, state);
}

/// Appends the value of the row of a group's state.
#[cfg(test)]
pub(crate) fn put_group_state(out: &mut Vec<u8>, state: &GroupState) {
    put_stored_group_state(out, &state.into());
}

/// Reads the value of the row of a group's state.
pub(crate) fn group_state(bytes: &[u8]) -> Result<GroupState, CodecError> {
    read_value::<StoredGroupState<'_>>("a row of a group's state", bytes).map(GroupState::from)
}

/// Appends the value of the row of a group's marks.
pub(crate) fn put_group_marks(out: &mut Vec<u8>, marks: GroupMarks) {
    put_seq(out, marks.told);
}

/// Reads the value of the row of a group's marks.
pub(crate) fn group_marks(bytes: &[u8]) -> Result<GroupMarks, CodecError> {
    seq("a row of a group's marks", bytes).map(|told| GroupMarks { told })
}

/// Appends the value of a row of a roll: what a record has of it.
pub(crate) fn put_stored_member(out: &mut Vec<u8>, row: &StoredMemberRow<'_>) {
    put_value(out, row);
}

/// Appends the value of a row of a roll.
#[cfg(test)]
pub(crate) fn put_group_member_row(out: &mut Vec<u8>, row: &MemberRow) {
    put_stored_member(out, &StoredMemberRow::of(row, &lists::spans(&row.spans)));
}

/// Reads the value of a row of a roll.
pub(crate) fn group_member(bytes: &[u8]) -> Result<MemberRow, CodecError> {
    read_value::<StoredMemberRow<'_>>("a row of a group's roll", bytes).map(MemberRow::from)
}

/// Appends the value of the row of what a member wants to be told: what a record has of it.
pub(crate) fn put_wants(out: &mut Vec<u8>, wants: StoredWants) {
    put_value(out, &wants);
}

/// Reads the value of a row of what a member wants to be told.
pub(crate) fn group_wants(bytes: &[u8]) -> Result<Wants, CodecError> {
    read_value::<StoredWants>("a row of what a member wants to be told", bytes).map(Wants::from)
}

/// Appends the value of a row of what has come of an author: what a record has of it.
pub(crate) fn put_stored_came(out: &mut Vec<u8>, row: &StoredCameRow<'_>) {
    put_value(out, row);
}

/// Appends the value of a row of what has come of an author, of which nothing was refused lately.
pub(crate) fn put_came(out: &mut Vec<u8>, up_to: Seq) {
    put_value(out, &StoredCameRow { up_to: up_to.0, refused: StoredSpans::of(&[]) });
}

/// Appends the value of a row of what has come of an author.
#[cfg(test)]
pub(crate) fn put_came_row(out: &mut Vec<u8>, row: &CameRow) {
    put_value(out, &StoredCameRow::of(row, &refused(row)));
}

/// Reads the value of a row of what has come of an author.
pub(crate) fn group_came(bytes: &[u8]) -> Result<CameRow, CodecError> {
    read_value::<StoredCameRow<'_>>("a row of what has come of an author", bytes).map(CameRow::from)
}

/// Appends the value of a row of what tells of a message.
pub(crate) fn put_group_shown(out: &mut Vec<u8>, now: &Shown) {
    put_value(out, &StoredShown { says: now.says.0, reactions: StoredReactions::of(&lists::reactions(now)) });
}

/// Reads the value of a row of what tells of a message.
pub(crate) fn group_shown(bytes: &[u8]) -> Result<Shown, CodecError> {
    read_value::<StoredShown<'_>>("a row of what tells of a group's message", bytes).map(Shown::from)
}

/// Appends the value of a row of a user's standing.
pub(crate) fn put_standing(out: &mut Vec<u8>, row: StandingRow) {
    let StandingRow { standing, first, up_to, sent_up_to, at } = row;
    put_value(out, &(standing.byte(), first.0, up_to.0, sent_up_to.0, at.0));
}

/// Reads the value of a row of a user's standing.
pub(crate) fn standing(bytes: &[u8]) -> Result<StandingRow, CodecError> {
    let (standing, first, up_to, sent_up_to, at) = read_value("a row of a standing", bytes)?;
    let [first, up_to, sent_up_to, at] = [first, up_to, sent_up_to, at].map(Seq);
    Ok(StandingRow { standing: standing_of(standing), first, up_to, sent_up_to, at })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto_spec::Act;

    use super::*;
    use crate::testing::any_group_record;

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }

    /// Whether this is what is read of these bytes, and nothing of less of them.
    fn is_read<T: PartialEq>(bytes: &[u8], value: &T, read: impl Fn(&[u8]) -> Result<T, CodecError>) -> bool {
        read(bytes).as_ref() == Ok(value) && (0..bytes.len()).all(|cut| read(&bytes[..cut]).is_err())
    }

    proptest! {
        #[test]
        fn the_rows_of_groups_survive_the_round_trip_and_no_prefix_of_them_is_one(record in any_group_record()) {
            let mut bytes = Vec::new();
            put_record(&mut bytes, &record);
            let mut rest = &bytes[..];
            let is_same = match (take_record(&mut rest).unwrap(), record) {
                (StoredRecord::GroupAppend { .. }, Record::GroupAppend { entry, of, .. }) => {
                    let (_, stored) = take_group_entry(&mut rest).unwrap();
                    let row = written(|out| put_stored_entry(out, stored));
                    let is_shown = of.is_none_or(|GroupRewrite { now, .. }| {
                        is_read(&written(|out| put_group_shown(out, &now)), &now, group_shown)
                    });
                    is_shown
                        && row == written(|out| put_group_entry(out, &entry))
                        && is_read(&row, &entry, |bytes| group_entry(entry.seq, bytes))
                }
                (StoredRecord::GroupState { state: stored, .. }, Record::GroupState { state, .. }) => {
                    is_read(&written(|out| put_stored_group_state(out, &stored)), &state, group_state)
                }
                (StoredRecord::GroupMember { row: stored, .. }, Record::GroupMember { row, .. }) => {
                    is_read(&written(|out| put_stored_member(out, &stored)), &row, group_member)
                }
                (_, Record::GroupWants { wants, .. }) => {
                    wants.is_none_or(|wants| is_read(&written(|out| put_wants(out, wants.into())), &wants, group_wants))
                }
                (_, Record::GroupMarks { marks, .. }) => {
                    is_read(&written(|out| put_group_marks(out, marks)), &marks, group_marks)
                }
                (StoredRecord::GroupCame { row: stored, .. }, Record::GroupCame { row, .. }) => {
                    let none = CameRow { up_to: row.up_to, refused: Vec::new() };
                    let of_entry = written(|out| put_came(out, none.up_to));
                    is_read(&written(|out| put_stored_came(out, &stored)), &row, group_came)
                        && is_read(&of_entry, &none, group_came)
                }
                (_, record) => panic!("{record:?} was written"),
            };
            prop_assert!(is_same);
        }

        #[test]
        fn a_standing_survives_the_round_trip(
            [first, up_to, sent_up_to, at] in any::<[u64; 4]>(), standing_of in proptest::sample::select(Standing::ALL),
        ) {
            let [first, up_to, sent_up_to, at] = [first, up_to, sent_up_to, at].map(Seq);
            let row = StandingRow { standing: standing_of, first, up_to, sent_up_to, at };
            prop_assert!(is_read(&written(|out| put_standing(out, row)), &row, standing));
        }
    }

    #[test]
    fn the_records_and_rows_of_groups_never_change() {
        let (group, user) = (GroupId(7), UserId(8));
        let record = |record: &Record| written(|out| put_record(out, record));
        let content = Content::act(&Act::Add { user });
        let (seq, time, origin) = (Seq(3), TimestampMs(300), Seq(4));
        let entry = GroupEntry { seq, time, from: user, origin, messages: 2, content };
        let stored = b"\xfb\x2c\x01\x08\x04\x02\x08\x02\x02\x08";
        let append = |of| record(&Record::GroupAppend { group, entry: entry.clone(), of });
        assert_eq!(append(None), [&b"\x0a\x07\x03\x00"[..], stored].concat());
        let now = Shown { says: Seq(3), reactions: vec![Seq(1), Seq(2)] };
        let of = GroupRewrite { place: Seq(1), now: now.clone(), replaces: vec![Seq(2), Seq(1)] };
        assert_eq!(append(Some(of)), [&b"\x0a\x07\x03\x01\x01\x03\x02\x01\x02\x02\x01\x02"[..], stored].concat());
        assert_eq!(written(|out| put_group_entry(out, &entry)), [b"\x01", &stored[..]].concat());
        assert_eq!(written(|out| put_group_shown(out, &now)), b"\x01\x03\x02\x01\x02");

        let (rules, invitation) = (Rules::from_bits(9), Some([5; 32]));
        let state = GroupState { name: "ab".into(), picture: "".into(), rules, invitation, has_ended: true };
        let stored = [&b"\x02ab\x00\x09\x01"[..], &[5; 32], b"\x01"].concat();
        let value = written(|out| put_group_state(out, &state));
        assert_eq!(record(&Record::GroupState { group, state }), [&b"\x0b\x07"[..], &stored].concat());
        assert_eq!(value, [&b"\x01"[..], &stored].concat());

        let spans = vec![(Seq(1), Seq(3)), (Seq(300), MemberRow::OPEN)];
        let row = MemberRow {
            standing: Standing::Left,
            role: Role::Owner,
            since: Seq(6),
            spans,
            read: Seq(5),
            delivered: Seq(6),
        };
        let stored = [&b"\x02\x03\x06\x0e\x01\x03\xac\x02"[..], &[0xff; 9], b"\x01\x05\x06"].concat();
        let value = written(|out| put_group_member_row(out, &row));
        assert_eq!(record(&Record::GroupMember { group, user, row }), [&b"\x0c\x07\x08"[..], &stored].concat());
        assert_eq!(value, [&b"\x01"[..], &stored].concat());

        let came = CameRow { up_to: origin, refused: vec![(Seq(3), ErrorCode::NotAllowed)] };
        let stored = b"\x04\x02\x03\x3d";
        assert_eq!(written(|out| put_came_row(out, &came)), [&b"\x01"[..], stored].concat());
        let of_record = record(&Record::GroupCame { group, from: user, row: came });
        assert_eq!(of_record, [&b"\x0d\x07\x08"[..], stored].concat());
        assert_eq!(written(|out| put_came(out, origin)), b"\x01\x04\x00");
        for (number, wants) in [Wants::All, Wants::Named, Wants::Nothing].into_iter().enumerate() {
            let of_record = record(&Record::GroupWants { group, user, wants: Some(wants) });
            assert_eq!(of_record, [0x12, 7, 8, 1, number as u8]);
            assert_eq!(written(|out| put_wants(out, wants.into())), [1, number as u8]);
        }
        assert_eq!(record(&Record::GroupWants { group, user, wants: None }), [0x12, 7, 8, 0]);
        let marks = GroupMarks { told: Seq(5) };
        assert_eq!(record(&Record::GroupMarks { group, marks, idle: true }), b"\x0e\x07\x05\x01");
        assert_eq!(written(|out| put_group_marks(out, marks)), b"\x01\x05");
        let standing = Standing::Banned;
        let row = StandingRow { standing, first: Seq(1), up_to: Seq(2), sent_up_to: Seq(3), at: Seq(4) };
        assert_eq!(written(|out| put_standing(out, row)), b"\x01\x04\x01\x02\x03\x04");
    }

    #[test]
    fn the_entries_of_a_user_about_groups_never_change() {
        let conversation = GroupId(7).into();
        let content = Content::text("a");
        let of = MessageName { author: UserId(8), seq: Seq(9) };
        let [first, up_to, sent_up_to] = [1, 2, 3].map(Seq);
        let events: [(Event, &[u8]); 6] = [
            (
                Event::Sent { to: conversation, device: DeviceId(2), number: SendNumber(3), content },
                b"\x0a\x07\x02\x03\x01\x01a",
            ),
            (
                Event::Group { group: GroupId(7), standing: Standing::Member, first, up_to, sent_up_to },
                b"\x0b\x07\x01\x01\x02\x03",
            ),
            (
                Event::GroupRefused { group: GroupId(7), origin: Seq(2), code: ErrorCode::GroupEnded },
                b"\x0c\x07\x02\x44",
            ),
            (Event::Read { conversation, up_to, unread: 4, told: Seq(5) }, b"\x0d\x07\x02\x04\x05"),
            (Event::Settings { conversation, settings: Settings::from_bits(6) }, b"\x0e\x07\x06"),
            (Event::Deleted { conversation, of, place: Seq(4), unread: 5 }, b"\x0f\x07\x08\x09\x04\x05"),
        ];
        for (event, stored) in events {
            let entry = Entry { seq: Seq(1), time: TimestampMs(1), event };
            assert_eq!(written(|out| put_timeline_entry(out, &entry)), [b"\x01\x01", stored].concat(), "{entry:?}");
        }
    }

    #[test]
    fn what_a_newer_version_says_of_a_member_is_the_least() {
        let row = group_member(&[1, 99, 99, 6, 0, 0, 0]).unwrap();
        assert_eq!((row.standing, row.role), (Standing::Unknown, Role::Member));
        assert_eq!(standing(&[1, 99, 1, 2, 3, 4]).unwrap().standing, Standing::Unknown);
    }
}
