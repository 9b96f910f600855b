//! Who is told who is there, and when: `[presence]`. Owns its keys, defaults and bounds, and what shards are given of it.

use super::key::{Key, Slot, Words, count, millis, seconds};
use crate::{
    limits::{PRESENCE_TICK_MS_MIN, WATCH_LIFETIME_S_MAX, WATCH_LIFETIME_S_MIN},
    shard::presence::{PresenceSettings, ShownTo},
};

/// Who is told who is there, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Who sees whom.
    pub shown_to: ShownTo,
    /// For how long somebody has to be there before it is announced, in milliseconds.
    pub hold_ms: u64,
    /// For how long somebody whose connection was lost may be gone before it is announced, in milliseconds.
    pub grace_ms: u64,
    /// One device is told of changes once in this time at most, in milliseconds.
    pub tick_ms: u64,
    /// After this a watch ends that was not renewed, in seconds.
    pub lifetime_s: u64,
    /// Devices that watch one user at most.
    pub watchers_max: u32,
    /// When somebody was last seen is told as a multiple of this, in seconds.
    pub last_seen_s: u64,
}

impl Default for Presence {
    fn default() -> Self {
        let PresenceSettings { shown_to, hold_ms, grace_ms, tick_ms, lifetime_ms, watchers_max, last_seen_ms } =
            PresenceSettings::DEFAULT;
        Self {
            shown_to,
            hold_ms,
            grace_ms,
            tick_ms,
            lifetime_s: lifetime_ms / 1_000,
            watchers_max: watchers_max as u32,
            last_seen_s: last_seen_ms / 1_000,
        }
    }
}

impl Words for ShownTo {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Conversation, "conversation"), (Self::Written, "written"), (Self::Nobody, "nobody")];
}

impl Presence {
    /// As shards take it.
    #[must_use]
    pub fn of_shards(&self) -> PresenceSettings {
        let Self { shown_to, hold_ms, grace_ms, tick_ms, lifetime_s, watchers_max, last_seen_s } = *self;
        PresenceSettings {
            shown_to,
            hold_ms,
            grace_ms,
            tick_ms,
            lifetime_ms: 1_000 * lifetime_s,
            watchers_max: watchers_max.into(),
            last_seen_ms: 1_000 * last_seen_s,
        }
    }

    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self { shown_to, hold_ms, grace_ms, tick_ms, lifetime_s, watchers_max, last_seen_s } = self;
        vec![
            Key { name: "presence.shown_to", slot: Slot::Choice(shown_to) },
            Key { name: "presence.hold_ms", slot: millis(hold_ms, 0..=60_000).into() },
            Key { name: "presence.grace_ms", slot: millis(grace_ms, 0..=600_000).into() },
            Key { name: "presence.tick_ms", slot: millis(tick_ms, PRESENCE_TICK_MS_MIN..=60_000).into() },
            Key {
                name: "presence.lifetime_s",
                slot: seconds(lifetime_s, WATCH_LIFETIME_S_MIN..=WATCH_LIFETIME_S_MAX).into(),
            },
            Key { name: "presence.watchers_max", slot: count(watchers_max, "devices", 1..=1_000_000).into() },
            Key { name: "presence.last_seen_s", slot: seconds(last_seen_s, 60..=86_400).into() },
        ]
    }
}
