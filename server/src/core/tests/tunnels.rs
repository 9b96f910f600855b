//! Clients whose user another node serves and who do not go there, at the node that they have come to and at the one that serves them.

use proto_spec::limits::REDIRECTS_MAX;

use super::{
    links::{Linked, identity, users},
    *,
};
use crate::{
    core::tunnels::Far,
    limits::{PAGE_CONNECTIONS_MAX, RATE_BURST_S, TUNNELS_PER_S_MAX},
    mesh::{
        certificate::Certificate,
        wire::{self, Opening, Said, VERSIONS},
    },
    shard::topology::NodeId,
};

pub(super) fn hello_of(world: &World, user: UserId, hops: u64) -> Vec<u8> {
    let token = mint(&world.signing_key, user, Duration::from_secs(3_600), world.now.wall).unwrap();
    let (device, resume, epoch, since) = (DeviceId(1), Resume::Stored, EpochId(0), Seq::ZERO);
    let mut bytes = Vec::new();
    ClientFrame::Hello { version_min: 1, version_max: 1, device, resume, token, epoch, since, skip_above: 0, hops }
        .encode(&mut bytes);
    bytes
}

/// Somebody of the other node comes here.
fn comes(world: &mut World, hops: u64) -> ConnId {
    let [_, user] = users(1);
    let conn = world.accept(PEER);
    let bytes = hello_of(world, user, hops);
    world.say(conn, &bytes);
    world.turn();
    conn
}

#[test]
fn who_follows_no_redirect_is_served_through_the_node_while_the_other_one_can_be_reached() {
    let mut linked = Linked::new();
    let world = &mut linked.world;
    let [_, user] = users(1);
    // In pieces, and with something behind it.
    let said = [hello_of(world, user, 0), vec![2, 6, 5]].concat();
    let conn = world.accept(PEER);
    world.say(conn, &said[..10]);
    world.say(conn, &said[10..]);
    world.turn();
    let [(of, name, opening)] = &std::mem::take(&mut world.rim.tunnels)[..] else { panic!("one tunnel") };
    let greeting = identity(0).greeting("b", VERSIONS);
    let expected = Said::Tunnel(Opening { greeting, client: PEER, said });
    assert_eq!((*of, &**name), (conn, "b"));
    assert_eq!(wire::decode(opening), Ok(Some((expected, opening.len()))));
    assert_eq!(world.bye(conn), None);
    let follows = comes(world, 1);
    assert!(matches!(&world.rim.said[..], [(to, ServerFrame::Redirect { .. })] if *to == follows));
    let lost = comes(world, REDIRECTS_MAX + 1);
    assert_eq!((world.bye(lost), world.rim.tunnels.len()), (Some(ErrorCode::Elsewhere), 0));
    // The other node does not take it in after all.
    world.core.tunnel_failed(world.now, conn, "it does not like it");
    world.turn();
    let Some((_, ServerFrame::Bye { code: ErrorCode::Elsewhere, retry_after_ms, detail, .. })) = world.rim.said.last()
    else {
        panic!("a bye")
    };
    assert!(*retry_after_ms > 0 && detail.contains("node b") && !detail.contains("does not like it"), "{detail}");
}

#[test]
fn tunnels_end_with_the_link_and_with_the_node_and_are_no_more_than_there_are_files_for() {
    let mut linked = Linked::new();
    let world = &mut linked.world;
    let gone = comes(world, 0);
    world.core.tunnel_ended(gone);
    let open = comes(world, 0);
    world.core.tunnel_opened(open);
    let opens = comes(world, 0);
    world.core.link_ended(world.now, LinkId(1), "it went away");
    world.turn();
    assert_eq!(std::mem::take(&mut world.rim.ended_tunnels), [open, opens]);
    assert_eq!(
        (world.bye(open), world.bye(opens)),
        (None, Some(ErrorCode::Elsewhere)),
        "nobody knows what it was told last"
    );
    let late = comes(world, 0);
    assert_eq!(world.bye(late), Some(ErrorCode::Elsewhere), "the other node can not be reached");

    let mut linked = Linked::new();
    let world = &mut linked.world;
    let most = world.core.common().capacity.tunnels_max;
    for slot in 1_001..=1_000 + most {
        world.core.tunnels.add(ConnId { slot, generation: 1 }, Far::Node(NodeId(1)));
    }
    let above = comes(world, 0);
    assert_eq!((world.bye(above), world.rim.tunnels.len()), (Some(ErrorCode::Elsewhere), 0));
    world.core.stop(world.now);
    world.turn();
    assert_eq!(world.rim.ended_tunnels.len(), most as usize);
}

#[test]
fn pieces_without_content_through_a_tunnel_count_as_frames() {
    let limits = Limits { frames: Rate::per_second(10), ..Limits::OFF };
    for is_open in [true, false] {
        let mut linked = Linked::with(limits);
        let world = &mut linked.world;
        let conn = comes(world, 0);
        if is_open {
            world.core.tunnel_opened(conn);
        }
        for _ in 0..10 * RATE_BURST_S {
            world.core.tunnel_idles(world.now, conn);
        }
        world.turn();
        assert_eq!(world.rim.ended_tunnels, []);
        world.core.tunnel_idles(world.now, conn);
        world.turn();
        assert_eq!(world.rim.ended_tunnels, [conn]);
        assert_eq!(world.bye(conn), (!is_open).then_some(ErrorCode::RateLimited));
        assert_eq!(world.core.tunnels.to_nodes(), 0);
    }
}

#[test]
fn so_many_are_opened_in_a_second_and_others_come_again() {
    let mut linked = Linked::new();
    let world = &mut linked.world;
    let (now_ms, pace) = (world.now.monotonic_ms, world.core.tunnels_pace());
    let opened = (0..).take_while(|_| pace.take(&mut world.core.tunnels.pace, now_ms).is_ok()).count();
    assert_eq!(opened as u64, RATE_BURST_S * u64::from(TUNNELS_PER_S_MAX));
    let above = comes(world, 0);
    assert_eq!((world.bye(above), world.rim.tunnels.len()), (Some(ErrorCode::Elsewhere), 0));
    world.now.monotonic_ms += 1_000;
    comes(world, 0);
    assert_eq!(world.rim.tunnels.len(), 1);
}

#[test]
fn a_node_takes_in_clients_of_nodes_of_its_cluster_alone_and_says_what_is_wrong() {
    let mut world = World::among(Some(identity(0)), Limits::OFF, OriginLimits::default());
    let said = |bytes: &[u8]| wire::decode(bytes).unwrap().unwrap().0;
    let greeting = identity(1).greeting("a", VERSIONS);
    let taken = world.core.judge_tunnel(world.now, &greeting, None).unwrap();
    assert_eq!(said(&taken), Said::Greeting(identity(0).greeting("b", [VERSIONS[1]; 2])));
    assert_eq!(world.what(), []);
    let stranger = wire::Greeting { cluster: "other".to_owned(), ..greeting.clone() };
    let nobody = Certificate(vec![1, 2, 3]);
    for (greeting, certificate, words) in
        [(&stranger, None, "not of \"other\""), (&greeting, Some(&nobody), "another node's")]
    {
        let refused = world.core.judge_tunnel(world.now, greeting, certificate).unwrap_err();
        let Said::Refused(told) = said(&refused) else { panic!("{refused:?}") };
        assert!(told.contains(words), "{told}");
    }
    world.turn();
    assert_eq!(world.what(), [What::NodeRefused], "and not more often than once a second");
}

/// Somebody is sent by another node.
fn is_sent(world: &mut World, user: UserId) -> ConnId {
    let said = hello_of(world, user, 0);
    world.places += 1;
    let conn = ConnId { slot: world.places, generation: 1 };
    let entered = world.core.enter_by_tunnel(world.now, PEER);
    world.core.accepted_by_tunnel(world.now, (conn, PEER), entered, world.places as usize, said);
    while let Some(judged) = world.core.judge(world.now, &world.keys, 0, false) {
        let Judged::Plain(conn, bytes) = judged else { panic!("{judged:?}") };
        world.core.hello(world.now, &world.keys, (conn, Transport::Tls), &bytes);
    }
    world.turn();
    conn
}

#[test]
fn who_comes_by_a_tunnel_is_served_and_never_sent_through_another_one() {
    let mut linked = Linked::new();
    let world = &mut linked.world;
    let [here, _] = users(0);
    let conn = is_sent(world, here);
    assert!(matches!(&world.rim.said[..], [(to, ServerFrame::Welcome { .. })] if *to == conn), "{:?}", world.rim.said);
    assert_eq!(world.rim.reports.last().map(|event| (event.what, event.peer)), Some((What::Login, Some(PEER))));
    let [there, _] = users(1);
    let stray = is_sent(world, there);
    assert_eq!((world.bye(stray), world.rim.tunnels.len()), (Some(ErrorCode::Elsewhere), 0));
    world.core.stop(world.now);
    let late = is_sent(world, here);
    assert_eq!(world.bye(late), Some(ErrorCode::Stopping));
}

#[test]
fn who_comes_by_a_tunnel_counts_where_the_client_comes_from() {
    let limits = OriginLimits { connections: 1, ..OriginLimits::default() };
    let mut world = World::among(Some(identity(0)), Limits::OFF, limits);
    let [here, _] = users(0);
    let first = is_sent(&mut world, here);
    assert_eq!(world.bye(first), None);
    let second = is_sent(&mut world, here);
    assert_eq!(world.bye(second), Some(ErrorCode::TooManyConnections));
}

#[test]
fn so_many_requests_of_http_are_answered_at_a_time_and_none_of_them_is_a_client_that_another_node_serves() {
    let mut world = World::new(Limits::OFF);
    let asks = |world: &mut World| {
        let conn = world.accept(PEER);
        (conn, world.core.page(world.now, conn))
    };
    let mut taken: Vec<_> = (0..PAGE_CONNECTIONS_MAX).map(|_| asks(&mut world)).collect();
    assert!(taken.iter().all(|(_, client)| *client == Some(PEER)));
    assert_eq!(asks(&mut world).1, None);
    let (first, _) = taken.remove(0);
    world.core.tunnel_ended(first);
    assert_eq!(asks(&mut world).1, Some(PEER));
    let counters = world.core.counters();
    let counted = [&counters.page_connections, &counters.page_refused, &counters.tunnels].map(|counter| counter.get());
    assert_eq!(counted, [PAGE_CONNECTIONS_MAX as u64, 1, 0]);
    // What is under way is answered before the node has stopped.
    world.core.stop(world.now);
    world.turn();
    assert_eq!(world.rim.ended_tunnels, []);
}
