//! What clients may do and how often: `[limits]`. Owns its keys, defaults and bounds, and what shards and the rim are given of it.
//! The rates themselves are `crate::access::rate`'s; what nobody can set is in `crate::limits`.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use proto_spec::limits::SEND_WINDOW;

use super::{
    MIB, TIB,
    key::{Key, Slot, bytes, count, seconds},
};
use crate::{
    access::rate::Rate,
    core::OriginLimits,
    limits::{GROUP_MEMBERS_MAX, MEMORY_BYTES_MIN, RATE_PER_S_MAX, UNSEEN_DAYS_MAX, USER_GROUPS_MAX},
    shard,
};

/// The longest time that can be set for changes: what is to be possible for ever is 0.
const YEAR_S: u64 = 366 * 24 * 60 * 60;

/// How often clients may do things. 0: as often as they like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sends of one device a second.
    pub device_sends_per_s: u32,
    /// Sends of all devices of one user a second.
    pub user_sends_per_s: u32,
    /// Conversations that one user opens a second.
    pub opened_per_s: u32,
    /// Fetches of one user a second.
    pub fetches_per_s: u32,
    /// Connections of one user a second.
    pub logins_per_s: u32,
    /// Frames of one connection a second.
    pub frames_per_s: u32,
    /// Bytes that one core may hold for clients that have not read them yet.
    pub core_memory_bytes: u64,
    /// Days after which a device that has not been seen makes room for a new one; 0: never.
    pub device_unseen_days: u64,
    /// How long after it was written a message may be edited, in seconds.
    pub edit_within_s: u64,
    /// How long after it was written a message may be taken back, in seconds.
    pub unsend_within_s: u64,
    /// Whether who is blocked is told so when they write.
    pub tell_blocked: bool,
    /// Members of one group.
    pub group_members: u32,
    /// Members of a group up to which each is told how far each is.
    pub group_receipts_members: u32,
    /// Groups that one user is in.
    pub user_groups: u32,
    /// Connections from one address at a time.
    pub address_connections: u32,
    /// Handshakes from one address at a time.
    pub address_handshakes: u32,
    /// Hellos from one address that are refused, a second.
    pub address_failures_per_s: u32,
    /// Networks whose addresses are not counted.
    pub trusted_networks: Vec<IpNet>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            device_sends_per_s: 20,
            user_sends_per_s: 40,
            opened_per_s: 5,
            fetches_per_s: 20,
            logins_per_s: 2,
            frames_per_s: 500,
            core_memory_bytes: 256 * MIB,
            device_unseen_days: 90,
            edit_within_s: 15 * 60,
            unsend_within_s: 24 * 60 * 60,
            tell_blocked: false,
            group_members: 1000,
            group_receipts_members: 256,
            user_groups: 1000,
            address_connections: 1000,
            address_handshakes: 100,
            address_failures_per_s: 5,
            trusted_networks: vec![
                IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8),
                IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
            ],
        }
    }
}

impl Limits {
    /// None of them.
    #[must_use]
    pub fn off() -> Self {
        Self {
            device_sends_per_s: 0,
            user_sends_per_s: 0,
            opened_per_s: 0,
            fetches_per_s: 0,
            logins_per_s: 0,
            frames_per_s: 0,
            core_memory_bytes: 0,
            device_unseen_days: 0,
            edit_within_s: 0,
            unsend_within_s: 0,
            tell_blocked: false,
            group_members: GROUP_MEMBERS_MAX,
            group_receipts_members: GROUP_MEMBERS_MAX,
            user_groups: USER_GROUPS_MAX,
            address_connections: 0,
            address_handshakes: 0,
            address_failures_per_s: 0,
            trusted_networks: Vec::new(),
        }
    }

    /// As the rim takes them.
    pub(super) fn of_origins(&self) -> OriginLimits {
        OriginLimits {
            connections: self.address_connections,
            handshakes: self.address_handshakes,
            failures: Rate::per_second(self.address_failures_per_s),
            trusted: self.trusted_networks.clone(),
            balancers: Vec::new(),
        }
    }

    /// As shards take them.
    #[must_use]
    pub fn of_shards(&self) -> shard::Limits {
        let within_ms = |seconds: u64| if seconds == 0 { u64::MAX } else { seconds * 1_000 };
        shard::Limits {
            device_sends: Rate::per_second(self.device_sends_per_s),
            user_sends: Rate::per_second(self.user_sends_per_s),
            opened: Rate::per_second(self.opened_per_s),
            fetches: Rate::per_second(self.fetches_per_s),
            logins: Rate::per_second(self.logins_per_s),
            frames: Rate::per_second(self.frames_per_s),
            memory_bytes: match self.core_memory_bytes {
                0 => usize::MAX,
                bytes => bytes as usize,
            },
            device_unseen_days: self.device_unseen_days,
            edit_within_ms: within_ms(self.edit_within_s),
            unsend_within_ms: within_ms(self.unsend_within_s),
            tell_blocked: self.tell_blocked,
            group_members: self.group_members as usize,
            group_receipts_members: self.group_receipts_members as usize,
            user_groups: self.user_groups as usize,
        }
    }

    pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
        let Self {
            device_sends_per_s,
            user_sends_per_s,
            opened_per_s,
            fetches_per_s,
            logins_per_s,
            frames_per_s,
            core_memory_bytes,
            device_unseen_days,
            edit_within_s,
            unsend_within_s,
            tell_blocked,
            group_members,
            group_receipts_members,
            user_groups,
            address_connections,
            address_handshakes,
            address_failures_per_s,
            trusted_networks,
        } = self;
        const NONE: &str = "no limit";
        let rates = 0..=RATE_PER_S_MAX.into();
        // A window of sends may be refused at once, and each of its refusals is a frame that is repeated later.
        let frames = SEND_WINDOW..=RATE_PER_S_MAX.into();
        let rate = |name, value, things| Key { name, slot: count(value, things, rates.clone()).or_zero(NONE).into() };
        let some =
            |name, value, things| Key { name, slot: count(value, things, 0..=u32::MAX.into()).or_zero(NONE).into() };
        let unseen = count(device_unseen_days, "days", 0..=UNSEEN_DAYS_MAX).or_zero("never");
        let memory = bytes(core_memory_bytes, MEMORY_BYTES_MIN..=TIB).or_zero(NONE);
        let within = |value| seconds(value, 1..=YEAR_S).or_zero(NONE).into();
        vec![
            rate("limits.device_sends_per_s", device_sends_per_s, "sends a second"),
            rate("limits.user_sends_per_s", user_sends_per_s, "sends a second"),
            rate("limits.opened_per_s", opened_per_s, "conversations a second"),
            rate("limits.fetches_per_s", fetches_per_s, "fetches a second"),
            rate("limits.logins_per_s", logins_per_s, "connections a second"),
            Key {
                name: "limits.frames_per_s",
                slot: count(frames_per_s, "frames a second", frames).or_zero(NONE).into(),
            },
            Key { name: "limits.core_memory_bytes", slot: memory.into() },
            Key { name: "limits.device_unseen_days", slot: unseen.into() },
            Key { name: "limits.edit_within_s", slot: within(edit_within_s) },
            Key { name: "limits.unsend_within_s", slot: within(unsend_within_s) },
            Key { name: "limits.tell_blocked", slot: Slot::Switch(tell_blocked) },
            Key {
                name: "limits.group_members",
                slot: count(group_members, "members", 2..=GROUP_MEMBERS_MAX.into()).into(),
            },
            Key {
                name: "limits.group_receipts_members",
                slot: count(group_receipts_members, "members", 0..=GROUP_MEMBERS_MAX.into()).into(),
            },
            Key { name: "limits.user_groups", slot: count(user_groups, "groups", 1..=USER_GROUPS_MAX.into()).into() },
            some("limits.address_connections", address_connections, "connections"),
            some("limits.address_handshakes", address_handshakes, "connections"),
            rate("limits.address_failures_per_s", address_failures_per_s, "hellos a second"),
            Key { name: "limits.trusted_networks", slot: Slot::Networks(trusted_networks) },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{parse, problems};

    #[test]
    fn the_configuration_for_measuring_holds_nobody_back() {
        let config = parse(include_str!("../../../benches/unlimited.toml")).unwrap();
        assert_eq!(config.limits.of_shards(), shard::Limits::OFF);
        let limits = Limits { trusted_networks: config.limits.trusted_networks.clone(), ..Limits::off() };
        assert_eq!(config.limits, limits);
    }

    #[test]
    fn a_limit_that_no_client_could_obey_is_refused() {
        for (text, key) in [
            ("frames_per_s = 255", "limits.frames_per_s"),
            ("core_memory_bytes = 1", "limits.core_memory_bytes"),
            ("device_sends_per_s = 1000001", "limits.device_sends_per_s"),
        ] {
            let found = problems(&format!("[limits]\n{text}"));
            assert_eq!(found.iter().map(|problem| problem.key).collect::<Vec<_>>(), [key]);
        }
        let found = problems("[limits]\ntrusted_networks = [\"10.0.0.1/33\"]");
        assert!(found[0].to_string().contains("the bits of an IPv4 network are 0 to 32"), "{found:?}");
    }
}
