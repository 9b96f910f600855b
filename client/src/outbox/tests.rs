use proto_spec::{ErrorCode, Seq, UserId};

use super::*;
use crate::limits::GAP_RETRY_MS;

const NOW: MonotonicMs = MonotonicMs(1_000);
const WINDOW: usize = 8;

fn outbox(messages: u64) -> Outbox {
    let mut outbox = Outbox::new(Keeping::InMemory, Vec::new());
    outbox.turns.accepted(UserId(8).into());
    for text in 1..=messages {
        outbox.push(UserId(8).into(), Content::text(&text.to_string())).unwrap();
    }
    outbox
}

/// What leaves at `now`, as (number, text); text 0: that the number is given up.
fn sent(outbox: &mut Outbox, now: MonotonicMs) -> Vec<(u64, u64)> {
    outbox.number(now, WINDOW, |_, _| ());
    std::iter::from_fn(|| outbox.next_frame(now, WINDOW))
        .map(|frame| match frame {
            ClientFrame::Send { number, content, .. } => (number.0, content.as_text().unwrap().parse().unwrap()),
            ClientFrame::GiveUp { number } => (number.0, 0),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn refuse(outbox: &mut Outbox, number: u64, code: ErrorCode, retry_after_ms: u64, expected: u64) -> Refusal {
    outbox.refused(NOW, SendNumber(number), code, retry_after_ms, SendNumber(expected), |_, _| ())
}

fn given_up(outbox: &mut Outbox, number: u64, seq: Seq) -> bool {
    outbox.given_up(SendNumber(number), seq, |_, _| ())
}

fn settle(outbox: &mut Outbox) {
    outbox.settle(NOW, |_, _| ()).unwrap();
}

#[test]
fn a_device_without_memory_goes_on_after_what_the_server_knows() {
    let mut outbox = outbox(2);
    outbox.connected(SendNumber(41), true);
    assert_eq!(sent(&mut outbox, NOW), [(42, 1), (43, 2)]);
}

#[test]
fn no_more_than_the_window_is_in_flight() {
    let mut outbox = outbox(20);
    assert_eq!(sent(&mut outbox, NOW).len(), WINDOW);
    assert!(outbox.accepted(SendNumber(1)).is_some());
    assert_eq!(sent(&mut outbox, NOW), [(9, 9)]);
}

#[test]
fn a_lost_connection_changes_no_number() {
    let mut outbox = outbox(3);
    sent(&mut outbox, NOW);
    outbox.disconnected();
    // Two of them had been accepted.
    outbox.connected(SendNumber(2), true);
    assert_eq!(sent(&mut outbox, NOW), [(1, 1), (2, 2), (3, 3)]);
}

#[test]
fn a_refusal_that_passes_keeps_order_and_numbers() {
    let mut outbox = outbox(4);
    sent(&mut outbox, NOW);
    assert!(outbox.accepted(SendNumber(1)).is_some());
    assert_eq!(refuse(&mut outbox, 2, ErrorCode::Overloaded, 500, 2), Refusal::Later);
    assert_eq!(refuse(&mut outbox, 3, ErrorCode::SendGap, 0, 2), Refusal::Later);
    assert_eq!(sent(&mut outbox, NOW.after(10_000)), [], "number 4 is not answered yet");
    assert_eq!(refuse(&mut outbox, 4, ErrorCode::SendGap, 0, 2), Refusal::Later);
    settle(&mut outbox);
    assert_eq!((sent(&mut outbox, NOW.after(499)), outbox.deadline(NOW)), (vec![], Some(NOW.after(500))));
    assert_eq!(sent(&mut outbox, NOW.after(500)), [(2, 2), (3, 3), (4, 4)]);
}

#[test]
fn those_behind_a_message_refused_for_good_move_up_by_one() {
    let mut outbox = outbox(4);
    sent(&mut outbox, NOW);
    assert_eq!(refuse(&mut outbox, 2, ErrorCode::Recipient, 0, 2), Refusal::ForGood(SendHandle(2)));
    refuse(&mut outbox, 3, ErrorCode::SendGap, 0, 2);
    // An acceptance that waited for its commit may come after the refusals.
    assert!(outbox.accepted(SendNumber(1)).is_some());
    refuse(&mut outbox, 4, ErrorCode::SendGap, 0, 2);
    settle(&mut outbox);
    assert_eq!(sent(&mut outbox, NOW), [(2, 3), (3, 4)]);
}

#[test]
fn a_number_that_stands_for_another_message_costs_its_own_and_no_other() {
    let kept = |number: u64, text: &str| Unanswered {
        number: Some(SendNumber(number)),
        to: UserId(8).into(),
        content: Content::text(text),
    };
    let mut outbox = Outbox::new(Keeping::InMemory, vec![kept(3, "3"), kept(4, "4"), kept(6, "6")]);
    outbox.connected(SendNumber(5), true);
    assert_eq!(sent(&mut outbox, NOW), [(3, 3), (4, 4), (6, 6)]);
    assert!(outbox.accepted(SendNumber(6)).is_some(), "a new one does not wait for those that are looked up");
    assert_eq!(refuse(&mut outbox, 3, ErrorCode::NumberUsed, 0, 7), Refusal::ForGood(SendHandle(1)));
    settle(&mut outbox);
    outbox.push(UserId(8).into(), Content::text("7")).unwrap();
    assert_eq!(sent(&mut outbox, NOW), [(7, 7)], "it is neither waited for nor numbered anew");
    assert!(outbox.accepted(SendNumber(4)).is_some());
}

#[test]
fn nobody_waits_for_one_whose_number_stands_for_another_message() {
    let kept = Unanswered { number: Some(SendNumber(3)), to: UserId(8).into(), content: Content::text("3") };
    let mut outbox = Outbox::new(Keeping::InMemory, vec![kept]);
    outbox.push(UserId(8).into(), Content::text("6")).unwrap();
    outbox.connected(SendNumber(5), true);
    assert_eq!(sent(&mut outbox, NOW), [(3, 3)]);
    assert_eq!(refuse(&mut outbox, 3, ErrorCode::NumberUsed, 0, 6), Refusal::ForGood(SendHandle(1)));
    assert_eq!(sent(&mut outbox, NOW), [(6, 6)]);
}

#[test]
fn a_connection_lost_while_draining_leaves_the_numbers_to_the_next_one() {
    let mut outbox = outbox(3);
    sent(&mut outbox, NOW);
    refuse(&mut outbox, 1, ErrorCode::Recipient, 0, 1);
    outbox.disconnected();
    outbox.connected(SendNumber(0), true);
    settle(&mut outbox);
    // The server knows none of them.
    assert_eq!(sent(&mut outbox, NOW), [(1, 2), (2, 3)]);
}

#[test]
fn a_server_that_forgot_numbers_says_where_it_is() {
    let mut outbox = outbox(2);
    outbox.connected(SendNumber(9), true);
    sent(&mut outbox, NOW);
    refuse(&mut outbox, 10, ErrorCode::SendGap, 0, 6);
    refuse(&mut outbox, 11, ErrorCode::SendGap, 0, 6);
    settle(&mut outbox);
    assert_eq!(sent(&mut outbox, NOW.after(GAP_RETRY_MS)), [(6, 1), (7, 2)]);
}

#[test]
fn an_answer_too_many_changes_nothing() {
    let mut outbox = outbox(2);
    sent(&mut outbox, NOW);
    assert!(outbox.accepted(SendNumber(1)).is_some());
    assert!(outbox.accepted(SendNumber(1)).is_none());
    assert!(outbox.accepted(SendNumber(77)).is_none());
    assert_eq!(refuse(&mut outbox, 1, ErrorCode::Overloaded, 5, 1), Refusal::Unasked);
    assert_eq!(outbox.len(), 1);
}

#[test]
fn a_refusal_of_a_number_that_is_used_up_is_a_contradiction() {
    let mut outbox = outbox(2);
    sent(&mut outbox, NOW);
    refuse(&mut outbox, 1, ErrorCode::Overloaded, 5, 3);
    refuse(&mut outbox, 2, ErrorCode::Overloaded, 5, 3);
    assert_eq!(outbox.settle(NOW, |_, _| ()), Err(Contradiction));
}

#[test]
fn the_queue_is_bounded() {
    let mut outbox = outbox(QUEUED_MESSAGES_MAX as u64);
    let full = Err(SendError::QueueFull { max: QUEUED_MESSAGES_MAX });
    assert_eq!(outbox.push(UserId(8).into(), Content::text("x")), full);
}

#[test]
fn a_number_that_the_application_keeps_is_kept_before_it_is_used() {
    let mut outbox = Outbox::new(Keeping::ByApplication, Vec::new());
    outbox.turns.accepted(UserId(8).into());
    let first = outbox.push(UserId(8).into(), Content::text("1")).unwrap();
    let second = outbox.push(UserId(8).into(), Content::text("2")).unwrap();
    let mut numbered = Vec::new();
    outbox.number(NOW, WINDOW, |handle, number| numbered.push((handle, number.unwrap().0)));
    assert_eq!(numbered, [(first, 1), (second, 2)]);
    outbox.kept(second, SendNumber(2));
    assert_eq!(sent(&mut outbox, NOW), [], "not in front of the first");
    outbox.kept(first, SendNumber(1));
    assert_eq!(sent(&mut outbox, NOW), [(1, 1), (2, 2)]);
    refuse(&mut outbox, 1, ErrorCode::TextLength, 0, 1);
    refuse(&mut outbox, 2, ErrorCode::SendGap, 0, 1);
    let mut renumbered = Vec::new();
    outbox.settle(NOW, |handle, number| renumbered.push((handle, number.unwrap().0))).unwrap();
    assert_eq!(renumbered, [(second, 1)]);
    assert_eq!(sent(&mut outbox, NOW), [], "its new number is not kept yet");
    outbox.kept(second, SendNumber(2));
    assert_eq!(sent(&mut outbox, NOW), [], "that was the old one, which an application may confirm late");
    outbox.kept(first, SendNumber(1));
    assert_eq!(sent(&mut outbox, NOW), [], "nor is it another message's");
    outbox.kept(second, SendNumber(1));
    assert_eq!(sent(&mut outbox, NOW), [(1, 2)]);
}

#[test]
fn what_an_earlier_run_kept_is_sent_under_its_numbers() {
    let kept = |number: Option<u64>, text: &str| Unanswered {
        number: number.map(SendNumber),
        to: UserId(8).into(),
        content: Content::text(text),
    };
    let mut outbox = Outbox::new(Keeping::InMemory, vec![kept(Some(6), "1"), kept(Some(8), "2"), kept(None, "3")]);
    outbox.connected(SendNumber(6), true);
    assert_eq!(sent(&mut outbox, NOW), [(6, 1), (8, 2)]);
    assert!(outbox.accepted(SendNumber(6)).is_some() && outbox.accepted(SendNumber(8)).is_some());
    assert_eq!(sent(&mut outbox, NOW), [(9, 3)]);
}

/// Messages 1, 2, 3, ... to these users.
fn outbox_to(users: &[u64]) -> Outbox {
    let mut outbox = Outbox::new(Keeping::InMemory, Vec::new());
    for (text, user) in (1..).zip(users) {
        outbox.push(UserId(*user).into(), Content::text(&text.to_string())).unwrap();
    }
    outbox
}

#[test]
fn one_that_is_refused_alone_lets_the_others_go_on_and_follows_under_a_new_number() {
    let mut outbox = outbox_to(&[9, 8, 9, 7]);
    assert_eq!(sent(&mut outbox, NOW), [(1, 1), (1, 0), (2, 2), (2, 0), (3, 4)], "3 waits for the answer to 1");
    assert_eq!(refuse(&mut outbox, 1, ErrorCode::RateLimited, 500, 1), Refusal::Later);
    assert!(given_up(&mut outbox, 1, Seq::ZERO));
    assert!(outbox.accepted(SendNumber(2)).is_some() && outbox.accepted(SendNumber(3)).is_some());
    settle(&mut outbox);
    assert_eq!((sent(&mut outbox, NOW), outbox.deadline(NOW)), (vec![], Some(NOW.after(500))));
    outbox.push(UserId(8).into(), Content::text("5")).unwrap();
    assert_eq!(sent(&mut outbox, NOW), [(4, 5)]);
    assert_eq!(sent(&mut outbox, NOW.after(500)), [(5, 1)], "alone, and its number is not given up for nobody");
    assert!(outbox.accepted(SendNumber(5)).is_some());
    assert_eq!(sent(&mut outbox, NOW.after(500)), [(6, 3)], "a conversation keeps its order");
}

#[test]
fn the_last_one_that_is_refused_alone_gives_its_number_to_the_next() {
    let mut outbox = outbox_to(&[9]);
    assert_eq!(sent(&mut outbox, NOW), [(1, 1)]);
    refuse(&mut outbox, 1, ErrorCode::RateLimited, 500, 1);
    settle(&mut outbox);
    outbox.push(UserId(8).into(), Content::text("2")).unwrap();
    assert_eq!(sent(&mut outbox, NOW), [(1, 2)]);
    assert_eq!(sent(&mut outbox, NOW.after(500)), [(1, 0), (2, 1)]);
}

#[test]
fn what_is_refused_with_its_giving_up_holds_up_the_others() {
    let mut outbox = outbox_to(&[9, 8]);
    assert_eq!(sent(&mut outbox, NOW), [(1, 1), (1, 0), (2, 2)]);
    for (number, code, wait_ms) in
        [(1, ErrorCode::Overloaded, 300), (1, ErrorCode::Overloaded, 300), (2, ErrorCode::SendGap, 0)]
    {
        assert_eq!(refuse(&mut outbox, number, code, wait_ms, 1), Refusal::Later);
    }
    settle(&mut outbox);
    assert_eq!((sent(&mut outbox, NOW.after(299)), outbox.deadline(NOW)), (vec![], Some(NOW.after(300))));
    assert_eq!(sent(&mut outbox, NOW.after(300)), [(1, 1), (1, 0), (2, 2)]);
}

#[test]
fn one_refused_for_good_leaves_a_void_number_and_no_gap() {
    let mut outbox = outbox_to(&[9, 8]);
    assert_eq!(sent(&mut outbox, NOW), [(1, 1), (1, 0), (2, 2)]);
    assert_eq!(refuse(&mut outbox, 1, ErrorCode::TextLength, 0, 1), Refusal::ForGood(SendHandle(1)));
    assert!(outbox.accepted(SendNumber(2)).is_some() && outbox.len() == 0);
    assert!(given_up(&mut outbox, 1, Seq::ZERO));
    outbox.push(UserId(9).into(), Content::text("3")).unwrap();
    assert_eq!(sent(&mut outbox, NOW), [(3, 3)]);
}

#[test]
fn a_message_whose_number_turns_out_to_be_void_gets_another() {
    let mut outbox = outbox_to(&[9, 8]);
    sent(&mut outbox, NOW);
    outbox.disconnected();
    // The first one was refused and is void, which this device was not told.
    outbox.connected(SendNumber(2), true);
    assert_eq!(sent(&mut outbox, NOW), [(1, 1), (1, 0), (2, 2)]);
    assert_eq!(refuse(&mut outbox, 1, ErrorCode::GivenUp, 0, 3), Refusal::Later);
    assert!(given_up(&mut outbox, 1, Seq::ZERO), "its giving up was asked for");
    assert!(outbox.accepted(SendNumber(2)).is_some());
    assert_eq!(sent(&mut outbox, NOW), [(3, 1)]);
}

#[test]
fn a_new_message_does_not_overtake_the_last_one_that_is_sent_again_whose_number_may_be_void() {
    let kept = |number: u64, text: &str| Unanswered {
        number: Some(SendNumber(number)),
        to: UserId(8).into(),
        content: Content::text(text),
    };
    let mut outbox = Outbox::new(Keeping::InMemory, vec![kept(1, "1"), kept(2, "2")]);
    outbox.connected(SendNumber(2), true);
    outbox.push(UserId(8).into(), Content::text("3")).unwrap();
    outbox.push(UserId(9).into(), Content::text("4")).unwrap();
    assert_eq!(sent(&mut outbox, NOW), [(1, 1), (2, 2), (2, 0), (3, 4)], "3 waits for the answer to 2");
    assert!(outbox.accepted(SendNumber(1)).is_some());
    assert_eq!(sent(&mut outbox, NOW), [], "it waits for the last one");
    assert_eq!(refuse(&mut outbox, 2, ErrorCode::GivenUp, 0, 4), Refusal::Later);
    assert_eq!(sent(&mut outbox, NOW), [(3, 0), (4, 2)]);
    assert!(outbox.accepted(SendNumber(4)).is_some());
    assert_eq!(sent(&mut outbox, NOW), [(5, 3)]);
}

#[test]
fn a_message_whose_number_is_void_is_announced_without_one() {
    let sent_first = || {
        let mut outbox = Outbox::new(Keeping::ByApplication, Vec::new());
        let handles = [9, 8].map(|user| outbox.push(UserId(user).into(), Content::text(&user.to_string())).unwrap());
        outbox.number(NOW, WINDOW, |_, _| ());
        handles.into_iter().zip(1..).for_each(|(handle, number)| outbox.kept(handle, SendNumber(number)));
        assert_eq!(sent(&mut outbox, NOW), [(1, 9), (1, 0), (2, 8)]);
        outbox
    };
    let mut announced = Vec::new();
    let mut outbox = sent_first();
    refuse(&mut outbox, 1, ErrorCode::RateLimited, 500, 1);
    assert!(outbox.given_up(SendNumber(1), Seq::ZERO, |handle, number| announced.push((handle, number))));
    let mut outbox = sent_first();
    outbox.refused(NOW, SendNumber(1), ErrorCode::GivenUp, 0, SendNumber(3), |handle, number| {
        announced.push((handle, number));
    });
    assert_eq!(announced, [(SendHandle(1), None), (SendHandle(1), None)]);
}

#[test]
fn what_is_cancelled_in_time_is_in_no_log() {
    let mut outbox = outbox_to(&[8, 8, 8]);
    assert_eq!(sent(&mut outbox, NOW), [(1, 1)]);
    assert!(outbox.cancel(SendHandle(3)) && !outbox.cancel(SendHandle(4)));
    assert_eq!(outbox.next_cancelled(), Some(SendHandle(3)), "it had no number");
    assert!(outbox.cancel(SendHandle(1)));
    assert_eq!(outbox.next_cancelled(), None, "it may have been accepted");
    assert_eq!(refuse(&mut outbox, 1, ErrorCode::Overloaded, 100, 1), Refusal::Later);
    settle(&mut outbox);
    assert_eq!((outbox.next_cancelled(), outbox.len()), (Some(SendHandle(1)), 1));
    assert_eq!(sent(&mut outbox, NOW.after(100)), [(1, 2)]);
}

#[test]
fn what_may_have_been_accepted_before_it_was_cancelled_is_asked_for() {
    for accepted_before in [true, false] {
        let mut outbox = outbox(2);
        sent(&mut outbox, NOW);
        outbox.disconnected();
        assert!(outbox.cancel(SendHandle(1)));
        outbox.connected(SendNumber(if accepted_before { 2 } else { 0 }), true);
        assert_eq!(sent(&mut outbox, NOW), [(1, 0), (2, 2)]);
        assert!(given_up(&mut outbox, 1, Seq(u64::from(accepted_before) * 7)));
        assert!(outbox.accepted(SendNumber(2)).is_some());
        if accepted_before {
            assert_eq!(sent(&mut outbox, NOW), [(1, 1)], "only a send is compared with what was accepted");
            assert!(outbox.accepted(SendNumber(1)).is_some() && outbox.next_cancelled().is_none());
        } else {
            assert_eq!(outbox.next_cancelled(), Some(SendHandle(1)));
        }
        assert_eq!((outbox.len(), sent(&mut outbox, NOW)), (0, vec![]));
    }
}
