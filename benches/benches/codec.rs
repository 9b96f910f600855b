//! Codec: one frame of each kind, from fields to bytes and from bytes to fields, the length prefix included.
//!
//! Fields own their text, so decoding includes the allocation and the copy of it. Not measured: a frame that arrives
//! in several cuts, and the growth of the buffer that frames are appended to, which the server keeps from turn to
//! turn.

use std::{hint::black_box, time::Duration};

use benches::frames;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use proto_spec::{
    ClientFrame, ClientKind, FrameError, RawFrame, ServerFrame, ServerKind,
    framing::{Cut, cut},
    limits::{CLIENT_FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX},
};

fn encode(criterion: &mut Criterion) {
    let mut group = group(criterion, "encode");
    for &kind in ClientKind::ALL {
        let frame = frames::client(kind);
        assert_eq!(frame.kind(), kind, "the sample is of another kind");
        bench_encode(&mut group, &format!("client/{}", kind.name()), |out| black_box(&frame).encode(out));
    }
    for &kind in ServerKind::ALL {
        let frame = frames::server(kind);
        assert_eq!(frame.kind(), kind, "the sample is of another kind");
        bench_encode(&mut group, &format!("server/{}", kind.name()), |out| black_box(&frame).encode(out));
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = group(criterion, "decode");
    for &kind in ClientKind::ALL {
        let frame = frames::client(kind);
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let name = format!("client/{}", kind.name());
        bench_decode(&mut group, &name, &frame, &bytes, CLIENT_FRAME_BYTES_MAX, ClientFrame::decode);
    }
    for &kind in ServerKind::ALL {
        let frame = frames::server(kind);
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let name = format!("server/{}", kind.name());
        bench_decode(&mut group, &name, &frame, &bytes, SERVER_FRAME_BYTES_MAX, ServerFrame::decode);
    }
}

/// There are three dozen of these and each is short: less time for each than criterion's own eight seconds.
fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group
}

fn bench_encode(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, encode: impl Fn(&mut Vec<u8>)) {
    let mut out = Vec::new();
    encode(&mut out);
    group.throughput(Throughput::Bytes(out.len() as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            out.clear();
            encode(&mut out);
            black_box(out.as_slice());
        });
    });
}

fn bench_decode<F: PartialEq + std::fmt::Debug>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    frame: &F,
    bytes: &[u8],
    frame_bytes_max: usize,
    decode: impl Fn(RawFrame<'_>) -> Result<F, FrameError>,
) {
    let decode = || match cut(black_box(bytes), frame_bytes_max) {
        Ok(Cut::Frame { frame, .. }) => decode(frame),
        other => panic!("{name} is not one whole frame: {other:?}"),
    };
    assert_eq!(decode().as_ref(), Ok(frame), "{name}");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(name, |b| b.iter(&decode));
}

criterion_group!(codec, encode, decode);
criterion_main!(codec);
