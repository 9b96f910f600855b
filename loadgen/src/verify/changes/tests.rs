use proto_spec::{
    ConversationId, DeviceId, Direction, Entry, Inbox, InboxRow, Page, RequestId, SendNumber, Stands, TimestampMs,
};

use super::*;
use crate::verify::{Crew, HistoryCheck, ListCheck, Text, text::QUOTE_BYTES};

const A: UserId = UserId(7);
const B: UserId = UserId(8);
const KEPT: KeptId = KeptId(0);

/// User 7 (seats 0 and 1) writes to user 8 (seats 2 and 3). In each log the entries are numbered as they come.
struct World {
    ledger: Ledger,
    stream: StreamId,
    digests: [Digest; 4],
    /// The last seq of each log.
    heads: [u64; 2],
}

impl World {
    /// With one message, which all devices have.
    fn new() -> Self {
        let mut world = Self::empty();
        world.send();
        world.arrive(0, &[1, 2, 3]);
        world
    }

    fn empty() -> Self {
        let mut crew = Crew::default();
        let (a, b) = (crew.add(A, 2), crew.add(B, 2));
        let mut ledger = Ledger::new(5, 3, crew, None);
        ledger.change_messages();
        let stream = ledger.open(a, b);
        Self { ledger, stream, digests: [Digest::default(); 4], heads: [0; 2] }
    }

    fn written() -> Written {
        Written::text(Text::Made(40))
    }

    /// The next message is sent and accepted.
    fn send(&mut self) {
        let index = self.ledger.send(self.stream, 0, &Self::written());
        self.heads[0] += 1;
        self.ledger.accepted(self.stream, index, Seq(self.heads[0]), &mut self.digests[0]);
    }

    /// A message, which has the same seq in both logs, comes to these devices.
    fn arrive(&mut self, index: u64, seats: &[u32]) {
        let content = self.ledger.content(self.stream, index, &Self::written());
        let seq = Seq(index + 1);
        self.heads[1] = self.heads[1].max(seq.0);
        for seat in seats {
            let digest = &mut self.digests[*seat as usize];
            if *seat == 1 {
                let number = (DeviceId(1), SendNumber(index + 1));
                self.ledger.copied(1, seq, B, number, &content, digest);
            } else {
                self.ledger.received(*seat, seq, A, seq, &content, digest);
            }
        }
    }

    /// A device changes the first message, and that is accepted; gives the change, and its seq.
    fn change(&mut self, seat: u32, change: Change) -> (u8, u8, Seq) {
        let (side, which) = self.ledger.change(KEPT, seat, change).unwrap();
        self.heads[usize::from(side)] += 1;
        let seq = Seq(self.heads[usize::from(side)]);
        self.ledger.change_accepted(seat, KEPT, which, seq, &mut self.digests[seat as usize]);
        (side, which, seq)
    }

    /// A change comes to a device as this entry.
    fn tell(&mut self, seat: u32, seq: u64, (side, which, origin): (u8, u8, Seq)) {
        let head = &mut self.heads[seat as usize / 2];
        *head = seq.max(*head);
        let content = self.ledger.change_content(KEPT, which);
        let stands = Stands { place: Seq(1), time: TimestampMs(1) };
        let by = if side == 0 { A } else { B };
        let content = content.standing(Some(stands));
        self.ledger.changed(seat, (Seq(seq), origin), by, &content, &mut self.digests[seat as usize]);
    }

    fn deleted(&mut self, seat: u32, seq: u64) {
        let event = Event::Deleted {
            conversation: if seat < 2 { B.into() } else { A.into() },
            of: MessageName { author: A, seq: Seq(1) },
            place: Seq(1),
            unread: 0,
        };
        self.ledger.marked(seat, Seq(seq), &event, &mut self.digests[seat as usize]);
    }

    fn read(&mut self, seat: u32, seq: u64, up_to: u64) {
        let (up_to, told) = (Seq(up_to), Seq(up_to));
        let event = Event::Read { conversation: A.into(), up_to, unread: 0, told };
        self.ledger.marked(seat, Seq(seq), &event, &mut self.digests[seat as usize]);
    }

    fn seen(&mut self, seat: u32, seq: u64, up_to: u64) {
        let event = Event::Seen { peer: B, up_to: Seq(up_to) };
        self.ledger.marked(seat, Seq(seq), &event, &mut self.digests[seat as usize]);
    }

    /// What is wrong at the end.
    fn faults(mut self) -> Vec<String> {
        self.ledger.check_finished();
        self.ledger.faults.kept().to_vec()
    }

    /// All is with everybody, and nothing is wrong.
    #[track_caller]
    fn check_settled(self) {
        assert_eq!(self.ledger.under_way(), 0, "{:?}", self.faults());
        assert_eq!((self.digests[0], self.digests[2]), (self.digests[1], self.digests[3]));
        assert_eq!(self.faults(), [""; 0]);
    }
}

/// What must be among the faults of a world.
#[track_caller]
fn found(world: World, words: &str) {
    let faults = world.faults();
    assert!(faults.iter().any(|fault| fault.contains(words)), "no `{words}` in {faults:#?}");
}

#[test]
fn changes_that_reach_all_devices_are_settled_whatever_they_were_told_on_the_way() {
    let mut world = World::new();
    let first = world.change(0, Change::Edit);
    let second = world.change(1, Change::Edit);
    let reaction = world.change(2, Change::React("+"));
    assert_eq!(world.ledger.under_way(), 1);
    // One device gets both edits, the others the last one only.
    world.tell(2, 2, first);
    world.tell(2, 3, second);
    world.tell(3, 3, second);
    world.tell(0, 3, second);
    [0, 1].into_iter().for_each(|seat| world.tell(seat, 4, reaction));
    // Where it was made, it is entry 2 of that log; as said by `accepted`.
    world.tell(3, reaction.2.0, reaction);
    world.check_settled();
}

#[test]
fn a_lost_edit_is_found_with_whom_it_did_not_reach() {
    let mut world = World::new();
    let edit = world.change(0, Change::Edit);
    world.tell(1, 2, edit);
    world.tell(2, 2, edit);
    assert_eq!(world.ledger.under_way(), 1);
    found(world, "user 8 device 2 was told what it said at first, not edit 1");
}

#[test]
fn an_edit_that_is_shown_twice_or_by_nobody_or_elsewhere_is_found() {
    let mut twice = World::new();
    let edit = twice.change(0, Change::Edit);
    twice.tell(2, 2, edit);
    twice.tell(2, 3, edit);
    found(twice, "edit 1 came to user 8 device 1 as entry 3 and was told as entry 2 before");
    let mut other = World::new();
    let (side, which, _) = other.change(0, Change::Edit);
    other.tell(2, 2, (side, which, Seq(9)));
    found(other, "entry 2 says of message 1 of user 7 what user 7 has not said as 9");
    let mut first = World::new();
    let (side, which) = first.ledger.change(KEPT, 0, Change::Edit).unwrap();
    first.tell(2, 2, (side, which, Seq(2)));
    first.ledger.change_accepted(0, KEPT, which, Seq(3), &mut first.digests[0]);
    found(first, "edit 1 was accepted as 3 and was told as entry 2");
    let mut elsewhere = World::new();
    let edit = elsewhere.change(0, Change::Edit);
    elsewhere.ledger.keep.kept[0].sides[1].place = Seq(9);
    elsewhere.tell(2, 2, edit);
    found(elsewhere, "says that the message stands at 1, where it was 9");
}

#[test]
fn an_earlier_edit_must_give_way_to_a_later_one() {
    let mut world = World::new();
    let first = world.change(0, Change::Edit);
    world.change(0, Change::Edit);
    [2, 3].into_iter().for_each(|seat| world.tell(seat, 2, first));
    found(world, "user 8 device 1 was told edit 1, not edit 2");
}

#[test]
fn a_message_may_come_as_its_edit_alone_and_must_not_come_after_it() {
    let mut world = World::empty();
    (0..2).for_each(|_| world.send());
    world.arrive(0, &[1, 2]);
    let edit = world.change(0, Change::Edit);
    world.tell(1, 3, edit);
    world.arrive(1, &[1, 2, 3]);
    assert!(world.ledger.faults.kept().is_empty(), "{:?}", world.ledger.faults);
    world.tell(2, 3, edit);
    world.tell(3, 3, edit);
    assert_eq!(world.ledger.under_way(), 0);
    let mut again = world;
    again.arrive(0, &[3]);
    found(again, "message 0 of user 7 device 1 to user 8 came twice or out of order");
}

#[test]
fn a_message_that_nothing_superseded_must_come_in_its_turn() {
    let mut world = World::empty();
    (0..2).for_each(|_| world.send());
    world.arrive(0, &[1, 2]);
    world.change(2, Change::React("+"));
    world.arrive(1, &[3]);
    found(world, "but message 0 and 0 more before it did not");
}

#[test]
fn the_sender_may_learn_that_it_was_accepted_after_another_device_has_edited_it() {
    let mut world = World::empty();
    world.ledger.send(world.stream, 0, &World::written());
    world.heads = [1, 1];
    world.arrive(0, &[1, 2, 3]);
    let edit = world.change(1, Change::Edit);
    [0, 2, 3].into_iter().for_each(|seat| world.tell(seat, 2, edit));
    world.ledger.accepted(world.stream, 0, Seq(1), &mut world.digests[0]);
    world.check_settled();
}

#[test]
fn of_a_users_reactions_the_last_one_counts_and_each_comes_once() {
    let mut world = World::new();
    let first = world.change(2, Change::React("+"));
    let second = world.change(3, Change::React("-"));
    world.tell(2, 3, second);
    world.tell(0, 2, first);
    world.tell(0, 3, second);
    world.tell(1, 3, second);
    world.tell(0, 4, first);
    found(world, "the reaction + of user 8 came to user 7 device 1 as entry 4 and was told as entry 2 before");
}

#[test]
fn who_takes_a_message_back_takes_its_reactions_with_it() {
    let mut world = World::new();
    let reaction = world.change(2, Change::React("+"));
    world.tell(0, 2, reaction);
    let unsend = world.change(0, Change::Unsend);
    [1, 2, 3].into_iter().for_each(|seat| world.tell(seat, 3, unsend));
    assert_eq!(world.ledger.under_way(), 0);
    world.tell(1, 4, reaction);
    found(
        world,
        "the reaction + of user 8 came to user 7 device 2 as entry 4 and is of a message that was taken back there",
    );
}

#[test]
fn a_message_that_was_deleted_is_told_of_no_more_and_only_to_who_deleted_it() {
    let mut world = World::new();
    assert_eq!(world.ledger.delete(KEPT, 2), Some(Seq(1)));
    [2, 3].into_iter().for_each(|seat| world.deleted(seat, 2));
    assert_eq!(world.ledger.under_way(), 1);
    world.ledger.delete_answered(2, KEPT);
    let edit = world.change(0, Change::Edit);
    world.tell(1, 2, edit);
    assert_eq!(world.ledger.under_way(), 0);
    world.tell(2, 3, edit);
    found(world, "edit 1 came to user 8 device 1 as entry 3 and is of a message that was deleted there");
}

#[test]
fn a_deletion_that_is_lost_or_that_nobody_has_asked_for_is_found() {
    let mut lost = World::new();
    lost.ledger.delete(KEPT, 2);
    lost.ledger.delete_answered(2, KEPT);
    lost.deleted(2, 2);
    found(lost, "user 8 device 2 was told what it said at first, not that it was deleted");
    let mut unasked = World::new();
    unasked.deleted(0, 2);
    found(unasked, "was deleted, which nobody has asked for");
    let mut twice = World::new();
    twice.ledger.delete(KEPT, 2);
    [2, 3].into_iter().for_each(|seq| twice.deleted(2, seq));
    found(twice, "was deleted as entry 2 before");
}

#[test]
fn a_change_is_refused_only_for_a_reason() {
    let refused = |change: Change, code: ErrorCode, now_us: u64, prepare: fn(&mut World)| {
        let mut world = World::new();
        world.ledger.within_s = [10, 20];
        prepare(&mut world);
        let seat = if change == Change::React("+") { 2 } else { 0 };
        let (_, which) = world.ledger.change(KEPT, seat, change).unwrap();
        world.ledger.change_refused(KEPT, which, code, now_us);
        world.ledger.faults.kept().to_vec()
    };
    let nothing = |_: &mut World| {};
    let unsend = |world: &mut World| assert!(world.ledger.change(KEPT, 1, Change::Unsend).is_some());
    let delete = |world: &mut World| assert!(world.ledger.delete(KEPT, 1).is_some());
    assert_eq!(refused(Change::Edit, ErrorCode::TooLate, 10_000_000, nothing), [""; 0]);
    assert_eq!(refused(Change::Unsend, ErrorCode::TooLate, 20_000_000, nothing), [""; 0]);
    assert_eq!(refused(Change::Edit, ErrorCode::TakenBack, 0, unsend), [""; 0]);
    assert_eq!(refused(Change::React("+"), ErrorCode::TakenBack, 0, unsend), [""; 0]);
    assert_eq!(refused(Change::Edit, ErrorCode::NoSuchMessage, 0, delete), [""; 0]);
    for (change, code, now_us, prepare) in [
        (Change::Edit, ErrorCode::TooLate, 9_999_999, nothing as fn(&mut World)),
        (Change::Unsend, ErrorCode::TooLate, 19_999_999, nothing),
        (Change::React("+"), ErrorCode::TooLate, 99_000_000, nothing),
        (Change::Edit, ErrorCode::TakenBack, 0, nothing),
        (Change::Edit, ErrorCode::NoSuchMessage, 0, nothing),
        (Change::React("+"), ErrorCode::NoSuchMessage, 0, delete),
        (Change::Edit, ErrorCode::NotTheAuthor, 0, unsend),
        (Change::Edit, ErrorCode::OtherKind, 0, unsend),
    ] {
        let faults = refused(change, code, now_us, prepare);
        assert!(faults[0].contains("for which there is no reason"), "{change:?} {code:?}: {faults:?}");
    }
}

#[test]
fn marks_reach_all_devices_of_both_sides_and_go_up_only() {
    let marked = |tell: fn(&mut World)| {
        let mut world = World::new();
        world.ledger.read(2, 0, Seq(1));
        world.ledger.read_answered(2, A);
        tell(&mut world);
        world
    };
    marked(|world| {
        [2, 3].into_iter().for_each(|seat| world.read(seat, 2, 1));
        [0, 1].into_iter().for_each(|seat| world.seen(seat, 2, 1));
    })
    .check_settled();
    let lost = marked(|world| world.read(2, 2, 1));
    assert_eq!(lost.ledger.under_way(), 1);
    found(lost, "up to 1 (0 marks not answered): the devices were told 1, 0; those of user 7 were told 0, 0, not 1");
    found(marked(|world| world.read(2, 2, 5)), "though only 1 was asked for");
    found(marked(|world| [2, 3].into_iter().for_each(|seq| world.read(2, seq, 1))), "after 1");
    found(marked(|world| [2, 3].into_iter().for_each(|seq| world.seen(0, seq, 1))), "after 1");
    let mut unasked = World::new();
    unasked.seen(0, 2, 1);
    found(unasked, "though nobody has asked for that");
    let mut open = World::new();
    assert!(open.ledger.set(2, A, Settings::MUTED) && !open.ledger.set(2, A, Settings::PINNED));
    found(open, "settings of user 8 for user 7: never answered");
}

#[test]
fn who_answers_quotes_the_message_and_an_edit_of_an_answer_is_one() {
    let mut world = World::new();
    let answers = world.ledger.answered(KEPT, 2).map(Box::new);
    let (back, written) = (world.ledger.open(2, 0), Written { text: Text::Made(40), answers });
    let index = world.ledger.send(back, 0, &written);
    let content = world.ledger.content(back, index, &written);
    let Ok(Body::Reply(reply)) = content.body() else { panic!("{content:?}") };
    assert_eq!((reply.to, reply.quote.len()), (MessageName { author: A, seq: Seq(1) }, QUOTE_BYTES));
    world.ledger.accepted(back, index, Seq(2), &mut world.digests[2]);
    world.ledger.received(0, Seq(2), B, Seq(2), &content, &mut world.digests[0]);
    assert_eq!(world.ledger.faults.kept(), [""; 0]);
    let (_, which) = world.ledger.change(KeptId(1), 2, Change::Edit).unwrap();
    let edit = world.ledger.change_content(KeptId(1), which);
    let Ok(Body::Edit(edit)) = edit.body() else { panic!("{edit:?}") };
    assert!(matches!(edit.said(), Ok(Body::Reply(said)) if said.text.ends_with(" (edit 1)")), "{edit:?}");
}

// ---- what is read back

/// User 8 has three messages: the first was edited, user 8 has reacted to the second and read up to there. The fourth was taken back, and
/// the fifth is deleted.
struct Shown {
    history: Vec<Entry>,
    row: InboxRow,
    page: Vec<Entry>,
}

fn shown(change: impl FnOnce(&mut Shown)) -> Vec<String> {
    let mut world = World::empty();
    (0..5).for_each(|_| world.send());
    (0..5).for_each(|index| world.arrive(index, &[1, 2, 3]));
    let mut entries = Vec::new();
    let mut entry = |seq: u64, event: Event| {
        let entry = Entry { seq: Seq(seq), time: TimestampMs(1), event };
        entries.push(entry.clone());
        entry
    };
    let message = |world: &World, index: u64| {
        let content = world.ledger.content(world.stream, index, &World::written());
        Event::Received { from: A, origin: Seq(index + 1), content }
    };
    let about = |world: &mut World, id: u32, seat: u32, change: Change, seq: u64| {
        let (side, which) = world.ledger.change(KeptId(id), seat, change).unwrap();
        world.ledger.change_accepted(seat, KeptId(id), which, Seq(seq), &mut world.digests[seat as usize]);
        let to = world.ledger.changes_to(KeptId(id), side);
        let content = world.ledger.change_content(KeptId(id), which);
        let content = content.standing(Some(Stands { place: Seq(u64::from(id) + 1), time: TimestampMs(1) }));
        if side == 1 {
            return Event::Sent { to: to.into(), device: DeviceId(1), number: SendNumber(1), content };
        }
        world.ledger.changed(2, (Seq(seq), Seq(seq)), A, &content, &mut world.digests[2]);
        Event::Received { from: A, origin: Seq(seq), content }
    };
    let (second, third) = (entry(2, message(&world, 1)), entry(3, message(&world, 2)));
    let edit = entry(6, about(&mut world, 0, 0, Change::Edit, 6));
    let reaction = entry(7, about(&mut world, 1, 2, Change::React("+"), 7));
    let unsend = entry(8, about(&mut world, 3, 0, Change::Unsend, 8));
    world.ledger.delete(KeptId(4), 2);
    let of = MessageName { author: A, seq: Seq(5) };
    let gone = entry(9, Event::Deleted { conversation: A.into(), of, place: Seq(5), unread: 1 });
    world.ledger.read(2, 0, Seq(2));
    let read = entry(10, Event::Read { conversation: A.into(), up_to: Seq(2), unread: 1, told: Seq(2) });
    for entry in [&gone, &read] {
        world.ledger.marked(2, entry.seq, &entry.event, &mut world.digests[2]);
    }
    world.ledger.delete_answered(2, KeptId(4));
    let row = InboxRow {
        conversation: ConversationId::Person(A),
        settings: Settings::default(),
        unread: 1,
        read_up_to: Seq(2),
        delivered_up_to: Seq::ZERO,
        seen_up_to: Seq::ZERO,
        left_out: 0,
        last: unsend.clone(),
    };
    let mut shown = Shown { history: entries, row, page: vec![edit, second, reaction, third, unsend] };
    change(&mut shown);
    let Shown { history, row, page: entries } = shown;
    let mut check = HistoryCheck::new(2, Direction::Forwards);
    history.chunks(2).for_each(|page| check.take(&mut world.ledger, page));
    let standings = check.finish(&mut world.ledger, &world.digests[2]);
    let mut check = ListCheck::new(2, Seq::ZERO, standings);
    let rows = if row.unread == u64::MAX { Vec::new() } else { vec![row] };
    let inbox = Inbox { request: RequestId(1), at: Seq(10), more: false, rows };
    assert_eq!(check.take_inbox(&mut world.ledger, inbox), None);
    if check.next_talk().is_some() {
        let (first, last, delivered_up_to, seen_up_to) = (Seq(1), Seq(10), Seq::ZERO, Seq::ZERO);
        let page = Page { request: RequestId(1), first, last, more: false, entries, delivered_up_to, seen_up_to };
        assert!(!check.take_page(&mut world.ledger, &page));
        check.finish(&mut world.ledger);
    }
    world.ledger.faults.kept().to_vec()
}

#[test]
fn what_is_read_back_as_it_was_told_is_right() {
    assert_eq!(shown(|_| {}), [""; 0]);
}

#[test]
fn what_is_wrong_in_a_history_or_a_page_is_found() {
    let old = |index: u64| {
        let world = World::empty();
        let content = world.ledger.content(world.stream, index, &World::written());
        let event = Event::Received { from: A, origin: Seq(index + 1), content };
        Entry { seq: Seq(index + 1), time: TimestampMs(1), event }
    };
    let differs = |seq: u64| move |shown: &mut Shown| shown.history.retain(|entry| entry.seq != Seq(seq));
    for (what, faults, words) in [
        ("a lost edit", shown(differs(6)), "the history has 6 entries of this run, 7 were told"),
        ("a lost reaction", shown(differs(7)), "the history has 6 entries"),
        ("a lost deletion", shown(differs(9)), "the history has 6 entries"),
        ("a lost mark", shown(differs(10)), "the history has 6 entries"),
        ("what an edit superseded", shown(|s| s.history.insert(0, old(0))), "the history has 8 entries"),
        (
            "a text that was taken back",
            shown(|s| s.page[4] = old(3)),
            "message 3 of user 7 to user 8 (4) is shown with something else than that it was taken back, as entry 4",
        ),
        (
            "a deleted message",
            shown(|s| s.page.push(old(4))),
            "message 4 of user 7 to user 8 (5) is shown with something else than that it was deleted, as entry 5",
        ),
        ("the text before an edit", shown(|s| s.page[0] = old(0)), "is shown with something else than edit 1"),
        (
            "an edit twice",
            shown(|s| s.page.insert(1, s.page[0].clone())),
            "has 6 entries of this run in its pages, of 5 in the log",
        ),
        (
            "a reaction twice",
            shown(|s| {
                let again = Entry { seq: Seq(11), ..s.page[2].clone() };
                s.page.insert(3, again);
            }),
            "message 2 of user 7 has two reactions of user 8",
        ),
        (
            "a lost message",
            shown(|s| drop(s.page.remove(3))),
            "has 4 entries of this run in its pages, of 5 in the log",
        ),
    ] {
        assert!(faults.iter().any(|fault| fault.contains(words)), "{what}: {faults:#?}");
    }
}

#[test]
fn what_is_wrong_in_a_list_is_found() {
    for (what, faults, words) in [
        ("one more unread", shown(|s| s.row.unread = 2), "has 1 unread messages in its pages, but is listed with 2"),
        ("one less unread", shown(|s| s.row.unread = 0), "has 1 unread messages in its pages, but is listed with 0"),
        ("an old last message", shown(|s| s.row.last = s.page[3].clone()), "but is listed with"),
        ("another read mark", shown(|s| s.row.read_up_to = Seq(1)), "says read up to 1, not 2"),
        ("a lost row", shown(|s| s.row.unread = u64::MAX), "the conversation with user 7 is not listed"),
        ("a row from the future", shown(|s| s.row.last.seq = Seq(99)), "but is listed with"),
    ] {
        assert!(faults.iter().any(|fault| fault.contains(words)), "{what}: {faults:#?}");
    }
}

#[test]
fn what_the_other_side_has_read_and_how_a_conversation_is_kept_is_listed() {
    let listed = |seen: u64, settings: Settings| {
        let mut world = World::new();
        world.ledger.read(2, 0, Seq(1));
        world.read(2, 2, 1);
        world.seen(0, 2, 1);
        world.ledger.set(0, B, Settings::MUTED);
        let content = world.ledger.content(world.stream, 0, &World::written());
        let event = Event::Sent { to: B.into(), device: DeviceId(1), number: SendNumber(1), content };
        let row = InboxRow {
            conversation: ConversationId::Person(B),
            settings,
            unread: 0,
            read_up_to: Seq::ZERO,
            delivered_up_to: Seq::ZERO,
            seen_up_to: Seq(seen),
            left_out: 0,
            last: Entry { seq: Seq(1), time: TimestampMs(1), event },
        };
        let mut check = ListCheck::new(0, Seq::ZERO, crate::verify::Standings::default());
        let inbox = Inbox { request: RequestId(1), at: Seq(9), more: false, rows: vec![row] };
        check.take_inbox(&mut world.ledger, inbox);
        world.ledger.faults.kept().to_vec()
    };
    assert_eq!(listed(1, Settings::MUTED), [""; 0]);
    assert_eq!(listed(0, Settings::MUTED), ["user 7: the row of user 8 says seen up to 0, not 1"]);
    assert_eq!(listed(1, Settings::PINNED), ["user 7: the row of user 8 says settings 4, not 1"]);
}

#[test]
fn what_is_settled_makes_room_and_what_is_not_is_kept() {
    let mut world = World::empty();
    world.ledger.keep.max = 2;
    (0..2).for_each(|_| world.send());
    world.arrive(0, &[1, 2, 3]);
    let (side, which) = world.ledger.change(KEPT, 0, Change::Edit).unwrap();
    world.ledger.change_accepted(0, KEPT, which, Seq(30), &mut world.digests[0]);
    world.arrive(1, &[1, 2, 3]);
    (2..20).for_each(|index| {
        world.send();
        world.arrive(index, &[1, 2, 3]);
    });
    [1, 2, 3].into_iter().for_each(|seat| world.tell(seat, 30, (side, which, Seq(30))));
    assert_eq!((world.ledger.keep.kept.len(), world.ledger.keep.by_name.len()), (2, 2));
    world.check_settled();
}
