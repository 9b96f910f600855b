use super::*;

const A: UserId = UserId(7);
const B: UserId = UserId(8);

/// User 7 with two devices (slots 0 and 1) writes from the first to user 8, who has two (slots 2 and 3).
struct World {
    ledger: Ledger,
    stream: StreamId,
    digests: [Digest; 4],
}

impl World {
    fn new() -> Self {
        let mut crew = Crew::default();
        let (a, b) = (crew.add(A, 2), crew.add(B, 2));
        let mut ledger = Ledger::new(5, 3, crew, None);
        let stream = ledger.open(a, b);
        Self { ledger, stream, digests: [Digest::default(); 4] }
    }

    fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.ledger.send(self.stream, 10, &Written::text(Text::Made(40)));
        }
    }

    fn text(&self, index: u64) -> String {
        let mut text = String::new();
        self.ledger.write_text(self.stream, index, Text::Made(40), &mut text);
        text
    }

    fn accept(&mut self, index: u64, seq: u64) {
        self.ledger.accepted(self.stream, index, Seq(seq), &mut self.digests[0]);
    }

    /// The message comes to a device of its recipient.
    fn receive(&mut self, slot: u32, index: u64, seq: u64, origin: u64) {
        let text = self.text(index);
        let digest = &mut self.digests[slot as usize];
        self.ledger.received(slot, Seq(seq), A, Seq(origin), &Content::text(&text), digest);
    }

    fn copy(&mut self, index: u64, seq: u64) {
        let (text, number) = (self.text(index), (DeviceId(1), SendNumber(index + 1)));
        self.ledger.copied(1, Seq(seq), B, number, &Content::text(&text), &mut self.digests[1]);
    }

    /// Message `index` as it should go.
    fn whole(&mut self, index: u64) {
        self.accept(index, index + 1);
        self.receive(2, index, index + 1, index + 1);
        self.receive(3, index, index + 1, index + 1);
        self.copy(index, index + 1);
    }

    fn faults(&self) -> Vec<String> {
        self.ledger.faults.kept().to_vec()
    }

    #[track_caller]
    fn only_fault(&self, words: &str) {
        let faults = self.faults();
        assert!(faults.len() == 1 && faults[0].contains(words), "{faults:?}");
    }
}

#[test]
fn what_goes_right_is_no_fault_is_forgotten_and_the_same_for_all_devices_of_a_user() {
    let mut world = World::new();
    world.send(3);
    (0..3).for_each(|index| world.whole(index));
    world.ledger.check_finished();
    assert_eq!((world.faults(), world.ledger.under_way()), (vec![], 0));
    assert_eq!((world.digests[0], world.digests[2]), (world.digests[1], world.digests[3]));
    assert_eq!(world.digests[0].count, 3);
}

#[test]
fn a_message_may_arrive_before_its_sender_is_told() {
    let mut world = World::new();
    world.send(1);
    world.receive(2, 0, 4, 9);
    world.receive(3, 0, 4, 9);
    world.copy(0, 9);
    assert_eq!(world.ledger.under_way(), 1);
    world.accept(0, 9);
    assert_eq!((world.ledger.under_way(), world.faults()), (0, vec![]));
}

#[test]
fn a_duplicate_is_found() {
    let mut world = World::new();
    world.send(2);
    world.receive(2, 0, 1, 1);
    world.receive(2, 0, 2, 2);
    world.only_fault("message 0 of user 7 device 1 to user 8 came twice");
}

#[test]
fn a_loss_is_found_when_a_later_one_comes_and_named_for_the_device() {
    let mut world = World::new();
    world.send(3);
    world.receive(2, 0, 1, 1);
    world.receive(2, 2, 3, 3);
    world.only_fault("message 2 of user 7 device 1 to user 8 came to device 1 of user 8 as entry 3, but message 1");
}

#[test]
fn a_loss_at_the_end_is_found() {
    let mut world = World::new();
    world.send(1);
    world.accept(0, 5);
    world.receive(2, 0, 1, 5);
    world.copy(0, 5);
    world.ledger.check_finished();
    world.only_fault("message 0 of user 7 device 1 to user 8: accepted as 5, never reached user 8 device 2");
}

#[test]
fn a_message_that_is_never_answered_is_found_although_it_arrived() {
    let mut world = World::new();
    world.send(1);
    world.receive(2, 0, 1, 5);
    world.receive(3, 0, 1, 5);
    world.copy(0, 5);
    world.ledger.check_finished();
    world.only_fault("never answered");
}

#[test]
fn disorder_is_found() {
    let mut world = World::new();
    world.send(2);
    world.receive(2, 1, 1, 2);
    world.receive(2, 0, 2, 1);
    assert_eq!(world.ledger.faults.count(), 2, "one for each of the two: {:?}", world.faults());
}

#[test]
fn a_seq_that_differs_between_sender_and_recipient_is_found_whoever_is_told_first() {
    let mut world = World::new();
    world.send(1);
    world.accept(0, 5);
    world.receive(2, 0, 1, 6);
    world.only_fault("is seq 5 for its sender, but entry 1 names 6");
    let mut world = World::new();
    world.send(1);
    world.receive(2, 0, 1, 6);
    world.accept(0, 5);
    world.only_fault("was accepted as 5, but delivered as 6");
}

#[test]
fn answers_may_overtake_each_other_but_seqs_must_ascend() {
    let faults = |seqs: [u64; 2]| {
        let mut world = World::new();
        world.send(2);
        world.accept(1, seqs[1]);
        world.accept(0, seqs[0]);
        world.ledger.faults.count()
    };
    assert_eq!((faults([3, 4]), faults([4, 3])), (0, 1));
}

#[test]
fn a_text_that_was_changed_is_found() {
    let mut world = World::new();
    world.send(1);
    let text = world.text(0).replace("quick", "slow!");
    world.ledger.received(2, Seq(1), A, Seq(1), &Content::text(&text), &mut world.digests[2]);
    world.only_fault("another text");
}

#[test]
fn a_message_to_somebody_else_is_found() {
    let mut world = World::new();
    world.send(1);
    let text = world.text(0);
    world.ledger.received(0, Seq(1), B, Seq(1), &Content::text(&text), &mut world.digests[0]);
    world.only_fault("came to user 7 as entry 1 from user 8");
}

#[test]
fn what_earlier_runs_left_is_counted_and_nothing_else() {
    let mut world = World::new();
    let mut digest = Digest::default();
    let mut text = String::new();
    Label { run: 6, stream: world.stream, index: 0 }.write(40, &mut text);
    assert_eq!(world.ledger.received(2, Seq(1), A, Seq(1), &Content::text(&text), &mut digest), None);
    assert_eq!(world.ledger.received(2, Seq(2), A, Seq(2), &Content::text("hello"), &mut digest), None);
    assert_eq!((world.ledger.foreign(), world.faults(), digest.count), (2, vec![], 0));
}

#[test]
fn the_lines_of_a_trace_are_recognised_without_labels() {
    let mut crew = Crew::default();
    let (a, b) = (crew.add(A, 1), crew.add(B, 1));
    let lines: Lines = std::sync::Arc::new(vec!["hi".into(), "you".into()]);
    let mut ledger = Ledger::new(5, 0, crew, Some(lines));
    let stream = ledger.open(a, b);
    let mut digests = [Digest::default(); 2];
    for line in 0..2 {
        ledger.send(stream, 0, &Written::text(Text::Line(line)));
    }
    ledger.received(b, Seq(1), A, Seq(1), &Content::text("hi"), &mut digests[1]);
    assert_eq!(ledger.faults.count(), 0);
    ledger.received(b, Seq(2), A, Seq(2), &Content::text("hi"), &mut digests[1]);
    assert!(ledger.faults.kept()[0].contains("another text"), "{:?}", ledger.faults);
}

#[test]
fn the_order_of_messages_from_several_devices_of_one_author_is_checked() {
    for (origins, is_wrong) in [([5, 6], false), ([6, 5], true), ([6, 6], true)] {
        let mut world = World::new();
        let other = world.ledger.open(1, 2);
        for stream in [world.stream, other] {
            world.ledger.send(stream, 10, &Written::text(Text::Made(40)));
        }
        for ((seq, origin), stream) in (1..).zip(origins).zip([world.stream, other]) {
            let mut text = String::new();
            world.ledger.write_text(stream, 0, Text::Made(40), &mut text);
            let digest = &mut world.digests[2];
            world.ledger.received(2, Seq(seq), A, Seq(origin), &Content::text(&text), digest);
        }
        match is_wrong {
            true => world.only_fault(&format!("it is seq {} of its author, after 6", origins[1])),
            false => assert_eq!(world.faults(), Vec::<String>::new()),
        }
    }
}
