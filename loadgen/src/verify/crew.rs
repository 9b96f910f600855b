//! Who is at which slot of a lane, or at which seat of a ledger that several lanes share.

use proto_spec::{DeviceId, UserId};

/// One connection of the crew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whose it is.
    pub user: UserId,
    /// Slot of the user's first device; the others follow.
    pub first: u32,
    /// Devices of the user.
    pub devices: u16,
    /// Which of them this is: 0, 1, 2, ...
    pub ordinal: u16,
}

impl Member {
    /// The id of the device: 1, 2, 3, ...
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        DeviceId(self.ordinal as u64 + 1)
    }
}

/// The devices of a lane by slot, or those of several lanes by seat: the first lane's, then the second's. The devices of a user are
/// neighbours, and in one lane.
#[derive(Clone, Debug, Default)]
pub struct Crew(Vec<Member>);

impl Crew {
    /// Adds a user; gives the slot of the first device.
    ///
    /// # Panics
    /// A user without devices.
    pub fn add(&mut self, user: UserId, devices: u16) -> u32 {
        assert!(devices > 0, "a user without a device has no slot");
        let first = self.0.len() as u32;
        self.0.extend((0..devices).map(|ordinal| Member { user, first, devices, ordinal }));
        first
    }

    /// Adds the crew of a further lane, behind those who are here.
    pub fn append(&mut self, lane: &Self) {
        let first = self.0.len() as u32;
        self.0.extend(lane.0.iter().map(|member| Member { first: first + member.first, ..*member }));
    }

    /// How many connections.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Nobody is here.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who is at a slot of this crew.
    #[must_use]
    pub fn member(&self, slot: u32) -> Member {
        self.0[slot as usize]
    }

    /// The slots of all devices of the user who is at `slot`.
    #[must_use]
    pub fn devices(&self, slot: u32) -> std::ops::Range<u32> {
        let member = self.member(slot);
        member.first..member.first + u32::from(member.devices)
    }
}
