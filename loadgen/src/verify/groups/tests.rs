use proto_spec::{Content, GroupPage, MessageName, RequestId, Standing, Stands, TimestampMs};

use super::*;
use crate::{draw::Draw, verify::kept::CHANGES_MAX};

const GROUP: GroupId = GroupId(77);
const OWNER: u32 = 0;
const FIRST: u32 = 1;
const SECOND: u32 = 2;
/// Another device of the first member.
const ANOTHER: u32 = 3;
const NOW_US: u64 = 1_000;
/// For how long messages can be edited, and taken back.
const WITHIN_S: [u64; 2] = [10, 20];

fn user(seat: u32) -> UserId {
    UserId(u64::from(if seat == ANOTHER { FIRST } else { seat }) + 10)
}

/// A group of an owner and two others, and a log of it that a server keeps as it should.
struct World {
    groups: Groups,
    log: Vec<GroupEntry>,
    /// The next seq of each user's own log.
    next: [u64; 3],
    messages: u64,
}

impl World {
    fn new() -> Self {
        Self::saying(None)
    }

    fn saying(lines: Option<Lines>) -> Self {
        let mut groups = Groups::new(5, StreamId(9), lines);
        let at = groups.add_group(GROUP);
        (0..3).for_each(|seat| groups.add_view(at, seat, user(seat)));
        Self { groups, log: Vec::new(), next: [1; 3], messages: 0 }
    }

    /// The owner has created it and added the others, and all were told.
    fn made() -> Self {
        Self::new().make()
    }

    fn make(mut self) -> Self {
        let world = &mut self;
        world.does(OWNER, Said::Create);
        world.does(OWNER, Said::Add(user(FIRST)));
        world.does(OWNER, Said::Add(user(SECOND)));
        world.push_all(OWNER);
        (2..=3).for_each(|seq| world.push(FIRST, seq).unwrap());
        world.push(SECOND, 3).unwrap();
        self
    }

    /// As `made`, with a second device of the first member.
    fn with_another() -> Self {
        let mut world = Self::new();
        world.groups.add_view(0, ANOTHER, user(ANOTHER));
        let mut world = world.make();
        (2..=3).for_each(|seq| world.push(ANOTHER, seq).unwrap());
        world
    }

    fn sends(&mut self, seat: u32, said: Said) -> (SentId, Seq) {
        let sent = self.groups.send(seat, 0, said, NOW_US, 0);
        let next = &mut self.next[if seat == ANOTHER { FIRST } else { seat } as usize];
        let origin = Seq(*next);
        *next += 1;
        (sent, origin)
    }

    /// Something is sent, accepted and numbered.
    fn does(&mut self, seat: u32, said: Said) -> u64 {
        let (sent, origin) = self.sends(seat, said);
        self.groups.accepted(sent, origin);
        self.number(sent, seat, origin)
    }

    fn number(&mut self, sent: SentId, seat: u32, origin: Seq) -> u64 {
        let (content, seq) = (self.groups.content(sent), Seq(self.log.len() as u64 + 1));
        let stands = content.about().map(|(MessageName { seq: place, .. }, _)| {
            let time = self.log[place.0 as usize - 1].time;
            Stands { place, time }
        });
        let content = content.standing(stands);
        self.messages += u64::from(content.is_message());
        self.log.push(GroupEntry {
            seq,
            time: TimestampMs(seq.0),
            from: user(seat),
            origin,
            messages: self.messages,
            content,
        });
        seq.0
    }

    fn writes(&mut self, seat: u32) -> u64 {
        self.does(seat, Said::Message(Text::Made(40)))
    }

    /// The message that stands there, which somebody was told of.
    fn message(&self, place: u64) -> SentId {
        self.groups.logs[0].known(Seq(place)).unwrap().sent.unwrap()
    }

    /// A change that is sent and not yet answered.
    fn change(&mut self, seat: u32, place: u64, change: Change) -> (SentId, Seq) {
        let said = self.groups.change(seat, self.message(place), change).unwrap();
        self.sends(seat, said)
    }

    /// A device changes the message that stands there.
    fn changes(&mut self, seat: u32, place: u64, change: Change) -> u64 {
        let (sent, origin) = self.change(seat, place, change);
        self.groups.accepted(sent, origin);
        self.number(sent, seat, origin)
    }

    /// A device asks for what it lacks from there on, and the page has these entries only.
    fn fetch(&mut self, seat: u32, from: u64, seqs: &[u64]) {
        let head = self.log.len() as u64;
        let page = self.page(seqs.iter().copied(), (from, head), false, head);
        let fetch = GroupFetch { group: GROUP, from: Seq(from), is_for_gap: true };
        self.groups.fetched(seat, &fetch, &page, NOW_US, 0).unwrap();
    }

    fn push(&mut self, seat: u32, seq: u64) -> Result<(), String> {
        let entry = self.log[seq as usize - 1].clone();
        self.groups.pushed(seat, GROUP, &entry, NOW_US + 5, 0).map(drop)
    }

    /// Everything from `first` on, to these.
    fn push_from(&mut self, seats: &[u32], first: u64) {
        for seat in seats {
            (first..=self.log.len() as u64).for_each(|seq| self.push(*seat, seq).unwrap());
        }
    }

    fn push_all(&mut self, seat: u32) {
        self.push_from(&[seat], 1);
    }

    fn page(&self, seqs: impl IntoIterator<Item = u64>, range: (u64, u64), more: bool, head: u64) -> GroupPage {
        let entries = seqs.into_iter().map(|seq| self.log[seq as usize - 1].clone()).collect();
        let (first, last) = (Seq(range.0), Seq(range.1));
        GroupPage { request: RequestId(1), group: GROUP, first, last, more, head: Seq(head), entries }
    }

    fn pointer(&mut self, seat: u32, standing: Standing, first: u64, up_to: u64) {
        let pointer = Pointer { standing, first: Some(Seq(first)), up_to: Seq(up_to) };
        self.groups.told(seat, GROUP, pointer).unwrap();
    }

    fn faults(&mut self) -> String {
        self.groups.check_finished(WITHIN_S).kept().join("; ")
    }

    #[track_caller]
    fn found_right(mut self) {
        assert_eq!((self.groups.under_way(), self.faults()), (0, String::new()));
    }

    #[track_caller]
    fn found_wrong(mut self, words: &str) {
        let faults = self.faults();
        assert!(faults.contains(words), "{faults}");
    }
}

#[test]
fn what_all_members_were_pushed_once_is_right() {
    let mut world = World::made();
    for seat in 0..3 {
        world.writes(seat);
    }
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    assert_eq!(world.groups.take_spreads(), [Spread { era: 0, first_us: 5, last_us: 5 }; 3]);
    assert_eq!(world.groups.take_spreads(), [], "each message counts once, however many lanes ask");
    world.found_right();
}

#[test]
fn who_has_no_entry_is_waited_for_and_then_named() {
    let mut world = World::made();
    world.writes(FIRST);
    world.push_from(&[OWNER, FIRST], 4);
    assert_eq!(world.groups.under_way(), 1);
    world.found_wrong("user 12 has [(3, 3)] of group 77, and [(3, 4)] is theirs");
}

#[test]
fn a_send_that_was_accepted_and_is_nowhere_is_named() {
    let mut world = World::made();
    let (sent, origin) = world.sends(FIRST, Said::Message(Text::Made(40)));
    assert_eq!(world.groups.under_way(), 1);
    world.groups.accepted(sent, origin);
    assert_eq!(world.groups.under_way(), 1);
    world.found_wrong("was accepted as 1, and is neither in the log nor refused");
}

#[test]
fn a_send_that_is_in_the_log_twice_is_named() {
    let mut world = World::made();
    let (sent, origin) = world.sends(FIRST, Said::Message(Text::Made(40)));
    world.groups.accepted(sent, origin);
    world.number(sent, FIRST, origin);
    world.number(sent, FIRST, origin);
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    world.found_wrong("is Numbered(Seq(5)), and is Numbered(Seq(4)) too");
}

#[test]
fn pushes_of_one_connection_ascend_and_those_of_the_next_may_begin_anew() {
    let mut world = World::made();
    world.writes(FIRST);
    world.push(SECOND, 4).unwrap();
    assert!(world.push(SECOND, 4).unwrap_err().contains("pushed after 4"));
    world.groups.connected(SECOND);
    world.push(SECOND, 4).unwrap();
    world.push_from(&[OWNER, FIRST], 4);
    world.found_right();
}

#[test]
fn two_members_who_are_told_otherwise_are_found() {
    let mut world = World::made();
    let (one, two) = (world.writes(FIRST), world.writes(SECOND));
    world.push_from(&[OWNER, FIRST], 4);
    let [mut first, mut second] = [one, two].map(|seq| world.log[seq as usize - 1].clone());
    std::mem::swap(&mut first.seq, &mut second.seq);
    world.log[3..].clone_from_slice(&[second, first]);
    world.push_from(&[SECOND], 4);
    world.found_wrong("for one member and");
}

#[test]
fn an_entry_with_another_text_or_author_or_name_is_found() {
    type Change = fn(&mut GroupEntry);
    let changes: [(Change, &str); 4] = [
        (|entry| entry.content = Content::text("something else"), "was accepted as 1, and is neither"),
        (|entry| entry.from = user(SECOND), "with another author or content"),
        (|entry| entry.origin = Seq(9), "but entry 4 names 9"),
        (|entry| entry.messages = 7, "says that it is message 7"),
    ];
    for (change, words) in changes {
        let mut world = World::made();
        world.writes(FIRST);
        change(&mut world.log[3]);
        world.push_from(&[OWNER, FIRST, SECOND], 4);
        world.found_wrong(words);
    }
}

#[test]
fn a_gap_is_fetched_and_what_came_meanwhile_is_had_once() {
    let mut world = World::made();
    for _ in 0..4 {
        world.writes(OWNER);
    }
    world.push_from(&[OWNER, FIRST], 4);
    world.push(SECOND, 6).unwrap();
    let fetch = world.groups.next_gap(SECOND).unwrap();
    assert_eq!((fetch.from, fetch.is_for_gap, world.groups.next_gap(SECOND)), (Seq(4), true, None));
    world.push(SECOND, 7).unwrap();
    let page = world.page(4..=5, (4, 5), true, 7);
    let came = world.groups.fetched(SECOND, &fetch, &page, NOW_US, 0).unwrap();
    assert!(came.iter().all(|came| came.is_new && came.intended_us == Some(NOW_US)));
    assert_eq!(world.groups.next_gap(SECOND), None, "what was pushed goes on from there");
    world.found_right();
}

#[test]
fn a_pointer_tells_of_a_gap_and_who_is_patient_does_not_ask() {
    let mut world = World::made();
    for _ in 0..2 {
        world.writes(OWNER);
    }
    world.push_from(&[OWNER, FIRST], 4);
    world.groups.set_patient(SECOND, true);
    assert!(!world.groups.knows_all(SECOND));
    world.pointer(SECOND, Standing::Member, 3, 5);
    assert!(world.groups.knows_all(SECOND) && world.groups.next_gap(SECOND).is_none());
    world.groups.set_patient(SECOND, false);
    let fetch = world.groups.next_gap(SECOND).unwrap();
    let page = world.page(4..=5, (4, 5), false, 5);
    world.groups.fetched(SECOND, &fetch, &page, NOW_US, 0).unwrap();
    world.found_right();
}

#[test]
fn a_page_that_is_no_answer_is_found() {
    let world = World::made();
    let fetch = GroupFetch { group: GROUP, from: Seq(2), is_for_gap: true };
    assert_eq!(fetch.check(&world.page(2..=3, (2, 3), false, 3)), Ok(()));
    for page in [
        world.page(2..=3, (1, 3), false, 3),
        world.page(2..=3, (2, 2), false, 3),
        world.page(2..=3, (2, 3), false, 2),
        world.page(2..=2, (2, 1), true, 3),
        GroupPage { group: GroupId(5), ..world.page(2..=3, (2, 3), false, 3) },
        GroupPage { entries: vec![world.log[2].clone(), world.log[1].clone()], ..world.page(2..=3, (2, 3), false, 3) },
    ] {
        assert!(fetch.check(&page).is_err(), "{page:?}");
    }
}

#[test]
fn who_is_removed_has_that_entry_as_the_last_and_goes_on_from_where_they_are_added() {
    let mut world = World::made();
    world.does(OWNER, Said::Remove(user(SECOND)));
    world.writes(OWNER);
    world.does(OWNER, Said::Add(user(SECOND)));
    world.writes(OWNER);
    world.push_from(&[OWNER, FIRST], 4);
    [4, 6, 7].into_iter().for_each(|seq| world.push(SECOND, seq).unwrap());
    assert_eq!(world.groups.next_gap(SECOND), None, "nothing between is theirs");
    world.pointer(SECOND, Standing::Member, 6, 7);
    world.found_right();
}

#[test]
fn what_comes_before_somebody_is_let_in_or_after_they_are_removed_is_found() {
    for leaked in [5, 1] {
        let mut world = World::made();
        world.does(OWNER, Said::Remove(user(SECOND)));
        world.writes(OWNER);
        world.push_from(&[OWNER, FIRST], 4);
        world.push(SECOND, 4).unwrap();
        world.groups.connected(SECOND);
        world.push(SECOND, leaked).unwrap();
        world.found_wrong("of group 77, and [(3, 4)] is theirs");
    }
}

#[test]
fn who_is_told_otherwise_how_they_stand_is_waited_for_and_then_named() {
    let mut world = World::made();
    world.pointer(SECOND, Standing::Member, 3, 3);
    world.does(OWNER, Said::Remove(user(SECOND)));
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    assert_eq!(world.groups.under_way(), 1);
    world.pointer(SECOND, Standing::Left, 3, 4);
    assert_eq!(world.groups.under_way(), 0);
    world.found_wrong("and is Removed from 3 on");
}

#[test]
fn an_entry_of_who_is_no_member_is_found() {
    let mut world = World::made();
    world.does(OWNER, Said::Remove(user(SECOND)));
    world.writes(SECOND);
    world.push_from(&[OWNER, FIRST], 4);
    world.push(SECOND, 4).unwrap();
    world.found_wrong("of user 12, member: false");
}

#[test]
fn a_refusal_is_right_if_it_was_so_between_the_entries_before_and_behind() {
    for (is_removed, code, is_right) in [
        (true, ErrorCode::NoSuchGroup, true),
        (true, ErrorCode::NotAllowed, false),
        (false, ErrorCode::NoSuchGroup, false),
    ] {
        let mut world = World::made();
        world.writes(SECOND);
        if is_removed {
            world.does(OWNER, Said::Remove(user(SECOND)));
            let (sent, origin) = world.sends(SECOND, Said::Message(Text::Made(40)));
            world.groups.accepted(sent, origin);
            world.groups.refused(SECOND, GROUP, origin, code, NOW_US);
            world.does(OWNER, Said::Add(user(SECOND)));
        } else {
            let (sent, origin) = world.sends(SECOND, Said::Message(Text::Made(40)));
            // A retry is answered after its outcome is told.
            world.groups.refused(SECOND, GROUP, origin, code, NOW_US);
            world.groups.accepted(sent, origin);
        }
        world.writes(SECOND);
        world.push_from(&[OWNER, FIRST, SECOND], 4);
        if is_right {
            world.found_right();
        } else {
            world.found_wrong("was refused as");
        }
    }
}

#[test]
fn acts_that_meet_are_rightly_refused_and_others_wrongly() {
    let refuse = |said, code| {
        let mut world = World::made();
        let (sent, origin) = world.sends(OWNER, said);
        world.groups.accepted(sent, origin);
        world.groups.refused(OWNER, GROUP, origin, code, NOW_US);
        world.faults()
    };
    assert_eq!(refuse(Said::Add(user(FIRST)), ErrorCode::MemberAlready), "");
    assert_eq!(refuse(Said::Remove(UserId(99)), ErrorCode::NoSuchMember), "");
    assert!(refuse(Said::Add(UserId(99)), ErrorCode::MemberAlready).contains("was refused as"));
    assert!(refuse(Said::Remove(user(FIRST)), ErrorCode::NoSuchMember).contains("was refused as"));
}

#[test]
fn the_order_in_which_an_author_sent_is_that_of_the_log() {
    let mut world = World::made();
    let sends: Vec<_> = (0..2).map(|_| world.sends(FIRST, Said::Message(Text::Made(40)))).collect();
    for (sent, origin) in sends.iter().rev() {
        world.groups.accepted(*sent, *origin);
        world.number(*sent, FIRST, *origin);
    }
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    world.found_wrong("of user 11 is entry 4, behind 5");
}

#[test]
fn what_is_read_in_the_end_is_what_came() {
    let mut world = World::made();
    world.writes(FIRST);
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    world.groups.check_read(SECOND, &[world.page(3..=4, (1, 4), false, 4)]);
    assert_eq!(world.groups.take_faults().count(), 0);
    for page in [world.page(2..=4, (1, 4), false, 4), world.page(3..=3, (1, 4), false, 4)] {
        world.groups.check_read(SECOND, &[page]);
        assert_eq!(world.groups.take_faults().count(), 1);
    }
}

#[test]
fn an_act_may_be_told_before_its_author_is_answered() {
    let mut world = World::made();
    let (sent, origin) = world.sends(OWNER, Said::Remove(user(FIRST)));
    world.number(sent, OWNER, origin);
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    assert_eq!(world.groups.under_way(), 1);
    world.groups.accepted(sent, origin);
    world.found_right();
}

#[test]
fn each_device_of_a_member_must_have_what_is_theirs_whichever_wrote_it() {
    for is_whole in [true, false] {
        let mut world = World::with_another();
        world.writes(ANOTHER);
        world.writes(FIRST);
        world.push_from(&[OWNER, FIRST, SECOND], 4);
        assert_eq!(world.groups.under_way(), 2);
        if is_whole {
            world.push_from(&[ANOTHER], 4);
            world.found_right();
        } else {
            world.found_wrong("user 11 has [(2, 3)] of group 77, and [(2, 5)] is theirs");
        }
    }
}

#[test]
fn a_refusal_is_told_once_to_each_device_of_its_author_and_alike() {
    type Tell = fn(&mut World, Seq);
    let code = ErrorCode::NoSuchGroup;
    let told: [(Tell, &str); 3] = [
        (|world, origin| world.groups.refused(ANOTHER, GROUP, origin, ErrorCode::NoSuchGroup, NOW_US), ""),
        (
            |world, origin| world.groups.refused(FIRST, GROUP, origin, ErrorCode::NoSuchGroup, NOW_US),
            "seq 1 of user 11 was refused",
        ),
        (|world, origin| world.groups.refused(ANOTHER, GROUP, origin, ErrorCode::Banned, NOW_US), "banned, after"),
    ];
    for (tell, words) in told {
        let mut world = World::with_another();
        world.does(OWNER, Said::Remove(user(FIRST)));
        world.push_from(&[OWNER, FIRST, SECOND, ANOTHER], 4);
        let (sent, origin) = world.sends(ANOTHER, Said::Message(Text::Made(40)));
        world.groups.accepted(sent, origin);
        world.groups.refused(FIRST, GROUP, origin, code, NOW_US);
        tell(&mut world, origin);
        if words.is_empty() {
            world.found_right();
        } else {
            world.found_wrong(words);
        }
    }
}

#[test]
fn lines_of_a_trace_are_told_apart_by_the_answers_to_their_authors_whatever_they_say() {
    let mut label = String::new();
    Label { run: 5, stream: StreamId(9), index: 1 }.write(40, &mut label);
    let lines: Lines = vec!["hi".into(), "hi".into(), label.into_boxed_str()].into();
    let say = |world: &mut World, line: u32| world.sends(FIRST, Said::Message(Text::Line(line)));
    let mut world = World::saying(Some(Lines::clone(&lines))).make();
    for line in 0..3 {
        let (sent, origin) = say(&mut world, line);
        // One is told before its author is answered.
        if line == 1 {
            world.number(sent, FIRST, origin);
            world.push_from(&[OWNER, FIRST, SECOND], 5);
            assert_eq!((world.groups.waiting(), world.groups.take_arrivals()), (1, vec![]));
            world.groups.accepted(sent, origin);
            let arrival = Arrival { intended_us: NOW_US, at_us: NOW_US + 5, ready_us: 0 };
            assert_eq!(world.groups.take_arrivals(), [arrival; 3], "what it took is known now");
        } else {
            world.groups.accepted(sent, origin);
            world.number(sent, FIRST, origin);
            world.push_from(&[OWNER, FIRST, SECOND], world.log.len() as u64);
        }
    }
    assert_eq!(world.groups.take_spreads(), [Spread { era: 0, first_us: 5, last_us: 5 }; 3]);
    world.found_right();

    let mut world = World::saying(Some(lines)).make();
    let (sent, origin) = say(&mut world, 2);
    world.groups.accepted(sent, origin);
    world.number(sent, FIRST, origin);
    world.log[3].content = Content::text("ha");
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    world.found_wrong("with another author or content");
}

#[test]
fn groups_of_earlier_runs_are_passed_over_unless_somebody_writes_there() {
    let mut world = World::made();
    let pointer = Pointer { standing: Standing::Member, first: Some(Seq(1)), up_to: Seq(9) };
    assert_eq!(world.groups.told(FIRST, GroupId(5), pointer), Ok(()));
    world.groups.refused(FIRST, GroupId(5), Seq(1), ErrorCode::GroupEnded, NOW_US);
    let entry = world.log[0].clone();
    assert!(world.groups.pushed(FIRST, GroupId(5), &entry, NOW_US, 0).unwrap_err().contains("not the user's"));
    assert!(world.groups.told(9, GROUP, pointer).unwrap_err().contains("not the user's"));
    world.found_right();
}

/// A message of the first member, which all have.
fn written() -> World {
    let mut world = World::made();
    world.writes(FIRST);
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    world
}

const LIKE: Change = Change::React("+");

#[test]
fn what_is_said_of_a_message_later_is_an_entry_that_all_must_have_and_the_last_one_is_read() {
    let mut world = written();
    let seqs = [
        world.changes(SECOND, 4, LIKE),
        world.changes(FIRST, 4, Change::Edit),
        world.changes(SECOND, 4, Change::React("")),
        world.changes(FIRST, 4, Change::Edit),
    ];
    world.push_from(&[OWNER], 5);
    assert_eq!((seqs, world.groups.under_way()), ([5, 6, 7, 8], 2 * 2), "the first two are superseded");
    world.push_from(&[FIRST, SECOND], 5);
    let mut read = |seqs: &[u64]| {
        let page = world.page(seqs.iter().copied(), (1, 8), false, 8);
        world.groups.check_read(SECOND, &[page]);
        world.groups.take_faults().kept().join("; ")
    };
    assert_eq!(read(&[3, 7, 8]), "");
    // What was superseded is shown, or what counts is not.
    for wrong in [&[3, 4, 7, 8][..], &[3, 5, 7, 8], &[3, 8], &[3, 7]] {
        assert!(read(wrong).contains("in its pages, and came to user 12 as [(3, 3), (7, 8)]"), "{wrong:?}");
    }
    world.found_right();
}

#[test]
fn a_message_that_is_taken_back_takes_its_reactions_with_it() {
    let mut world = written();
    world.changes(SECOND, 4, LIKE);
    world.changes(OWNER, 4, LIKE);
    world.push_from(&[OWNER, FIRST], 5);
    world.changes(FIRST, 4, Change::Unsend);
    world.push_from(&[OWNER, FIRST], 7);
    assert_eq!(world.groups.under_way(), 1, "the last entry is all that the second member lacks");
    world.fetch(SECOND, 5, &[7]);
    assert!(world.groups.change(SECOND, world.message(4), LIKE).is_none());
    world.found_right();
}

#[test]
fn who_did_not_get_what_counts_is_waited_for_and_then_named() {
    for (change, words) in [(Change::Edit, "[(3, 3), (5, 5)] is theirs"), (LIKE, "[(3, 5)] is theirs")] {
        let mut world = World::made();
        world.writes(FIRST);
        world.push_from(&[OWNER, FIRST], 4);
        world.changes(FIRST, 4, change);
        world.push_from(&[OWNER, FIRST], 5);
        assert!(world.groups.under_way() > 0);
        world.found_wrong(&format!("user 12 has [(3, 3)] of group 77, and {words}"));
    }
}

#[test]
fn a_change_that_comes_otherwise_than_it_was_said_is_found() {
    type Tamper = fn(&mut GroupEntry);
    let tamperings: [(Change, Tamper, &str); 6] = [
        (
            Change::Edit,
            |entry| {
                let of = MessageName { author: UserId(11), seq: Seq(4) };
                let stands = entry.content.about().unwrap().1;
                entry.content = Content::edit(of, &Content::text("something else"), stands);
            },
            "with another author or content",
        ),
        // The place, or the time of the message, is another one.
        (
            Change::Unsend,
            |entry| entry.content = entry.content.standing(Some(Stands { place: Seq(3), time: TimestampMs(4) })),
            "with another author or content",
        ),
        (
            LIKE,
            |entry| entry.content = entry.content.standing(Some(Stands { place: Seq(4), time: TimestampMs(5) })),
            "with another author or content",
        ),
        (Change::Edit, |entry| entry.content = entry.content.standing(None), "with another author or content"),
        // It is somebody else's.
        (LIKE, |entry| entry.from = user(SECOND), "and was never accepted"),
        (Change::Edit, |entry| entry.messages += 1, "says that it is message 2"),
    ];
    for (change, tamper, words) in tamperings {
        let mut world = written();
        world.changes(FIRST, 4, change);
        tamper(&mut world.log[4]);
        world.push_from(&[OWNER, FIRST, SECOND], 5);
        world.found_wrong(words);
    }
}

#[test]
fn a_change_that_is_in_the_log_twice_or_comes_to_one_member_otherwise_is_found() {
    let mut world = written();
    let (sent, origin) = world.change(FIRST, 4, Change::Edit);
    world.groups.accepted(sent, origin);
    world.number(sent, FIRST, origin);
    world.number(sent, FIRST, origin);
    world.push_from(&[OWNER, FIRST, SECOND], 5);
    world.found_wrong("was never accepted");

    let mut world = written();
    world.changes(FIRST, 4, LIKE);
    world.push_from(&[OWNER, FIRST], 5);
    world.log[4].content = Content::reaction(MessageName { author: user(FIRST), seq: Seq(4) }, "-", None);
    world.push_from(&[SECOND], 5);
    world.found_wrong("for one member and");
}

#[test]
fn a_page_without_an_entry_that_nothing_has_superseded_is_found() {
    // A message that was not edited; a reaction, after which somebody else reacted; an edit of another message.
    for left_out in [4, 5, 7] {
        let mut world = World::made();
        world.writes(FIRST);
        world.push_from(&[OWNER, FIRST], 4);
        world.changes(FIRST, 4, LIKE);
        world.changes(OWNER, 4, LIKE);
        world.push_from(&[OWNER, FIRST], 5);
        world.changes(FIRST, 4, Change::React(""));
        world.writes(FIRST);
        world.push_from(&[OWNER, FIRST], 7);
        let all: Vec<u64> = (4..=8).filter(|seq| *seq != 5 && *seq != left_out).collect();
        world.fetch(SECOND, 4, &all);
        if left_out == 5 {
            world.found_right();
        } else {
            world.found_wrong("is theirs");
        }
    }
}

#[test]
fn a_change_of_which_nobody_was_told_must_have_been_superseded() {
    for (second, is_right) in [(Change::React(""), true), (Change::Edit, false)] {
        let mut world = written();
        world.changes(FIRST, 4, LIKE);
        world.changes(FIRST, 4, second);
        assert_eq!(world.groups.waiting(), 2);
        for seat in [OWNER, FIRST, SECOND] {
            world.fetch(seat, 5, &[6]);
        }
        assert_eq!((world.groups.waiting(), world.groups.under_way()), (1, 0));
        if is_right {
            world.found_right();
        } else {
            world.found_wrong("nobody was told of entry 5 of group 77");
        }
    }
}

#[test]
fn changes_of_which_nobody_was_told_keep_the_order_of_their_author() {
    let mut world = written();
    for _ in 0..2 {
        world.changes(FIRST, 4, LIKE);
        world.changes(SECOND, 4, LIKE);
    }
    world.changes(SECOND, 4, Change::React(""));
    world.writes(FIRST);
    world.changes(FIRST, 4, Change::Unsend);
    for seat in [OWNER, FIRST, SECOND] {
        world.fetch(seat, 5, &[10, 11]);
    }
    assert_eq!((world.groups.waiting(), world.groups.under_way()), (5, 0));
    world.found_right();

    // One that its author sent behind what is known can not be in front of it.
    let mut world = written();
    let (sent, origin) = world.change(FIRST, 4, LIKE);
    let own = world.sends(FIRST, Said::Message(Text::Made(40)));
    world.groups.accepted(own.0, own.1);
    world.groups.accepted(sent, Seq(own.1.0 + 1));
    world.next[FIRST as usize] += 1;
    world.number(sent, FIRST, origin);
    world.number(own.0, FIRST, own.1);
    world.changes(FIRST, 4, Change::React(""));
    for seat in [OWNER, FIRST, SECOND] {
        world.fetch(seat, 5, &[6, 7]);
    }
    world.found_wrong("nobody was told of entry 5 of group 77");
}

#[test]
fn a_page_may_overtake_a_push_of_what_is_not_in_it_any_more() {
    let mut world = written();
    world.changes(FIRST, 4, LIKE);
    world.changes(FIRST, 4, Change::React(""));
    world.fetch(SECOND, 5, &[6]);
    world.push_from(&[OWNER, FIRST], 5);
    assert_eq!((world.groups.waiting(), world.groups.under_way()), (0, 0));
    world.found_right();
}

#[test]
fn nothing_is_said_of_a_message_that_was_taken_back() {
    let mut world = written();
    let (sent, origin) = world.change(SECOND, 4, LIKE);
    world.changes(FIRST, 4, Change::Unsend);
    world.groups.accepted(sent, origin);
    world.number(sent, SECOND, origin);
    world.push_from(&[OWNER, FIRST, SECOND], 5);
    world.found_wrong("entry 6 of group 77 changes entry 4, which was taken back as entry 5");
}

#[test]
fn a_change_is_refused_for_a_reason() {
    let refuse = |is_taken_back: bool, change, code, after_s: u64| {
        let mut world = written();
        let (sent, origin) = world.change(FIRST, 4, change);
        world.groups.accepted(sent, origin);
        if is_taken_back {
            world.changes(FIRST, 4, Change::Unsend);
            world.push_from(&[OWNER, FIRST, SECOND], 5);
        }
        world.groups.refused(FIRST, GROUP, origin, code, NOW_US + after_s * 1_000_000);
        world.faults()
    };
    assert_eq!(refuse(false, Change::Edit, ErrorCode::TooLate, WITHIN_S[0]), "");
    assert_eq!(refuse(false, Change::Unsend, ErrorCode::TooLate, WITHIN_S[1]), "");
    for (is_taken_back, change, code, after_s) in [
        (false, Change::Edit, ErrorCode::TooLate, WITHIN_S[0] - 1),
        (false, Change::Unsend, ErrorCode::TooLate, WITHIN_S[0]),
        (false, LIKE, ErrorCode::TooLate, 100),
        (false, LIKE, ErrorCode::TakenBack, 0),
        // Its author took the message back behind it.
        (true, LIKE, ErrorCode::TakenBack, 0),
        (false, Change::Edit, ErrorCode::NoSuchMessage, 0),
        (false, Change::Edit, ErrorCode::NotTheAuthor, 0),
    ] {
        let faults = refuse(is_taken_back, change, code, after_s);
        assert!(faults.contains("was refused as"), "{change:?}, {code:?}: {faults}");
    }
    let mut world = written();
    let (sent, origin) = world.change(SECOND, 4, LIKE);
    world.changes(FIRST, 4, Change::Unsend);
    world.groups.accepted(sent, origin);
    world.groups.refused(SECOND, GROUP, origin, ErrorCode::TakenBack, NOW_US);
    world.push_from(&[OWNER, FIRST, SECOND], 5);
    world.found_right();
}

#[test]
fn only_an_author_edits_and_takes_back_and_only_what_a_device_has_is_changed() {
    let mut world = World::with_another();
    world.writes(FIRST);
    world.push_from(&[FIRST], 4);
    let message = world.message(4);
    let may = |seat, change| world.groups.change(seat, message, change).is_some();
    assert!(may(FIRST, Change::Edit) && may(FIRST, LIKE));
    assert!(!may(ANOTHER, Change::Edit) && !may(SECOND, LIKE), "these do not have it");
    world.push_from(&[OWNER, SECOND, ANOTHER], 4);
    let may = |seat, change| world.groups.change(seat, message, change).is_some();
    assert!(may(ANOTHER, Change::Unsend) && may(SECOND, LIKE) && !may(SECOND, Change::Edit));
    for _ in 0..CHANGES_MAX {
        world.changes(ANOTHER, 4, Change::Edit);
    }
    assert!(world.groups.change(FIRST, message, Change::Edit).is_none(), "enough was said about it");
    world.push_from(&[OWNER, FIRST, SECOND, ANOTHER], 5);
    world.found_right();
}

#[test]
fn an_answer_names_what_it_answers_and_is_edited_as_one() {
    let mut world = written();
    world.does(SECOND, Said::Reply(Text::Made(40), world.message(4)));
    world.push_from(&[OWNER, FIRST, SECOND], 5);
    let Ok(proto_spec::Body::Reply(reply)) = world.log[4].content.body() else { panic!("no answer") };
    assert_eq!(reply.to, MessageName { author: user(FIRST), seq: Seq(4) });
    assert_eq!(reply.quote.as_bytes(), &text_of(&world.log[3].content)[..reply.quote.len()]);
    world.changes(SECOND, 5, Change::Edit);
    world.push_from(&[OWNER, FIRST, SECOND], 6);
    let Ok(proto_spec::Body::Edit(edit)) = world.log[5].content.body() else { panic!("no edit") };
    let Content::Reply(_) = edit.content() else { panic!("an edit of another kind") };
    let mut draw = Draw::new(1);
    let drawn: HashSet<_> = (0..100).filter_map(|_| world.groups.some_message(0, &mut draw)).collect();
    assert_eq!(drawn, HashSet::from([world.message(4), world.message(5)]));
    world.found_right();

    let mut world = written();
    world.does(SECOND, Said::Reply(Text::Made(40), world.message(4)));
    world.log[4].content = Content::text(std::str::from_utf8(text_of(&world.log[4].content)).unwrap());
    world.push_from(&[OWNER, FIRST, SECOND], 5);
    world.found_wrong("with another author or content");
}

#[test]
fn lines_of_a_trace_are_changed_and_answered_too() {
    let lines: Lines = vec!["hi".into(), "hi".into()].into();
    let mut world = World::saying(Some(lines)).make();
    world.does(FIRST, Said::Message(Text::Line(0)));
    world.push_from(&[OWNER, FIRST, SECOND], 4);
    world.does(SECOND, Said::Reply(Text::Line(1), world.message(4)));
    let (sent, origin) = world.change(FIRST, 4, Change::Edit);
    world.number(sent, FIRST, origin);
    world.push_from(&[OWNER, FIRST, SECOND], 5);
    assert_eq!(world.groups.under_way(), 1, "its author is not answered yet");
    world.groups.accepted(sent, origin);
    world.found_right();
}
