//! Any bytes, in two pieces, through the framing and both decoders: nothing panics, a cut changes nothing, and what was
//! decoded encodes to something that decodes alike.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use proto_spec::{
    ClientFrame, Decoder, FrameError, FramingError, RawFrame, ServerFrame,
    limits::{CLIENT_FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX},
};

type Outcome<F> = (Vec<Result<F, FrameError>>, Result<(), FramingError>);

fn decode<F>(pieces: [&[u8]; 2], bytes_max: usize, read: fn(RawFrame<'_>) -> Result<F, FrameError>) -> Outcome<F> {
    let mut decoder = Decoder::new(bytes_max as u32);
    let mut frames = Vec::new();
    for piece in pieces {
        let outcome = decoder.decode(piece, |raw| {
            frames.push(read(raw));
            ControlFlow::Continue(())
        });
        if outcome.is_err() {
            return (frames, outcome);
        }
    }
    (frames, Ok(()))
}

/// Decodes `input` whole and cut, and what it decoded again from its own encoding.
fn check<F: PartialEq + std::fmt::Debug>(
    input: &[u8],
    cut: usize,
    bytes_max: usize,
    read: fn(RawFrame<'_>) -> Result<F, FrameError>,
    encode: fn(&F, &mut Vec<u8>),
) {
    let whole = decode([input, &[]], bytes_max, read);
    let (head, tail) = input.split_at(cut);
    assert_eq!(whole, decode([head, tail], bytes_max, read));
    for frame in whole.0.into_iter().flatten() {
        let mut bytes = Vec::new();
        encode(&frame, &mut bytes);
        assert_eq!(decode([&bytes, &[]], bytes_max, read), (vec![Ok(frame)], Ok(())));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, input)) = data.split_first() else { return };
    let cut = usize::from(cut).min(input.len());
    check(input, cut, CLIENT_FRAME_BYTES_MAX, ClientFrame::decode, ClientFrame::encode);
    check(input, cut, SERVER_FRAME_BYTES_MAX, ServerFrame::decode, ServerFrame::encode);
});
