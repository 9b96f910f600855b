//! Groups, in worlds of cores in one thread: one order for all, each message once, rights as of its place, and nothing afterwards for who
//! was sent away. What is done to messages, marks, pages and fan-out have files of their own.

mod changes;
mod coming;
mod fanout;
mod marks;
mod notified;
mod pages;
mod people;

use proto_spec::{
    Act, ClientFrame, Content, Direction, ErrorCode, Event, GroupId, Resume, Role, Rules, SendNumber, ServerFrame,
    Standing, UserId,
};
use server::limits;
use tests::{frames::accepted, spec, world::World};

use crate::people::{People, text};

#[test]
fn all_members_see_the_messages_of_all_in_one_order_and_once() {
    let mut people = People::group(4, 3, Rules::default());
    for round in 0..5 {
        for user in 1..=3 {
            people.say_only(user, Content::text(&format!("{round} of {user}")));
        }
    }
    people.world.settle();
    let first = people.pushed(1);
    assert_eq!(first.len(), 15);
    assert!(first.iter().map(|(seq, _)| *seq).eq(4..19), "{first:?}");
    for user in 2..=3 {
        assert_eq!(people.pushed(user), first, "{user}");
    }
    assert_eq!(people.pushed(4), [], "who is none hears nothing");
    let told: Vec<_> = first.into_iter().map(|(_, text)| text).collect();
    for user in 1..=2 {
        assert_eq!(people.texts(user), told, "{user} reads what was pushed");
    }
    assert_eq!(people.texts(3).len(), 15);
    assert_eq!(people.page(4, 1, Direction::Forwards, 10), Err(ErrorCode::NoSuchGroup));
}

#[test]
fn what_was_sent_is_kept_once_it_is_numbered_and_only_once() {
    let mut people = People::group(2, 2, Rules::default());
    people.say(2, "hello");
    let log = people.world.log(2);
    assert!(!log.iter().any(|entry| matches!(entry.event, Event::Sent { .. })), "{log:?}");
    assert_eq!(people.pointer(2), Some((Standing::Member, 2, 3)));
    // The same number again: it was accepted.
    people.numbers[1] -= 1;
    people.forget();
    people.say(2, "hello");
    assert_eq!(accepted(&people.take(2)).len(), 1);
    assert_eq!(people.texts(1), ["hello"]);
    people.numbers[1] -= 1;
    people.say(2, "something else");
    let refused = people
        .take(2)
        .into_iter()
        .any(|frame| matches!(frame, ServerFrame::Refused { code: ErrorCode::NumberUsed, .. }));
    assert!(refused);
}

#[test]
fn who_comes_back_is_told_once_of_each_group_that_has_moved() {
    let mut people = People::group(2, 2, Rules::default());
    people.disconnect(2);
    (0..20).for_each(|round| people.say(1, &format!("{round}")));
    let before = people.world.log(2).len();
    people.connect(2, Resume::Stored);
    assert_eq!(people.pointer(2), Some((Standing::Member, 2, 22)));
    assert_eq!(people.world.log(2).len(), before, "the pointer takes the place of the one before");
    assert_eq!(people.texts(2).len(), 20);
    people.forget();
    people.say(1, "live again");
    assert_eq!(people.pushed(2), [text(23, "live again")]);
    people.disconnect(2);
    let head = people.world.log(2).last().map(|entry| entry.seq);
    people.connect(2, Resume::Stored);
    assert_ne!(people.world.log(2).last().map(|entry| entry.seq), head, "what was pushed is not known to have come");
    people.disconnect(2);
    let head = people.world.log(2).last().map(|entry| entry.seq);
    people.connect(2, Resume::Stored);
    assert_eq!(people.world.log(2).last().map(|entry| entry.seq), head, "nothing has moved");
}

#[test]
fn who_was_sent_away_gets_nothing_that_came_after_and_keeps_what_was_before() {
    spec::says("is pushed nothing behind it, and can still fetch what they could read");
    let mut people = People::group(3, 3, Rules::default());
    people.say(1, "before");
    people.forget();
    people.say_only(1, Content::act(&Act::Remove { user: UserId(3) }));
    people.say_only(2, Content::text("after"));
    people.say_only(3, Content::text("too late"));
    people.world.settle();
    let seqs: Vec<_> = people.pushed(3).into_iter().map(|(seq, _)| seq).collect();
    let away = people.pointer(3);
    let Some((Standing::Removed, 3, last)) = away else { panic!("{away:?}") };
    assert!(seqs.iter().all(|seq| *seq <= last), "{seqs:?} of {last}");
    let history = people.history(3);
    assert_eq!(history.last().map(|entry| entry.seq.0), Some(last), "the entry that removes them is the last");
    let read: Vec<_> = history.iter().filter(|entry| entry.content.as_text().is_some()).collect();
    assert!(read.iter().all(|entry| entry.seq.0 < last), "{read:?}");
    let others = people.history(2);
    let find = |text| others.iter().find(|entry| entry.content.as_text() == Some(text)).map(|entry| entry.seq.0);
    let after = find("after").expect("it was written by a member");
    assert_eq!(people.texts(3).contains(&"after".to_owned()), after < last, "{after} of {last}");
    // Their own last word is in the log before they go, or it is refused.
    let late = find("too late");
    assert!(late.is_none_or(|seq| seq < last), "{late:?} of {last}");
    let refused = people.refused(3).into_iter().map(|(_, code)| code).collect::<Vec<_>>();
    assert_eq!(refused, if late.is_some() { vec![] } else { vec![ErrorCode::NoSuchGroup] });
    people.say(1, "secret");
    assert_eq!(people.pushed(3), []);
    let page = people.page(3, 0, Direction::Backwards, 100).unwrap();
    assert_eq!((page.head.0, page.last.0, page.more), (last, last, false));
    let page = people.page(3, last + 1, Direction::Forwards, 100).unwrap();
    assert!(page.entries.is_empty() && !page.more);
    people.disconnect(3);
    people.connect(3, Resume::Stored);
    people.say(1, "more");
    assert_eq!(people.pushed(3), []);
    assert!(people.texts(2).contains(&"more".to_owned()));
    people.say(3, "let me in");
    let refused_now = people.refused(3);
    assert_eq!(refused_now.len(), refused.len() + 1, "{refused_now:?}");
    assert!(refused_now.iter().all(|(_, code)| *code == ErrorCode::NoSuchGroup), "{refused_now:?}");
    assert!(!people.texts(2).contains(&"let me in".to_owned()));
}

#[test]
fn newcomers_see_what_the_rules_say() {
    for (rules, expected) in [(Rules::default(), &["new"][..]), (Rules::HISTORY, &["old", "new"])] {
        let mut people = People::group(3, 2, rules);
        people.say(1, "old");
        people.act(1, &Act::Add { user: UserId(3) });
        people.say(1, "new");
        assert_eq!(people.texts(3), expected);
    }
}

#[test]
fn who_may_not_is_refused_in_their_log_and_nobody_else_sees_it() {
    let mut people = People::group(4, 3, Rules::ADMINS_POST);
    people.say(2, "may I?");
    people.act(3, &Act::Remove { user: UserId(2) });
    people.say(4, "hello?");
    people.act(1, &Act::SetRole { user: UserId(2), role: Role::Admin });
    people.say(2, "now I may");
    assert_eq!(people.refused(2).iter().map(|(_, code)| *code).collect::<Vec<_>>(), [ErrorCode::NotAllowed]);
    assert_eq!(people.refused(3).iter().map(|(_, code)| *code).collect::<Vec<_>>(), [ErrorCode::NotAllowed]);
    assert_eq!(people.refused(4).iter().map(|(_, code)| *code).collect::<Vec<_>>(), [ErrorCode::NoSuchGroup]);
    assert_eq!(people.texts(1), ["now I may"]);
}

#[test]
fn an_act_to_a_user_and_a_group_without_a_number_are_refused_at_once() {
    let mut people = People::group(2, 2, Rules::default());
    let act = Content::act(&Act::End);
    let frame = ClientFrame::Send { number: SendNumber(1), to: UserId(1).into(), content: act };
    people.world.frame(people.link(2), &frame);
    people.world.settle();
    let refused = |frames: Vec<ServerFrame>| {
        frames.into_iter().find_map(|frame| match frame {
            ServerFrame::Refused { code, .. } => Some(code),
            _ => None,
        })
    };
    assert_eq!(refused(people.take(2)), Some(ErrorCode::ContentKind));
    let frame = ClientFrame::Send { number: SendNumber(1), to: GroupId(0).into(), content: Content::text("x") };
    people.world.frame(people.link(2), &frame);
    people.world.settle();
    assert_eq!(refused(people.take(2)), Some(ErrorCode::Recipient));
}

#[test]
fn a_kill_at_any_place_loses_nothing_and_doubles_nothing() {
    // How many steps of the disk happen before the node dies.
    for steps in 0..14 {
        let mut people = People::group(3, 2, Rules::default());
        people.world.disk_stalled = true;
        people.say_only(2, Content::text("one"));
        people.say_only(1, Content::act(&Act::Add { user: UserId(3) }));
        people.say_only(2, Content::text("two"));
        people.die_after(steps);
        // Whatever was not accepted is sent again, as clients do.
        people.numbers = vec![2, 0, 0];
        people.act(1, &Act::Add { user: UserId(3) });
        people.say_only(2, Content::text("one"));
        people.say_only(2, Content::text("two"));
        people.world.settle();
        people.world.advance(3 * limits::ASK_AGAIN_MS);
        let told = people.texts(1);
        assert_eq!(told, ["one", "two"], "after {steps} steps");
        assert_eq!(people.texts(2), told, "after {steps} steps");
        let standing = people.pointer(3).map(|(standing, ..)| standing);
        assert_eq!(standing, Some(Standing::Member), "after {steps} steps");
        assert!(people.world.store.unfinished_groups.is_empty(), "{steps}: {:?}", people.world.store.unfinished_groups);
        assert!(people.world.store.unfinished.is_empty(), "{steps}: {:?}", people.world.store.unfinished);
        assert_eq!(people.refused(1), [], "after {steps} steps");
    }
}

#[test]
fn a_group_is_told_once_the_database_has_it() {
    let mut people = People::on(World::of_database(2, 2), 2);
    people.found(2, Rules::default());
    people.world.disk_stalled = true;
    people.say_only(1, Content::text("hello"));
    people.world.settle();
    assert_eq!(people.pushed(2), [], "it is not in the database");
    people.world.disk_stalled = false;
    people.world.settle();
    assert_eq!(people.pushed(2), [text(3, "hello")]);
    assert_eq!(people.texts(2), ["hello"]);
}
