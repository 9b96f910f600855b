//! A server's welcome, for tests that are the server.

use client::{EpochId, SendNumber, Seq, TimestampMs, UserId, Visibility};
use proto_spec::{Capabilities, ClientKind, ServerFrame};

/// The welcome of a server that has these kinds of frames, and an empty log.
pub(crate) fn welcome(kinds: &[ClientKind], idle_timeout_ms: u64) -> ServerFrame {
    ServerFrame::Welcome {
        version: 1,
        user: UserId(7),
        server_time: TimestampMs(5),
        head: Seq(0),
        cursor: Seq(0),
        last_number: SendNumber(0),
        send_window: 4,
        text_bytes_max: 20,
        page_entries_max: 50,
        idle_timeout_ms,
        committed: Seq(0),
        epoch: EpochId(0),
        capabilities: Capabilities {
            frame_kinds: kinds.iter().map(|kind| kind.byte()).collect(),
            ..Capabilities::first()
        },
        skipped: 0,
        visibility: Visibility::default(),
        ping_after_ms: 25_000,
    }
}
