//! What is left of groups when everything has come: when their members had each message, and whether each device reads what it was told.

use proto_spec::{GroupId, GroupPage, Seq};

use crate::{
    devices::Devices,
    limits::READERS_MAX,
    stats::{Count, Measure},
    verify::groups::GroupFetch,
};

/// A device that reads a group.
#[derive(Debug)]
struct Reading {
    slot: u32,
    asked: GroupFetch,
    pages: Vec<GroupPage>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Settle {
    has_begun: bool,
    /// Who is to read what, the next one last.
    left: Vec<(u32, GroupId)>,
    reading: Vec<Reading>,
}

impl Settle {
    /// Lets further devices read, of all that are to read a group; true when all have.
    pub(super) fn drive(&mut self, devices: &mut Devices, all: impl FnOnce(&Devices) -> Vec<(u32, GroupId)>) -> bool {
        if !self.has_begun {
            self.has_begun = true;
            self.left = all(devices);
            let spreads = devices.ledger().groups.take_spreads();
            let stats = devices.stats_mut();
            let era = stats.era;
            for spread in spreads {
                stats.era = spread.era;
                stats.record(Measure::GroupFirst, spread.first_us);
                stats.record(Measure::GroupLast, spread.last_us);
            }
            stats.era = era;
        }
        while self.reading.len() < READERS_MAX
            && let Some((slot, group)) = self.left.pop()
        {
            let asked = GroupFetch { group, from: Seq(1), is_for_gap: false };
            if !devices.fetch_group(slot, asked) {
                self.left.push((slot, group));
                break;
            }
            self.reading.push(Reading { slot, asked, pages: Vec::new() });
        }
        self.left.is_empty() && self.reading.is_empty()
    }

    /// A page of a reading.
    pub(super) fn take(&mut self, devices: &mut Devices, slot: u32, fetch: &GroupFetch, page: &GroupPage) {
        let is_it = |reading: &Reading| reading.slot == slot && reading.asked == *fetch;
        let Some(at) = self.reading.iter().position(is_it) else { return };
        let reading = &mut self.reading[at];
        reading.pages.push(page.clone());
        if let Some(next) = fetch.following(page) {
            reading.asked = next;
            if devices.fetch_group(slot, next) {
                return;
            }
        }
        let Reading { pages, .. } = self.reading.swap_remove(at);
        let seat = devices.seat(slot);
        devices.ledger().groups.check_read(seat, &pages);
        devices.stats_mut()[Count::GroupsChecked] += 1;
    }
}
