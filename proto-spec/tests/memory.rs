//! What a peer announces costs nothing before it has come. Measured: this test binary counts what it allocates.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ops::ControlFlow,
};

use proto_spec::{
    ClientFrame, ClientKind, Decoder, RawFrame, ServerFrame, ServerKind,
    limits::{CLIENT_FRAME_BYTES_MAX, PRESENCE_USERS_MAX, SERVER_FRAME_BYTES_MAX, WATCHED_MAX},
    wire::put_varint,
};

struct Counting;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.set(ALLOCATED_BYTES.get() + layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above, so from the system's allocator with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocated_bytes(work: impl FnOnce()) -> usize {
    let before = ALLOCATED_BYTES.get();
    work();
    ALLOCATED_BYTES.get() - before
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_allocated() {
    let mut announced = Vec::new();
    put_varint(&mut announced, CLIENT_FRAME_BYTES_MAX as u64 + 1);
    announced.extend([0; 1000]);
    let cost = allocated_bytes(|| {
        let mut decoder = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32);
        assert!(decoder.decode(&announced, |_| ControlFlow::Continue(())).is_err());
    });
    assert_eq!(cost, 0);
}

#[test]
fn an_announced_frame_costs_what_has_come_of_it() {
    let mut announced = Vec::new();
    put_varint(&mut announced, CLIENT_FRAME_BYTES_MAX as u64);
    announced.push(0x02);
    let cost = allocated_bytes(|| {
        let mut decoder = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32);
        decoder.decode(&announced, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(decoder.held_bytes(), announced.len());
    });
    assert!(cost <= 16, "{cost} bytes");
}

#[test]
fn whole_frames_are_cut_without_allocating() {
    let mut stream = Vec::new();
    for nonce in 0..100 {
        ClientFrame::Ping { nonce }.encode(&mut stream);
    }
    let mut frames = 0;
    let cost = allocated_bytes(|| {
        let mut decoder = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32);
        let outcome = decoder.decode(&stream, |raw| {
            frames += usize::from(ClientFrame::decode(raw).is_ok());
            ControlFlow::Continue(())
        });
        outcome.unwrap();
    });
    assert_eq!((frames, cost), (100, 0));
}

fn decode_page_cost(count: u64, rest: &[u8]) -> usize {
    // request, first, last, more
    let mut body = vec![0, 1, 1, 0];
    put_varint(&mut body, count);
    body.extend(rest);
    allocated_bytes(|| {
        assert!(ServerFrame::decode(RawFrame { kind: ServerKind::Page.byte(), body: &body }).is_err());
    })
}

#[test]
fn a_count_above_what_the_bytes_can_hold_allocates_nothing() {
    assert_eq!(decode_page_cost(u64::MAX, &[]), 0);
    assert_eq!(decode_page_cost(26, &[0; 100]), 0);
}

#[test]
fn a_list_that_announces_more_than_may_be_or_than_there_is_allocates_nothing() {
    let cost = |count: u64, head: &[u8], refused: &dyn Fn(&[u8]) -> bool| {
        let mut body = head.to_vec();
        put_varint(&mut body, count);
        body.extend([0; 100]);
        allocated_bytes(|| assert!(refused(&body)))
    };
    for kind in [ClientKind::FetchPresence, ClientKind::Watch] {
        let refused = |body: &[u8]| ClientFrame::decode(RawFrame { kind: kind.byte(), body }).is_err();
        for count in [101, WATCHED_MAX as u64, PRESENCE_USERS_MAX as u64, u64::MAX] {
            assert_eq!(cost(count, &[1], &refused), 0, "{count} users of {kind:?}");
        }
    }
    let refused = |body: &[u8]| ServerFrame::decode(RawFrame { kind: ServerKind::Presence.byte(), body }).is_err();
    for count in [21, PRESENCE_USERS_MAX as u64, u64::MAX] {
        assert_eq!(cost(count, &[0, 0], &refused), 0, "{count} states");
    }
}

#[test]
fn what_is_said_of_groups_announces_as_much_as_it_likes_and_allocates_nothing() {
    let cost = |kind: ServerKind, head: &[u8], count: u64| {
        let mut body = head.to_vec();
        put_varint(&mut body, count);
        body.extend([0; 100]);
        allocated_bytes(|| {
            assert!(ServerFrame::decode(RawFrame { kind: kind.byte(), body: &body }).is_err(), "{kind:?}")
        })
    };
    // The first has one item more than there are bytes for.
    let lists: [(ServerKind, &[u8], u64); 3] = [
        (ServerKind::GroupPage, &[1, 1, 1, 1, 0, 1], 100 / 8 + 1),
        (ServerKind::Groups, &[1, 0], 100 / 10 + 1),
        (ServerKind::Members, &[1, 1, 0, 1], 100 / 4 + 1),
    ];
    for (kind, head, count) in lists {
        for count in [count, u64::MAX] {
            assert_eq!(cost(kind, head, count), 0, "{count} of {kind:?}");
        }
    }
    // number 3, conversation 2 with group 8, a mention whose body has a count and too few users
    for count in [9, u64::MAX] {
        let mut mention = Vec::new();
        put_varint(&mut mention, count);
        mention.extend([1; 8]);
        let body = [&[3, 2, 8, 9, mention.len() as u8], &mention[..]].concat();
        let cost = allocated_bytes(|| assert!(ClientFrame::decode(RawFrame { kind: 0x02, body: &body }).is_err()));
        assert_eq!(cost, 0, "{count} mentioned");
    }
}

/// A count that the bytes could hold but do not: no more is set aside than for the largest honest page.
#[test]
fn a_count_that_lies_within_the_bytes_allocates_no_more_than_an_honest_page() {
    let rest = [0; SERVER_FRAME_BYTES_MAX - 16];
    let cost = decode_page_cost(rest.len() as u64 / 4, &rest);
    assert!(cost < 2 * SERVER_FRAME_BYTES_MAX, "{cost} bytes");
}

#[test]
fn a_text_that_announces_more_than_there_is_allocates_nothing() {
    // number 1, conversation 1 with user 8, text
    let mut body = vec![1, 1, 8, 1];
    put_varint(&mut body, u64::MAX);
    let cost = allocated_bytes(|| assert!(ClientFrame::decode(RawFrame { kind: 0x02, body: &body }).is_err()));
    assert_eq!(cost, 0);
}
