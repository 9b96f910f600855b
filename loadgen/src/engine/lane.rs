//! A lane: one thread, one ring, a part of the crew. Each turn does what is due, lets the script act, sends what came of it, and
//! sleeps until something happens.

use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use super::{LanePlan, LoginFirst, Next, Phase, Script, Shared, SharedLane, read_back::ReadBack};
use crate::{
    devices::{Devices, Manners},
    limits::{CLOSE_TIMEOUT_US, LANE_SLEEP_MAX_US, PUBLISH_EVERY_US},
    session::Happened,
};

struct Lane {
    index: usize,
    shared: Arc<Shared>,
    devices: Devices,
    script: Box<dyn Script>,
    login: LoginFirst,
    compares_histories: bool,
    phase: Phase,
    phase_since_us: u64,
    read_back: ReadBack,
    happened: Vec<Happened>,
    next_publish_us: u64,
    has_ended: bool,
    /// The load was cut short: the script acts no more.
    is_stopped: bool,
    /// Everything sent has been waited for, and the script has something left to do.
    is_settling: bool,
}

/// Runs a lane until the end. What goes wrong with the messages is in the ledger.
///
/// # Errors
/// The ring could not be made, or broke.
pub(super) fn run(
    index: usize,
    plan: LanePlan,
    manners: Manners,
    login: LoginFirst,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    let lanes = Arc::clone(&shared);
    let _leaving = Leaving(&lanes.lanes[index]);
    let compares_histories = manners.compares_histories && plan.script.wants_read_back();
    let made = Devices::new(manners, plan.crew);
    let devices = made.inspect_err(|error| shared.lanes[index].give_up(&error.to_string()))?;
    let mut lane = Lane {
        index,
        devices,
        script: plan.script,
        login,
        compares_histories,
        phase: Phase::Login,
        phase_since_us: 0,
        read_back: ReadBack::default(),
        happened: Vec::new(),
        next_publish_us: 0,
        has_ended: false,
        is_stopped: false,
        is_settling: false,
        shared,
    };
    if let Err(error) = lane.go_on() {
        lane.shared.lanes[index].give_up(&format!("the ring of lane {index} is broken: {error}"));
        return Err(error.into());
    }
    Ok(())
}

/// However a lane ends, nobody waits for it any more.
struct Leaving<'a>(&'a SharedLane);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.ended.store(u8::MAX, Ordering::Release);
    }
}

impl SharedLane {
    fn give_up(&self, why: &str) {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.to_owned());
    }
}

impl Lane {
    fn go_on(&mut self) -> io::Result<()> {
        self.enter(Phase::Login);
        loop {
            let phase = self.shared.phase();
            if phase != self.phase {
                self.enter(phase);
            }
            if phase == Phase::Over {
                self.publish();
                return Ok(());
            }
            let due_us = self.devices.due();
            let (has_ended, next_us) = self.act();
            let now_us = self.devices.now_us();
            if has_ended && !self.has_ended {
                self.has_ended = true;
                if phase == Phase::Load {
                    self.shared.lanes[self.index].load_ended_us.store(now_us, Ordering::Relaxed);
                }
                self.publish();
                self.shared.lanes[self.index].ended.store(phase as u8 + 1, Ordering::Release);
            }
            if self.next_publish_us <= now_us {
                self.publish();
            }
            self.devices.wait(due_us.min(next_us).min(now_us + LANE_SLEEP_MAX_US))?;
            self.tell_happened();
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase == Phase::Load && !self.has_ended {
            self.is_stopped = true;
            self.devices.call_back();
        }
        (self.phase, self.has_ended) = (phase, false);
        self.phase_since_us = self.devices.clock_us();
        match phase {
            Phase::Login => {
                self.devices.begin_logins();
                if self.login == LoginFirst::Everybody {
                    (0..self.devices.len() as u32).for_each(|slot| self.devices.connect_at(slot, 0));
                }
            }
            Phase::Load => {
                self.devices.due();
                let now_us = self.devices.now_us().max(1);
                self.shared.lanes[self.index].load_began_us.store(now_us, Ordering::Relaxed);
                if let Some(homes) = &mut self.devices.ledger().homes {
                    homes.begin();
                }
                self.script.begin(&mut self.devices);
            }
            Phase::Close => {
                self.devices.due();
                self.devices.close_all();
            }
            Phase::Prepare => self.devices.begin_logins(),
            Phase::Drain | Phase::ReadBack | Phase::Over => {}
        }
    }

    /// Lets whoever is in charge act. Gives whether the phase has ended here, and when it wants to act again.
    fn act(&mut self) -> (bool, u64) {
        match self.phase {
            Phase::Login => (self.devices.is_complete(), u64::MAX),
            Phase::Prepare => (self.script.prepare(&mut self.devices), u64::MAX),
            Phase::Load if self.has_ended => (true, u64::MAX),
            Phase::Load => match self.script.drive(&mut self.devices) {
                Next::At(at_us) => (false, at_us),
                Next::WhenSomethingHappens => (false, u64::MAX),
                Next::Finished => (true, u64::MAX),
            },
            Phase::Drain => {
                let is_drained = self.devices.under_way() == 0 && self.devices.is_complete();
                self.is_settling |= is_drained;
                (is_drained && (self.is_stopped || self.script.settle(&mut self.devices)), u64::MAX)
            }
            Phase::ReadBack if !self.compares_histories => (true, u64::MAX),
            Phase::ReadBack => {
                let script = &self.script;
                (self.read_back.drive(&mut self.devices, |devices, slot| script.peer(devices, slot)), u64::MAX)
            }
            Phase::Close => {
                let is_over = self.devices.now_us() > self.phase_since_us + CLOSE_TIMEOUT_US;
                (is_over || self.devices.is_closed(), u64::MAX)
            }
            Phase::Over => (true, u64::MAX),
        }
    }

    fn tell_happened(&mut self) {
        let mut happened = std::mem::take(&mut self.happened);
        self.devices.take_happened(&mut happened);
        for what in happened.drain(..) {
            match self.phase {
                Phase::Drain if self.is_stopped => {}
                Phase::Prepare | Phase::Load | Phase::Drain => self.script.happened(&mut self.devices, &what),
                Phase::ReadBack => self.read_back.happened(&mut self.devices, &what),
                Phase::Login | Phase::Close | Phase::Over => {}
            }
        }
        self.happened = happened;
        if let Some(why) = self.devices.fatal() {
            self.shared.lanes[self.index].give_up(why);
        }
    }

    fn publish(&mut self) {
        let now_us = self.devices.clock_us();
        self.next_publish_us = now_us + PUBLISH_EVERY_US;
        let is_waiting = match self.phase {
            Phase::Login | Phase::Prepare | Phase::ReadBack => !self.has_ended,
            Phase::Drain => !self.has_ended && !self.is_settling,
            Phase::Load | Phase::Close | Phase::Over => false,
        };
        let lane = &self.shared.lanes[self.index];
        lane.is_owed.store(is_waiting || self.devices.is_owed(), Ordering::Relaxed);
        if is_waiting || self.devices.is_owed() {
            *lane.missing.lock().unwrap_or_else(PoisonError::into_inner) = self.devices.what_is_missing();
        }
        self.devices.stats_mut().move_to(&mut lane.stats.lock().unwrap_or_else(PoisonError::into_inner));
        lane.told_us.store(now_us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nobody_waits_for_a_lane_that_has_panicked() {
        let lane = SharedLane::default();
        let ended = thread::scope(|scope| {
            let body = scope.spawn(|| {
                let _leaving = Leaving(&lane);
                assert_eq!(lane.ended.load(Ordering::Acquire), 1, "the panic of this test");
            });
            body.join()
        });
        assert!(ended.is_err());
        assert!(lane.ended.load(Ordering::Acquire) > Phase::Over as u8);
    }
}
