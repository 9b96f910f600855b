//! A group's log by the plainest means, and clients who hear of it in every way there is.

use proptest::{collection::vec, prelude::*};
use proto_spec::{MessageName, RequestId, TimestampMs};

use super::*;

const ME: UserId = UserId(7);
const GROUP: GroupId = GroupId(42);

/// A group's home. Entries that a later one supersedes are gone.
#[derive(Clone, Default)]
struct Home {
    log: Vec<Option<GroupEntry>>,
    /// The entries as they were when they happened.
    happened: Vec<GroupEntry>,
}

impl Home {
    fn head(&self) -> Seq {
        Seq(self.happened.len() as u64)
    }

    /// What happens next, by two numbers.
    fn grow(&mut self, what: u8, which: u64) {
        let seq = self.head().next();
        let from = UserId(7 + which % 3);
        let messages: Vec<(Seq, UserId)> =
            self.standing().into_iter().map(|(place, entry)| (place, entry.from)).collect();
        let target = messages.get(which as usize % messages.len().max(1)).copied();
        let stands = |(place, author)| MessageName { author, seq: place };
        let (from, content) = match (what % 6, target) {
            (0, Some(target)) => (target.1, Content::edit(stands(target), &Content::text("later"), None)),
            (1, Some(target)) => (target.1, Content::unsend(stands(target), None)),
            (2, Some(target)) => (from, Content::reaction(stands(target), "👍", None)),
            (3, _) => (from, Content::act(&Act::Describe { name: &format!("group {which}"), picture: "" })),
            _ => (from, Content::text("now")),
        };
        let entry = GroupEntry { seq, time: TimestampMs(seq.0), from, origin: Seq(which), messages: 0, content };
        let replaced: Vec<usize> = self.replaced(&entry);
        replaced.into_iter().for_each(|at| self.log[at] = None);
        self.log.push(Some(entry.clone()));
        self.happened.push(entry);
    }

    /// Messages that can be changed, by where they stand.
    fn standing(&self) -> BTreeMap<Seq, &GroupEntry> {
        let messages = self.log.iter().flatten().filter_map(|entry| Some((entry.place()?, entry)));
        messages.filter(|(_, entry)| !entry.content.is_unsend()).collect()
    }

    fn replaced(&self, entry: &GroupEntry) -> Vec<usize> {
        let Some((name, _)) = entry.content.about() else { return Vec::new() };
        let is_replaced = |other: &GroupEntry| {
            let is_reaction_to = other.content.about().is_some_and(|(of, _)| of == name) && other.place().is_none();
            match entry.content {
                Content::Reaction(_) => is_reaction_to && other.from == entry.from,
                Content::Unsend(_) => is_reaction_to || other.place() == Some(name.seq),
                _ => other.place() == Some(name.seq),
            }
        };
        let all = self.log.iter().enumerate();
        all.filter(|(_, other)| other.as_ref().is_some_and(is_replaced)).map(|(at, _)| at).collect()
    }

    /// As the group's home answers, whose user may read it all.
    fn page(&self, from: Seq, direction: Direction, limit: u64) -> GroupPage {
        let head = self.head();
        let limit = limit.max(1);
        let (first, last, more) = match direction {
            Direction::Forwards => {
                let last = head.min(Seq((from.0 + limit - 1).max(from.previous().0)));
                (from, last.max(from.previous()), last < head)
            }
            Direction::Backwards => {
                let last = if from == Seq::ZERO || from > head { head } else { from };
                let first = Seq(last.0.saturating_sub(limit - 1).max(1));
                (first, last, first > Seq(1))
            }
        };
        let entries = self.log.iter().flatten().filter(|entry| first <= entry.seq && entry.seq <= last);
        let entries = entries.cloned().collect();
        GroupPage { request: RequestId(1), group: GROUP, first, last, more, head, entries }
    }

    /// What each message says, by the plainest fold of everything that happened, from a place on: the text and the reactions.
    fn said(&self, from: Seq) -> BTreeMap<Seq, (Content, BTreeMap<UserId, Content>)> {
        let mut said: BTreeMap<Seq, (Content, BTreeMap<UserId, Content>)> = BTreeMap::new();
        for entry in &self.happened {
            match (entry.place(), entry.content.about()) {
                (Some(place), _) => {
                    let message = said.entry(place).or_insert_with(|| (entry.content.clone(), BTreeMap::new()));
                    message.0 = entry.content.clone();
                    if entry.content.is_unsend() {
                        message.1.clear();
                    }
                }
                (None, Some((name, _))) => {
                    let message = said.get_mut(&name.seq).unwrap();
                    message.1.insert(entry.from, entry.content.clone());
                }
                (None, None) => {}
            }
        }
        said.split_off(&from)
    }
}

fn pointer(up_to: Seq) -> Entry {
    let event = Event::Group { group: GROUP, standing: Standing::Member, first: Seq(1), up_to, sent_up_to: Seq(0) };
    Entry { seq: Seq(1), time: TimestampMs(1), event }
}

fn shown(group: &Group) -> BTreeMap<Seq, (Content, BTreeMap<UserId, Content>)> {
    let reactions = |place| group.reactions(place).map(|entry| (entry.from, entry.content.clone())).collect();
    let messages = group.messages();
    messages.map(|message| (message.place, (message.entry.content.clone(), reactions(message.place)))).collect()
}

fn fetch_all(home: &Home, groups: &mut Groups, limit: u64) {
    groups.entry(&pointer(home.head()));
    for _ in 0..10_000 {
        let group = groups.get(GROUP).unwrap();
        let (from, direction) = match (group.lacks(), group.older()) {
            (Some(from), _) => (from, Direction::Forwards),
            (None, Some(from)) => (from, Direction::Backwards),
            (None, None) => return,
        };
        groups.page(direction, &home.page(from, direction, limit));
    }
    panic!("it never ends");
}

#[derive(Clone, Debug)]
enum Step {
    /// Something happens, and is pushed.
    Grow(u8, u64),
    /// The client asks for what it lacks, or for what is older, so much of it.
    Fetch(u64),
    /// The oldest of what is on its way arrives; the first of pushes and the first page, by a number, since they come by no common order.
    Arrive(bool),
    /// What is on its way is lost, and a pointer comes later.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), any::<u64>()).prop_map(|(what, which)| Step::Grow(what, which)),
        3 => (1u64..6).prop_map(Step::Fetch),
        8 => any::<bool>().prop_map(Step::Arrive),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    #[test]
    fn what_is_pushed_and_what_is_fetched_give_the_same_over_any_cut(steps in vec(step(), 0..120), limit in 1u64..9) {
        let mut home = Home::default();
        let mut groups = Groups::default();
        groups.welcome(ME);
        let (mut pushes, mut pages) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Grow(what, which) => {
                    home.grow(what, which);
                    pushes.insert(0, home.happened.last().unwrap().clone());
                }
                Step::Fetch(limit) => {
                    let group = groups.get(GROUP).cloned().unwrap_or_default();
                    let asks = group.lacks().map(|from| (from, Direction::Forwards));
                    let asks = asks.or_else(|| group.older().map(|from| (from, Direction::Backwards)));
                    if let Some((from, direction)) = asks {
                        pages.insert(0, (direction, home.page(from, direction, limit)));
                    }
                }
                Step::Arrive(true) if !pages.is_empty() => {
                    let (direction, page) = pages.pop().unwrap();
                    groups.page(direction, &page);
                }
                Step::Arrive(_) => {
                    if let Some(entry) = pushes.pop() {
                        groups.pushed(GROUP, &entry);
                    }
                }
                Step::Cut => {
                    (pushes, pages) = (Vec::new(), Vec::new());
                    groups.entry(&pointer(home.head()));
                }
            }
            let group = groups.get(GROUP).cloned().unwrap_or_default();
            if let (None, Some((first, last))) = (group.lacks(), group.held()) {
                // Nothing is missing behind what is held, up to what the client was told of.
                let then = Home { happened: home.happened[..last.0 as usize].to_vec(), log: Vec::new() };
                if group.reached() == home.head() {
                    prop_assert_eq!(shown(&group), then.said(first));
                }
            }
        }
        fetch_all(&home, &mut groups, limit);
        let mut late = Groups::default();
        late.welcome(ME);
        fetch_all(&home, &mut late, 500);
        prop_assert_eq!(&groups, &late, "who comes later knows the same");
        prop_assert_eq!(shown(groups.get(GROUP).unwrap()), home.said(Seq(1)));
    }
}

/// A log of so many texts.
fn texts(count: u64) -> Home {
    let mut home = Home::default();
    (0..count).for_each(|which| home.grow(4, which));
    home
}

#[test]
fn a_gap_is_told_and_filled_from_where_it_begins() {
    let home = texts(9);
    let mut groups = Groups::default();
    groups.pushed(GROUP, &home.happened[1]);
    let group = groups.get(GROUP).unwrap();
    assert_eq!((group.held(), group.lacks(), group.older()), (Some((Seq(2), Seq(2))), None, Some(Seq(1))));
    groups.pushed(GROUP, &home.happened[4]);
    groups.pushed(GROUP, &home.happened[5]);
    assert_eq!(groups.get(GROUP).unwrap().lacks(), Some(Seq(3)));
    assert_eq!(groups.page(Direction::Forwards, &home.page(Seq(3), Direction::Forwards, 2)), PageTaken::Joined);
    let group = groups.get(GROUP).unwrap();
    assert_eq!((group.held(), group.reached()), (Some((Seq(2), Seq(6))), Seq(9)), "those ahead follow on");
    assert_eq!(group.lacks(), Some(Seq(7)), "a page tells how far the group is");
}

#[test]
fn a_page_that_is_much_newer_takes_the_place_of_what_was_held_and_one_that_is_older_is_left() {
    let home = texts(20);
    let mut groups = Groups::default();
    groups.page(Direction::Backwards, &home.page(Seq(4), Direction::Backwards, 3));
    let newest = home.page(Seq::ZERO, Direction::Backwards, 3);
    assert_eq!(groups.page(Direction::Backwards, &newest), PageTaken::Restarted);
    assert_eq!(groups.get(GROUP).unwrap().held(), Some((Seq(18), Seq(20))));
    let old = home.page(Seq(4), Direction::Backwards, 3);
    assert_eq!(groups.page(Direction::Backwards, &old), PageTaken::Left);
    assert_eq!(groups.get(GROUP).unwrap().messages().count(), 3);
    let next = groups.get(GROUP).unwrap().older().unwrap();
    assert_eq!(groups.page(Direction::Backwards, &home.page(next, Direction::Backwards, 99)), PageTaken::Joined);
    assert_eq!((groups.get(GROUP).unwrap().older(), groups.get(GROUP).unwrap().messages().count()), (None, 20));
}

#[test]
fn no_more_is_held_than_may_be_and_that_is_the_newest() {
    let most = GROUP_ENTRIES_MAX as u64;
    let home = texts(most + 5);
    let mut groups = Groups::default();
    home.happened.iter().for_each(|entry| groups.pushed(GROUP, entry));
    let group = groups.get(GROUP).unwrap();
    assert_eq!((group.held(), group.entries().count()), (Some((Seq(6), Seq(most + 5))), GROUP_ENTRIES_MAX));
    assert_eq!(groups.page(Direction::Backwards, &home.page(Seq(5), Direction::Backwards, 2)), PageTaken::Left);
    // What is ahead is bounded too: the nearest is kept.
    let mut groups = Groups::default();
    groups.pushed(GROUP, &home.happened[0]);
    home.happened[2..].iter().for_each(|entry| groups.pushed(GROUP, entry));
    groups.page(Direction::Forwards, &home.page(Seq(2), Direction::Forwards, 1));
    let held = groups.get(GROUP).unwrap().held();
    assert_eq!(held, Some((Seq(1), Seq(2 + crate::limits::GROUP_AHEAD_MAX as u64))));
}

/// An entry of the own log about this group.
fn own(seq: u64, event: Event) -> Entry {
    Entry { seq: Seq(seq), time: TimestampMs(seq), event }
}

#[test]
fn what_was_sent_is_unanswered_until_the_group_has_numbered_or_refused_it() {
    let sent = |seq| {
        let (device, number) = (proto_spec::DeviceId(1), proto_spec::SendNumber(seq));
        own(seq, Event::Sent { to: GROUP.into(), device, number, content: Content::text("all") })
    };
    let mut groups = Groups::default();
    groups.welcome(ME);
    let unanswered =
        |groups: &Groups| groups.get(GROUP).unwrap().unanswered().map(|(seq, _)| seq.0).collect::<Vec<_>>();
    (1..=5).for_each(|seq| groups.entry(&sent(seq)));
    let code = proto_spec::ErrorCode::NotAllowed;
    groups.entry(&own(6, Event::GroupRefused { group: GROUP, origin: Seq(2), code }));
    assert_eq!(unanswered(&groups), [1, 3, 4, 5]);
    let (standing, first, up_to) = (Standing::Member, Seq(1), Seq(2));
    groups.entry(&own(7, Event::Group { group: GROUP, standing, first, up_to, sent_up_to: Seq(3) }));
    assert_eq!(unanswered(&groups), [4, 5]);
    // The group's log may be quicker than the pointer.
    let content = Content::text("all");
    let mut entry = GroupEntry { seq: Seq(3), time: TimestampMs(1), from: ME, origin: Seq(4), messages: 3, content };
    groups.pushed(GROUP, &entry);
    entry = GroupEntry { seq: Seq(4), from: UserId(8), origin: Seq(5), ..entry };
    groups.pushed(GROUP, &entry);
    assert_eq!(unanswered(&groups), [5], "another one's fifth is not one's own");
}

#[test]
fn who_may_read_more_than_before_fetches_it() {
    let mut home = Home::default();
    (0..9).for_each(|which| home.grow(4, which));
    let mut groups = Groups::default();
    groups.welcome(ME);
    let stands = |seq, first| {
        let standing = Standing::Member;
        own(seq, Event::Group { group: GROUP, standing, first: Seq(first), up_to: home.head(), sent_up_to: Seq(0) })
    };
    let entries = home.happened[4..].to_vec();
    let page = |first: u64, entries| GroupPage {
        request: RequestId(1),
        group: GROUP,
        first: Seq(first),
        last: home.head(),
        more: false,
        head: home.head(),
        entries,
    };
    groups.entry(&stands(1, 5));
    groups.page(Direction::Backwards, &page(5, entries.clone()));
    assert_eq!(groups.get(GROUP).unwrap().older(), None, "nothing before it is theirs");
    groups.entry(&stands(2, 1));
    assert_eq!(groups.get(GROUP).unwrap().held(), Some((Seq(5), home.head())));
    assert_eq!(groups.get(GROUP).unwrap().older(), Some(Seq(4)));
    // A page that came before it was known how the user stands.
    let mut groups = Groups::default();
    groups.welcome(ME);
    groups.page(Direction::Backwards, &page(5, entries));
    groups.entry(&stands(1, 1));
    assert_eq!(groups.get(GROUP).unwrap().held(), Some((Seq(5), home.head())));
    assert_eq!(groups.get(GROUP).unwrap().older(), Some(Seq(4)));
    // One whose middle was somebody else's.
    let (mut groups, mut entries) = (Groups::default(), home.happened.clone());
    groups.welcome(ME);
    entries.remove(6);
    groups.page(Direction::Backwards, &page(1, entries));
    groups.entry(&stands(1, 1));
    assert_eq!(groups.get(GROUP).unwrap().held(), Some((Seq(8), home.head())));
    assert_eq!(groups.get(GROUP).unwrap().older(), Some(Seq(7)));
}

#[test]
fn unread_are_the_messages_of_others_behind_the_mark_that_still_say_something() {
    let mut home = Home::default();
    // By 7, 8, 9, 7, 8, 9.
    (0..6).for_each(|which| home.grow(4, which));
    // The last one is taken back.
    home.grow(1, 5);
    let mut groups = Groups::default();
    groups.welcome(ME);
    groups.entry(&pointer(home.head()));
    assert_eq!(groups.unread(GROUP), None, "nothing is held");
    fetch_all(&home, &mut groups, 500);
    assert_eq!(groups.unread(GROUP), Some(3));
    let read = |up_to| Event::Read { conversation: GROUP.into(), up_to, unread: 0, told: Seq::ZERO };
    groups.entry(&own(2, read(Seq(2))));
    assert_eq!((groups.unread(GROUP), groups.get(GROUP).unwrap().read_up_to()), (Some(2), Seq(2)));
    let of = MessageName { author: UserId(0), seq: Seq(3) };
    groups.entry(&own(3, Event::Deleted { conversation: GROUP.into(), of, place: Seq(3), unread: 0 }));
    assert_eq!((groups.unread(GROUP), groups.get(GROUP).unwrap().message(Seq(3))), (Some(1), None));
    let mut tail = Groups::default();
    tail.pushed(GROUP, &home.happened[4]);
    assert_eq!(tail.unread(GROUP), None, "something is missing up to the mark");
}

#[test]
fn what_a_group_is_called_and_what_one_may_do_there_is_what_was_said_last_whatever_came_first() {
    let act = |seq, from, act: &Act<'_>| GroupEntry {
        seq: Seq(seq),
        time: TimestampMs(seq),
        from: UserId(from),
        origin: Seq(seq),
        messages: 0,
        content: Content::act(act),
    };
    let rules = Rules::HISTORY;
    let create = act(1, 7, &Act::Create { name: "Sea", picture: "", rules });
    let describe = act(2, 7, &Act::Describe { name: "Lake", picture: "p" });
    let hand_over = act(3, 7, &Act::SetRole { user: UserId(8), role: Role::Owner });
    let row = GroupRow {
        group: GROUP,
        standing: Standing::Member,
        role: Role::Owner,
        rules: Rules::default(),
        members: 2,
        head: Seq(1),
        name: "Sea".into(),
        picture: String::new(),
        last: None,
        settings: Settings::MUTED,
        read_up_to: Seq::ZERO,
        unread: 0,
    };
    let mut groups = Groups::default();
    groups.welcome(ME);
    groups.pushed(GROUP, &hand_over);
    groups.pushed(GROUP, &describe);
    groups.rows(Seq(5), std::slice::from_ref(&row));
    groups.pushed(GROUP, &create);
    let group = groups.get(GROUP).unwrap();
    assert_eq!((group.name(), group.picture(), group.role()), ("Lake", "p", Some(Role::Admin)));
    assert_eq!((group.members(), group.rules()), (2, Some(rules)));
    groups.rows(Seq(5), &[GroupRow { head: Seq(9), role: Role::Member, name: "Pond".into(), ..row.clone() }]);
    let group = groups.get(GROUP).unwrap();
    assert_eq!((group.name(), group.role(), group.reached()), ("Pond", Some(Role::Member), Seq(9)));
    // What is unread is as the row counts it, until something is missing behind it.
    let counted = GroupRow { head: Seq(9), role: Role::Member, name: "Pond".into(), unread: 5, ..row.clone() };
    groups.rows(Seq(6), &[counted]);
    assert_eq!((groups.unread(GROUP), groups.get(GROUP).unwrap().settings()), (Some(5), Settings::MUTED));
    let said = |seq: u64, from: u64| GroupEntry {
        seq: Seq(seq),
        time: TimestampMs(1),
        from: UserId(from),
        origin: Seq(seq),
        messages: seq,
        content: Content::text("hello"),
    };
    groups.pushed(GROUP, &said(10, 8));
    groups.pushed(GROUP, &said(11, ME.0));
    assert_eq!(groups.unread(GROUP), Some(6), "what one has written is not unread");
    groups.pushed(GROUP, &said(13, 8));
    assert_eq!(groups.unread(GROUP), None);
    // A row without a name is of a group that could not be asked.
    groups.rows(Seq(5), &[GroupRow { head: Seq(12), name: String::new(), members: 0, ..row }]);
    let group = groups.get(GROUP).unwrap();
    assert_eq!((group.name(), group.members(), group.reached()), ("Pond", 2, Seq(13)));
    groups.discard();
    assert_eq!(groups.iter().len(), 0);
}

#[test]
fn a_page_from_before_a_message_was_taken_back_brings_no_reaction_to_it_back() {
    let mut home = texts(3);
    // To the first message, by the second user.
    home.grow(2, 3);
    let before = home.page(Seq(4), Direction::Backwards, 4);
    home.grow(1, 0);
    assert_eq!(before.entries.len(), 4);
    let mut groups = Groups::default();
    groups.pushed(GROUP, &home.happened[4]);
    groups.page(Direction::Backwards, &before);
    assert_eq!(shown(groups.get(GROUP).unwrap()), home.said(Seq(1)));
}

#[test]
fn one_missing_entry_is_a_gap() {
    let home = texts(6);
    let page = |from, limit| home.page(Seq(from), Direction::Backwards, limit);
    let mut groups = Groups::default();
    groups.page(Direction::Backwards, &page(3, 1));
    assert_eq!(groups.page(Direction::Backwards, &page(5, 1)), PageTaken::Restarted);
    assert_eq!(groups.page(Direction::Backwards, &page(3, 1)), PageTaken::Left);
    assert_eq!(groups.page(Direction::Backwards, &page(6, 1)), PageTaken::Joined);
    assert_eq!(groups.page(Direction::Backwards, &page(4, 1)), PageTaken::Joined);
    assert_eq!(groups.get(GROUP).unwrap().held(), Some((Seq(4), Seq(6))));
}

#[test]
fn what_is_not_to_be_had_is_not_lacked_any_more() {
    let home = texts(3);
    let mut groups = Groups::default();
    groups.entry(&pointer(Seq(3)));
    groups.page(Direction::Backwards, &home.page(Seq::ZERO, Direction::Backwards, 9));
    groups.entry(&pointer(Seq(5)));
    assert_eq!(groups.get(GROUP).unwrap().lacks(), Some(Seq(4)));
    groups.page(Direction::Forwards, &home.page(Seq(4), Direction::Forwards, 9));
    let group = groups.get(GROUP).unwrap();
    assert_eq!((group.lacks(), group.reached()), (None, Seq(3)));
}

#[test]
fn of_a_group_that_was_just_begun_the_first_entry_is_lacked() {
    let mut groups = Groups::default();
    groups.begun(GROUP);
    assert_eq!((groups.get(GROUP).unwrap().lacks(), groups.get(GROUP).unwrap().older()), (None, None));
    // Whoever begins it does not follow it yet, so only the pointer tells.
    groups.entry(&pointer(Seq(1)));
    assert_eq!(groups.get(GROUP).unwrap().lacks(), Some(Seq(1)));
}
