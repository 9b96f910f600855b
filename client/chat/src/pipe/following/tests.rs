//! What a run tells of groups, over whatever comes and does not come.

use client::{ClientState, Config, Content, DeviceId, ErrorCode, TimestampMs};

use super::*;

const GROUP: GroupId = GroupId(42);
const ME: UserId = UserId(7);

/// Handles of fetches, each another one.
fn fetches() -> impl Iterator<Item = FetchHandle> {
    let mut asked = ClientState::new(Config::new("x:1", "token".to_owned(), DeviceId(1))).unwrap();
    std::iter::from_fn(move || asked.fetch_devices().ok())
}

fn following() -> Following {
    let mut following = Following::default();
    following.welcome(ME);
    following
}

fn entry(seq: u64, from: u64, text: &str) -> GroupEntry {
    let (time, origin) = (TimestampMs(seq), Seq(seq + 100));
    GroupEntry { seq: Seq(seq), time, from: UserId(from), origin, messages: seq, content: Content::text(text) }
}

fn own(seq: u64, event: Event) -> Entry {
    Entry { seq: Seq(seq), time: TimestampMs(seq), event }
}

fn pointer(up_to: u64, sent_up_to: u64) -> Entry {
    let (standing, first) = (Standing::Member, Seq(1));
    own(1, Event::Group { group: GROUP, standing, first, up_to: Seq(up_to), sent_up_to: Seq(sent_up_to) })
}

/// A page of texts.
fn page(first: u64, last: u64, head: u64) -> GroupPage {
    let entries = (first..=last).map(|seq| entry(seq, 8, "hi")).collect();
    let (request, more, head) = (Default::default(), last < head, Seq(head));
    GroupPage { request, group: GROUP, first: Seq(first), last: Seq(last), more, head, entries }
}

/// The seqs of what these lines tell.
fn seqs(lines: &[GroupLine]) -> Vec<u64> {
    let told = lines.iter().filter_map(|line| match line {
        GroupLine::Happened { seq, .. } => Some(seq.0),
        _ => None,
    });
    told.collect()
}

#[test]
fn what_came_before_the_first_that_is_heard_of_is_history_and_what_follows_is_told_once_and_in_order() {
    let (mut following, mut fetches) = (following(), fetches());
    assert_eq!(seqs(&following.entry(&pointer(5, 0)).0), []);
    assert_eq!(following.lacks(), None);
    assert_eq!(seqs(&following.pushed(GROUP, &entry(6, 8, "six"))), [6]);
    assert_eq!(seqs(&following.pushed(GROUP, &entry(6, 8, "six"))), []);
    assert_eq!(seqs(&following.pushed(GROUP, &entry(9, 8, "nine"))), []);
    assert_eq!(following.lacks(), Some((GROUP, Seq(7))));
    let fetch = fetches.next().unwrap();
    following.asked(GROUP, fetch);
    assert_eq!((following.lacks(), following.is_fetching()), (None, true));
    assert_eq!(following.page(fetches.next().unwrap(), &page(7, 8, 9)), None, "not asked for here");
    assert_eq!(seqs(&following.page(fetch, &page(7, 8, 9)).unwrap()), [7, 8, 9]);
    assert_eq!((following.lacks(), following.is_fetching(), following.received()), (None, false, 4));
    // A pointer comes after each lost connection.
    following.entry(&pointer(11, 0));
    assert_eq!(following.lacks(), Some((GROUP, Seq(10))));
}

/// Numbers that look random, from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A run with a group whose home answers with pages of two, over a connection that is lost now and then. How far the group comes, and
/// what is told.
fn told_in_a_run(seed: u64) -> (u64, Vec<u64>) {
    let (mut draw, mut following, mut fetches) = (Draw(seed), following(), fetches());
    following.entry(&pointer(3, 0));
    let (mut head, mut told) = (3, Vec::new());
    // On their way, the oldest last: pages and pushes have no common order.
    let (mut pushes, mut pages): (Vec<u64>, Vec<(FetchHandle, GroupPage)>) = Default::default();
    for step in 0..200 {
        // At last nothing more happens, and all that is asked for arrives.
        let what = match step {
            0..50 => draw.below(8),
            50 => 7,
            _ => 6,
        };
        match what {
            0..3 => {
                head += 1;
                pushes.insert(0, head);
            }
            3..5 => {
                let arrived = pushes.pop().map(|seq| following.pushed(GROUP, &entry(seq, 8, "hi")));
                told.extend(arrived.iter().flat_map(|lines| seqs(lines)));
            }
            5..7 => {
                let arrived = pages.pop().and_then(|(fetch, page)| following.page(fetch, &page));
                told.extend(arrived.iter().flat_map(|lines| seqs(lines)));
            }
            _ => {
                // Lost; the client asks again for what it had asked for.
                pushes.clear();
                let again = |(_, was): &mut (_, GroupPage)| *was = page(was.first.0, head.min(was.first.0 + 1), head);
                pages.iter_mut().for_each(again);
                following.entry(&pointer(head, 0));
            }
        }
        if let Some((group, from)) = following.lacks() {
            let fetch = fetches.next().unwrap();
            following.asked(group, fetch);
            pages.insert(0, (fetch, page(from.0, head.min(from.0 + 1), head)));
        }
    }
    (head, told)
}

#[test]
fn over_any_lost_connection_each_entry_is_told_once_and_in_order() {
    for seed in 0..2_000 {
        let (head, told) = told_in_a_run(seed);
        assert_eq!(told, (4..=head).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn history_is_told_as_such_and_is_not_told_again() {
    let mut following = following();
    following.entry(&pointer(5, 0));
    let told = following.history(&GroupPage { more: true, ..page(3, 7, 7) });
    assert!(told.iter().all(|line| line.plain().starts_with("history group #42 message 8 ")), "{told:?}");
    assert_eq!(seqs(&told), [3, 4, 5, 6, 7]);
    assert_eq!((seqs(&following.pushed(GROUP, &entry(7, 8, "seven"))), following.lacks()), (vec![], None));
    // With a gap before it, what is missing is told first.
    following.history(&GroupPage { more: true, ..page(20, 22, 22) });
    assert_eq!(following.lacks(), Some((GROUP, Seq(8))));
    let fetch = fetches().next().unwrap();
    following.asked(GROUP, fetch);
    assert_eq!(seqs(&following.page(fetch, &page(8, 19, 22)).unwrap()), (8..=22).collect::<Vec<_>>());
}

#[test]
fn what_this_run_has_sent_is_awaited_until_the_group_has_told_it_or_refused_it() {
    let mut following = following();
    following.begins(GROUP);
    (3..=6).for_each(|seq| following.sent(GROUP, Seq(seq)));
    let mine = |seq, origin| GroupEntry { origin: Seq(origin), ..entry(seq, 7, "mine") };
    assert_eq!(seqs(&following.pushed(GROUP, &mine(1, 3))), [1]);
    let refused =
        |origin| own(9, Event::GroupRefused { group: GROUP, origin: Seq(origin), code: ErrorCode::NotAllowed });
    assert!(following.entry(&refused(4)).1);
    assert!(!following.entry(&refused(2)).1, "another device has sent it");
    // What says so may be gone before it is told: then the pointer does.
    following.entry(&pointer(4, 5));
    assert!(following.awaits(GROUP), "what it speaks of has not been told");
    let fetch = fetches().next().unwrap();
    following.asked(GROUP, fetch);
    following.page(fetch, &GroupPage { entries: Vec::new(), ..page(2, 4, 4) });
    assert!(following.awaits(GROUP));
    following.pushed(GROUP, &mine(5, 6));
    assert!(!following.is_awaiting());
    assert_eq!(following.received(), 0, "own messages are not received");
    // The first that is heard of a group may be that it has numbered what this run has sent: that is told.
    let mut first = self::following();
    first.sent(GROUP, Seq(5));
    first.entry(&pointer(9, 5));
    assert_eq!(first.lacks(), Some((GROUP, Seq(9))));
}

#[test]
fn what_is_not_to_be_had_is_not_asked_for_again() {
    let (mut following, mut fetches) = (following(), fetches());
    following.entry(&pointer(5, 0));
    following.entry(&pointer(8, 0));
    let fetch = fetches.next().unwrap();
    following.asked(GROUP, fetch);
    assert_eq!((following.refused(fetch), following.refused(fetch)), (Some(GROUP), None));
    assert_eq!(following.lacks(), None);
    following.entry(&pointer(9, 0));
    let fetch = fetches.next().unwrap();
    following.asked(GROUP, fetch);
    following.page(fetch, &GroupPage { more: false, ..page(9, 8, 5) });
    assert_eq!(following.lacks(), None);
}

#[test]
fn a_standing_is_told_when_it_changes() {
    let mut following = following();
    let standings = |lines: Vec<GroupLine>| lines.iter().map(GroupLine::plain).collect::<Vec<_>>();
    assert_eq!(standings(following.entry(&pointer(5, 0)).0), ["group #42 standing member 5"]);
    assert_eq!(standings(following.entry(&pointer(6, 0)).0), [""; 0]);
    let (standing, first, up_to, sent_up_to) = (Standing::Removed, Seq(1), Seq(7), Seq(0));
    let removed = own(3, Event::Group { group: GROUP, standing, first, up_to, sent_up_to });
    assert_eq!(standings(following.entry(&removed).0), ["group #42 standing removed 7"]);
}

#[test]
fn changes_are_told_with_the_seq_of_their_message_and_messages_are_found_by_it() {
    let mut following = following();
    following.begins(GROUP);
    following.pushed(GROUP, &entry(1, 8, "Hello"));
    following.pushed(GROUP, &entry(2, 7, "Hi"));
    let of = MessageName { author: UserId(8), seq: Seq(1) };
    let with = |seq, content| GroupEntry { content, ..entry(seq, 8, "") };
    let plain = |lines: Vec<GroupLine>| lines[0].plain().replace(" 1970-01-01T00:00:00Z", "");
    let edit = with(3, Content::edit(of, &Content::text("Hello, all"), None));
    assert_eq!(plain(following.pushed(GROUP, &edit)), "group #42 edited 8 1 Hello, all");
    let reaction = with(4, Content::reaction(of, "👍", None));
    assert_eq!(plain(following.pushed(GROUP, &reaction)), "group #42 reacted 8 1 👍");
    let mention = with(7, Content::mention(&[UserId(9), ME], "@9 @7: look"));
    let act = with(5, Content::act(&client::Act::Add { user: UserId(9) }));
    assert_eq!(plain(following.pushed(GROUP, &act)), "group #42 act 8 5 add 9");
    let found = |of, is_meant: fn(UserId) -> bool| following.find(GROUP, of, is_meant).map(|(place, ..)| place.0);
    assert_eq!((found(None, |author| author != ME), found(None, |author| author == ME)), (Some(1), Some(2)));
    assert_eq!((found(Some(Seq(1)), |_| false), found(Some(Seq(5)), |_| true)), (Some(1), None));
    let unsend = with(6, Content::unsend(of, None));
    assert_eq!(plain(following.pushed(GROUP, &unsend)), "group #42 unsent 8 1");
    assert_eq!(plain(following.pushed(GROUP, &mention)), "group #42 mention 8 7 @9 @7: look");
}
