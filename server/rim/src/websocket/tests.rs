use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::limits::WEBSOCKET_ANSWER_BYTES_MAX;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame of a client, with a header of the shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// What has come of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    data: Vec<u8>,
    pongs: Vec<Vec<u8>>,
    closed: bool,
    fault: Option<WebSocketFault>,
}

/// Takes the stream in these pieces; of the pings of one piece the last is answered.
fn hear(socket: &mut WebSocket, pieces: &[&[u8]]) -> Heard {
    let mut heard = Heard::default();
    for piece in pieces {
        let mut bytes = piece.to_vec();
        let Unframed { data, closed, fault } = socket.receive(&mut bytes);
        assert!(!closed || fault.is_none());
        heard.data.extend_from_slice(&bytes[data]);
        heard.closed |= closed;
        heard.fault = heard.fault.or(fault);
        heard.pongs.extend(socket.pong.take());
        assert!(socket.held_bytes() <= WEBSOCKET_HELD_BYTES_MAX);
    }
    heard
}

fn hear_all(stream: &[u8]) -> Heard {
    hear(&mut WebSocket::new(), &[stream])
}

/// What a strict client reads in what is sent: binary payload, pongs, and the code of a close frame that comes last.
fn read_sent(mut sent: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>, Option<u16>) {
    let (mut data, mut pongs, mut code) = (Vec::new(), Vec::new(), None);
    while let [first, second, rest @ ..] = sent {
        assert_eq!(code, None, "nothing follows a close frame");
        let (length, rest) = match second {
            short @ 0..126 => (usize::from(*short), rest),
            126 => {
                let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                assert!(length > 125);
                (length, &rest[2..])
            }
            other => panic!("{other}"),
        };
        let (payload, behind) = rest.split_at(length);
        match first {
            0x82 => data.extend_from_slice(payload),
            0x8a => pongs.push(payload.to_vec()),
            0x88 => code = Some(u16::from_be_bytes(payload.try_into().unwrap())),
            other => panic!("{other:#x}"),
        }
        sent = behind;
    }
    assert!(sent.is_empty());
    (data, pongs, code)
}

#[test]
fn messages_in_pieces_and_control_frames_between_them_are_one_stream() {
    let stream = [
        frame(0x02, b"one "),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x8a, b"nobody asked"),
        frame(0x80, b"two "),
        frame(0x82, b""),
        frame(0x82, b"three"),
        frame(0x88, &[0x03, 0xe9]),
        frame(0x82, b"nobody hears this"),
    ]
    .concat();
    let heard = hear_all(&stream);
    assert_eq!(heard.data, b"one two three");
    assert_eq!((heard.pongs, heard.closed, heard.fault), (vec![b"ping".to_vec()], true, None));
}

#[test]
fn the_payload_of_one_frame_stays_where_it_is() {
    let mut bytes = frame(0x82, &[7; 300]);
    let Unframed { data, .. } = WebSocket::new().receive(&mut bytes);
    assert_eq!(data, 8..308);
    assert_eq!(bytes[data], [7; 300]);
}

#[test]
fn frames_of_every_length_are_unmasked() {
    for length in (0..300).chain([65_535, 65_536, 100_001]) {
        let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let heard = hear_all(&[frame(0x82, &payload), frame(0x82, b"!")].concat());
        assert!(heard.data == [&payload[..], b"!"].concat() && heard.fault.is_none(), "{length}");
    }
}

#[test]
fn what_breaks_the_protocol_is_refused_with_its_code() {
    use WebSocketFault as Fault;
    let length = |short: u8, bytes: &[u8]| [&[0x82, 0x80 | short], bytes, &MASK].concat();
    for (stream, fault, code) in [
        (vec![0x82, 0x01], Fault::Unmasked, 1002),
        (vec![0x88, 0x00], Fault::Unmasked, 1002),
        (frame(0xc2, b"x"), Fault::Reserved, 1002),
        (frame(0xa2, b"x"), Fault::Reserved, 1002),
        (frame(0x92, b"x"), Fault::Reserved, 1002),
        (frame(0x83, b"x"), Fault::Kind(3), 1002),
        (frame(0x87, b"x"), Fault::Kind(7), 1002),
        (frame(0x8b, b"x"), Fault::Kind(11), 1002),
        (frame(0x8f, b"x"), Fault::Kind(15), 1002),
        (frame(0x81, b"text"), Fault::Text, 1003),
        (frame(0x80, b"of nothing"), Fault::Order, 1002),
        ([frame(0x02, b"begins"), frame(0x82, b"another")].concat(), Fault::Order, 1002),
        (frame(0x89, &[0; 126]), Fault::Control, 1002),
        (frame(0x09, b"in pieces"), Fault::Control, 1002),
        (frame(0x08, b""), Fault::Control, 1002),
        (length(126, &[0, 125]), Fault::Length, 1002),
        (length(127, &[0, 0, 0, 0, 0, 0, 0xff, 0xff]), Fault::Length, 1002),
        (length(127, &[0x80, 0, 0, 0, 0, 0, 0, 0]), Fault::Length, 1002),
        (frame(0x88, &[3]), Fault::Close, 1002),
        (frame(0x88, &999u16.to_be_bytes()), Fault::Close, 1002),
        (frame(0x88, &1005u16.to_be_bytes()), Fault::Close, 1002),
        (frame(0x88, &5000u16.to_be_bytes()), Fault::Close, 1002),
        (frame(0x88, &[0x03, 0xe8, 0xff]), Fault::CloseWords, 1007),
    ] {
        let mut socket = WebSocket::new();
        let before = frame(0x82, b"before");
        let heard = hear(&mut socket, &[&[before, stream, frame(0x82, b"after")].concat()]);
        assert!(heard.data.starts_with(b"before") && !heard.data.ends_with(b"after"), "{fault:?}");
        assert_eq!((heard.fault, heard.closed), (Some(fault), false));
        let mut sent = Vec::new();
        socket.close(&mut sent);
        assert_eq!(read_sent(&sent).2, Some(code), "{fault:?}");
        assert!(!socket.awaits_close(), "nothing is waited for from who talks nonsense");
    }
}

#[test]
fn the_longest_length_there_is_is_taken() {
    let stream = [&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], &MASK, &[0; 1000]].concat();
    let heard = hear_all(&stream);
    assert_eq!((heard.data.len(), heard.fault), (1000, None));
}

#[test]
fn who_closes_first_is_answered_with_their_own_code() {
    for (said, code) in [(&b""[..], 1000), (&[0x03, 0xe9], 1001), (&[0x0f, 0xa0, b'o', b'k'], 4000)] {
        let mut socket = WebSocket::new();
        assert!(hear(&mut socket, &[&frame(0x88, said)]).closed && socket.is_closed());
        let mut sent = Vec::new();
        socket.close(&mut sent);
        assert_eq!(read_sent(&sent), (Vec::new(), Vec::new(), Some(code)));
        assert!(!socket.awaits_close());
    }
}

#[test]
fn who_is_told_of_the_end_is_heard_until_they_answer() {
    let mut socket = WebSocket::new();
    let mut sent = Vec::new();
    socket.put(b"bye", &mut sent);
    socket.close(&mut sent);
    socket.close(&mut sent);
    assert_eq!(read_sent(&sent), (b"bye".to_vec(), Vec::new(), Some(1000)));
    assert!(socket.awaits_close() && !socket.is_closed());
    // What was on its way, and then the answer. A ping is not answered any more.
    socket.receive(&mut frame(0x89, b"ping"));
    assert!(!socket.has_pong());
    let heard = hear(&mut socket, &[&frame(0x82, b"late"), &frame(0x88, &[0x03, 0xe8])]);
    assert!(heard.closed && socket.is_closed() && !socket.awaits_close());
}

#[test]
fn of_many_pings_the_last_is_answered_once_behind_what_was_queued() {
    let mut socket = WebSocket::new();
    let mut queued = Vec::new();
    socket.put(b"first", &mut queued);
    let pings: Vec<u8> = (0..100).flat_map(|at| frame(0x89, &[at; 125])).collect();
    socket.receive(&mut pings.clone());
    assert!(socket.has_pong() && socket.held_bytes() <= WEBSOCKET_HELD_BYTES_MAX);
    socket.finish_frames(&mut queued);
    socket.put(b", second", &mut queued);
    socket.finish_frames(&mut queued);
    assert_eq!(read_sent(&queued), (b"first, second".to_vec(), vec![vec![99; 125]], None));
    assert_eq!(socket.held_bytes(), 0);
    assert_eq!(queued.len(), 2 + 5 + 2 + 125 + 2 + 8);
}

#[test]
fn an_idle_end_is_small_and_owns_no_buffer() {
    let mut socket = WebSocket::new();
    hear(&mut socket, &[&frame(0x82, &[0; 5_000]), &frame(0x89, b"x")]);
    socket.put(&[0; 5_000], &mut Vec::new());
    assert!(size_of::<WebSocket>() <= 128 && socket.held_bytes() == 0);
}

/// What is told of as sent, if this much of what was handed over leaves each time.
#[test]
fn all_that_was_put_is_told_of_once_it_has_left_and_never_more() {
    for part in [1, 3, 100, 70_000, 1_000_000] {
        let mut socket = WebSocket::new();
        let (mut put, mut told) = (0, 0);
        let mut queued: Vec<u8> = Vec::new();
        for length in [5, 125, 126, 65_535, 65_536, 200_000] {
            socket.put(&vec![1; length], &mut queued);
            put += length;
            socket.finish_frames(&mut queued);
            let mut waiting = std::mem::take(&mut queued);
            while !waiting.is_empty() {
                let taken = part.min(waiting.len());
                waiting.drain(..taken);
                told += socket.left(taken);
                assert!(told <= put);
            }
            assert_eq!(told, put);
        }
    }
}

/// A frame, or something like one.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..8),
        prop::collection::vec(any::<u8>(), 0..140),
        (65_530..65_540usize).prop_map(|length| vec![0x55; length]),
    ];
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x02u8, 0x00, 0x80, 0x82, 0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    prop_oneof![
        8 => (first, payload).prop_map(|(first, payload)| frame(first, &payload)),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn cut_at(stream: &[u8], mut cuts: Vec<usize>) -> Vec<Range<usize>> {
    cuts.push(stream.len());
    cuts.sort_unstable();
    let mut begin = 0;
    cuts.into_iter().map(|end| std::mem::replace(&mut begin, end)..end).collect()
}

proptest! {
    #[test]
    fn any_cut_of_a_stream_gives_the_same(
        frames in prop::collection::vec(any_frame(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream = frames.concat();
        let cuts = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        let pieces: Vec<_> = cut_at(&stream, cuts).into_iter().map(|range| &stream[range]).collect();
        let bytewise: Vec<_> = stream.chunks(1).collect();
        let whole = hear_all(&stream);
        for pieces in [pieces, bytewise] {
            let cut = hear(&mut WebSocket::new(), &pieces);
            prop_assert_eq!(&cut.data, &whole.data);
            prop_assert_eq!((cut.closed, cut.fault, cut.pongs.last()), (whole.closed, whole.fault, whole.pongs.last()));
        }
    }

    #[test]
    fn noise_never_panics(pieces: Vec<Vec<u8>>) {
        hear(&mut WebSocket::new(), &pieces.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_put_in_any_parts_is_read_as_one_stream(
        parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20),
    ) {
        let mut socket = WebSocket::new();
        let (mut queued, mut put) = (Vec::new(), Vec::new());
        for (part, leaves) in &parts {
            socket.put(part, &mut queued);
            put.extend_from_slice(part);
            if *leaves {
                socket.finish_frames(&mut queued);
            }
        }
        socket.close(&mut queued);
        prop_assert_eq!(read_sent(&queued), (put, Vec::new(), Some(1000)));
    }
}

/// Carries what one end has queued to the other, in pieces of so many bytes. What that one hears.
fn carry<S: Side>(queued: &mut Vec<u8>, piece: usize, to: &mut Frames<S>) -> Heard {
    let mut heard = Heard::default();
    for piece in std::mem::take(queued).chunks(piece) {
        let mut bytes = piece.to_vec();
        let Unframed { data, closed, fault } = to.receive(&mut bytes);
        heard.data.extend_from_slice(&bytes[data]);
        heard.closed |= closed;
        heard.fault = heard.fault.or(fault);
    }
    heard
}

proptest! {
    #[test]
    fn what_either_end_says_the_other_hears(
        turns in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), 1..400usize), 0..20),
        long in prop::sample::select(vec![0usize, 125, 126, 65_535, 65_536, 140_000]),
        number: u32,
    ) {
        let (mut client, mut server) = (ClientWebSocket::of_client(number), WebSocket::new());
        let mut queued = Vec::new();
        let long = (vec![7; long], true, 1_000);
        for (said, by_client, piece) in turns.iter().chain([&long, &(long.0.clone(), false, 1_000)]) {
            let heard = if *by_client {
                client.put(said, &mut queued);
                client.finish_frames(&mut queued);
                carry(&mut queued, *piece, &mut server)
            } else {
                server.put(said, &mut queued);
                server.finish_frames(&mut queued);
                carry(&mut queued, *piece, &mut client)
            };
            prop_assert_eq!(heard, Heard { data: said.clone(), ..Heard::default() });
        }
        // A ping of each; then the server ends it, and is answered.
        client.put_control(0x89, b"client", &mut queued);
        carry(&mut queued, 3, &mut server);
        server.finish_frames(&mut queued);
        server.put_control(0x89, b"server", &mut queued);
        carry(&mut queued, 3, &mut client);
        prop_assert!(client.has_pong() && !server.has_pong());
        server.close(&mut queued);
        prop_assert!(carry(&mut queued, 1, &mut client).closed && server.awaits_close());
        client.close(&mut queued);
        prop_assert!(carry(&mut queued, 1, &mut server).closed && !server.awaits_close());
    }

    #[test]
    fn an_answer_to_a_request_is_the_same_in_any_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let stream = [UPGRADED.as_bytes(), b"frames"].concat();
        let mut opening = Opening::default();
        let mut heard = Vec::new();
        let mut is_open = false;
        for range in cut_at(&stream, cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect()) {
            let piece = &stream[range];
            let head = if is_open { Some(0) } else { opening.answer(piece).unwrap() };
            is_open = head.is_some();
            heard.extend_from_slice(head.map_or(&[], |head| &piece[head..]));
        }
        prop_assert!(is_open && heard == b"frames");
    }
}

/// What the example in RFC 6455, 1.2, answers, with the protocol that is asked for here.
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: ringpost.v1\r\n\r\n";

#[test]
fn who_refuses_is_quoted_and_who_answers_something_else_is_foreign() {
    let refused = |words: &str| Err(OpeningFault::Refused(words.to_owned()));
    for (answer, result) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\nstopping: it is\n",
            refused("503 Service Unavailable: stopping: it is"),
        ),
        ("HTTP/1.0 101 Switching Protocols\r\n\r\n", Err(OpeningFault::Foreign)),
        ("\x16\x03\x01", Err(OpeningFault::Foreign)),
        ("HTTP", Ok(None)),
        (&UPGRADED.replace("s3pP", "S3pP"), Err(OpeningFault::Foreign)),
        (&UPGRADED.replace("ringpost.v1", "ringpost.v2"), Err(OpeningFault::Foreign)),
        (UPGRADED, Ok(Some(UPGRADED.len()))),
        (&format!("HTTP/1.1 101 {}", "x".repeat(WEBSOCKET_ANSWER_BYTES_MAX)), Err(OpeningFault::TooLong)),
    ] {
        assert_eq!(Opening::default().answer(answer.as_bytes()), result, "{answer:.60}");
    }
}

#[test]
fn a_client_masks_each_frame_otherwise_and_hears_none_that_is_masked() {
    let mut client = ClientWebSocket::of_client(0);
    let mut said = Vec::new();
    for _ in 0..2 {
        client.put(b"the same", &mut said);
        client.finish_frames(&mut said);
    }
    let (first, second) = said.split_at(said.len() / 2);
    assert!(first[..2] == second[..2] && first[2..6] != second[2..6] && first[6..] != second[6..]);
    let Unframed { fault, .. } = client.receive(&mut frame(0x82, b"masked"));
    assert_eq!(fault, Some(WebSocketFault::Masked));
    assert!(size_of::<ClientWebSocket>() <= size_of::<WebSocket>() + 8);
}
