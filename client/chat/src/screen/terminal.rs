//! The terminal: taken when the program starts, given back however it ends.
//!
//! Nothing is ever asked of it: an answer that comes late would be typed into the shell. What is typed or pasted while the
//! program ends is read and forgotten, for the same reason.

use std::{
    io::{self, Write as _},
    panic,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crossterm::{
    cursor::Show,
    event::{DisableBracketedPaste, EnableBracketedPaste},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui_core::terminal::Terminal;
use ratatui_crossterm::CrosstermBackend;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{QueueSelector, tcflush},
};

/// Input that stays away for this long will not come any more: a paste arrives in one piece, over a slow line in several.
const QUIET: Duration = Duration::from_millis(50);

/// Somebody may be holding down a key.
const DRAIN_MAX: Duration = Duration::from_millis(1_000);

/// Whether there is something to give back.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

pub(crate) type Screen = Terminal<CrosstermBackend<io::Stdout>>;

/// Gives the terminal back when it goes.
#[derive(Debug)]
pub(crate) struct Taken(());

impl Taken {
    /// Takes the terminal, and sees to it that a panic gives it back.
    ///
    /// # Errors
    /// It is none, or it is gone.
    pub(crate) fn take() -> io::Result<(Self, Screen)> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        let taken = Self(());
        let screen = take()?;
        Ok((taken, screen))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// The terminal, with nothing on it. Also after a stop: what is on it then is not known.
pub(crate) fn take() -> io::Result<Screen> {
    IS_TAKEN.store(true, Ordering::SeqCst);
    // The shell may have changed the mode while this program stood still.
    disable_raw_mode()?;
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
    let mut screen = Terminal::new(CrosstermBackend::new(io::stdout()))?;
    let area = screen.size()?.into();
    // Not `clear`, which asks the terminal where its cursor is.
    screen.resize(area)?;
    Ok(screen)
}

/// The terminal as it was, with nothing of ours waiting in its input. Does nothing the second time. Failures are passed over:
/// the terminal may be gone, and there is nobody to tell.
pub(crate) fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut stdout = io::stdout();
    let _ = execute!(stdout, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = stdout.flush();
    // Still in raw mode, so that what is read here is not echoed.
    let _ = drain();
    let _ = tcflush(io::stdin(), QueueSelector::IFlush);
    let _ = disable_raw_mode();
}

/// Throws away what comes until nothing does. Not read: the keyboard's thread may have it first, and then a read would wait.
fn drain() -> io::Result<()> {
    let terminal = io::stdin();
    let begin = Instant::now();
    let quiet = Timespec { tv_sec: 0, tv_nsec: i64::from(QUIET.subsec_nanos()) };
    while begin.elapsed() < DRAIN_MAX && poll(&mut [PollFd::new(&terminal, PollFlags::IN)], Some(&quiet))? > 0 {
        tcflush(&terminal, QueueSelector::IFlush)?;
    }
    Ok(())
}
