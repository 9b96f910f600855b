//! Groups, in worlds of cores in one thread: one order for all, each message once, rights as of its place, and nothing afterwards for who
//! was sent away.

use proto_spec::{
    Act, Body, ClientFrame, Content, Direction, ErrorCode, Event, GroupEntry, GroupId, GroupPage, MessageName,
    RequestId, Resume, Role, Rules, SendNumber, Seq, ServerFrame, Settings, Standing, UserId, Visibility,
    digest::{self, Digest, RangeDigest},
    limits::REACTIONS_MAX,
};
use server::{
    core::CoreMessage,
    limits,
    shard::{EnvelopeBody, GroupSaid, Limits},
};
use storage::group::beside;
use tests::{
    frames::accepted,
    spec,
    world::{Link, World},
};

const GROUP: GroupId = GroupId(77);

/// People, each connected with one device, and how often each has sent something.
struct People {
    world: World,
    links: Vec<Link>,
    numbers: Vec<u64>,
}

impl People {
    /// So many on two cores.
    fn new(count: usize) -> Self {
        Self::on(World::new(2), count)
    }

    fn on(mut world: World, count: usize) -> Self {
        let links = (1..=count as u64).map(|user| world.connect(user, 1, Resume::Stored)).collect();
        Self { world, links, numbers: vec![0; count] }
    }

    /// A group of the first `members` of `count`, of whom the first one is the owner.
    fn group(count: usize, members: usize, rules: Rules) -> Self {
        let mut people = Self::new(count);
        people.found(members, rules);
        people
    }

    fn found(&mut self, members: usize, rules: Rules) {
        self.act(1, &Act::Create { name: "sea", picture: "", rules });
        (2..=members as u64).for_each(|user| self.act(1, &Act::Add { user: UserId(user) }));
        self.world.settle();
        self.forget();
    }

    /// A group of all of them, so many that few are there while they are added: they connect afterwards.
    fn many(cores: u16, members: usize) -> Self {
        let mut people = Self::on(World::new(cores), 1);
        people.act(1, &Act::Create { name: "sea", picture: "", rules: Rules::default() });
        for user in 2..=members as u64 {
            people.say_only(1, Content::act(&Act::Add { user: UserId(user) }));
            // So many a device may send before it hears of them.
            if user % 100 == 0 {
                people.world.settle();
            }
        }
        people.world.settle();
        people.links.extend((2..=members as u64).map(|user| people.world.connect_only(user, 1, Resume::Stored)));
        people.numbers.resize(members, 0);
        people.world.settle();
        people.forget();
        people
    }

    /// The digests of a range, asked for until it is all there. Each part of an answer ends where a range of it does, or all of them do.
    fn digests(&mut self, user: u64, (first, last, width): (u64, u64, u64)) -> Vec<Digest> {
        let (request, group, mut from, mut all) = (RequestId(6), GROUP, first.max(1), Vec::new());
        loop {
            let (first, last) = (Seq(from), Seq(last));
            self.world.frame(self.link(user), &ClientFrame::FetchDigest { request, first, last, width, group });
            self.world.settle();
            let told = self.take(user).into_iter().find_map(|frame| match frame {
                ServerFrame::Digest(digests) => Some(digests),
                _ => None,
            });
            let told = told.expect("they may ask");
            assert_eq!(told.first.0, from);
            all.extend(told.digests);
            if told.last < told.first || told.last >= told.at || told.last == last {
                return all;
            }
            from = told.last.0 + 1;
        }
    }

    /// What a list of members says of each, as far as they have read and have, and the counts for an entry.
    fn receipts(&mut self, user: u64, seq: u64) -> (Vec<(u64, u64)>, (u64, u64)) {
        let request = RequestId(6);
        let frame = ClientFrame::FetchMembers { request, group: GROUP, after: UserId(0), limit: 10, seq: Seq(seq) };
        self.world.frame(self.link(user), &frame);
        self.world.settle();
        let told = self.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::Members { members, delivered, read, .. } => {
                let marks = members.iter().map(|member| (member.read_up_to.0, member.delivered_up_to.0));
                Some((marks.collect(), (delivered, read)))
            }
            _ => None,
        });
        told.expect("they are a member")
    }

    fn link(&self, user: u64) -> Link {
        self.links[user as usize - 1]
    }

    /// Sends something, and lets nothing happen.
    fn say_only(&mut self, user: u64, content: Content) {
        let number = &mut self.numbers[user as usize - 1];
        *number += 1;
        let frame = ClientFrame::Send { number: SendNumber(*number), to: GROUP.into(), content };
        self.world.frame(self.links[user as usize - 1], &frame);
    }

    fn say(&mut self, user: u64, text: &str) {
        self.say_only(user, Content::text(text));
        self.world.settle();
    }

    fn act(&mut self, user: u64, act: &Act<'_>) {
        self.say_only(user, Content::act(act));
        self.world.settle();
    }

    fn take(&mut self, user: u64) -> Vec<ServerFrame> {
        self.world.take(self.link(user))
    }

    fn forget(&mut self) {
        (1..=self.links.len() as u64).for_each(|user| drop(self.take(user)));
    }

    /// The texts that were pushed to somebody since they were last looked at, with their seqs.
    fn pushed(&mut self, user: u64) -> Vec<(u64, String)> {
        texts(&self.take(user))
    }

    fn connect(&mut self, user: u64, resume: Resume) {
        self.links[user as usize - 1] = self.world.connect(user, 1, resume);
    }

    fn disconnect(&mut self, user: u64) {
        self.world.disconnect(self.link(user));
        self.world.settle();
    }

    fn page(&mut self, user: u64, from: u64, direction: Direction, limit: u64) -> Result<GroupPage, ErrorCode> {
        let request = RequestId(9);
        let (conversation, from) = (GROUP.into(), Seq(from));
        let frame = ClientFrame::FetchConversation { request, conversation, from, direction, limit };
        self.world.frame(self.link(user), &frame);
        self.world.settle();
        let answer = self.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::GroupPage(page) => Some(Ok(page)),
            ServerFrame::Error { code, request: RequestId(9), .. } => Some(Err(code)),
            _ => None,
        });
        answer.expect("a fetch is answered")
    }

    /// Everything that somebody may read.
    fn history(&mut self, user: u64) -> Vec<GroupEntry> {
        let (mut entries, mut from) = (Vec::new(), 1);
        loop {
            let page = self.page(user, from, Direction::Forwards, 3).expect("they may read");
            entries.extend(page.entries);
            if !page.more {
                return entries;
            }
            from = page.last.0 + 1;
        }
    }

    fn texts(&mut self, user: u64) -> Vec<String> {
        let entries = self.history(user);
        entries.iter().filter_map(|entry| entry.content.as_text().map(str::to_owned)).collect()
    }

    /// The pointers that the log of a user has, once the store has everything.
    fn pointer(&mut self, user: u64) -> Option<(Standing, u64, u64)> {
        let log = self.world.log(user);
        log.iter().rev().find_map(|entry| match entry.event {
            Event::Group { standing, first, up_to, .. } => Some((standing, first.0, up_to.0)),
            _ => None,
        })
    }

    /// How far each member has read, as this one is told.
    fn read_by(&mut self, user: u64) -> Vec<(u64, u64)> {
        let frame =
            ClientFrame::FetchMembers { request: RequestId(6), group: GROUP, after: UserId(0), limit: 10, seq: Seq(0) };
        self.world.frame(self.link(user), &frame);
        self.world.settle();
        let members = self.take(user).into_iter().find_map(|frame| match frame {
            ServerFrame::Members { members, .. } => Some(members),
            _ => None,
        });
        members.expect("they are a member").iter().map(|member| (member.user.0, member.read_up_to.0)).collect()
    }

    fn refused(&mut self, user: u64) -> Vec<(u64, ErrorCode)> {
        let log = self.world.log(user);
        let refused = log.iter().filter_map(|entry| match entry.event {
            Event::GroupRefused { origin, code, .. } => Some((origin.0, code)),
            _ => None,
        });
        refused.collect()
    }
}

fn texts(frames: &[ServerFrame]) -> Vec<(u64, String)> {
    let pushed = frames.iter().filter_map(|frame| match frame {
        ServerFrame::DeliverGroup { group: GROUP, entry } => {
            Some((entry.seq.0, entry.content.as_text().unwrap_or("(an act)").to_owned()))
        }
        _ => None,
    });
    pushed.collect()
}

fn text(seq: u64, text: &str) -> (u64, String) {
    (seq, text.to_owned())
}

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

/// A name of a message of the group.
fn name(author: u64, seq: u64) -> MessageName {
    MessageName { author: UserId(author), seq: Seq(seq) }
}

#[test]
fn a_message_is_changed_and_taken_back_by_its_author_and_reacted_to_by_all_wherever_it_is() {
    for is_stored in [false, true] {
        let mut people = People::group(3, 3, Rules::default());
        people.say(2, "helo");
        people.say(1, "something else");
        if is_stored {
            people.world.ingest();
        }
        people.say_only(1, Content::reaction(name(2, 4), "+", None));
        people.say_only(2, Content::edit(name(2, 4), &Content::text("hello"), None));
        people.say_only(1, Content::reaction(name(2, 4), "!", None));
        people.say_only(1, Content::text("behind it"));
        people.say_only(3, Content::edit(name(2, 4), &Content::text("mine"), None));
        people.say_only(3, Content::reaction(name(1, 4), "?", None));
        people.say_only(3, Content::unsend(name(3, 99), None));
        people.world.settle();
        let codes: Vec<_> = people.refused(3).into_iter().map(|(_, code)| code).collect();
        assert_eq!(codes, [ErrorCode::NotTheAuthor, ErrorCode::NoSuchMessage, ErrorCode::NoSuchMessage]);
        let check = |people: &mut People, user| {
            let history = people.history(user);
            let of_message: Vec<_> = history.iter().filter(|entry| entry.content.about().is_some()).collect();
            let says = of_message.iter().find(|entry| entry.place() == Some(Seq(4))).expect("it was edited");
            let Ok(Body::Edit(edit)) = says.content.body() else { panic!("{says:?}") };
            assert_eq!(edit.content(), Content::text("hello"));
            assert_eq!(edit.stands.map(|stands| stands.place), Some(Seq(4)));
            let reactions: Vec<_> = of_message.iter().filter(|entry| entry.place().is_none()).collect();
            assert!(matches!(reactions[..], [entry] if entry.from == UserId(1)), "{reactions:?}");
            assert!(history.iter().all(|entry| entry.seq != Seq(4)), "what it said first is gone");
            assert!(history.is_sorted_by_key(|entry| entry.seq));
        };
        check(&mut people, 3);
        people.world.ingest();
        check(&mut people, 3);
        people.say(2, "one more");
        people.say_only(2, Content::unsend(name(2, 4), None));
        people.say_only(1, Content::reaction(name(2, 4), "*", None));
        people.say_only(2, Content::edit(name(2, 4), &Content::text("again"), None));
        people.world.settle();
        let refused: Vec<_> = [1, 2].map(|user| people.refused(user).pop().map(|(_, code)| code)).to_vec();
        assert_eq!(refused, [Some(ErrorCode::TakenBack); 2]);
        for _ in 0..2 {
            let history = people.history(3);
            let of_message: Vec<_> = history.iter().filter(|entry| entry.content.about().is_some()).collect();
            assert!(matches!(of_message[..], [entry] if entry.content.is_unsend()), "{of_message:?}");
            people.world.ingest();
        }
        let texts = people.texts(3);
        assert_eq!(texts, ["something else", "behind it", "one more"], "in the order of the author");
    }
}

#[test]
fn a_message_has_so_many_reactions_and_who_has_one_may_change_it() {
    for is_stored in [false, true] {
        let members = REACTIONS_MAX as u64 + 1;
        let mut people = People::group(members as usize, members as usize, Rules::HISTORY);
        people.say(1, "hello");
        let message = name(1, members + 1);
        for user in 1..members {
            people.say_only(user, Content::reaction(message, &format!("{user}"), None));
            people.world.settle();
        }
        if is_stored {
            people.world.ingest();
        }
        people.say_only(members, Content::reaction(message, "too many", None));
        people.world.settle();
        let codes =
            |people: &mut People, user| people.refused(user).into_iter().map(|(_, code)| code).collect::<Vec<_>>();
        assert_eq!(codes(&mut people, members), [ErrorCode::ReactionsFull]);
        people.say_only(1, Content::reaction(message, "another", None));
        people.world.settle();
        // Who takes it back makes room, and comes back as one more.
        people.say_only(2, Content::reaction(message, "", None));
        people.world.settle();
        if is_stored {
            people.world.ingest();
        }
        people.say_only(members, Content::reaction(message, "one more", None));
        people.world.settle();
        assert_eq!(codes(&mut people, members), [ErrorCode::ReactionsFull], "no more than before");
        people.say_only(2, Content::reaction(message, "again", None));
        people.world.settle();
        assert_eq!(codes(&mut people, 2), [ErrorCode::ReactionsFull]);
        for user in (1..members).filter(|user| *user != 2) {
            assert_eq!(codes(&mut people, user), [], "{user}");
        }
        let history = people.history(members);
        let reactions = history.iter().filter_map(|entry| match entry.content.body() {
            Ok(Body::Reaction(reaction)) => Some((entry.from.0, reaction.reaction.to_owned())),
            _ => None,
        });
        let mut expected: Vec<_> = (3..members).map(|user| (user, format!("{user}"))).collect();
        expected.extend([(1, "another"), (2, ""), (members, "one more")].map(|(user, says)| (user, says.to_owned())));
        assert!(reactions.eq(expected), "{history:?}");
    }
}

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

#[test]
fn a_message_is_deleted_for_oneself_once_and_the_others_keep_it() {
    let mut people = People::group(2, 2, Rules::default());
    people.say(1, "hello");
    people.forget();
    let delete = |request, place| ClientFrame::DeleteMessage {
        request: RequestId(request),
        conversation: GROUP.into(),
        place: Seq(place),
    };
    for (request, place) in [(1, 3), (2, 3), (3, 99), (4, 0)] {
        people.world.frame(people.link(2), &delete(request, place));
        people.world.settle();
        if request == 1 {
            people.world.ingest();
        }
    }
    let frames = people.take(2);
    let marked = frames.iter().filter(|frame| matches!(frame, ServerFrame::Marked { .. })).count();
    assert_eq!(marked, 4, "{frames:?}");
    let log = people.world.log(2);
    let deleted: Vec<_> = log.iter().filter(|entry| matches!(entry.event, Event::Deleted { .. })).collect();
    assert!(
        matches!(deleted[..], [entry] if matches!(entry.event, Event::Deleted { place: Seq(3), .. })),
        "{deleted:?}"
    );
    assert_eq!((people.texts(1), people.texts(2)), (vec!["hello".to_owned()], vec!["hello".to_owned()]));
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
        for _ in 0..steps {
            people.world.settle();
            people.world.sync_one();
        }
        people.world.crash(2);
        people.world.disk_stalled = false;
        people.world.settle();
        people.world.advance(3 * limits::ASK_AGAIN_MS);
        for user in 1..=3 {
            people.connect(user, Resume::Stored);
        }
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
            ServerFrame::Groups { request: RequestId(5), more: false, rows } => Some(rows),
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
fn a_connection_that_does_not_read_is_told_afterwards_what_it_lacks() {
    let mut people = People::group(2, 2, Rules::default());
    let link = people.link(2).0;
    people.world.clients[link].stuck = true;
    let long = "x".repeat(16_000);
    (0..20).for_each(|_| people.say(1, &long));
    people.say(1, "the last one");
    people.world.clients[link].stuck = false;
    people.world.settle();
    let frames = people.take(2);
    let pointer = frames.iter().rev().find_map(|frame| match frame {
        ServerFrame::Deliver { entry } => match entry.event {
            Event::Group { up_to, .. } => Some(up_to.0),
            _ => None,
        },
        _ => None,
    });
    let last = texts(&frames).last().map(|(seq, _)| *seq);
    assert!(people.world.total(|counters| counters.fell_behind) > 0, "it took everything");
    assert_eq!(pointer, Some(23));
    assert!(last.is_some_and(|last| (3..23).contains(&last)), "{last:?} was the last that was pushed");
    people.say(1, "live again");
    assert_eq!(people.pushed(2), [text(24, "live again")]);
}

#[test]
fn an_entry_for_very_many_takes_several_turns_and_comes_to_each_of_them_once() {
    let members = 2 * limits::FANOUT_TURN_MAX + 100;
    let mut people = People::many(1, members);
    let delivered = |world: &World| world.total(|counters| counters.group_delivered);
    let (before, mut turns) = (delivered(&people.world), Vec::new());
    people.say_only(1, Content::text("to all"));
    assert_eq!(delivered(&people.world), before, "it is not durable");
    loop {
        let before = delivered(&people.world);
        let world = &mut people.world;
        if !(world.sync_one() || world.answer_one() || world.deliver_one() || world.work_one()) {
            break;
        }
        let in_turn = delivered(world) - before;
        turns.extend((in_turn > 0).then_some(in_turn));
    }
    assert_eq!(turns, [limits::FANOUT_TURN_MAX as u64, limits::FANOUT_TURN_MAX as u64, 100]);
    people.say(2, "and once more");
    let at = members as u64;
    let expected = [text(at + 1, "to all"), text(at + 2, "and once more")];
    assert!((1..=members as u64).all(|user| people.pushed(user) == expected));
}

#[test]
fn what_is_too_much_to_keep_is_left_out_and_pointed_at_and_who_goes_by_it_is_pushed_nothing() {
    let members = 2 * limits::FANOUT_TURN_MAX + 200;
    let mut people = People::many(2, members);
    let home = people.world.home_of(beside(GROUP));
    let elsewhere: Vec<_> = (2..=members as u64).filter(|user| people.world.home_of(UserId(*user)) != home).collect();
    // Those of a core get a push by their numbers, so that these two are left for a later turn.
    let [.., stays, goes] = elsewhere[..] else { panic!("there are two cores") };
    assert!(elsewhere.len() > limits::FANOUT_TURN_MAX + 2, "{} are at the other core", elsewhere.len());
    let core = people.world.home_of(UserId(goes));
    let removal = members as u64 + 1;
    let long = "x".repeat(16_000);
    let many = limits::PUSHES_KEPT_BYTES_MAX / long.len() + 4;
    people.say_only(1, Content::act(&Act::Remove { user: UserId(goes) }));
    // The other core hears all at once of what happened, and not yet from the group how the one who goes stands.
    let (mut pushes, mut standings) = (Vec::new(), Vec::new());
    for _ in 0..many {
        people.say_only(1, Content::text(&long));
        let world = &mut people.world;
        loop {
            let mut moved = world.sync_one() || world.answer_one();
            for at in world.with_mail() {
                let message = world.take_mail(at).expect("there is some");
                match &message {
                    CoreMessage::Group(mail) if at == core && matches!(mail.said, GroupSaid::Pushed(_)) => {
                        pushes.push(message);
                    }
                    CoreMessage::Envelope(of) if at == core && matches!(of.body, EnvelopeBody::Stand { .. }) => {
                        standings.push(message);
                    }
                    _ => world.hear(at, message),
                }
                moved = true;
            }
            moved |= world.work_one();
            if !moved {
                break;
            }
        }
    }
    assert_eq!((pushes.len(), standings.len()), (many + 1, 1));
    people.world.hear_at_once(core, pushes);
    assert_eq!((people.pushed(stays), people.pushed(goes)), (vec![], vec![]), "they are behind the others");
    people.world.settle();
    assert_eq!(people.pushed(goes), [], "what sends them away was left out");
    let pushed: Vec<_> = people.pushed(stays).into_iter().map(|(seq, _)| seq).collect();
    let left_out = pushed.first().expect("something was kept") - removal;
    assert!(left_out > 0 && pushed.is_sorted(), "{pushed:?} behind {removal}");
    let head = removal + many as u64;
    assert_eq!(people.pointer(stays), Some((Standing::Member, stays, head)), "{pushed:?}");
    standings.into_iter().for_each(|message| people.world.hear(core, message));
    people.world.settle();
    assert_eq!(people.pointer(goes), Some((Standing::Removed, goes, removal)));
    people.say(1, "live again");
    assert_eq!(people.pushed(stays), [text(head + 1, "live again")]);
    assert_eq!(people.pushed(goes), []);
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
