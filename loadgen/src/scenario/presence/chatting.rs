//! A lane of those who chat meanwhile. They have it for themselves: who cuts thousands of connections has no eye for the clock.

use proto_spec::UserId;

use super::Stage;
use crate::{
    devices::Devices,
    engine::{Next, Script, Stages},
    scenario::chat::Talk,
    session::Happened,
};

/// A lane of those who chat, until everything is to be quiet.
#[derive(Debug)]
pub(super) struct Chat {
    talk: Talk,
    stages: Stages,
    course: Vec<Stage>,
}

impl Chat {
    pub(super) fn new(talk: Talk, stages: Stages, rounds: u64) -> Self {
        Self { talk, stages, course: Stage::all(rounds).collect() }
    }
}

impl Script for Chat {
    fn begin(&mut self, devices: &mut Devices) {
        self.talk.begin(devices);
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        devices.stats_mut().era = self.course[self.stages.begun().saturating_sub(1)].era();
        self.talk.drive(devices)
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        self.talk.happened(devices, what);
    }

    fn peer(&self, devices: &Devices, slot: u32) -> Option<UserId> {
        self.talk.peer(devices, slot)
    }
}
