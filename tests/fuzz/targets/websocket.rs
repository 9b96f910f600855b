//! Any bytes as the request of a WebSocket, and as its frames, in pieces: nothing panics, no more is held than the bounds say, the cut does
//! not change what comes of them, and what is sent back can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rim::websocket::{Unframed, WebSocket};
use server::{
    access::upgrade::{Pages, Step, Upgrade},
    limits::{UPGRADE_BYTES_MAX, WEBSOCKET_HELD_BYTES_MAX},
};

const PAGES: Pages<'static> = Pages { origins: &[], is_tls: false };

/// What comes of a request in these pieces.
fn ask(pieces: &[&[u8]]) -> Step {
    let mut upgrade = Upgrade::new();
    for piece in pieces {
        let step = upgrade.bytes(piece, PAGES);
        assert!(upgrade.held_bytes() < UPGRADE_BYTES_MAX);
        if step != Step::More {
            return step;
        }
    }
    Step::More
}

/// What comes of frames in these pieces: what messages carried, and how it ended.
fn hear(pieces: &[&[u8]]) -> (Vec<u8>, bool, Option<u16>) {
    let mut socket = WebSocket::new();
    let (mut heard, mut queued, mut is_over) = (Vec::new(), Vec::new(), false);
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let Unframed { data, closed, fault } = socket.receive(&mut bytes);
        heard.extend_from_slice(&bytes[data]);
        is_over |= closed || fault.is_some();
        assert!(socket.held_bytes() <= WEBSOCKET_HELD_BYTES_MAX);
    }
    let has_pong = socket.has_pong();
    socket.put(&heard, &mut queued);
    socket.close(&mut queued);
    let code = read_back(&queued, &heard);
    assert_eq!(socket.awaits_close(), !is_over);
    (heard, has_pong, Some(code))
}

/// Reads what was sent as a strict client does; the code of the close frame, which is the last.
fn read_back(mut sent: &[u8], put: &[u8]) -> u16 {
    let mut data = Vec::new();
    loop {
        let [first, second, rest @ ..] = sent else { panic!("a close frame comes last") };
        let (length, rest) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            short => (usize::from(*short), rest),
        };
        let (payload, behind) = rest.split_at(length);
        match first {
            0x82 => data.extend_from_slice(payload),
            0x8a => {}
            0x88 => {
                assert!(behind.is_empty() && data == put);
                return u16::from_be_bytes(payload.try_into().expect("a code"));
            }
            other => panic!("{other:#x}"),
        }
        sent = behind;
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, input)) = data.split_first() else { return };
    let (head, tail) = input.split_at(usize::from(cut).min(input.len()));
    assert_eq!(hear(&[head, tail]), hear(&[input]));
    // What follows a request is refused only if it comes with it.
    let end = input.windows(4).position(|window| window == b"\r\n\r\n").map_or(input.len(), |end| end + 4);
    let head = &input[..usize::from(cut).min(end)];
    assert_eq!(ask(&[head, &input[head.len()..end]]), ask(&[&input[..end]]));
});
