use proto_spec::{GroupPage, RequestId, Standing, TimestampMs};

use super::*;

const GROUP: GroupId = GroupId(77);
const OWNER: u32 = 0;
const FIRST: u32 = 1;
const SECOND: u32 = 2;
/// Another device of the first member.
const ANOTHER: u32 = 3;
const NOW_US: u64 = 1_000;

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

    fn page(&self, seqs: std::ops::RangeInclusive<u64>, range: (u64, u64), more: bool, head: u64) -> GroupPage {
        let entries = seqs.map(|seq| self.log[seq as usize - 1].clone()).collect();
        let (first, last) = (Seq(range.0), Seq(range.1));
        GroupPage { request: RequestId(1), group: GROUP, first, last, more, head: Seq(head), entries }
    }

    fn pointer(&mut self, seat: u32, standing: Standing, first: u64, up_to: u64) {
        let pointer = Pointer { standing, first: Some(Seq(first)), up_to: Seq(up_to) };
        self.groups.told(seat, GROUP, pointer).unwrap();
    }

    fn faults(&mut self) -> String {
        self.groups.check_finished().kept().join("; ")
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
            world.groups.refused(SECOND, GROUP, origin, code);
            world.does(OWNER, Said::Add(user(SECOND)));
        } else {
            let (sent, origin) = world.sends(SECOND, Said::Message(Text::Made(40)));
            // A retry is answered after its outcome is told.
            world.groups.refused(SECOND, GROUP, origin, code);
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
        world.groups.refused(OWNER, GROUP, origin, code);
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
        (|world, origin| world.groups.refused(ANOTHER, GROUP, origin, ErrorCode::NoSuchGroup), ""),
        (
            |world, origin| world.groups.refused(FIRST, GROUP, origin, ErrorCode::NoSuchGroup),
            "seq 1 of user 11 was refused",
        ),
        (|world, origin| world.groups.refused(ANOTHER, GROUP, origin, ErrorCode::Banned), "banned, after"),
    ];
    for (tell, words) in told {
        let mut world = World::with_another();
        world.does(OWNER, Said::Remove(user(FIRST)));
        world.push_from(&[OWNER, FIRST, SECOND, ANOTHER], 4);
        let (sent, origin) = world.sends(ANOTHER, Said::Message(Text::Made(40)));
        world.groups.accepted(sent, origin);
        world.groups.refused(FIRST, GROUP, origin, code);
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
    world.groups.refused(FIRST, GroupId(5), Seq(1), ErrorCode::GroupEnded);
    let entry = world.log[0].clone();
    assert!(world.groups.pushed(FIRST, GroupId(5), &entry, NOW_US, 0).unwrap_err().contains("not the user's"));
    assert!(world.groups.told(9, GROUP, pointer).unwrap_err().contains("not the user's"));
    world.found_right();
}
