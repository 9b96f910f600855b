//! What the tests of shards look for in the frames that a client received.

use proto_spec::{Durability, Entry, ErrorCode, Event, Page, RequestId, Resume, ServerFrame, UserId};

use crate::world::{Link, World};

/// Texts that were offered on a connection, live or in pages, with their seqs, in order.
#[must_use]
pub fn offered(frames: &[ServerFrame]) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    let mut text = |entry: &Entry| {
        if let Event::Received { content, .. } | Event::Sent { content, .. } = &entry.event {
            all.push((entry.seq.0, content.as_text().unwrap_or_default().to_owned()));
        }
    };
    for frame in frames {
        match frame {
            ServerFrame::Deliver { entry } => text(entry),
            ServerFrame::Page(page) if page.request == RequestId(0) => page.entries.iter().for_each(&mut text),
            _ => {}
        }
    }
    all
}

/// Sends that were accepted as committed: (number, seq).
#[must_use]
pub fn accepted(frames: &[ServerFrame]) -> Vec<(u64, u64)> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            ServerFrame::Accepted { number, seq, durability, .. } => {
                assert_eq!(*durability, Durability::Committed);
                Some((number.0, seq.0))
            }
            _ => None,
        })
        .collect()
}

/// Sends that were refused: (number, code, expected).
#[must_use]
pub fn refused(frames: &[ServerFrame]) -> Vec<(u64, ErrorCode, u64)> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            ServerFrame::Refused { number, code, expected, .. } => Some((number.0, *code, expected.0)),
            _ => None,
        })
        .collect()
}

/// Receipts that were delivered live: (peer, seq).
#[must_use]
pub fn delivered_up_to(frames: &[ServerFrame]) -> Vec<(u64, u64)> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            ServerFrame::Deliver { entry: Entry { event: Event::Delivered { peer, up_to }, .. } } => {
                Some((peer.0, up_to.0))
            }
            _ => None,
        })
        .collect()
}

/// All pages.
#[must_use]
pub fn pages(frames: &[ServerFrame]) -> Vec<Page> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            ServerFrame::Page(page) => Some(page.clone()),
            _ => None,
        })
        .collect()
}

/// What [`offered`] gives for one text.
#[must_use]
pub fn text(seq: u64, text: &str) -> (u64, String) {
    (seq, text.to_owned())
}

/// A world of two cores with users 1 and 2 connected, whose homes differ.
///
/// # Panics
/// Never: half of all users have another home.
#[must_use]
pub fn two_people() -> (World, Link, Link, u64, u64) {
    two_people_in(World::new(2))
}

/// As [`two_people`], in a world with two cores.
///
/// # Panics
/// It has another number of cores.
#[must_use]
pub fn two_people_in(mut world: World) -> (World, Link, Link, u64, u64) {
    let topology = server::shard::topology::Topology::new(2).expect("two cores");
    let bob =
        (2..).find(|user| topology.home_of(UserId(*user)) != topology.home_of(UserId(1))).expect("half of all users");
    let a = world.connect(1, 1, Resume::Stored);
    let b = world.connect(bob, 1, Resume::Stored);
    world.take(a);
    world.take(b);
    (world, a, b, 1, bob)
}
