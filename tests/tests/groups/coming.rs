//! Who does not come into a group though somebody wants it: a user whom the one who adds them has to leave alone, or who is in too many.

use proto_spec::{
    Act, Body, ClientFrame, Content, Direction, ErrorCode, Event, GroupId, RequestId, Rules, Seq, ServerFrame,
    Settings, Standing, UserId, digest,
};
use server::{
    limits::{ASK_AGAIN_MS, OWN_ROWS_TIMES_GROUPS, ROWS_TIMES_GROUPS},
    shard::Limits,
};
use tests::{spec, world::World};

use crate::people::People;

impl People {
    fn block(&mut self, user: u64, other: u64, blocked: bool) {
        let (set, cleared) =
            if blocked { (Settings::BLOCKED, Settings::default()) } else { (Settings::default(), Settings::BLOCKED) };
        let conversation = UserId(other).into();
        let frame = ClientFrame::SetConversation { request: RequestId(4), conversation, set, cleared };
        self.world.frame(self.link(user), &frame);
        self.world.settle();
    }

    /// Who has come or gone, as somebody reads it: who did it, as which of their sends, and what.
    fn acts(&mut self, user: u64) -> Vec<(u64, u64, Act<'static>)> {
        let history = self.history(user);
        let acts = history.iter().filter_map(|entry| {
            let act = match entry.content.body() {
                Ok(Body::Act(Act::Add { user })) => Act::Add { user },
                Ok(Body::Act(Act::Remove { user })) => Act::Remove { user },
                _ => return None,
            };
            Some((entry.from.0, entry.origin.0, act))
        });
        acts.collect()
    }

    /// Who is a member of a group, as a member is told.
    fn members(&mut self, user: u64, group: GroupId) -> Vec<u64> {
        let request = RequestId(6);
        let frame = ClientFrame::FetchMembers { request, group, after: UserId(0), limit: 10, seq: Seq(0) };
        self.world.frame(self.link(user), &frame);
        self.world.settle();
        let members = self.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::Members { members, .. } => Some(members),
            _ => None,
        });
        members.expect("they are a member").iter().map(|member| member.user.0).collect()
    }
}

/// A send to a group of its own number, and why it was refused.
fn tries(people: &mut People, user: u64, group: GroupId, act: &Act<'_>) -> Option<ErrorCode> {
    people.say_to(user, group, Content::act(act));
    people.world.settle();
    let refused = people.take(user).into_iter().find_map(|frame| match frame {
        ServerFrame::Refused { code, .. } => Some(code),
        _ => None,
    });
    if refused.is_some() {
        people.numbers[user as usize - 1] -= 1;
    }
    refused
}

const CREATE: Act<'static> = Act::Create { name: "sea", picture: "", rules: Rules::from_bits(0) };

#[test]
fn who_has_blocked_somebody_is_added_by_them_and_leaves_at_once() {
    spec::says(
        "Who has blocked the one who adds them, or is in as many groups as one may be in, or was in four times as many, is added and leaves at once",
    );
    let mut people = People::group(4, 3, Rules::default());
    people.block(4, 2, true);
    people.act(2, &Act::Add { user: UserId(4) });
    people.say(1, "who was that?");
    let left = (4, 0, Act::Remove { user: UserId(4) });
    assert_eq!(people.acts(3).last(), Some(&left), "everybody sees that they are none");
    assert_eq!(people.pointer(4), None, "they hear nothing of it");
    assert_eq!(people.page(4, 1, Direction::Forwards, 10).map(|page| page.entries.len()), Ok(0));
    // Whoever is not blocked may.
    people.act(1, &Act::Add { user: UserId(4) });
    people.say(1, "welcome");
    assert_eq!(people.texts(4), ["welcome"]);
    assert_eq!(people.pointer(4).map(|(standing, ..)| standing), Some(Standing::Member));
    people.world.advance(3 * ASK_AGAIN_MS);
    people.world.ingest();
    assert!(people.world.store.unfinished_groups.is_empty());
}

#[test]
fn who_declines_keeps_what_they_could_read_before() {
    for (rules, first) in [(Rules::default(), 4), (Rules::HISTORY, 1)] {
        let mut people = People::group(4, 3, rules);
        people.act(1, &Act::Add { user: UserId(4) });
        people.say(1, "theirs");
        people.act(4, &Act::Remove { user: UserId(4) });
        let before = people.history(4);
        people.say(1, "not theirs");
        people.block(4, 2, true);
        people.act(2, &Act::Add { user: UserId(4) });
        people.say(1, "nor this");
        assert_eq!(people.acts(3).last(), Some(&(4, 0, Act::Remove { user: UserId(4) })));
        assert_eq!(people.history(4), before);
        let pointer = people.pointer(4).expect("they were a member");
        assert_eq!((pointer.0, pointer.1), (Standing::Left, first));
        // What they send as one who was a member is judged as ever.
        people.say(4, "hello?");
        assert_eq!(people.refused(4).last().map(|(_, code)| *code), Some(ErrorCode::NoSuchGroup));
        // And they come again, once they want to.
        people.block(4, 2, false);
        people.act(2, &Act::Add { user: UserId(4) });
        people.say(4, "here I am");
        assert!(people.texts(3).contains(&"here I am".to_owned()));
    }
}

#[test]
fn who_declines_reads_no_more_than_before_though_newcomers_may_by_now() {
    let mut people = People::group(4, 3, Rules::default());
    people.act(1, &Act::Add { user: UserId(4) });
    people.say(1, "theirs");
    people.act(4, &Act::Remove { user: UserId(4) });
    let before = people.history(4);
    people.say(1, "not theirs");
    people.act(1, &Act::SetRules { rules: Rules::HISTORY });
    people.block(4, 2, true);
    people.act(2, &Act::Add { user: UserId(4) });
    assert_eq!(people.acts(3).last(), Some(&(4, 0, Act::Remove { user: UserId(4) })));
    assert_eq!(people.history(4), before);
}

#[test]
fn a_log_that_knows_of_enough_groups_does_not_hear_of_more() {
    let limits = Limits { user_groups: 1, ..Limits::OFF };
    let mut people = People::on(World::limited(2, limits), 4);
    assert_eq!(tries(&mut people, 4, GroupId(11), &CREATE), None);
    people.found(3, Rules::default());
    people.say_only(1, Content::act(&Act::Add { user: UserId(4) }));
    people.say_only(1, Content::act(&Act::Remove { user: UserId(4) }));
    people.world.settle();
    let told = people.world.log(4).into_iter().filter_map(|entry| match entry.event {
        Event::Group { group, .. } => Some(group),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [GroupId(11)]);
    people.world.advance(3 * ASK_AGAIN_MS);
    people.world.ingest();
    assert!(people.world.store.unfinished_groups.is_empty());
}

#[test]
fn a_user_has_been_in_so_many_groups_and_others_can_not_fill_that() {
    spec::says("or was in eight times as many");
    let limits = Limits { user_groups: 1, ..Limits::OFF };
    let mut people = People::on(World::limited(2, limits), 2);
    let leave = Act::Remove { user: UserId(1) };
    for group in (1..=OWN_ROWS_TIMES_GROUPS as u64).map(|number| GroupId(100 + number)) {
        assert_eq!(tries(&mut people, 1, group, &CREATE), None);
        assert_eq!(tries(&mut people, 1, group, &leave), None);
        if group.0 == 100 + ROWS_TIMES_GROUPS as u64 {
            // Somebody else wants them in one more.
            assert_eq!(tries(&mut people, 2, GroupId(99), &CREATE), None);
            assert_eq!(tries(&mut people, 2, GroupId(99), &Act::Add { user: UserId(1) }), None);
            assert_eq!(people.members(2, GroupId(99)), [2]);
        }
    }
    assert_eq!(tries(&mut people, 1, GroupId(200), &CREATE), Some(ErrorCode::TooManyGroups));
}

#[test]
fn a_kill_at_any_place_leaves_who_declines_outside_and_tells_it_once() {
    for steps in 0..14 {
        let mut people = People::group(4, 3, Rules::default());
        people.block(4, 2, true);
        people.world.disk_stalled = true;
        people.say_only(2, Content::act(&Act::Add { user: UserId(4) }));
        people.die_after(steps);
        people.numbers[1] = 0;
        people.act(2, &Act::Add { user: UserId(4) });
        people.world.advance(3 * ASK_AGAIN_MS);
        let left = (4, 0, Act::Remove { user: UserId(4) });
        let acts = people.acts(3);
        assert_eq!(acts.iter().filter(|act| **act == left).count(), 1, "after {steps} steps: {acts:?}");
        assert_eq!(acts.last(), Some(&left), "after {steps} steps");
        assert_eq!(people.pointer(4), None, "after {steps} steps");
        assert!(people.world.store.unfinished_groups.is_empty(), "after {steps} steps");
    }
}

#[test]
fn a_user_is_in_so_many_groups_and_no_more() {
    spec::says("to `create` and `join` are refused with `too_many_groups`");
    let limits = Limits { user_groups: 2, ..Limits::OFF };
    let mut people = People::on(World::limited(2, limits), 3);
    let [one, two, three] = [GroupId(11), GroupId(12), GroupId(13)];
    assert_eq!(tries(&mut people, 1, one, &CREATE), None);
    assert_eq!(tries(&mut people, 1, two, &CREATE), None);
    assert_eq!(tries(&mut people, 1, three, &CREATE), Some(ErrorCode::TooManyGroups));
    assert_eq!(tries(&mut people, 2, three, &CREATE), None);
    // By invitation neither.
    let secret = b"a secret of enough bytes";
    let digest = Some(&digest::of_secret(secret));
    assert_eq!(tries(&mut people, 2, three, &Act::Invite { digest }), None);
    assert_eq!(tries(&mut people, 1, three, &Act::Join { secret }), Some(ErrorCode::TooManyGroups));
    // Who is added leaves, and nobody has to be told.
    assert_eq!(tries(&mut people, 2, three, &Act::Add { user: UserId(1) }), None);
    assert_eq!(people.members(2, three), [2]);
    // Whoever leaves one has room for another.
    assert_eq!(tries(&mut people, 1, two, &Act::Remove { user: UserId(1) }), None);
    assert_eq!(tries(&mut people, 1, three, &Act::Join { secret }), None);
    assert_eq!(people.members(2, three), [1, 2]);
}
