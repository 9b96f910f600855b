//! A lane of pairs who write to each other beside the groups. They have it for themselves: what they wait for is not what a generator of
//! many members waits for.

use proto_spec::UserId;

use super::Times;
use crate::{
    devices::Devices,
    engine::{Next, Script},
    scenario::chat::Talk,
    session::Happened,
};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Beside {
    talk: Talk,
    times: Times,
    has_called: bool,
    began_us: u64,
}

impl Beside {
    pub(super) const fn new(talk: Talk, times: Times) -> Self {
        Self { talk, times, has_called: false, began_us: 0 }
    }
}

impl Script for Beside {
    fn prepare(&mut self, devices: &mut Devices) -> bool {
        if !self.has_called {
            self.has_called = true;
            (0..devices.len() as u32).for_each(|slot| devices.connect_at(slot, 0));
        }
        devices.is_complete()
    }

    fn begin(&mut self, devices: &mut Devices) {
        self.began_us = devices.now_us();
        self.talk.begin(devices);
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let (part, _) = self.times.at(devices.now_us() - self.began_us);
        devices.stats_mut().era = self.times.era(part);
        self.talk.drive(devices)
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        self.talk.happened(devices, what);
    }

    fn peer(&self, devices: &Devices, slot: u32) -> Option<UserId> {
        self.talk.peer(devices, slot)
    }
}
