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

#[cfg(test)]
mod tests {
    use std::{
        env,
        ffi::OsStr,
        fs::File,
        io::Read as _,
        os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
        process::{Child, Command},
        thread,
    };

    use rustix::{
        io::ioctl_fionread,
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
        termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
    };

    use super::*;

    /// Set in the process that has a pseudo-terminal for its own.
    const CHILD: &str = "RINGPOST_TEST_CHILD";

    /// Only a test that fails waits for it.
    const DEADLINE: Duration = Duration::from_secs(120);

    /// What the person types while the program panics.
    const TYPED: &str = "echo typed\r";

    /// Ends with the test, also with one that fails.
    struct Program(Child);

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_then_says_what_it_was() {
        if env::var_os(CHILD).is_some() {
            let (_taken, _screen) = Taken::take().unwrap();
            let typed = Timespec { tv_sec: DEADLINE.as_secs().cast_signed(), tv_nsec: 0 };
            assert_eq!(poll(&mut [PollFd::new(&io::stdin(), PollFlags::IN)], Some(&typed)).unwrap(), 1);
            panic!("as a test asked for");
        }
        let mut master = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed());
        let terminal = options.open(OsStr::from_bytes(name.to_bytes())).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = tcgetattr(&terminal).unwrap().local_modes;
        assert!(before.contains(LocalModes::ICANON | LocalModes::ECHO));

        let test = "screen::terminal::tests::a_panic_gives_the_terminal_back_and_then_says_what_it_was";
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(CHILD, "1");
        let duplicate = || terminal.try_clone().unwrap();
        let child = command.stdin(duplicate()).stdout(duplicate()).stderr(duplicate()).spawn().unwrap();
        // It holds the terminal open for others.
        drop(command);
        let mut program = Program(child);

        let mut keyboard = master.try_clone().unwrap();
        let screen = thread::spawn(move || {
            let (mut shown, mut buffer, mut has_typed) = (Vec::new(), [0; 4096], false);
            // Until nobody has the terminal open.
            while let Ok(size @ 1..) = master.read(&mut buffer) {
                shown.extend_from_slice(&buffer[..size]);
                if !has_typed && String::from_utf8_lossy(&shown).contains("\u{1b}[?2004h") {
                    keyboard.write_all(TYPED.as_bytes()).unwrap();
                    has_typed = true;
                }
            }
            String::from_utf8_lossy(&shown).into_owned()
        });
        let start = Instant::now();
        let status = loop {
            match program.0.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(start.elapsed() < DEADLINE, "it goes on"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(!status.success());
        assert_eq!(tcgetattr(&terminal).unwrap().local_modes, before);
        assert_eq!(ioctl_fionread(&terminal).unwrap(), 0, "what was typed is left for the shell");
        drop((terminal, program));
        let shown = screen.join().unwrap();
        let in_order = ["\u{1b}[?1049h", "\u{1b}[?2004h", "\u{1b}[?2004l", "\u{1b}[?1049l", "as a test asked for"];
        let places = in_order.map(|part| shown.find(part).unwrap_or_else(|| panic!("{part:?}: {shown:?}")));
        assert!(places.is_sorted(), "{shown:?}");
        assert!(!shown.contains("echo typed"), "{shown:?}");
    }
}
