//! How groups come to be before a load: their ids, who is in them, and what their owners send for that.

use proto_spec::{GroupId, UserId};

use crate::{
    devices::Devices,
    draw::mix,
    verify::{Ledger, groups::Said},
};

/// The id of a group of a run, which are 0, 1, 2, ... Other runs have others, so that none is taken; and it is known before there is the
/// group, and so whose its home will be.
#[must_use]
pub fn group_id(run: u64, group: u64) -> GroupId {
    GroupId(mix(run ^ mix(group + 1)).max(1))
}

/// Tells a ledger of a group, of which the devices of all these users are, each given by the seat of the first one. Gives the group's
/// place among those of the ledger.
pub(super) fn announce(ledger: &mut Ledger, id: GroupId, members: impl IntoIterator<Item = u32>) -> u32 {
    let group = ledger.groups.add_group(id);
    for first in members {
        let user = ledger.crew().member(first).user;
        for seat in ledger.crew().devices(first) {
            ledger.groups.add_view(group, seat, user);
        }
    }
    group
}

/// A device creates a group of the ledger and adds the others, one by one.
pub(super) fn create(devices: &mut Devices, owner: u32, group: u32, others: impl IntoIterator<Item = UserId>) {
    let now_us = devices.now_us();
    devices.send_to_group(owner, group, Said::Create, now_us);
    others.into_iter().for_each(|user| devices.send_to_group(owner, group, Said::Add(user), now_us));
}
