use proptest::{collection::vec, prelude::*};
use proto_spec::{TimestampMs, UserId};

use super::*;
use crate::{
    limits::FAILURES_MAX,
    notice::{Kind, Provider, Show, Subscription, Urgency},
};

const PACE: Pace = Pace {
    connect_max: Duration::from_secs(5),
    answer_max: Duration::from_secs(15),
    retry_first: Duration::from_secs(2),
    retry_max: Duration::from_secs(100),
    rest_first: Duration::from_secs(5),
    rest_max: Duration::from_secs(60),
};

const DOWN: Verdict = Verdict::Again(Trouble::Status(503), None);
const TAKEN: Verdict = Verdict::Final(Outcome::Delivered);

/// A plan and a time that a test lets pass.
struct World {
    plan: Plan,
    now: Moment,
    ended: Vec<Ended>,
}

impl World {
    fn new() -> Self {
        Self { plan: Plan::new(PACE), now: Moment::START, ended: Vec::new() }
    }

    /// A world whose host has answered once, so that it is known to be well.
    fn known() -> Self {
        let mut world = Self::new();
        world.offer(notice(9999, 1));
        let attempt = world.begin();
        world.end(attempt, TAKEN);
        world.ended.clear();
        world
    }

    fn offer(&mut self, notice: Notice) {
        self.offer_to(notice, "one");
    }

    fn offer_to(&mut self, notice: Notice, host: &str) {
        self.plan.offer(self.now, notice, host_name(host), &mut self.ended);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// What goes now, which must be something.
    fn begin(&mut self) -> Attempt {
        self.begin_any().expect("something is due")
    }

    fn begin_any(&mut self) -> Option<Attempt> {
        loop {
            match self.plan.next(self.now)? {
                Next::Begin(attempt) => return Some(attempt),
                Next::Ended(notice, outcome) => self.ended.push((notice, outcome)),
            }
        }
    }

    /// An attempt ends, and the dice show the longest wait.
    fn end(&mut self, attempt: Attempt, verdict: Verdict) {
        self.plan.ended(self.now, attempt, verdict, 1.0, &mut self.ended);
    }

    /// The tickets of what has ended since this was asked last, and how.
    fn outcomes(&mut self) -> Vec<(u64, Outcome)> {
        self.ended.drain(..).map(|(notice, outcome)| (notice.ticket, outcome)).collect()
    }

    /// How long until something is due.
    fn sleeps(&self) -> Option<Duration> {
        self.plan.wake().map(|at| at.0.saturating_sub(self.now.0))
    }
}

fn host_name(name: &str) -> HostName {
    HostName { provider: ProviderKind::Fcm, authority: name.into() }
}

/// A notice of a user with this number, in one conversation.
fn notice(ticket: u64, user: u64) -> Notice {
    Notice {
        ticket,
        user: UserId(user),
        device: DeviceId(1),
        subscription: Subscription { provider: Provider::Fcm { token: "t".to_owned() }, show: Show::Nothing },
        conversation: UserId(8).into(),
        kind: Kind::Clear,
        at: TimestampMs(0),
        ttl: Duration::from_secs(3600),
        urgency: Urgency::Normal,
    }
}

#[test]
fn notices_go_at_once_and_in_the_order_in_which_they_came() {
    let mut world = World::known();
    for user in 1..=3 {
        world.offer(notice(user, user));
    }
    let attempts = [world.begin(), world.begin(), world.begin()];
    assert_eq!(attempts.each_ref().map(|attempt| attempt.notice.ticket), [1, 2, 3]);
    assert!(world.begin_any().is_none());
    for attempt in attempts {
        world.end(attempt, TAKEN);
    }
    let delivered = [1, 2, 3].map(|ticket| (ticket, Outcome::Delivered));
    assert_eq!(world.outcomes(), delivered);
    assert_eq!(world.sleeps(), None);
}

#[test]
fn a_newer_notice_takes_the_place_of_one_that_waits() {
    let mut world = World::known();
    world.offer(notice(1, 7));
    world.offer(notice(2, 7));
    assert_eq!(world.outcomes(), [(1, Outcome::Superseded)]);
    assert_eq!(world.begin().notice.ticket, 2);
    assert!(world.begin_any().is_none());
}

#[test]
fn other_conversations_and_devices_are_other_things() {
    let mut world = World::known();
    world.offer(notice(1, 7));
    world.offer(Notice { device: DeviceId(2), ..notice(2, 7) });
    world.offer(Notice { conversation: UserId(9).into(), ..notice(3, 7) });
    assert_eq!(world.outcomes(), []);
}

#[test]
fn a_newer_notice_waits_for_the_end_of_an_older_one_that_is_under_way() {
    let mut world = World::known();
    world.offer(notice(1, 7));
    let older = world.begin();
    world.offer(notice(2, 7));
    world.offer(notice(3, 7));
    assert!(world.begin_any().is_none());
    world.end(older, TAKEN);
    assert_eq!(world.outcomes(), [(2, Outcome::Superseded), (1, Outcome::Delivered)]);
    assert_eq!(world.begin().notice.ticket, 3);
}

#[test]
fn an_older_notice_that_failed_is_not_repeated_when_there_is_a_newer_one_which_has_the_patience_of_the_older() {
    let mut world = World::known();
    world.offer(notice(1, 7));
    let older = world.begin();
    world.offer(notice(2, 7));
    world.end(older, DOWN);
    assert_eq!(world.outcomes(), [(1, Outcome::Superseded)]);
    assert_eq!(world.sleeps(), Some(PACE.retry_first));
    // And one that comes in between has it as well.
    world.offer(notice(3, 7));
    assert_eq!(world.sleeps(), Some(PACE.retry_first));
}

#[test]
fn waits_double_up_to_a_bound_and_the_dice_decide_between_nothing_and_that() {
    for (failed, seconds) in [(1, 2), (2, 4), (3, 8), (6, 64), (7, 100), (40, 100), (u32::MAX, 100)] {
        let wait = |chance| wait::before_next(failed, None, chance, &PACE);
        assert_eq!(wait(1.0), Duration::from_secs(seconds), "{failed} have failed");
        assert_eq!(wait(0.5), Duration::from_secs(seconds) / 2);
        assert_eq!(wait(0.0), Duration::ZERO);
    }
}

#[test]
fn a_provider_gets_the_patience_that_it_asks_for_and_it_alone_does_not_open_the_circuit() {
    let mut world = World::known();
    for ticket in 1..=u64::from(FAILURES_MAX) + 1 {
        world.offer(notice(ticket, ticket));
        let attempt = world.begin();
        world.end(attempt, Verdict::Again(Trouble::Status(429), Some(Duration::from_secs(60))));
    }
    assert_eq!(world.sleeps(), Some(Duration::from_secs(62)));
    world.offer(notice(100, 100));
    assert_eq!(world.begin().notice.ticket, 100);
}

#[test]
fn what_is_not_taken_in_time_ends_and_says_why() {
    let mut world = World::known();
    world.offer(Notice { ttl: Duration::from_secs(3), ..notice(1, 7) });
    let attempt = world.begin();
    world.end(attempt, DOWN);
    world.pass(Duration::from_secs(2));
    let attempt = world.begin();
    world.pass(Duration::from_secs(1));
    world.end(attempt, Verdict::Again(Trouble::Timeout, None));
    assert_eq!(world.outcomes(), [(1, Outcome::Expired { last: Some(Trouble::Timeout) })]);
    assert_eq!(world.sleeps(), None);
}

#[test]
fn a_wait_beyond_the_time_to_live_is_not_waited() {
    let mut world = World::known();
    world.offer(Notice { ttl: Duration::from_secs(30), ..notice(1, 7) });
    let attempt = world.begin();
    world.end(attempt, Verdict::Again(Trouble::Status(429), Some(Duration::from_secs(60))));
    assert_eq!(world.outcomes(), [(1, Outcome::Expired { last: Some(Trouble::Status(429)) })]);
}

#[test]
fn a_host_that_is_not_known_gets_one_request_and_all_others_when_it_has_answered() {
    let mut world = World::new();
    for user in 1..=3 {
        world.offer(notice(user, user));
    }
    let first = world.begin();
    assert!(world.begin_any().is_none());
    world.end(first, TAKEN);
    world.begin();
    world.begin();
}

#[test]
fn a_host_that_fails_rests_for_a_growing_time_with_one_probe_in_between_and_then_goes_on() {
    let mut world = World::known();
    for user in 1..=u64::from(FAILURES_MAX) {
        world.offer(notice(user, user));
        let attempt = world.begin();
        world.end(attempt, DOWN);
    }
    let mut rest = PACE.rest_first;
    for round in 0..6 {
        assert_eq!(world.plan.figures()[ProviderKind::Fcm as usize].circuits_open, 1);
        // What comes meanwhile waits.
        world.offer(notice(50 + round, 50 + round));
        assert!(world.begin_any().is_none());
        assert_eq!(world.sleeps(), Some(rest));
        world.pass(rest);
        let probe = world.begin();
        assert!(world.begin_any().is_none(), "two probes");
        rest = (rest * 2).min(PACE.rest_max);
        world.end(probe, DOWN);
    }
    world.pass(PACE.retry_max);
    let probe = world.begin();
    world.end(probe, TAKEN);
    assert_eq!(world.plan.figures()[ProviderKind::Fcm as usize].circuits_open, 0);
    let attempts: Vec<Attempt> = std::iter::from_fn(|| world.begin_any()).collect();
    assert_eq!(attempts.len() as u64, u64::from(FAILURES_MAX) + 6 - 1);
}

#[test]
fn an_answer_in_between_keeps_the_circuit_closed() {
    let mut world = World::known();
    for round in 0..4 {
        for user in 1..u64::from(FAILURES_MAX) {
            let ticket = round * 100 + user;
            world.offer(notice(ticket, ticket));
            let attempt = world.begin();
            world.end(attempt, DOWN);
        }
        let ticket = round * 100 + 99;
        world.offer(notice(ticket, ticket));
        // Perhaps an older one that is due again: whichever it is.
        let attempt = world.begin();
        world.end(attempt, Verdict::Final(Outcome::Gone));
    }
    assert_eq!(world.plan.figures()[ProviderKind::Fcm as usize].circuits_open, 0);
}

#[test]
fn a_host_that_rests_holds_up_no_other() {
    let mut world = World::new();
    world.offer_to(notice(1, 1), "silent");
    let silent = world.begin();
    world.offer_to(notice(2, 2), "silent");
    world.offer_to(notice(3, 3), "well");
    assert_eq!(world.begin().notice.ticket, 3);
    world.end(silent, Verdict::Again(Trouble::Timeout, None));
    world.offer_to(notice(4, 4), "other");
    assert_eq!(world.begin().notice.ticket, 4);
}

#[test]
fn requests_under_way_are_bounded_for_a_host_and_in_all() {
    let mut world = World::new();
    let hosts = ["a", "b", "c", "d"];
    for host in hosts {
        world.offer_to(notice(0, 0), host);
        let attempt = world.begin();
        world.end(attempt, TAKEN);
    }
    let each = HOST_UNDER_WAY_MAX as u64 + 10;
    let mut attempts = Vec::new();
    for (at, host) in (0..).zip(hosts) {
        for ticket in 0..each {
            world.offer_to(notice(at * each + ticket, 1 + at * each + ticket), host);
        }
        attempts.extend(std::iter::from_fn(|| world.begin_any()));
        assert_eq!(attempts.len(), ((at as usize + 1) * HOST_UNDER_WAY_MAX).min(UNDER_WAY_MAX));
    }
    assert_eq!(world.sleeps(), None);
    world.end(attempts.pop().unwrap(), TAKEN);
    world.begin();
    assert!(world.begin_any().is_none());
}

#[test]
fn a_host_for_which_too_much_waits_gets_no_more_and_the_notice_is_given_back() {
    let mut world = World::new();
    for ticket in 0..HOST_WAITING_MAX as u64 {
        world.offer_to(notice(ticket, ticket), "silent");
    }
    assert_eq!(world.outcomes(), []);
    world.offer_to(notice(1_000_000, 1_000_000), "silent");
    assert_eq!(world.outcomes(), [(1_000_000, Outcome::Later(LATER))]);
    // One that takes the place of another needs none.
    world.offer_to(notice(1_000_001, 3), "silent");
    assert_eq!(world.outcomes(), [(3, Outcome::Superseded)]);
    world.offer_to(notice(1_000_002, 1_000_002), "well");
    assert_eq!(world.outcomes(), []);
}

#[test]
fn hosts_that_are_known_are_bounded_and_those_for_which_nothing_waits_make_room() {
    let mut world = World::new();
    for host in 0..HOSTS_MAX as u64 {
        world.offer_to(notice(host, host), &host.to_string());
    }
    world.offer_to(notice(1_000_000, 1_000_000), "one more");
    assert_eq!(world.outcomes(), [(1_000_000, Outcome::Later(LATER))]);
    let attempt = world.begin();
    world.end(attempt, TAKEN);
    world.outcomes();
    world.offer_to(notice(1_000_001, 1_000_001), "one more");
    assert_eq!(world.outcomes(), []);
}

#[test]
fn what_waits_is_given_back_for_a_stop_and_what_is_under_way_comes_back() {
    let mut world = World::known();
    world.offer(notice(1, 1));
    let attempt = world.begin();
    world.offer(notice(2, 1));
    world.offer(notice(3, 3));
    let mut tickets: Vec<u64> = world.plan.give_back().iter().map(|notice| notice.ticket).collect();
    tickets.sort_unstable();
    assert_eq!(tickets, [2, 3]);
    world.end(attempt, DOWN);
    assert_eq!(world.plan.give_back()[0].ticket, 1);
    assert!(world.plan.things.is_empty());
}

/// What can happen to a plan.
#[derive(Clone, Debug)]
enum Step {
    Offer { user: u64, host: u8, ttl_s: u64 },
    Begin,
    End { which: usize, verdict: u8, chance: f64 },
    Withdraw { user: u64 },
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..6, 0_u8..3, 0_u64..40).prop_map(|(user, host, ttl_s)| Step::Offer { user, host, ttl_s }),
        Just(Step::Begin),
        (0_usize..8, 0_u8..4, 0.0..1.0).prop_map(|(which, verdict, chance)| Step::End { which, verdict, chance }),
        (0_u64..6).prop_map(|user| Step::Withdraw { user }),
        (0_u64..20_000).prop_map(|ms| Step::Pass { ms }),
    ]
}

proptest! {
    /// Whatever happens, each notice ends once, no two of a thing are under way at once, and a newer one never goes first.
    #[test]
    fn each_notice_ends_once_and_in_order(steps in vec(step(), 0..200)) {
        let mut world = World::new();
        let (mut offered, mut under_way, mut ends) = (0_u64, Vec::<Attempt>::new(), Vec::<u64>::new());
        let mut last_begun = HashMap::new();
        for step in steps {
            match step {
                Step::Offer { user, host, ttl_s } => {
                    offered += 1;
                    let notice = Notice { ttl: Duration::from_secs(ttl_s), ..notice(offered, user) };
                    world.offer_to(notice, &host.to_string());
                }
                Step::Begin => {
                    if let Some(attempt) = world.begin_any() {
                        let (user, ticket) = (attempt.notice.user, attempt.notice.ticket);
                        prop_assert!(under_way.iter().all(|other| other.notice.user != user));
                        let before = last_begun.insert(user, ticket);
                        prop_assert!(before.is_none_or(|before| before <= ticket));
                        under_way.push(attempt);
                    }
                }
                Step::End { which, verdict, chance } => {
                    if which < under_way.len() {
                        let verdict = match verdict {
                            0 => TAKEN,
                            1 => DOWN,
                            2 => Verdict::Again(Trouble::Status(429), Some(Duration::from_secs(7))),
                            _ => Verdict::Final(Outcome::Gone),
                        };
                        let attempt = under_way.swap_remove(which);
                        world.plan.ended(world.now, attempt, verdict, chance, &mut world.ended);
                    }
                }
                Step::Withdraw { user } => ends.extend(world.plan.withdraw(&notice(0, user)).map(|notice| notice.ticket)),
                Step::Pass { ms } => world.pass(Duration::from_millis(ms)),
            }
            ends.extend(world.outcomes().into_iter().map(|(ticket, _)| ticket));
            let figures = world.plan.figures()[ProviderKind::Fcm as usize];
            prop_assert_eq!(figures.waiting as usize, world.plan.waiting);
            prop_assert_eq!(ends.len() + under_way.len() + world.plan.waiting, offered as usize);
        }
        for attempt in under_way {
            world.end(attempt, TAKEN);
        }
        ends.extend(world.outcomes().into_iter().map(|(ticket, _)| ticket));
        ends.extend(world.plan.give_back().into_iter().map(|notice| notice.ticket));
        ends.sort_unstable();
        prop_assert_eq!(ends, (1..=offered).collect::<Vec<_>>());
        prop_assert!(world.plan.things.is_empty() && world.plan.agenda.is_empty());
        prop_assert_eq!(world.plan.under_way, 0);
    }
}
