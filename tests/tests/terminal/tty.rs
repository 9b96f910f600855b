//! A terminal of the test's own: a pseudo-terminal with a shell in it, and what its screen shows.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tests::wait_until;

/// What the shell says when it waits for a command.
pub(crate) const PROMPT: &str = "shell> ";

pub(crate) struct Tty {
    master: File,
    shell: Child,
    seen: Arc<Mutex<Seen>>,
    /// How often a program has given it back.
    given_back: AtomicU32,
}

/// A window has at least one of each.
fn size(cells: u16) -> NonZero<u16> {
    NonZero::new(cells).unwrap()
}

struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

impl Tty {
    /// A shell that waits for a command, in a window of this size.
    pub(crate) fn new(columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let mut options = File::options();
        options.read(true).write(true).custom_flags(rustix::fs::OFlags::NOCTTY.bits() as i32);
        let slave = options.open(OsStr::from_bytes(name.to_bytes())).unwrap();
        tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        // The shell leads a session whose terminal this is.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-i"]).env("PS1", PROMPT).env("TERM", "xterm-256color").env_remove("ENV");
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let shell = command.spawn().unwrap();
        let seen = Seen { screen: vt100::Parser::new(size(rows), size(columns), 0), bytes: Vec::new() };
        let seen = Arc::new(Mutex::new(seen));
        let (mut reader, into) = (File::from(master.try_clone().unwrap()), Arc::clone(&seen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Until the last one that has the terminal open is gone.
            while let Ok(size @ 1..) = reader.read(&mut buffer) {
                let mut seen = into.lock().unwrap();
                seen.screen.process(&buffer[..size]);
                seen.bytes.extend_from_slice(&buffer[..size]);
            }
        });
        let tty = Self { master: File::from(master), shell, seen, given_back: AtomicU32::new(40) };
        tty.shows(PROMPT.trim_end());
        tty
    }

    pub(crate) fn types(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).unwrap();
    }

    /// As terminals paste: with brackets if the program has asked for them, with carriage returns for line breaks.
    pub(crate) fn pastes(&self, text: &str) {
        let text = text.replace('\n', "\r");
        match self.seen.lock().unwrap().screen.screen().bracketed_paste() {
            true => self.types(&format!("\u{1b}[200~{text}\u{1b}[201~")),
            false => self.types(&text),
        }
    }

    pub(crate) fn resizes(&self, columns: u16, rows: u16) {
        self.seen.lock().unwrap().screen.screen_mut().set_size(size(rows), size(columns));
        tcsetwinsize(&self.master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// What stands on the screen.
    pub(crate) fn screen(&self) -> String {
        self.seen.lock().unwrap().screen.screen().contents()
    }

    /// Everything that the terminal was sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().bytes.clone()
    }

    pub(crate) fn look<T>(&self, f: impl FnOnce(&vt100::Screen) -> T) -> T {
        f(self.seen.lock().unwrap().screen.screen())
    }

    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        let mut screen = String::new();
        let start = std::time::Instant::now();
        while !screen.contains(text) {
            assert!(start.elapsed() < tests::DEADLINE, "{text:?} is not shown:\n{screen}");
            thread::sleep(std::time::Duration::from_millis(5));
            screen = self.screen();
        }
    }

    /// The program in the shell has ended, the terminal is as it was, and nothing has reached the shell that was not for it.
    #[track_caller]
    pub(crate) fn is_given_back(&self) {
        wait_until("the shell's own screen", || self.look(|screen| !screen.alternate_screen()));
        let prompt = format!("\n{}", PROMPT.trim_end());
        wait_until("the shell waits for a command", || self.screen().trim_end().ends_with(&prompt));
        // Echoed by the terminal, and read as a line: it is in its usual mode.
        let count = self.given_back.fetch_add(1, Ordering::Relaxed);
        self.types(&format!("echo $(({count} + 2))-back\r"));
        self.shows(&format!("\n{}-back\n{}", count + 2, PROMPT.trim_end()));
        assert!(self.look(|screen| !screen.bracketed_paste() && !screen.hide_cursor() && !screen.application_cursor()));
        let screen = self.screen();
        let prompts: Vec<&str> = screen.lines().filter(|line| line.starts_with(PROMPT.trim_end())).collect();
        let asked = format!("{PROMPT}echo $(({count} + 2))-back");
        assert!(prompts.iter().rev().nth(1).is_some_and(|line| *line == asked), "{screen}");
        assert!(!screen.contains("not found") && !screen.contains("yntax error"), "{screen}");
        let bytes = self.bytes();
        let asks = [b"\x1b[6n".as_slice(), b"\x1b[c", b"\x1b[?u", b"\x1b]11;?"];
        assert!(!asks.iter().any(|ask| bytes.windows(ask.len()).any(|part| part == *ask)), "the terminal was asked");
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
