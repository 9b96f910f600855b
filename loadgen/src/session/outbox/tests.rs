use proto_spec::UserId;

use super::*;
use crate::verify::Text;

/// As [`fill`] shows that a number is given up.
const GIVE_UP: u64 = 99;

fn message(index: u64) -> Pending {
    Pending::Message { stream: StreamId(0), index, written: Written::text(Text::Made(40)) }
}

fn outbox(messages: u64) -> Outbox {
    let mut outbox = Outbox::new(SendNumber(10), false);
    (0..messages).for_each(|index| outbox.push(UserId(8), message(index)));
    outbox.connected(SendNumber(10), false).unwrap();
    outbox
}

fn fill(outbox: &mut Outbox, now_us: u64, window: usize) -> Vec<(u64, u64)> {
    let mut sent = Vec::new();
    outbox.fill(now_us, window, |number, leaving| match leaving {
        Leaving::Send(Pending::Message { index, .. }) => sent.push((number.0, *index)),
        Leaving::GiveUp => sent.push((number.0, GIVE_UP)),
        Leaving::Send(pending) => panic!("{pending:?}"),
    });
    sent
}

fn accept(outbox: &mut Outbox, number: u64) -> Answer {
    outbox.accepted(0, SendNumber(number), Seq(number * 2)).unwrap()
}

#[test]
fn a_window_is_filled_in_order_and_again_as_answers_come() {
    let mut outbox = outbox(4);
    assert_eq!(fill(&mut outbox, 0, 2), [(11, 0), (12, 1)]);
    assert_eq!(fill(&mut outbox, 0, 2), []);
    assert_eq!(accept(&mut outbox, 11), Answer::Accepted(message(0)));
    assert_eq!(fill(&mut outbox, 0, 2), [(13, 2)]);
    assert_eq!(accept(&mut outbox, 11), Answer::Unasked);
    assert_eq!(accept(&mut outbox, 14), Answer::Unasked, "not sent yet");
    assert_eq!(outbox.len(), 3);
}

#[test]
fn after_a_reconnect_the_unanswered_are_sent_again_under_their_numbers() {
    let mut outbox = outbox(3);
    fill(&mut outbox, 0, 3);
    accept(&mut outbox, 12);
    outbox.connected(SendNumber(12), false).unwrap();
    assert_eq!(fill(&mut outbox, 0, 3), [(11, 0), (13, 2)]);
    accept(&mut outbox, 13);
    assert_eq!(accept(&mut outbox, 11), Answer::Accepted(message(0)), "answers to retries may come late");
    assert!(outbox.is_empty());
}

#[test]
fn a_server_that_has_forgotten_or_invented_sends_is_found() {
    let mut outbox = outbox(2);
    fill(&mut outbox, 0, 2);
    accept(&mut outbox, 11);
    assert!(outbox.connected(SendNumber(10), false).unwrap_err().contains("up to 11 were accepted"));
    assert!(outbox.connected(SendNumber(13), false).unwrap_err().contains("up to 12 sent"));
    assert!(outbox.connected(SendNumber(11), false).is_ok() && outbox.connected(SendNumber(12), false).is_ok());
}

#[test]
fn after_a_refusal_everything_in_flight_is_waited_for_and_then_the_time() {
    let mut outbox = outbox(4);
    fill(&mut outbox, 0, 3);
    accept(&mut outbox, 11);
    assert_eq!(outbox.refused(0, SendNumber(12), ErrorCode::Overloaded, 200), Answer::Later);
    assert_eq!(fill(&mut outbox, 0, 3), []);
    assert_eq!(outbox.refused(5, SendNumber(13), ErrorCode::SendGap, 0), Answer::HeldUntil(200_005));
    assert_eq!(fill(&mut outbox, 200_004, 3), []);
    assert_eq!(fill(&mut outbox, 200_005, 3), [(12, 1), (13, 2), (14, 3)]);
}

#[test]
fn what_is_refused_for_good_leaves_its_number_to_what_is_behind_it() {
    let mut outbox = outbox(4);
    fill(&mut outbox, 0, 3);
    accept(&mut outbox, 11);
    assert_eq!(outbox.refused(7, SendNumber(12), ErrorCode::TakenBack, 0), Answer::Final(message(1), None));
    assert_eq!(fill(&mut outbox, 7, 3), []);
    assert_eq!(outbox.refused(7, SendNumber(13), ErrorCode::SendGap, 0), Answer::HeldUntil(7));
    assert_eq!(fill(&mut outbox, 7, 3), [(12, 2), (13, 3)]);
    accept(&mut outbox, 12);
    assert_eq!(outbox.refused(7, SendNumber(13), ErrorCode::TooLate, 0), Answer::Final(message(3), Some(7)));
    assert!(outbox.is_empty());
}

#[test]
fn what_was_refused_for_good_is_not_sent_on_the_next_connection() {
    let mut outbox = outbox(3);
    fill(&mut outbox, 0, 3);
    outbox.refused(0, SendNumber(11), ErrorCode::TakenBack, 0);
    outbox.connected(SendNumber(10), false).unwrap();
    assert_eq!(fill(&mut outbox, 0, 3), [(11, 1), (12, 2)]);
}

#[test]
fn later_numbers_must_have_later_seqs() {
    let mut outbox = outbox(2);
    fill(&mut outbox, 0, 2);
    outbox.accepted(0, SendNumber(11), Seq(7)).unwrap();
    assert!(outbox.accepted(0, SendNumber(12), Seq(7)).unwrap_err().contains("send 12 was accepted as 7"));
}
/// To these users, message 0, 1, 2, ..., on a connection to a server that knows how to give numbers up.
fn to(users: &[u64]) -> Outbox {
    let mut outbox = Outbox::new(SendNumber(10), false);
    (0..).zip(users).for_each(|(index, user)| outbox.push(UserId(*user), message(index)));
    outbox.connected(SendNumber(10), true).unwrap();
    outbox
}

#[test]
fn the_number_of_a_first_message_is_given_up_before_one_to_somebody_else_and_nobodys_else() {
    let mut outbox = to(&[8, 9, 8, 8]);
    assert_eq!(fill(&mut outbox, 0, 9), [(11, 0), (11, GIVE_UP), (12, 1)], "what follows to user 8 waits");
    assert_eq!(accept(&mut outbox, 11), Answer::Accepted(message(0)));
    // That to user 9 is the last one that was sent.
    assert_eq!(fill(&mut outbox, 0, 9), [(12, GIVE_UP), (13, 2), (14, 3)]);
    (12..15).for_each(|number| drop(accept(&mut outbox, number)));
    assert!(outbox.is_empty() && outbox.in_flight == 0);
    assert_eq!(outbox.given_up(0, SendNumber(12), Seq(24)), Ok(None), "it came after it was accepted");
    assert!(outbox.given_up(0, SendNumber(12), Seq::ZERO).is_err());
}

#[test]
fn a_first_message_that_is_refused_waits_without_a_number_and_holds_up_its_conversation_only() {
    let mut outbox = to(&[8, 9, 8]);
    fill(&mut outbox, 0, 9);
    assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::RateLimited, 5), Answer::Later);
    assert_eq!(outbox.given_up(0, SendNumber(11), Seq::ZERO), Ok(Some(5_000)));
    outbox.push(UserId(8), message(3));
    outbox.push(UserId(9), message(4));
    assert_eq!(accept(&mut outbox, 12), Answer::Accepted(message(1)));
    assert_eq!((fill(&mut outbox, 4_999, 9), outbox.len()), (vec![(13, 4)], 4));
    assert_eq!(fill(&mut outbox, 5_000, 9), [(14, 0)]);
    assert_eq!(accept(&mut outbox, 14), Answer::Accepted(message(0)));
    assert_eq!(fill(&mut outbox, 5_000, 9), [(15, 2), (16, 3)]);
}

#[test]
fn if_the_number_is_not_given_up_everything_waits_as_after_any_refusal() {
    let mut outbox = to(&[8, 9]);
    fill(&mut outbox, 0, 9);
    assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::RateLimited, 5), Answer::Later);
    assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::RateLimited, 7), Answer::Later);
    assert_eq!(outbox.refused(0, SendNumber(12), ErrorCode::SendGap, 0), Answer::HeldUntil(7_000));
    assert_eq!(fill(&mut outbox, 7_000, 9), [(11, 0), (11, GIVE_UP), (12, 1)]);
}

#[test]
fn a_number_that_was_void_on_an_earlier_connection_is_not_used_again() {
    let mut outbox = to(&[8, 9, 8]);
    fill(&mut outbox, 0, 9);
    // The answers got lost: number 11 is void, 12 was accepted.
    outbox.connected(SendNumber(12), true).unwrap();
    // However many may leave, what follows to the same conversation waits.
    assert_eq!(fill(&mut outbox, 0, 9), [(11, 0), (12, 1)]);
    assert_eq!(outbox.refused(7, SendNumber(11), ErrorCode::GivenUp, 0), Answer::HeldUntil(7));
    assert_eq!(accept(&mut outbox, 12), Answer::Accepted(message(1)));
    assert_eq!(fill(&mut outbox, 7, 9), [(13, 0)]);
    assert_eq!(accept(&mut outbox, 13), Answer::Accepted(message(0)));
    assert_eq!(fill(&mut outbox, 7, 9), [(14, 2)]);
}

#[test]
fn a_first_message_that_is_refused_for_good_leaves_its_number_void() {
    let mut outbox = to(&[8, 9]);
    fill(&mut outbox, 0, 9);
    assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::TakenBack, 0), Answer::Final(message(0), None));
    assert_eq!(outbox.given_up(0, SendNumber(11), Seq::ZERO), Ok(Some(0)));
    assert_eq!(accept(&mut outbox, 12), Answer::Accepted(message(1)));
    assert!(outbox.is_empty());
}

#[test]
fn nothing_else_gets_the_number_of_what_was_refused_for_good_and_given_up_without_an_answer() {
    for is_void in [true, false] {
        let mut outbox = to(&[8, 9]);
        fill(&mut outbox, 0, 9);
        outbox.refused(0, SendNumber(11), ErrorCode::TakenBack, 0);
        // Whether number 11 is void is not known; 12 may have been accepted.
        outbox.connected(SendNumber(if is_void { 12 } else { 10 }), true).unwrap();
        assert_eq!(fill(&mut outbox, 0, 2)[0], (11, 0));
        let again =
            outbox.refused(0, SendNumber(11), if is_void { ErrorCode::GivenUp } else { ErrorCode::TakenBack }, 0);
        if is_void {
            assert_eq!((again, accept(&mut outbox, 12)), (Answer::HeldUntil(0), Answer::Accepted(message(1))));
        } else {
            // It is not told again.
            assert_eq!(again, Answer::Later);
            assert_eq!(outbox.refused(0, SendNumber(11), ErrorCode::TooLate, 0), Answer::HeldUntil(0));
            assert_eq!(fill(&mut outbox, 0, 9), [(11, 1)]);
        }
    }
}

#[test]
fn what_was_not_given_up_or_not_refused_can_not_be_void() {
    let mut outbox = to(&[8, 9]);
    fill(&mut outbox, 0, 9);
    for (number, seq) in [(11, 0), (12, 0), (13, 0), (11, 5)] {
        assert!(outbox.given_up(0, SendNumber(number), Seq(seq)).is_err(), "{number} as {seq}");
    }
}
