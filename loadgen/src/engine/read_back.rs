//! Reading back: the history of each user who took part, against what the user's devices were told, and these against each other.

use proto_spec::{Direction, UserId, limits::PAGE_ENTRIES_MAX};

use crate::{
    devices::Devices,
    limits::READERS_MAX,
    session::{Fetch, Happened},
    stats::Count,
    verify::HistoryCheck,
};

/// The reading of one lane.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    /// The next slot to look at.
    next: u32,
    reading: Vec<(u32, HistoryCheck)>,
}

impl ReadBack {
    /// Begins further readings; true when there is none left.
    pub(super) fn drive(&mut self, devices: &mut Devices, peer: impl Fn(&Devices, u32) -> Option<UserId>) -> bool {
        while self.reading.len() < READERS_MAX && (self.next as usize) < devices.len() {
            let slot = self.next;
            let all = devices.crew().devices(slot);
            self.next = all.end;
            if all.clone().all(|device| devices.told(device).count == 0) {
                continue;
            }
            compare_devices(devices, slot);
            let (from, direction, limit) = (devices.start(slot).next(), Direction::Forwards, PAGE_ENTRIES_MAX);
            devices.fetch(slot, Fetch { peer: peer(devices, slot), from, direction, limit });
            self.reading.push((slot, HistoryCheck::new(devices.seat(slot), direction)));
        }
        self.reading.is_empty()
    }

    pub(super) fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        let Happened::Page { slot, fetch, page } = what else { return };
        let Some(at) = self.reading.iter().position(|(reader, _)| reader == slot) else { return };
        self.reading[at].1.take(&mut devices.ledger(), &page.entries);
        match fetch.following(page) {
            Some(next) => {
                devices.fetch(*slot, next);
            }
            None => {
                let (_, check) = self.reading.swap_remove(at);
                check.finish(&mut devices.ledger(), devices.told(*slot));
                devices.stats_mut()[Count::HistoriesChecked] += 1;
            }
        }
    }
}

/// All devices of a user must have been told the same.
fn compare_devices(devices: &mut Devices, first: u32) {
    let told = *devices.told(first);
    for device in devices.crew().devices(first) {
        let other = *devices.told(device);
        if other != told {
            let member = devices.crew().member(device);
            let (user, id, (count, wanted)) = (member.user, member.device(), (other.count, told.count));
            let what =
                if count == wanted { "under other seqs or with other texts".to_owned() } else { format!("{count}") };
            let words = format!("user {user}: device 1 was told {wanted} messages of this run, device {id} {what}");
            devices.ledger().faults.add(words);
        }
    }
}
