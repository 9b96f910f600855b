use super::*;

const DELAY_MS: u64 = 5_000;
const ANN: ConversationId = ConversationId::Person(UserId(7));

fn with(user: u64) -> ConversationId {
    UserId(user).into()
}

fn add(dues: &mut Dues, conversation: ConversationId, seq: u64, text: &str, due_ms: u64) {
    dues.add(conversation, (Seq(seq), Seq(seq), TimestampMs(seq)), Some(text.into()), (due_ms, DELAY_MS));
}

/// A provider takes the notice of a conversation, all of it that is known now.
fn tell(dues: &mut Dues, conversation: ConversationId, now_ms: u64) {
    let due = dues.get(conversation).unwrap();
    (due.offered, due.tells, due.is_told) = (due.last, due.last, true);
    dues.ended(conversation, (now_ms, DELAY_MS));
}

fn text(dues: &mut Dues, conversation: ConversationId) -> Option<String> {
    dues.get(conversation).unwrap().text.as_deref().map(str::to_owned)
}

fn message(seq: u64, from: u64) -> Entry {
    let event = Event::Received { from: UserId(from), origin: Seq(seq), content: Content::text("x") };
    Entry { seq: Seq(seq), time: TimestampMs(seq), event }
}

#[test]
fn what_follows_goes_with_the_first_and_what_is_released_alone_is_ready() {
    let mut dues = Dues::default();
    add(&mut dues, ANN, 1, "one", 5_000);
    add(&mut dues, ANN, 3, "three", 6_000);
    assert_eq!((dues.ready(4_999, Seq(9)), dues.next_ms(4_999)), (vec![], Some(5_000)));
    assert_eq!(dues.ready(5_000, Seq(2)), []);
    assert_eq!((dues.ready(5_000, Seq(3)), dues.next_ms(5_000)), (vec![ANN], None));
    assert_eq!(text(&mut dues, ANN), Some("three".to_owned()));
    dues.change(UserId(7), Seq(1), Seq(4), Some("won".into()));
    assert_eq!(text(&mut dues, ANN), Some("three".to_owned()));
    dues.change(UserId(7), Seq(3), Seq(5), Some("3".into()));
    assert_eq!((dues.ready(5_000, Seq(4)), dues.ready(5_000, Seq(5))), (vec![], vec![ANN]));
    assert_eq!(text(&mut dues, ANN), Some("3".to_owned()));
}

#[test]
fn a_conversation_is_told_once_in_the_delay_even_when_nobody_is_connected_any_more() {
    let mut dues = Dues::default();
    add(&mut dues, ANN, 1, "one", 100);
    tell(&mut dues, ANN, 200);
    assert!(!dues.is_open());
    add(&mut dues, ANN, 2, "two", 300);
    add(&mut dues, with(8), 3, "new", 9_000);
    dues.all_now(400);
    assert_eq!(dues.ready(400, Seq(9)), [with(8)]);
    assert_eq!(dues.ready(200 + DELAY_MS, Seq(9)), [ANN, with(8)]);
    // What comes while a notice is under way waits as long.
    dues.get(ANN).unwrap().offered = Seq(2);
    add(&mut dues, ANN, 4, "four", 5_300);
    dues.ended(ANN, (5_400, DELAY_MS));
    assert_eq!(dues.get(ANN).unwrap().due_ms, 5_400 + DELAY_MS);
}

#[test]
fn more_than_there_is_room_for_waits_in_the_log_and_the_row_is_written_when_all_is_told() {
    let mut dues = Dues::default();
    let peers = DUES_MAX as u64;
    (1..=peers).for_each(|at| add(&mut dues, with(at), at, "x", 0));
    let head = Seq(peers + 2);
    add(&mut dues, with(1_001), peers + 1, "x", 0);
    add(&mut dues, with(1_002), peers + 2, "x", 0);
    assert_eq!(dues.next_look(head), None);
    tell(&mut dues, with(1), 10);
    let first = dues.next_look(head).unwrap();
    assert_eq!(first, Seq(peers + 1));
    let log = [message(peers + 1, 1_001), message(peers + 2, 1_002)];
    dues.look(log.iter(), head, false, 20);
    assert!(dues.get(with(1_001)).is_some() && dues.get(with(1_002)).is_none());
    assert_eq!(dues.take_row(head), None);
    tell(&mut dues, with(2), 30);
    assert_eq!(dues.next_look(head), Some(Seq(peers + 2)));
    dues.look(log[1..].iter(), head, false, 40);
    (3..=peers).chain([1_001, 1_002]).for_each(|at| tell(&mut dues, with(at), 50));
    assert_eq!(dues.next_look(head), None);
    let row = dues.take_row(head).unwrap();
    assert_eq!((row.up_to, row.told.len(), row.told[TOLD_MAX - 1].0), (head, TOLD_MAX, with(1_002)));
    assert!(dues.is_unused());
}

#[test]
fn the_row_before_a_stop_has_what_was_told_and_leaves_open_what_is_due() {
    let (bea, cay, dan) = (with(8), with(9), with(10));
    let mut dues = Dues::after(Seq(10));
    for (peer, seq) in [(ANN, 11), (bea, 12), (cay, 13), (dan, 14)] {
        add(&mut dues, peer, seq, "x", 0);
    }
    assert_eq!(dues.take_last_row(Seq(14)), None, "nothing was told");
    tell(&mut dues, ANN, 10);
    // One device of two has been told of this one.
    dues.get(bea).unwrap().put_off = vec![DeviceId(2)];
    tell(&mut dues, bea, 20);
    // And of this one there is more by now.
    tell(&mut dues, cay, 30);
    add(&mut dues, cay, 15, "more", 0);
    assert_eq!((dues.take_row(Seq(15)), dues.has_last_row()), (None, true));
    let row = dues.take_last_row(Seq(15)).unwrap();
    assert_eq!((row.up_to, &row.told[..]), (Seq(10), &[(ANN, Seq(11)), (cay, Seq(13))][..]));
    assert_eq!(dues.take_last_row(Seq(15)), None, "nothing has changed");
    // That device's notice is under way once more, and nobody knows whether it has it.
    let due = dues.get(bea).unwrap();
    (due.put_off, due.tickets) = (Vec::new(), vec![1]);
    dues.drop_due(dan);
    assert_eq!(dues.take_last_row(Seq(15)).unwrap().told.len(), 2);
    // Without anything due it is the row of any time.
    [bea, cay].into_iter().for_each(|of| dues.drop_due(of));
    assert_eq!(dues.take_last_row(Seq(15)).unwrap().up_to, Seq(15));
}

#[test]
fn what_is_acknowledged_is_not_due_and_costs_no_row() {
    let mut dues = Dues::default();
    add(&mut dues, ANN, 1, "one", 0);
    dues.acknowledged(Seq(1));
    assert!(!dues.is_open() && dues.take_row(Seq(1)).is_none() && dues.take_clears(0).is_empty());
    // Of what is under way nobody knows whether it is shown.
    add(&mut dues, ANN, 2, "two", 0);
    dues.get(ANN).unwrap().tickets = vec![1];
    dues.acknowledged(Seq(2));
    assert_eq!(dues.take_clears(0), [ANN]);
}

#[test]
fn what_is_read_goes_from_screens_that_may_show_it_once() {
    let mut dues = Dues::default();
    add(&mut dues, ANN, 1, "one", 0);
    dues.read(ANN, Seq(1));
    assert!(dues.take_clears(0).is_empty());
    add(&mut dues, ANN, 2, "two", 0);
    tell(&mut dues, ANN, 10);
    dues.read(ANN, Seq(1));
    assert!(dues.take_clears(0).is_empty());
    dues.read(ANN, Seq(2));
    assert_eq!(dues.take_clears(0), [ANN]);
    dues.read(ANN, Seq(2));
    assert!(dues.take_clears(0).is_empty());
    // Unless something new is to be shown there, it is tried again.
    dues.put_back_clear(ANN, 0);
    assert_eq!(dues.take_clears(0), [ANN]);
    add(&mut dues, ANN, 3, "three", 0);
    dues.put_back_clear(ANN, 0);
    assert!(dues.take_clears(0).is_empty());
}

#[test]
fn words_are_cut_between_characters() {
    let long = "a".to_owned() + &"é".repeat(NOTICE_TEXT_BYTES_MAX);
    let cut = words(&Content::text(&long)).unwrap();
    assert_eq!((cut.len(), cut.chars().count()), (NOTICE_TEXT_BYTES_MAX - 1, NOTICE_TEXT_BYTES_MAX / 2));
    assert_eq!(words(&Content::text("")), None);
}

#[test]
fn of_a_group_it_counts_what_the_own_log_says_and_what_was_last_told_of_it() {
    let group = ConversationId::Group(proto_spec::GroupId(7));
    let mut dues = Dues::default();
    let reached =
        |dues: &mut Dues, up_to, own| dues.add(group, (Seq(up_to), Seq(own), TimestampMs(9)), None, (0, DELAY_MS));
    reached(&mut dues, 50, 3);
    dues.acknowledged(Seq(2));
    assert!(dues.is_open());
    dues.acknowledged(Seq(3));
    assert!(!dues.is_open(), "a device knows that the group has come to 50");
    // Its last message stands at 51, and something that is none behind it.
    reached(&mut dues, 52, 4);
    let due = dues.get(group).unwrap();
    (due.offered, due.tells, due.is_told, due.tickets) = (Seq(52), Seq(51), true, vec![1]);
    dues.read(group, Seq(51));
    assert_eq!(dues.take_clears(0), [group]);
    reached(&mut dues, 53, 5);
    let due = dues.get(group).unwrap();
    (due.offered, due.tells, due.is_told) = (Seq(53), Seq(53), true);
    dues.ended(group, (10, DELAY_MS));
    assert!(dues.was_told(group, Seq(53)) && !dues.was_told(group, Seq(54)) && !dues.was_told(ANN, Seq(1)));
    reached(&mut dues, 53, 6);
    assert!(!dues.is_open(), "the own log says the same anew");
}
