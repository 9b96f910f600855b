//! Pace: how work goes on that nobody waits for: ingestion, merging, making files. It must not be in the way of a core, which has the
//! same processor and disk.
//!
//! Its threads stand below the cores, so a core that wakes up has the processor at once; and long work is done in pieces with pauses, so
//! that the disk and the caches are not its own for half a second. The pauses are shorter the further it is behind: what is not brought
//! into the store fills the journal, and at last refuses sends.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{getpid, getpriority_process, setpriority_process};

/// How far its threads stand below those of the process, as [`step_back`] counts. Where both want one processor, such a thread has a quarter
/// of it. At 10 it has a tenth, and a core at its limit fills the journal sooner than that empties it. The kernel orders their reads and
/// writes likewise, where it orders them at all.
pub const NICER: i32 = 5;

/// Nicest there is.
const NICEST: i32 = 19;

/// A piece of work, in microseconds: what a core's turn may take.
const PIECE_US: u64 = 1_000;

/// Longest pause, in milliseconds: a piece that took long, because others had the processor, is not paid for twice.
const PAUSE_MAX_MS: u64 = 10;

/// Puts the calling thread below those of the process, so far as `nice` counts, and so all threads that it starts from now on. Where it
/// stands there already, or lower, it stays.
///
/// # Errors
/// The kernel does not allow it.
pub fn step_back(nicer: i32) -> io::Result<()> {
    let process = getpriority_process(Some(getpid()))?;
    let nice = (process + nicer).min(NICEST).max(getpriority_process(None)?);
    Ok(setpriority_process(None, nice)?)
}

/// How long the pauses of one store's work are. Shared by all that do it.
#[derive(Debug, Default)]
pub struct Pace {
    /// Of the time that a piece took, in percent.
    pause_percent: AtomicU32,
    hurries: AtomicBool,
}

impl Pace {
    /// So many of `max` parts wait to be done, the one that is being done included. Without a word of that there are no pauses.
    pub fn waiting(&self, parts: u64, max: u64) {
        let percent = match (parts * 100).checked_div(max) {
            Some(..25) => 100,
            Some(25..50) => 30,
            _ => 0,
        };
        self.pause_percent.store(percent, Ordering::Relaxed);
    }

    /// No more pauses, whatever waits: somebody waits for the end.
    pub fn hurry(&self) {
        self.hurries.store(true, Ordering::Relaxed);
    }

    /// The pause after a piece that took so long.
    fn pause(&self, worked: Duration) -> Duration {
        if self.hurries.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let pause = worked * self.pause_percent.load(Ordering::Relaxed) / 100;
        pause.min(Duration::from_millis(PAUSE_MAX_MS))
    }
}

/// Long work, piece by piece.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    pace: &'a Pace,
    begun: Instant,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(pace: &'a Pace) -> Self {
        Self { pace, begun: Instant::now() }
    }

    /// A little has been done: pauses if a piece is full.
    pub(crate) fn step(&mut self) {
        let worked = self.begun.elapsed();
        if worked >= Duration::from_micros(PIECE_US) {
            let pause = self.pace.pause(worked);
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            self.begun = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_as_long_as_the_work_and_shorter_the_further_it_is_behind() {
        let pace = Pace::default();
        let ms = Duration::from_millis;
        assert_eq!(pace.pause(ms(2)), ms(0), "nobody has said that there is time");
        for (waiting, pause_us) in [(0, 2_000), (1, 2_000), (4, 600), (7, 600), (8, 0), (16, 0), (99, 0)] {
            pace.waiting(waiting, 16);
            assert_eq!(pace.pause(ms(2)), Duration::from_micros(pause_us), "{waiting} of 16 wait");
        }
        pace.waiting(1, 16);
        assert_eq!(pace.pause(ms(500)), ms(PAUSE_MAX_MS));
        pace.hurry();
        pace.waiting(1, 16);
        assert_eq!(pace.pause(ms(2)), ms(0));
    }

    #[test]
    fn work_that_has_time_pauses() {
        let pace = Pace::default();
        pace.waiting(1, 16);
        let mut pieces = Pieces::new(&pace);
        let (begun, mut worked) = (Instant::now(), Duration::ZERO);
        while worked < Duration::from_millis(20) {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(500) {}
            worked += start.elapsed();
            pieces.step();
        }
        // At least one piece was full, and its pause is no shorter than it was; how many there were depends on who else runs.
        assert!(begun.elapsed() >= worked + Duration::from_micros(PIECE_US), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_thread_that_steps_back_takes_those_that_it_starts_with_it_and_nobody_else() {
        let own = getpriority_process(None).unwrap();
        let stand = || {
            step_back(NICER).unwrap();
            step_back(NICER).unwrap();
            let child = thread::spawn(|| getpriority_process(None).unwrap());
            (getpriority_process(None).unwrap(), child.join().unwrap())
        };
        let below = (own + NICER).min(NICEST);
        assert_eq!(thread::spawn(stand).join().unwrap(), (below, below));
        assert_eq!(getpriority_process(None).unwrap(), own);
    }
}
