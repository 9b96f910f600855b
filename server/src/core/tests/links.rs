//! Who comes as a node, before it has said which; and what nodes say to each other of who is there.

use proto_spec::GroupId;

use super::*;
use crate::{
    cluster::{file::Nodes, map::Slot},
    limits::{CORES_MAX, LINKS_GREETING_MAX, PRESENCE_MAILS_MAX, PRESENCE_MAILS_NODES_MAX},
    mesh::link::{Heard, Link},
    shard::{
        AskId, GroupMail, GroupSaid, GroupWish,
        presence::{
            Answer, Ask, Asked, Change, CoreAddress, LookId, PresenceNews, Sight, Told, Typing, Verdict, Version,
        },
        topology::NodeId,
    },
};

const NODES: &str = "name = \"chat\"\n[nodes.a]\nmesh = \"127.0.0.1:1\"\nclients = \"127.0.0.1:2\"\n\
                     [nodes.b]\nmesh = \"127.0.0.1:3\"\nclients = \"127.0.0.1:4\"\n";

pub(super) fn identity(own: u16) -> Identity {
    Identity { nodes: Arc::new(Nodes::parse(NODES).unwrap()), own: NodeId(own) }
}

#[test]
fn so_many_may_be_about_to_say_which_node_they_are_and_more_are_closed() {
    let mut world = World::among(Some(identity(0)), Limits::OFF, OriginLimits::default());
    let begins = |world: &mut World, link, dialled| {
        world.core.link_began(world.now, LinkId(link), dialled, None);
        world.turn();
        std::mem::take(&mut world.rim.cut_links)
    };
    let last = LINKS_GREETING_MAX as u64;
    for link in 1..=last {
        assert_eq!(begins(&mut world, link, None), []);
    }
    assert_eq!(begins(&mut world, last + 1, None), [LinkId(last + 1)]);
    assert_eq!(begins(&mut world, last + 2, Some(NodeId(1))), [], "this node has dialled it");
    // Whoever goes, or is no node, makes room.
    world.core.link_ended(world.now, LinkId(1), "it went away");
    world.core.link_bytes(world.now, LinkId(2), &[0xff; 64]);
    world.turn();
    assert_eq!(std::mem::take(&mut world.rim.cut_links), [LinkId(1), LinkId(2)]);
    assert_eq!(begins(&mut world, last + 3, None), []);
}

/// A node that has a link to another one, and the other end of that.
pub(super) struct Linked {
    pub(super) world: World,
    peer: Link,
}

impl Linked {
    pub(super) fn new() -> Self {
        Self::with(Limits::OFF)
    }

    pub(super) fn with(limits: Limits) -> Self {
        let mut world = World::among(Some(identity(0)), limits, OriginLimits::default());
        let peer = Link::new(None, None, &identity(1), 0);
        world.core.link_began(world.now, LinkId(1), Some(NodeId(1)), None);
        world.turn();
        let mut linked = Self { world, peer };
        assert_eq!(linked.hears(), [Heard::Opened(NodeId(0))]);
        linked.comes();
        linked
    }

    /// What the other node hears.
    fn hears(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let bytes = std::mem::take(&mut self.world.rim.linked);
        self.peer.receive(&bytes, &identity(1), 0, |what| heard.push(what)).unwrap();
        heard
    }

    /// What the other node has said comes.
    fn comes(&mut self) {
        let mut bytes = Vec::new();
        self.peer.take_output(&mut bytes);
        self.peer.left(bytes.len());
        self.world.core.link_bytes(self.world.now, LinkId(1), &bytes);
        self.world.turn();
    }

    /// The other node says this; what comes of it, and how much of it was astray.
    fn says(&mut self, to: To, news: PresenceNews) -> (Vec<(CoreId, PresenceMail)>, u64) {
        let counter = |linked: &Self| linked.world.core.counters().mesh_astray.get();
        let before = counter(self);
        let mail = PresenceMail { from: CoreAddress { node: NodeId(1), core: CoreId(9) }, to, news };
        assert!(self.peer.post_presence(&mail));
        self.comes();
        (std::mem::take(&mut self.world.rim.presence), counter(self) - before)
    }
}

/// The first users of a node.
pub(super) fn users(of: u16) -> [UserId; 2] {
    let map = identity(0).nodes.map.clone();
    let mut users = (1..).map(UserId).filter(|user| map.owner(Slot::of(*user)) == NodeId(of));
    std::array::from_fn(|_| users.next().unwrap())
}

#[test]
fn a_node_asks_and_follows_groups_for_its_own_users_alone() {
    let mut linked = Linked::new();
    let ([here, _], [there, also_there]) = (users(0), users(1));
    let core = CoreAddress { node: NodeId(1), core: CoreId(0) };
    let (group, ask) = (GroupId(here.0), AskId(1));
    let page = |user| GroupSaid::Ask { ask, user, wish: GroupWish::Row { read: Seq::ZERO } };
    let follow = |users: &[UserId]| GroupSaid::Follow { users: users.to_vec() };
    let have = |users: &[UserId]| GroupSaid::Have { marks: users.iter().map(|user| (*user, Seq(1))).collect() };
    for (said, taken, astray) in [
        (page(there), Some(page(there)), 0),
        (page(here), None, 1),
        (GroupSaid::Types { user: there }, Some(GroupSaid::Types { user: there }), 0),
        (GroupSaid::Types { user: here }, None, 1),
        (follow(&[there, here, also_there]), Some(follow(&[there, also_there])), 1),
        (follow(&[here]), None, 1),
        (have(&[here, there]), Some(have(&[there])), 1),
        (have(&[here]), None, 1),
        (GroupSaid::Unfollow, Some(GroupSaid::Unfollow), 0),
    ] {
        let before = linked.world.core.counters().mesh_astray.get();
        linked.peer.post_group(&GroupMail { group, core, said: said.clone() }).unwrap();
        linked.comes();
        assert_eq!(linked.world.core.counters().mesh_astray.get() - before, astray, "{said:?}");
        let mut left = said;
        assert_eq!(left.leave_out(|user| [there, also_there].contains(&user)) as u64, astray);
        assert_eq!((astray == 0 || !left.is_of_nobody()).then_some(left), taken);
    }
}

#[test]
fn a_node_speaks_of_presence_for_its_own_users_and_to_those_of_this_one() {
    let mut linked = Linked::new();
    let ([here, also_here], [there, also_there]) = (users(0), users(1));
    let from = CoreAddress { node: NodeId(1), core: CoreId(9) };
    let asked = |user| Asked { user, verdict: None, count: 1, blocks: None };
    let ask = |looks, users: &[UserId]| {
        let users = users.iter().copied().map(asked).collect();
        PresenceNews { asks: vec![Ask { look: LookId(1), looks, users }], ..PresenceNews::default() }
    };
    let typing = |from, to| {
        let of = Typing { from, version: Version(1), to, seen: Version(2) };
        PresenceNews { typing: vec![of], ..PresenceNews::default() }
    };
    let counts = |users: &[UserId]| {
        let counts = users.iter().map(|user| (*user, 1)).collect();
        PresenceNews { counts, ..PresenceNews::default() }
    };
    let verdict = Verdict { version: Version(1), may: true };
    let changes = |users: &[UserId]| {
        let change = |user: &UserId| {
            let (version, before) = (Version(2), Version(1));
            Change { user: *user, sight: Sight::NONE, version, before, only: None }
        };
        PresenceNews { changes: users.iter().map(change).collect(), ..PresenceNews::default() }
    };
    let answer = |users: &[UserId]| {
        let told = |user: &UserId| Told { user: *user, verdict, sight: Sight::NONE, is_crowded: false };
        let told = Some(users.iter().map(told).collect());
        PresenceNews { answers: vec![Answer { look: LookId(1), told }], ..PresenceNews::default() }
    };
    let homes = To::Homes(NodeId(0));
    let viewer = |core| To::Viewer(CoreAddress { node: NodeId(0), core: CoreId(core) });
    let none = PresenceNews::default;
    for (to, said, taken, astray) in [
        (homes, ask(there, &[here, also_here]), ask(there, &[here, also_here]), 0),
        (homes, ask(there, &[here, also_there]), ask(there, &[here]), 1),
        // In the name of a user of this node.
        (homes, ask(here, &[also_here]), none(), 1),
        (homes, counts(&[here, there]), counts(&[here]), 1),
        (homes, typing(there, here), typing(there, here), 0),
        (homes, typing(here, also_here), none(), 1),
        (homes, typing(there, also_there), none(), 1),
        (viewer(0), changes(&[there]), changes(&[there]), 0),
        (viewer(0), changes(&[here, there]), changes(&[there]), 1),
        (viewer(0), answer(&[there, here]), answer(&[there]), 1),
        // To a core that is not there, and to none.
        (viewer(CORES_MAX - 1), changes(&[there]), none(), 1),
        (homes, answer(&[there]), none(), 1),
    ] {
        let (mails, counted) = linked.says(to, said.clone());
        let expected = PresenceMail { from, to: To::Core(CoreId(0)), news: taken.clone() };
        let expected = (!taken.is_empty()).then_some((CoreId(0), expected));
        assert_eq!((mails, counted), (expected.into_iter().collect(), astray), "{said:?}");
    }
}

#[test]
fn what_is_said_of_presence_between_nodes_leaves_half_of_a_queue_to_the_cores_of_this_one() {
    let mut linked = Linked::new();
    let news = PresenceNews { counts: vec![(users(0)[0], 1)], ..PresenceNews::default() };
    assert_eq!(linked.says(To::Homes(NodeId(0)), news.clone()).0.len(), 1);
    assert_eq!(linked.world.rim.presence_waiting_max, PRESENCE_MAILS_NODES_MAX);
    let from = CoreAddress { node: NodeId(0), core: CoreId(0) };
    let mail = PresenceMail { from, to: To::Core(CoreId(1)), news };
    linked.world.core.effects.presence.push(Box::new(mail));
    linked.world.turn();
    assert_eq!(linked.world.rim.presence_waiting_max, PRESENCE_MAILS_MAX);
}

#[test]
fn what_is_said_of_presence_to_another_node_goes_through_its_link_or_is_dropped() {
    let mut linked = Linked::new();
    let from = CoreAddress { node: NodeId(0), core: CoreId(3) };
    let news = PresenceNews { counts: vec![(users(1)[0], 1)], ..PresenceNews::default() };
    let mail = || Box::new(PresenceMail { from, to: To::Homes(NodeId(1)), news: news.clone() });
    linked.world.core.presence(linked.world.now, mail());
    linked.world.turn();
    let Heard::Presence(said) = linked.hears().remove(0) else { panic!("it is about presence") };
    assert_eq!((said.from, said.to, said.news), (from.core, None, news.clone()));
    let dropped = |linked: &Linked| linked.world.core.counters().presence_dropped.get();
    assert_eq!(dropped(&linked), 0);
    linked.world.core.link_ended(linked.world.now, LinkId(1), "it went away");
    linked.world.core.presence(linked.world.now, mail());
    linked.world.turn();
    assert_eq!(dropped(&linked), 1);
}
