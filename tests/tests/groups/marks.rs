//! What members are told of each other: how far they have read, what their devices have, and that they type.

use proto_spec::{
    Act, ClientFrame, ErrorCode, Event, RequestId, Resume, Rules, Seq, ServerFrame, Settings, UserId, Visibility,
};
use server::{limits, shard::Limits};
use tests::{spec, world::World};

use crate::people::{GROUP, People};

#[test]
fn how_far_a_group_is_read_and_how_it_is_kept_is_the_same_on_all_devices() {
    let mut people = People::group(3, 2, Rules::default());
    people.say(1, "one");
    people.say(1, "two");
    people.forget();
    let other = people.world.connect(2, 2, Resume::Live);
    let conversation = GROUP.into();
    let read = |up_to| ClientFrame::MarkRead { request: RequestId(4), conversation, up_to: Seq(up_to), tell: true };
    people.world.frame(people.link(2), &read(3));
    people.world.frame(people.link(2), &read(2));
    let (set, cleared) = (Settings::MUTED, Settings::default());
    let keep = ClientFrame::SetConversation { request: RequestId(5), conversation, set, cleared };
    people.world.frame(people.link(2), &keep);
    people.world.frame(people.link(2), &read(1_000));
    people.world.settle();
    let events = people.world.take(other).into_iter().filter_map(|frame| match frame {
        ServerFrame::Deliver { entry } => Some(entry.event),
        _ => None,
    });
    let events: Vec<_> = events.filter(|event| !matches!(event, Event::Group { .. })).collect();
    let read = |up_to| Event::Read { conversation, up_to: Seq(up_to), unread: 0, told: Seq::ZERO };
    assert_eq!(events, [read(3), Event::Settings { conversation, settings: Settings::MUTED }, read(4)]);
    assert_eq!(people.read_by(1), [(1, 0), (2, 4)], "the others see it who ask");
    people.world.crash(2);
    people.world.advance(limits::ASK_AGAIN_MS);
    (1..=3).for_each(|user| people.connect(user, Resume::Stored));
    assert_eq!(people.read_by(1), [(1, 0), (2, 4)]);
    people.world.frame(people.link(3), &keep);
    people.world.settle();
    let refused = people
        .take(3)
        .into_iter()
        .any(|frame| matches!(frame, ServerFrame::Error { code: ErrorCode::NoSuchGroup, request: RequestId(5), .. }));
    assert!(refused);
}

#[test]
fn what_devices_have_is_told_to_the_others_and_counted_and_of_who_hides_it_is_not() {
    spec::says(
        "In a group of more members than the operator sets the list says nothing of how far they are, and the counts do.",
    );
    for most in [4, 3] {
        let limits = Limits { group_receipts_members: most, ..Limits::OFF };
        let mut people = People::on(World::limited(2, limits), 4);
        people.found(4, Rules::default());
        people.say(1, "one");
        let acknowledge = |people: &mut People, user, up_to| {
            let frame = ClientFrame::AcknowledgeGroup { group: GROUP, up_to: Seq(up_to) };
            people.world.frame(people.link(user), &frame);
        };
        let (set, cleared) = (Visibility::INVISIBLE, Visibility::default());
        people.world.frame(people.link(4), &ClientFrame::SetVisibility { request: RequestId(3), set, cleared });
        people.world.settle();
        // Beyond what there is counts up to there; what is below what was said before changes nothing.
        for (user, up_to) in [(2, 4), (2, 3), (3, 1_000), (4, 5)] {
            acknowledge(&mut people, user, up_to);
        }
        people.world.advance(limits::GROUP_RECEIPTS_EVERY_MS + limits::TICK_MS);
        people.world.settle();
        let conversation = GROUP.into();
        let read = ClientFrame::MarkRead { request: RequestId(4), conversation, up_to: Seq(5), tell: true };
        people.world.frame(people.link(3), &read);
        people.world.settle();
        let told: [&[(u64, u64)]; 2] = [&[(0, 0), (0, 4), (5, 5), (0, 0)], &[(0, 0); 4]];
        let told = told[usize::from(most == 3)];
        assert_eq!(people.receipts(1, 5), (told.to_vec(), (1, 1)));
        assert_eq!(people.receipts(1, 4), (told.to_vec(), (2, 1)));
        assert_eq!(people.receipts(3, 5), (told.to_vec(), (0, 0)), "oneself is not counted");
        assert_eq!(people.receipts(1, 0), (told.to_vec(), (0, 0)));
        // Who goes is told of before they are forgotten, and a restart forgets nothing.
        acknowledge(&mut people, 2, 5);
        people.world.disconnect(people.link(2));
        people.world.settle();
        people.world.crash(2);
        people.world.advance(limits::ASK_AGAIN_MS);
        (1..=4).for_each(|user| people.connect(user, Resume::Stored));
        assert_eq!(people.receipts(1, 5).1, (2, 1));
        people.act(1, &Act::Remove { user: UserId(3) });
        people.act(1, &Act::Add { user: UserId(3) });
        assert_eq!(people.receipts(1, 5).1, (1, 0), "who comes again begins anew");
    }
}

#[test]
fn the_others_are_told_who_types_unless_they_hide() {
    let mut people = People::group(4, 3, Rules::default());
    let typing = ClientFrame::Typing { conversation: GROUP.into() };
    people.world.frame(people.link(2), &typing);
    people.world.frame(people.link(4), &typing);
    people.world.settle();
    let told = |people: &mut People| -> Vec<Vec<u64>> {
        let of = |frames: Vec<ServerFrame>| {
            let typing = frames.into_iter().filter_map(|frame| match frame {
                ServerFrame::TypingInGroup { group: GROUP, user, .. } => Some(user.0),
                _ => None,
            });
            typing.collect()
        };
        (1..=4).map(|user| of(people.take(user))).collect()
    };
    assert_eq!(told(&mut people), [vec![2], vec![], vec![2], vec![]]);
    let (set, cleared) = (Visibility::INVISIBLE, Visibility::default());
    people.world.frame(people.link(2), &ClientFrame::SetVisibility { request: RequestId(3), set, cleared });
    people.world.advance(limits::TYPING_EVERY_MS);
    people.world.frame(people.link(2), &typing);
    people.world.frame(people.link(3), &typing);
    people.world.settle();
    assert_eq!(told(&mut people), [vec![3], vec![3], vec![], vec![]], "of who hides nobody is told, of the other all");
}

#[test]
fn who_types_in_a_large_group_is_not_told() {
    for members in [limits::TYPING_MEMBERS_MAX, limits::TYPING_MEMBERS_MAX + 1] {
        let mut people = People::group(members, members, Rules::default());
        people.world.frame(people.link(2), &ClientFrame::Typing { conversation: GROUP.into() });
        people.world.settle();
        let is_told = people.take(1).iter().any(|frame| matches!(frame, ServerFrame::TypingInGroup { .. }));
        assert_eq!(is_told, members == limits::TYPING_MEMBERS_MAX);
    }
}
