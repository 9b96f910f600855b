//! Limits: how often a client may ask, and how much a core may hold (the rates are `crate::rate`'s, the memory is counted where
//! bytes are queued). What does not fit is refused with a time to try again, before anything is spent on it.

use proto_spec::{DeviceId, UserId};

use super::user::User;
use crate::{limits::RECENT_PEERS_MAX, rate::Rate};

/// What clients may ask of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sends of one device.
    pub device_sends: Rate,
    /// Sends of all devices of one user together.
    pub user_sends: Rate,
    /// Sends of one user to others than the [`RECENT_PEERS_MAX`] written to last.
    pub opened: Rate,
    /// Pages that one user asks for.
    pub fetches: Rate,
    /// Connections of one user.
    pub logins: Rate,
    /// Frames of one connection, whatever they say. Beyond it the connection is closed.
    pub frames: Rate,
    /// Bytes that may wait for clients to read them, or for the rest of what they say.
    pub memory_bytes: usize,
}

impl Limits {
    /// As much as they like.
    pub const OFF: Self = Self {
        device_sends: Rate::OFF,
        user_sends: Rate::OFF,
        opened: Rate::OFF,
        fetches: Rate::OFF,
        logins: Rate::OFF,
        frames: Rate::OFF,
        memory_bytes: usize::MAX,
    };
}

impl User {
    /// Counts a send, or says how long to wait, in milliseconds.
    pub(super) fn take_send(
        &mut self,
        limits: &Limits,
        own: UserId,
        device: DeviceId,
        to: UserId,
        now_ms: u64,
    ) -> Result<(), u64> {
        let opens = limits.opened != Rate::OFF && to != own && !self.wrote_lately(to);
        let (mut user_sends, mut opened) = (self.sends, self.opened);
        limits.user_sends.take(&mut user_sends, now_ms)?;
        if opens {
            limits.opened.take(&mut opened, now_ms)?;
        }
        if let Some(device) = self.device(device) {
            limits.device_sends.take(&mut device.sends, now_ms)?;
        }
        // All of them or none.
        (self.sends, self.opened) = (user_sends, opened);
        if opens {
            if self.recent_peers.len() == RECENT_PEERS_MAX {
                self.recent_peers.pop_front();
            }
            self.recent_peers.push_back(to);
        }
        Ok(())
    }

    /// Whether `peer` is among the last that this user wrote to; it is the very last then.
    fn wrote_lately(&mut self, peer: UserId) -> bool {
        if self.recent_peers.back() == Some(&peer) {
            return true;
        }
        let found = self.recent_peers.iter().position(|known| *known == peer);
        let Some(known) = found.and_then(|index| self.recent_peers.remove(index)) else { return false };
        self.recent_peers.push_back(known);
        true
    }
}
