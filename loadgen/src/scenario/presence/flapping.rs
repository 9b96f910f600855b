//! Flapping: users who go for a moment, or come for one, again and again. Each moment is shorter than what is told, so nobody may be
//! told anything of it.

use crate::{devices::Devices, draw::Draw, verify::presence::Patience};

/// What a user is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Somebody who comes and goes for long.
    Plain,
    /// There, and gone for moments.
    There,
    /// Not there, but for moments.
    Gone,
    /// As `There`, and looks away and back between: whom many watch.
    Popular,
}

/// What each user of a lane is like: the first one is popular if anybody is, the others by chance.
pub(super) fn roles(count: usize, percent: f64, is_one_popular: bool, draw: &mut Draw) -> Vec<Role> {
    let role = |slot| {
        let (flaps, is_there) = (draw.unit() * 100.0 <= percent, draw.below(2) == 0);
        match (flaps, is_there) {
            _ if is_one_popular && slot == 0 => Role::Popular,
            (false, _) => Role::Plain,
            (true, true) => Role::There,
            (true, false) => Role::Gone,
        }
    };
    (0..count).map(role).collect()
}

/// A moment, in microseconds.
pub(super) fn moment_us(patience: &Patience) -> u64 {
    patience.hold_ms.min(patience.grace_ms) * 1_000 / 3
}

/// Who is there goes for a moment; who is not comes for one, or goes again. Gives when this user is to flap next, unless that is some time
/// after they have come.
pub(super) fn flap(devices: &mut Devices, slot: u32, role: Role, patience: &Patience, draw: &mut Draw) -> Option<u64> {
    let now_us = devices.now_us();
    let moment_us = moment_us(patience);
    // A user who has come for a moment has been gone for long before: what is told of them stands.
    let later_us = now_us + 2 * patience.hold_ms * 1_000 + draw.below(patience.hold_ms * 2_000 + 1);
    match (role, devices.is_ready(slot)) {
        (Role::Plain, _) => None,
        (Role::There | Role::Popular, true) => {
            devices.cut(slot);
            devices.connect_at(slot, now_us + moment_us);
            Some(later_us)
        }
        (Role::There | Role::Popular, false) => Some(later_us),
        (Role::Gone, true) => {
            if draw.below(2) == 0 {
                devices.leave(slot);
            } else {
                devices.cut(slot);
            }
            Some(later_us)
        }
        (Role::Gone, false) => {
            devices.connect_at(slot, now_us);
            None
        }
    }
}
