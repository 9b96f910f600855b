//! What is kept in memory for apps that open: that it is what store and tail would answer, that the store is left alone, and how much
//! memory it takes; against worlds of cores in one thread.

use proto_spec::{
    ClientFrame, Content, ConversationId, Direction, MessageName, Page, RequestId, Resume, SendNumber, Seq,
    ServerFrame, Settings, UserId,
};
use server::shard::{CacheLimits, KeptOfUser};
use tests::{
    frames::pages,
    rng::Rng,
    world::{Link, World},
};

/// Of whom the apps are, and those who write to them.
const PEOPLE: u64 = 7;

/// The same things happen in two worlds, one of which keeps nothing.
struct Twins {
    worlds: [World; 2],
    /// By user.
    links: Vec<Link>,
    /// Numbers used, by user.
    numbers: Vec<u64>,
}

impl Twins {
    fn new(cache: CacheLimits) -> Self {
        let mut worlds = [World::keeping(2, cache), World::keeping(2, CacheLimits::OFF)];
        let links = (1..=PEOPLE).map(|user| {
            let [a, b] = worlds.each_mut().map(|world| world.connect(user, 1, Resume::Stored));
            assert_eq!(a, b);
            a
        });
        let links = links.collect();
        Self { worlds, links, numbers: vec![0; PEOPLE as usize] }
    }

    fn both(&mut self, mut happens: impl FnMut(&mut World)) {
        for world in &mut self.worlds {
            happens(world);
            world.settle();
        }
    }

    fn frame(&mut self, user: u64, frame: &ClientFrame) {
        let link = self.links[user as usize - 1];
        self.both(|world| world.frame(link, frame));
    }

    fn say(&mut self, user: u64, to: u64, content: Content) {
        let number = self.numbers[user as usize - 1] + 1;
        self.frame(user, &ClientFrame::Send { number: SendNumber(number), to: UserId(to).into(), content });
        // What is refused needs its number again.
        let link = self.links[user as usize - 1];
        let [kept, plain] = self.worlds.each_mut().map(|world| world.take(link));
        let is_accepted = |frames: &[ServerFrame]| frames.iter().any(|f| matches!(f, ServerFrame::Accepted { .. }));
        assert_eq!(is_accepted(&kept), is_accepted(&plain));
        self.numbers[user as usize - 1] += u64::from(is_accepted(&kept));
    }

    /// Asks in both worlds, and compares what they say.
    fn ask(&mut self, user: u64, frame: &ClientFrame, seed: u64) {
        let link = self.links[user as usize - 1];
        self.both(|world| {
            world.take(link);
            world.frame(link, frame);
        });
        let is_answer = |frame: &ServerFrame| matches!(frame, ServerFrame::Inbox(_) | ServerFrame::Page(_));
        let [kept, plain] =
            self.worlds.each_mut().map(|world| world.take(link).into_iter().filter(is_answer).collect::<Vec<_>>());
        assert!(!plain.is_empty());
        assert_eq!(kept.len(), plain.len());
        let mut conversation = match frame {
            ClientFrame::FetchConversation { conversation, .. } => Some(*conversation),
            _ => None,
        };
        for (kept, plain) in kept.into_iter().zip(plain) {
            match (kept, plain) {
                (ServerFrame::Page(kept), ServerFrame::Page(plain)) => {
                    let said = |page: &Page| (page.last, page.entries.clone(), page.delivered_up_to, page.seen_up_to);
                    assert_eq!(said(&kept), said(&plain), "seed {seed}: {user} asks {frame:?}");
                    // A page speaks for a range, whose beginning depends on where it was found; where it speaks for more, there is nothing.
                    if kept.first < plain.first {
                        let conversation = conversation.expect("it was asked for");
                        assert!(!self.has_messages(user, conversation, kept.first, plain.first.previous()), "{kept:?}");
                    }
                }
                (kept, plain) => {
                    if let ServerFrame::Inbox(inbox) = &plain {
                        conversation = inbox.rows.first().map(|row| row.conversation);
                    }
                    assert_eq!(kept, plain, "seed {seed}: {user} asks {frame:?}");
                }
            }
        }
    }

    /// Whether a user has messages of a conversation in this range.
    fn has_messages(&mut self, user: u64, conversation: ConversationId, first: Seq, last: Seq) -> bool {
        let (link, world) = (self.links[user as usize - 1], &mut self.worlds[1]);
        let (request, direction) = (RequestId(8), Direction::Backwards);
        world.frame(link, &ClientFrame::FetchConversation { request, conversation, from: last, direction, limit: 1 });
        world.settle();
        let page = pages(&world.take(link)).pop().expect("there is a page");
        page.entries.iter().any(|entry| entry.place() >= Some(first))
    }

    fn step(&mut self, rng: &mut Rng, seed: u64) {
        let (user, peer, some) = (rng.within(1, PEOPLE), rng.within(1, PEOPLE), rng.within(0, 30));
        let link = self.links[user as usize - 1];
        let request = RequestId(9);
        let name = MessageName { author: UserId(user), seq: Seq(some) };
        match rng.within(0, 23) {
            0..=5 => self.say(user, peer, Content::text(&"x".repeat(1 + (some * some / 9) as usize))),
            6 => self.say(user, peer, Content::edit(name, &Content::text(&format!("edited {some}")), None)),
            7 => self.say(user, peer, Content::unsend(name, None)),
            8 => {
                let tell = some % 2 == 0;
                self.frame(
                    user,
                    &ClientFrame::MarkRead { request, conversation: UserId(peer).into(), up_to: Seq(some), tell },
                );
            }
            9 => {
                let (set, cleared) = (Settings::from_bits(some & 7), Settings::from_bits(some >> 2));
                self.frame(
                    user,
                    &ClientFrame::SetConversation { request, conversation: UserId(peer).into(), set, cleared },
                );
            }
            10 => self.both(World::ingest),
            11 => self.both(|world| world.advance(300)),
            12 => {
                self.both(|world| world.disconnect(link));
                let [again, too] = self.worlds.each_mut().map(|world| world.connect(user, 1, Resume::Stored));
                assert_eq!(again, too);
                self.links[user as usize - 1] = again;
            }
            13 => self.both(|world| world.acknowledge(link, some)),
            14 => {
                let of = MessageName { author: UserId(*rng.pick(&[user, peer])), seq: Seq(some) };
                self.say(user, peer, Content::reaction(of, if some % 3 == 0 { "" } else { "+1" }, None));
            }
            15 => {
                let (conversation, place) = (UserId(peer).into(), Seq(rng.within(1, 60)));
                self.frame(user, &ClientFrame::DeleteMessage { request, conversation, place });
            }
            16..=20 => {
                let before = Seq(if some < 20 { 0 } else { rng.within(1, 60) });
                let frame = ClientFrame::FetchInbox { request, before, limit: 1 + some % 8, messages: some % 5 };
                self.ask(user, &frame, seed);
            }
            _ => {
                let (conversation, from) = (UserId(peer).into(), Seq(if some < 15 { 0 } else { rng.within(1, 60) }));
                let (direction, limit) = (Direction::Backwards, 1 + some % 9);
                let frame = ClientFrame::FetchConversation { request, conversation, from, direction, limit };
                self.ask(user, &frame, seed);
            }
        }
        let bytes = self.worlds[0].total(|shard| shard.cache_bytes);
        let most = 2 * CORE_BYTES;
        assert!(bytes <= most as u64, "seed {seed}: {bytes} bytes of {most} are taken");
    }
}

const CORE_BYTES: usize = 4_500;

#[test]
fn what_is_kept_answers_as_store_and_tail_would() {
    let (mut hits, mut misses, mut pushed_out) = (0, 0, 0);
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let user = KeptOfUser {
            conversations: rng.within(1, 4) as usize,
            messages: rng.within(1, 6) as usize,
            bytes: rng.within(1_400, 5_000) as usize,
        };
        let mut twins = Twins::new(CacheLimits { user, core_bytes: CORE_BYTES });
        for _ in 0..300 {
            twins.step(&mut rng, seed);
        }
        let world = &twins.worlds[0];
        hits += world.total(|shard| shard.cache_hits);
        misses += world.total(|shard| shard.cache_misses);
        pushed_out += world.total(|shard| shard.cache_pushed_out);
        assert_eq!(twins.worlds[1].total(|shard| shard.cache_hits + shard.cache_bytes), 0);
    }
    assert!(hits > 1_000 && misses > 500 && pushed_out > 200, "{hits} hits, {misses} misses, {pushed_out} pushed out");
}

/// A user with so many conversations of so many messages, whose app has been opened once, and who has gone since.
fn somebody_who_has_gone(world: &mut World, user: u64, conversations: u64, messages: u64) {
    let link = world.connect(user, 1, Resume::Stored);
    for peer in 1..=conversations {
        let author = world.connect(1_000 + peer, user, Resume::Stored);
        for number in 1..=messages {
            world.send(author, number, user, "See you at six then!");
        }
        world.settle();
        world.disconnect(author);
    }
    world.advance(1_000);
    let seq = conversations * messages;
    world.acknowledge(link, seq);
    world.advance(1_000);
    open_app(world, link);
    for peer in 1..=conversations {
        let (conversation, direction) = (UserId(1_000 + peer).into(), Direction::Backwards);
        let (request, from) = (RequestId(1), Seq::ZERO);
        world.frame(link, &ClientFrame::FetchConversation { request, conversation, from, direction, limit: 15 });
        world.settle();
    }
    world.disconnect(link);
    world.advance(1_000);
    world.ingest();
    world.advance(1_000);
}

fn open_app(world: &mut World, link: Link) -> Vec<ServerFrame> {
    world.take(link);
    let (request, before) = (RequestId(1), Seq::ZERO);
    world.frame(link, &ClientFrame::FetchInbox { request, before, limit: 20, messages: 15 });
    world.settle();
    world.take(link)
}

#[test]
fn an_app_that_opens_again_reads_nothing_from_the_store() {
    let mut world = World::new(1);
    somebody_who_has_gone(&mut world, 7, 5, 20);
    let before = (world.total(|shard| shard.queries), world.total(|shard| shard.cache_hits));
    let link = world.connect(7, 1, Resume::Stored);
    let frames = open_app(&mut world, link);
    assert!(matches!(&frames[0], ServerFrame::Inbox(inbox) if inbox.rows.len() == 5 && !inbox.more), "{frames:?}");
    assert_eq!(pages(&frames).pop().expect("the first conversation follows").entries.len(), 15);
    let after = (world.total(|shard| shard.queries), world.total(|shard| shard.cache_hits));
    assert_eq!((after.0 - before.0, after.1 - before.1), (0, 2), "queries and hits");
    // What comes while nobody is there is seen as well.
    world.disconnect(link);
    let author = world.connect(1_002, 7, Resume::Stored);
    world.send(author, 21, 7, "Are you there?");
    world.settle();
    let before = world.total(|shard| shard.queries);
    let link = world.connect(7, 1, Resume::After(Seq(100)));
    let ServerFrame::Inbox(inbox) = &open_app(&mut world, link)[0] else { panic!("no inbox") };
    assert_eq!((inbox.rows[0].conversation, inbox.rows[0].unread), (UserId(1_002).into(), 21));
    assert_eq!(world.total(|shard| shard.queries), before);
}

#[test]
fn a_user_with_five_conversations_of_short_messages_takes_less_than_4_kib() {
    const USERS: u64 = 20;
    let mut world = World::new(1);
    for user in 1..=USERS {
        somebody_who_has_gone(&mut world, user, 5, 20);
    }
    let (users, bytes) = (world.total(|shard| shard.cache_users), world.total(|shard| shard.cache_bytes));
    println!("{} bytes a user", bytes / users);
    assert_eq!((users, world.total(|shard| shard.users)), (USERS, USERS), "nobody is in memory for anything else");
    assert!(bytes / users <= 4096, "{bytes} for {users} users");
}
