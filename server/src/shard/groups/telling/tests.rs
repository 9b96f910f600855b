use proto_spec::{Role, Standing};

use super::*;
use crate::shard::topology::{CoreId, NodeId};

const AGAIN_MS: u64 = 5_000;
const ANN: UserId = UserId(1);
const BOB: UserId = UserId(2);
const CARL: UserId = UserId(3);
const CORE: CoreAddress = CoreAddress { node: NodeId(0), core: CoreId(0) };

/// A group of three, in which these want to be told.
fn group(wants: &[(UserId, Wants)]) -> (Roll, Telling) {
    let row = MemberRow {
        standing: Standing::Member,
        role: Role::Member,
        since: Seq(1),
        spans: vec![(Seq(1), MemberRow::OPEN)],
        read: Seq::ZERO,
        delivered: Seq::ZERO,
    };
    let roll = Roll::new([ANN, BOB, CARL].map(|user| (user, row.clone())));
    (roll, Telling::load(wants.to_vec(), Seq(9), false))
}

fn has(roll: &mut Roll, user: UserId, up_to: u64) {
    let row = roll.member(user).and_then(|row| Roll::having(row, Seq(up_to), Seq(u64::MAX)));
    roll.set(user, row.expect("more than before"));
}

impl Telling {
    fn says(&mut self, seq: u64, author: UserId) {
        self.numbered = Seq(seq);
        self.is_open = true;
        self.note(Seq(seq), author, &Content::text("x"));
    }

    fn tells(&mut self, roll: &Roll, now_ms: u64) -> Vec<(u64, u64)> {
        let round = self.round(roll, (now_ms, AGAIN_MS), 9);
        round.told.into_iter().map(|(user, seq)| (user.0, seq.0)).collect()
    }

    fn taken(&mut self, user: UserId) {
        let (seq, _) = self.under_way.remove(&user).expect("told");
        self.told.insert(user, seq);
    }
}

#[test]
fn who_is_away_is_told_at_once_of_what_others_say_and_once_in_a_while() {
    let (roll, mut telling) = group(&[(ANN, Wants::All), (BOB, Wants::All)]);
    telling.says(10, ANN);
    assert_eq!(telling.tells(&roll, 0), [(2, 10)], "Carl wants nothing, and Ann has said it");
    assert!(telling.is_open(), "Bob's home has not answered");
    telling.says(11, BOB);
    assert_eq!(telling.tells(&roll, 1), [(1, 11)]);
    [ANN, BOB].into_iter().for_each(|user| telling.taken(user));
    assert_eq!(telling.tells(&roll, AGAIN_MS), []);
    assert!(!telling.is_open());
}

#[test]
fn a_home_that_does_not_answer_is_told_again() {
    let (roll, mut telling) = group(&[(BOB, Wants::All)]);
    telling.says(10, ANN);
    assert_eq!(telling.tells(&roll, 0), [(2, 10)]);
    assert_eq!(telling.tells(&roll, AGAIN_MS - 1), []);
    assert_eq!(telling.tells(&roll, AGAIN_MS), [(2, 10)]);
    telling.taken(BOB);
    assert_eq!(telling.tells(&roll, 2 * AGAIN_MS), []);
}

#[test]
fn who_is_here_has_the_time_to_say_that_a_device_has_it() {
    let (mut roll, mut telling) = group(&[(BOB, Wants::All), (CARL, Wants::All)]);
    telling.here.extend([(BOB, CORE), (CARL, CORE)]);
    telling.says(10, ANN);
    assert_eq!(telling.tells(&roll, 0), []);
    has(&mut roll, BOB, 10);
    // It has just come: whoever is here has time once more.
    telling.says(11, ANN);
    assert_eq!(telling.tells(&roll, AGAIN_MS), [(3, 11)], "Carl had the time for the one before");
    assert_eq!(telling.tells(&roll, 2 * AGAIN_MS), [(2, 11), (3, 11)]);
}

#[test]
fn who_goes_is_told_at_once() {
    let (roll, mut telling) = group(&[(BOB, Wants::All)]);
    telling.here.insert(BOB, CORE);
    telling.says(10, ANN);
    assert_eq!(telling.tells(&roll, 0), []);
    assert!(telling.leave(|user, _| user == BOB));
    assert_eq!(telling.tells(&roll, 1), [(2, 10)]);
}

#[test]
fn who_has_it_or_has_come_since_is_not_told() {
    let (mut roll, mut telling) = group(&[(BOB, Wants::All), (CARL, Wants::All)]);
    telling.says(10, ANN);
    has(&mut roll, BOB, 10);
    let row = roll.member(CARL).expect("a member").clone();
    roll.set(CARL, MemberRow { spans: vec![(Seq(11), MemberRow::OPEN)], ..row });
    assert_eq!(telling.tells(&roll, 0), []);
    assert!(!telling.is_open());
}

#[test]
fn who_wants_to_be_told_of_what_names_them_is_told_of_that() {
    let (roll, mut telling) = group(&[(BOB, Wants::Named), (CARL, Wants::Nothing)]);
    telling.says(10, ANN);
    assert_eq!(telling.tells(&roll, 0), []);
    let content = Content::mention(&[BOB, CARL], "both of you");
    telling.note(Seq(11), ANN, &content);
    telling.says(12, ANN);
    assert_eq!(telling.tells(&roll, 1), [(2, 11)]);
}

#[test]
fn a_restart_tells_all_again_and_of_names_that_it_does_not_know() {
    let wants = vec![(ANN, Wants::All), (BOB, Wants::Named), (CARL, Wants::Nothing)];
    let (roll, _) = group(&[]);
    let mut telling = Telling::load(wants, Seq(20), true);
    assert!(telling.is_open());
    assert_eq!(telling.tells(&roll, 0), [(1, 20), (2, 20)]);
    [ANN, BOB].into_iter().for_each(|user| telling.taken(user));
    telling.says(21, CARL);
    assert_eq!(telling.tells(&roll, 1), [(1, 21)], "it names nobody");
}

#[test]
fn a_message_that_is_not_released_keeps_the_group_open() {
    let (roll, mut telling) = group(&[(BOB, Wants::All)]);
    telling.numbered = Seq(10);
    assert_eq!(telling.tells(&roll, 0), []);
    assert!(telling.is_open());
    telling.says(10, ANN);
    assert_eq!(telling.tells(&roll, 1), [(2, 10)]);
}

#[test]
fn of_a_large_group_a_turn_tells_so_many_and_the_next_one_the_others() {
    let (roll, mut telling) = group(&[(ANN, Wants::All), (BOB, Wants::All)]);
    telling.says(10, CARL);
    let round = telling.round(&roll, (0, AGAIN_MS), 1);
    assert_eq!(round, Round { told: vec![(ANN, Seq(10))], more: true });
    let round = telling.round(&roll, (1, AGAIN_MS), 1);
    assert_eq!(round, Round { told: vec![(BOB, Seq(10))], more: false });
}
