//! What people are told of groups while something of it is not durable yet, or while it changes: in worlds of cores, step by step.

use proto_spec::{
    Act, ClientFrame, Content, Direction, ErrorCode, Event, GroupId, GroupRow, MessageName, RequestId, Resume, Rules,
    SendNumber, Seq, ServerFrame, Standing, UserId,
};
use server::{
    core::CoreMessage,
    shard::{EnvelopeBody, topology::CoreId},
};
use storage::group::beside;
use tests::{
    spec,
    world::{Link, World},
};

const GROUP: GroupId = GroupId(77);

/// People who are connected, each with one device. The first one has begun a group.
struct People {
    world: World,
    links: Vec<Link>,
    numbers: Vec<u64>,
}

impl People {
    fn new(count: u64, members: u64, rules: Rules) -> Self {
        let mut world = World::new(2);
        let links = (1..=count).map(|user| world.connect(user, 1, Resume::Stored)).collect();
        let mut people = Self { world, links, numbers: vec![0; count as usize] };
        people.act(1, &Act::Create { name: "sea", picture: "", rules });
        people.world.settle();
        for user in (2..=members).map(UserId) {
            people.act(1, &Act::Add { user });
            people.world.settle();
        }
        people
    }

    fn link(&self, user: u64) -> Link {
        self.links[user as usize - 1]
    }

    fn say(&mut self, user: u64, content: Content) {
        let number = &mut self.numbers[user as usize - 1];
        *number += 1;
        let frame = ClientFrame::Send { number: SendNumber(*number), to: GROUP.into(), content };
        self.world.frame(self.link(user), &frame);
    }

    fn act(&mut self, user: u64, act: &Act<'_>) {
        self.say(user, Content::act(act));
    }

    fn ask(&mut self, user: u64, frame: &ClientFrame) -> Vec<ServerFrame> {
        self.world.take(self.link(user));
        self.world.frame(self.link(user), frame);
        self.world.settle();
        self.world.take(self.link(user))
    }

    fn rows(&mut self, user: u64) -> Vec<GroupRow> {
        let frame = ClientFrame::FetchGroups { request: RequestId(5), after: GroupId(0), limit: 10 };
        let told = self.ask(user, &frame).into_iter().find_map(|frame| match frame {
            ServerFrame::Groups { rows, .. } => Some(rows),
            _ => None,
        });
        told.expect("a fetch is answered")
    }

    fn pushed(&mut self, user: u64) -> Vec<u64> {
        let frames = self.world.take(self.link(user)).into_iter();
        let seqs = frames.filter_map(|frame| match frame {
            ServerFrame::DeliverGroup { entry, .. } => Some(entry.seq.0),
            _ => None,
        });
        seqs.collect()
    }

    fn standing(&mut self, user: u64) -> Option<Standing> {
        self.world.log(user).iter().rev().find_map(|entry| match entry.event {
            Event::Group { standing, .. } => Some(standing),
            _ => None,
        })
    }
}

fn members(frames: &[ServerFrame]) -> Option<(u64, Vec<u64>)> {
    frames.iter().find_map(|frame| match frame {
        ServerFrame::Members { at, members, .. } => Some((at.0, members.iter().map(|member| member.user.0).collect())),
        _ => None,
    })
}

#[test]
fn who_is_none_any_more_is_not_told_what_became_of_the_group() {
    spec::says("`rules` and `members` are 0, `name` and `picture` empty");
    let mut people = People::new(2, 2, Rules::HISTORY);
    people.say(1, Content::text("theirs to read"));
    people.world.settle();
    people.act(2, &Act::Remove { user: UserId(2) });
    people.world.settle();
    people.act(1, &Act::Describe { name: "lake", picture: "where it lies" });
    people.act(1, &Act::SetRules { rules: Rules::ADMINS_POST });
    ["not theirs", "nor this"].iter().for_each(|text| people.say(1, Content::text(text)));
    people.world.settle();
    let own = &people.rows(1)[0];
    assert_eq!((own.name.as_str(), own.picture.as_str(), own.rules), ("lake", "where it lies", Rules::ADMINS_POST));
    assert_eq!(own.head.0, 8, "the group goes on");
    let rows = people.rows(2);
    let row = &rows[0];
    assert_eq!((row.standing, row.rules, row.members), (Standing::Left, Rules::default(), 0));
    assert_eq!((row.name.as_str(), row.picture.as_str(), row.head.0), ("", "", 4));
    let last = row.last.as_ref().map(|last| (last.seq.0, last.content.as_text()));
    assert_eq!(last, Some((3, Some("theirs to read"))));
}

#[test]
fn what_is_not_durable_of_a_roll_is_not_told() {
    spec::says("what is said of members up to here is in the list, and nothing of what follows");
    let mut people = People::new(3, 2, Rules::HISTORY);
    people.world.disk_stalled = true;
    people.act(1, &Act::Add { user: UserId(3) });
    people.world.settle();
    let list =
        ClientFrame::FetchMembers { request: RequestId(6), group: GROUP, after: UserId(0), limit: 10, seq: Seq(0) };
    let told = people.ask(2, &list);
    assert_eq!(members(&told), None, "a crash may still take it back");
    let (request, conversation, from, direction) = (RequestId(7), GROUP.into(), Seq(1), Direction::Forwards);
    let page = ClientFrame::FetchConversation { request, conversation, from, direction, limit: 10 };
    assert_eq!(people.ask(3, &page), []);
    people.world.disk_stalled = false;
    people.world.settle();
    assert_eq!(members(&people.world.take(people.link(2))), Some((3, vec![1, 2, 3])));
    let told = people.world.take(people.link(3));
    let read = told.iter().find_map(|frame| match frame {
        ServerFrame::GroupPage(page) => Some((page.first.0, page.last.0, page.entries.len(), page.head.0)),
        _ => None,
    });
    assert_eq!(read, Some((1, 3, 3, 3)), "{told:?}");
    people.world.disk_stalled = true;
    people.act(1, &Act::Remove { user: UserId(2) });
    people.world.settle();
    assert_eq!(people.ask(2, &list), [], "who is removed is told so when it holds");
    people.world.disk_stalled = false;
    people.world.settle();
    let told = people.world.take(people.link(2));
    assert!(told.iter().any(|frame| matches!(frame, ServerFrame::Error { code: ErrorCode::NoSuchGroup, .. })));
}

#[test]
fn who_is_removed_and_added_at_once_hears_what_follows() {
    for users in [2, 3, 4, 5] {
        let mut people = People::new(users, users, Rules::default());
        let head = people.rows(1)[0].head.0;
        people.world.disk_stalled = true;
        people.act(1, &Act::Remove { user: UserId(users) });
        people.act(1, &Act::Add { user: UserId(users) });
        people.world.settle();
        people.world.disk_stalled = false;
        people.world.settle();
        people.pushed(users);
        people.say(1, Content::text("hello again"));
        people.world.settle();
        assert_eq!(people.pushed(users), [head + 3], "of {users}");
    }
}

#[test]
fn how_somebody_stands_is_not_what_it_was_when_their_message_was_numbered() {
    let mut people = People::new(5, 5, Rules::default());
    let home = people.world.home_of(beside(GROUP));
    let user = (2..=5).find(|user| people.world.home_of(UserId(*user)) != home).expect("there are two cores");
    let own: CoreId = people.world.home_of(UserId(user));
    // The group's home is slow, and meanwhile the store has what was sent.
    people.say(user, Content::text("hello"));
    let mut to_group = Vec::new();
    for _ in 0..20 {
        people.world.sync_all();
        people.world.ingest_next();
        for core in people.world.with_mail() {
            let message = people.world.take_mail(core).expect("there is some");
            let is_send =
                matches!(&message, CoreMessage::Envelope(of) if matches!(of.body, EnvelopeBody::GroupSend { .. }));
            if is_send {
                to_group.push(message);
            } else {
                people.world.hear(core, message);
            }
        }
        while people.world.has_work() {
            people.world.work_one();
        }
    }
    assert_eq!(to_group.len(), 1);
    to_group.into_iter().for_each(|message| people.world.hear(home, message));
    // That it was numbered is written down once the author's home has read it, and that takes until after they are removed.
    people.world.store_stalled = true;
    people.world.settle();
    assert_eq!(people.world.reads().0, 1, "the home of {user}, {own:?}, reads what was sent");
    people.act(1, &Act::Remove { user: UserId(user) });
    people.world.settle();
    people.world.store_stalled = false;
    people.world.settle();
    assert_eq!(people.standing(user), Some(Standing::Removed));
}

#[test]
fn what_a_message_said_first_is_not_told_while_the_store_has_that_and_not_the_change() {
    let mut people = People::new(2, 2, Rules::default());
    people.say(1, Content::text("helo"));
    people.world.settle();
    people.world.seal();
    let name = MessageName { author: UserId(1), seq: Seq(3) };
    people.say(1, Content::edit(name, &Content::text("hello"), None));
    people.world.settle();
    people.world.ingest_sealed();
    for direction in [Direction::Forwards, Direction::Backwards] {
        let (request, conversation) = (RequestId(7), GROUP.into());
        let page = ClientFrame::FetchConversation { request, conversation, from: Seq(0), direction, limit: 10 };
        let told = people.ask(2, &page);
        let seqs = told.iter().find_map(|frame| match frame {
            ServerFrame::GroupPage(page) => Some(page.entries.iter().map(|entry| entry.seq.0).collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(seqs, Some(vec![2, 4]));
    }
}

#[test]
fn a_page_of_which_everything_has_been_superseded_is_not_the_end() {
    spec::says("nothing that the user may read is left in the direction of the fetch");
    let mut people = People::new(2, 2, Rules::HISTORY);
    for text in ["one", "two", "three"] {
        people.say(1, Content::text(text));
        people.world.settle();
    }
    people.world.ingest();
    for seq in [3, 4] {
        let name = MessageName { author: UserId(1), seq: Seq(seq) };
        people.say(1, Content::edit(name, &Content::text("changed"), None));
    }
    people.world.settle();
    for (direction, mut from) in [(Direction::Forwards, 3), (Direction::Backwards, 4)] {
        let mut seqs = Vec::new();
        loop {
            let (request, conversation) = (RequestId(7), GROUP.into());
            let page = ClientFrame::FetchConversation { request, conversation, from: Seq(from), direction, limit: 2 };
            let told = people.ask(2, &page).into_iter().find_map(|frame| match frame {
                ServerFrame::GroupPage(page) => Some(page),
                _ => None,
            });
            let page = told.expect("a fetch is answered");
            seqs.extend(page.entries.iter().map(|entry| entry.seq.0));
            if !page.more {
                break;
            }
            from = if direction == Direction::Forwards { page.last.0 + 1 } else { page.first.0 - 1 };
        }
        assert_eq!(seqs, if direction == Direction::Forwards { vec![5, 6, 7] } else { vec![1, 2] });
    }
}

#[test]
fn a_page_that_waits_is_of_one_place_of_the_log() {
    for is_stored in [false, true] {
        let mut people = People::new(2, 2, Rules::HISTORY);
        people.say(1, Content::text("helo"));
        people.world.settle();
        if is_stored {
            people.world.ingest();
        }
        people.world.disk_stalled = true;
        let name = MessageName { author: UserId(1), seq: Seq(3) };
        people.say(1, Content::edit(name, &Content::text("hello"), None));
        people.act(1, &Act::Remove { user: UserId(2) });
        people.world.settle();
        let (request, conversation, from, direction) = (RequestId(7), GROUP.into(), Seq(1), Direction::Forwards);
        let page = ClientFrame::FetchConversation { request, conversation, from, direction, limit: 10 };
        assert_eq!(people.ask(2, &page), []);
        people.world.disk_stalled = false;
        people.world.settle();
        let told = people.world.take(people.link(2)).into_iter().find_map(|frame| match frame {
            ServerFrame::GroupPage(page) => Some(page.entries.iter().map(|entry| entry.seq.0).collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(told, Some(vec![1, 2, 4, 5]));
    }
}

#[test]
fn who_goes_before_the_group_is_loaded_is_not_followed_for() {
    let mut people = People::new(3, 3, Rules::default());
    let left = |world: &mut World| {
        for _ in 0..5 {
            world.settle();
            world.ingest();
            world.advance(1_000);
        }
        (world.total(|counters| counters.groups), world.total(|counters| counters.groups_followed))
    };
    for user in 1..=3 {
        people.world.disconnect(people.link(user));
    }
    assert_eq!(left(&mut people.world), (0, 0));
    // The connection ends after each of the steps that it takes until its groups are followed.
    for steps in 0..30 {
        people.world.store_stalled = true;
        let link = people.world.connect(2, 1, Resume::Stored);
        for _ in 0..steps {
            _ = people.world.answer_one() || people.world.deliver_one();
        }
        people.world.store_stalled = false;
        people.world.disconnect(link);
        assert_eq!(left(&mut people.world), (0, 0), "after {steps} steps");
    }
}

#[test]
fn a_mark_that_comes_before_it_is_known_how_far_the_group_is_is_put_off_and_not_lost() {
    let mut people = People::new(2, 2, Rules::default());
    for _ in 0..5 {
        people.say(1, Content::text("x"));
        people.world.settle();
    }
    people.world.disconnect(people.link(2));
    people.world.settle();
    people.links[1] = people.world.connect_only(2, 1, Resume::Stored);
    let conversation = GROUP.into();
    let (up_to, tell) = (Seq(6), true);
    let read = ClientFrame::MarkRead { request: RequestId(7), conversation, up_to, tell };
    let delete = ClientFrame::DeleteMessage { request: RequestId(8), conversation, place: Seq(5) };
    // Behind the hello at once.
    people.world.frame(people.link(2), &read);
    people.world.frame(people.link(2), &delete);
    people.world.settle();
    let put_off = |frame: ServerFrame| match frame {
        ServerFrame::Error { code: ErrorCode::Overloaded, request, retry_after_ms: 1.., .. } => Some(request.0),
        _ => None,
    };
    let frames = people.world.take(people.link(2));
    assert_eq!(frames.into_iter().filter_map(put_off).collect::<Vec<_>>(), [7, 8]);
    let done = [people.ask(2, &read), people.ask(2, &delete)].concat();
    let is_there = |wanted: fn(&Event) -> bool| {
        done.iter().any(|frame| matches!(frame, ServerFrame::Deliver { entry } if wanted(&entry.event)))
    };
    assert!(is_there(|event| matches!(event, Event::Read { up_to: Seq(6), .. })), "{done:?}");
    assert!(is_there(|event| matches!(event, Event::Deleted { place: Seq(5), .. })), "{done:?}");
}

#[test]
fn how_far_somebody_has_read_is_told_when_it_is_durable() {
    let mut people = People::new(6, 6, Rules::default());
    let home = people.world.home_of(beside(GROUP));
    let reader = (2..=6).find(|user| people.world.home_of(UserId(*user)) == home).expect("there are two cores");
    let (request, conversation) = (RequestId(7), GROUP.into());
    let read = ClientFrame::MarkRead { request, conversation, up_to: Seq(6), tell: true };
    let fetch = ClientFrame::FetchMembers { request, group: GROUP, after: UserId(0), limit: 10, seq: Seq(0) };
    let told = |people: &mut People| {
        people.world.take(people.link(1)).into_iter().find_map(|frame| match frame {
            ServerFrame::Members { members, .. } => Some(members),
            _ => None,
        })
    };
    people.world.frame(people.link(reader), &read);
    people.world.settle_without_commits();
    people.world.frame(people.link(1), &fetch);
    people.world.settle_without_commits();
    assert_eq!(told(&mut people), None, "the disk has not said that it has the mark");
    people.world.settle();
    let members = told(&mut people).expect("it is durable");
    let marks: Vec<_> = members.iter().map(|member| (member.user.0, member.read_up_to.0)).collect();
    let expected: Vec<_> = (1..=6).map(|user| (user, if user == reader { 6 } else { 0 })).collect();
    assert_eq!(marks, expected);
}
