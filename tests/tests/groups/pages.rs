//! What a group tells who asks: pages of its log, lists, digests.

use proto_spec::{
    Act, ClientFrame, Content, Direction, ErrorCode, GroupEntry, GroupId, GroupRow, RequestId, Role, Rules, Seq,
    ServerFrame, Settings, Standing, UserId,
    digest::{self, Digest, RangeDigest},
};
use server::limits::GROUP_LAST_SCAN;
use tests::spec;

use crate::people::{GROUP, People, name};

#[test]
fn pages_are_the_same_wherever_the_log_is() {
    let mut people = People::group(2, 2, Rules::HISTORY);
    (0..10).for_each(|round| people.say(1, &format!("{round}")));
    people.world.ingest();
    (10..20).for_each(|round| people.say(2, &format!("{round}")));
    let expected: Vec<_> = (0..20).map(|round| format!("{round}")).collect();
    assert_eq!(people.texts(1), expected);
    for limit in [1, 3, 7, 50] {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            let page = people.page(2, from, Direction::Backwards, limit).unwrap();
            assert!(page.entries.len() as u64 <= limit && page.entries.is_sorted_by_key(|entry| entry.seq));
            assert!(page.entries.iter().all(|entry| (page.first..=page.last).contains(&entry.seq)));
            found.extend(page.entries.iter().rev().map(|entry| entry.seq.0));
            if !page.more {
                break;
            }
            from = page.first.0 - 1;
        }
        assert!(found.iter().copied().eq((1..=22).rev()), "{limit}: {found:?}");
    }
    let page = people.page(2, 0, Direction::Backwards, 15).unwrap();
    assert_eq!(page.entries.len(), 15, "a page that lies in both is filled");
}

#[test]
fn the_list_of_groups_and_of_members_is_told_to_members() {
    let mut people = People::group(3, 2, Rules::default());
    people.say(2, "the last one");
    people.forget();
    let ask = |people: &mut People, user: u64| {
        let frame = ClientFrame::FetchGroups { request: RequestId(5), after: GroupId(0), limit: 10 };
        people.world.frame(people.link(user), &frame);
        people.world.settle();
        let groups = people.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::Groups { request: RequestId(5), more: false, rows, .. } => Some(rows),
            _ => None,
        });
        groups.expect("it is answered")
    };
    let rows = ask(&mut people, 2);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.group, row.standing, row.role, row.members), (GROUP, Standing::Member, Role::Member, 2));
    assert_eq!((row.name.as_str(), row.head.0), ("sea", 3));
    assert_eq!(row.last.as_ref().and_then(|last| last.content.as_text()), Some("the last one"));
    assert_eq!(ask(&mut people, 3), []);
    let frame =
        ClientFrame::FetchMembers { request: RequestId(6), group: GROUP, after: UserId(0), limit: 10, seq: Seq(0) };
    for (user, expected) in [(1, Some(vec![(1, Role::Owner), (2, Role::Member)])), (3, None)] {
        people.world.frame(people.link(user), &frame);
        people.world.settle();
        let members = people.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::Members { members, more: false, .. } => {
                Some(members.iter().map(|member| (member.user.0, member.role)).collect::<Vec<_>>())
            }
            _ => None,
        });
        assert_eq!(members, expected);
    }
}

#[test]
fn the_list_says_how_each_group_is_kept_and_how_much_is_unread() {
    spec::says("takes `unread` of the row");
    for is_stored in [false, true] {
        let mut people = People::group(3, 3, Rules::default());
        let row = |people: &mut People, user: u64| {
            let frame = ClientFrame::FetchGroups { request: RequestId(5), after: GroupId(0), limit: 10 };
            people.world.frame(people.link(user), &frame);
            people.world.settle();
            let row = people.take(user).into_iter().find_map(|frame| match frame {
                ServerFrame::Groups { at, mut rows, .. } => rows.pop().map(|row| (at, row)),
                _ => None,
            });
            let (at, GroupRow { settings, read_up_to, unread, .. }) = row.expect("there is one");
            assert_eq!(at, people.world.log(user).last().map(|entry| entry.seq).unwrap_or_default());
            (settings, read_up_to.0, unread)
        };
        assert_eq!(row(&mut people, 2), (Settings::default(), 0, 0), "what was done is no message");
        // So many that the list does not look at them all.
        let many = GROUP_LAST_SCAN + 10;
        for text in 0..many {
            people.say(1, &format!("{text}"));
        }
        if is_stored {
            people.world.ingest();
        }
        assert_eq!(row(&mut people, 2), (Settings::default(), 0, many));
        let (conversation, request) = (GROUP.into(), RequestId(7));
        let frame = ClientFrame::MarkRead { request, conversation, up_to: Seq(3 + 4), tell: false };
        people.world.frame(people.link(2), &frame);
        let (set, cleared) = (Settings::MUTED, Settings::default());
        let frame = ClientFrame::SetConversation { request, conversation, set, cleared };
        people.world.frame(people.link(2), &frame);
        people.world.settle();
        if is_stored {
            people.world.ingest();
        }
        assert_eq!(row(&mut people, 2), (Settings::MUTED, 7, many - 4));
        // What stands at the mark is changed, which makes nothing unread.
        people.say_only(1, Content::edit(name(1, 7), &Content::text("changed"), None));
        people.world.settle();
        assert_eq!(row(&mut people, 2), (Settings::MUTED, 7, many - 4));
        let frame = ClientFrame::MarkRead { request, conversation, up_to: Seq(3 + many), tell: false };
        people.world.frame(people.link(2), &frame);
        people.world.settle();
        assert_eq!(row(&mut people, 2), (Settings::MUTED, 3 + many, 0));
        people.say(3, "one more");
        assert_eq!(row(&mut people, 2), (Settings::MUTED, 3 + many, 1));
        people.act(1, &Act::Remove { user: UserId(2) });
        assert_eq!(row(&mut people, 2), (Settings::MUTED, 3 + many, 0), "they are none any more");
    }
}

#[test]
fn a_list_is_as_of_one_entry_and_told_when_that_holds() {
    let mut people = People::group(2, 2, Rules::default());
    people.say(1, "one");
    people.world.disk_stalled = true;
    people.say_only(1, Content::edit(name(1, 3), &Content::text("two"), None));
    people.world.settle();
    people.forget();
    let frame = ClientFrame::FetchGroups { request: RequestId(5), after: GroupId(0), limit: 10 };
    people.world.frame(people.link(2), &frame);
    people.world.settle();
    let told = |frames: Vec<ServerFrame>| {
        frames.into_iter().find_map(|frame| match frame {
            ServerFrame::Groups { mut rows, .. } => rows.pop(),
            _ => None,
        })
    };
    assert_eq!(told(people.take(2)), None, "the edit may be lost");
    people.world.disk_stalled = false;
    people.world.settle();
    let row = told(people.take(2)).expect("it is answered");
    assert_eq!((row.head.0, row.last.map(|last| last.seq.0), row.unread), (4, Some(4), 1));
}

#[test]
fn a_list_says_what_was_marked_just_before_it_was_asked_for() {
    let mut people = People::group(2, 2, Rules::default());
    let other = GroupId(GROUP.0 + 1);
    for act in [Act::Create { name: "lake", picture: "", rules: Rules::default() }, Act::Add { user: UserId(2) }] {
        people.say_to(1, other, Content::act(&act));
        people.world.settle();
    }
    people.say(1, "one");
    people.world.ingest();
    let (conversation, request) = (GROUP.into(), RequestId(7));
    people.world.frame(people.link(2), &ClientFrame::MarkRead { request, conversation, up_to: Seq(3), tell: false });
    people.world.settle();
    people.take(2);
    // What the store is asked about the other group takes until it has the mark, and nothing of it is in memory any more.
    people.world.store_stalled = true;
    people.world.frame(people.link(2), &ClientFrame::FetchGroups { request, after: GroupId(0), limit: 10 });
    people.world.settle();
    people.world.ingest();
    people.world.store_stalled = false;
    people.world.settle();
    let rows = people.take(2).into_iter().find_map(|frame| match frame {
        ServerFrame::Groups { rows, .. } => Some(rows),
        _ => None,
    });
    let rows = rows.expect("it is answered");
    let marks: Vec<_> = rows.iter().map(|row| (row.group, row.read_up_to.0, row.unread)).collect();
    assert_eq!(marks, [(GROUP, 3, 0), (other, 0, 0)]);
}

#[test]
fn digests_of_a_group_are_those_of_what_somebody_may_read_of_it() {
    spec::says("Of what the user may not read there is no entry");
    for is_stored in [false, true] {
        let mut people = People::group(4, 3, Rules::default());
        people.say(1, "one");
        people.act(1, &Act::Remove { user: UserId(3) });
        people.say(1, "without them");
        people.act(1, &Act::Add { user: UserId(3) });
        for text in ["two", "three", "four"] {
            people.say(2, text);
        }
        people.say_only(2, Content::edit(name(2, 8), &Content::text("second"), None));
        people.say_only(1, Content::reaction(name(2, 9), "\u{1f44d}", None));
        people.say_only(2, Content::unsend(name(2, 10), None));
        people.world.settle();
        if is_stored {
            people.world.ingest();
        }
        people.say(1, "the newest");
        for user in 1..=3 {
            let held = people.history(user);
            for (first, last, width) in [(0, 0, 0), (0, 0, 1), (1, 14, 5), (3, 9, 2), (7, 7, 1), (15, 0, 4)] {
                assert_eq!(people.digests(user, (first, last, width)), digests_of(&held, (first, last, width), 14));
            }
        }
        let (one, two) = (people.digests(1, (7, 0, 0)), people.digests(2, (7, 0, 0)));
        assert_eq!(one, two, "who may read the same has the same");
        people.say(3, "and one more");
        assert_ne!(people.digests(1, (7, 0, 0)), one);
        let frame =
            ClientFrame::FetchDigest { request: RequestId(6), first: Seq(0), last: Seq(0), width: 0, group: GROUP };
        people.world.frame(people.link(4), &frame);
        people.world.settle();
        assert!(people.take(4).iter().any(|frame| matches!(
            frame,
            ServerFrame::Error { code: ErrorCode::NoSuchGroup, request: RequestId(6), .. }
        )));
    }
}

/// What a device computes that holds this of a log that ends at `head`.
fn digests_of(held: &[GroupEntry], (first, last, width): (u64, u64, u64), head: u64) -> Vec<Digest> {
    let (first, last) = (first.max(1), if last == 0 { head } else { last.min(head) });
    let width = if width == 0 { (last + 1).saturating_sub(first).max(1) } else { width };
    let begins = (0..).map(|part| first + part * width).take_while(|begin| *begin <= last);
    let digests = begins.map(|begin| {
        let mut range = RangeDigest::new();
        let part = begin..=(begin + width - 1).min(last);
        let entries = held.iter().filter(|entry| part.contains(&entry.seq.0));
        entries.for_each(|entry| range.add(&digest::of_group_entry(entry)));
        range.finish()
    });
    digests.collect()
}
