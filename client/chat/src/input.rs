//! Where lines come from: a thread, because both a terminal and a pipe block.

use std::{
    borrow::Cow,
    io::BufRead,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use client::UserId;
use reedline::{
    ExternalPrinter, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, Signal,
};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::screen::Screen;

/// Lines read ahead of the network. More would only hide that it is slow.
const LINES_WAITING_MAX: usize = 16;

/// Lines on their way to the editor, which shows them several times a second. A page of history fits many times: when it
/// is full, showing waits for the editor.
const LINES_TO_SHOW_MAX: usize = 8_192;

static TERMINAL_BEFORE: OnceLock<Termios> = OnceLock::new();

pub(crate) struct Input {
    lines: mpsc::Receiver<String>,
    peer: Arc<AtomicU64>,
}

impl Input {
    /// The next line; none at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Whom the prompt names, from the next time that it is drawn.
    pub(crate) fn prompt(&self, peer: UserId) {
        self.peer.store(peer.0, Ordering::Relaxed);
    }
}

pub(crate) fn pipe() -> Input {
    let (sender, lines) = mpsc::channel(LINES_WAITING_MAX);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            match line {
                Ok(line) => {
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    eprintln!("ringpost chat: standard input: {error}");
                    return;
                }
            }
        }
    });
    Input { lines, peer: Arc::default() }
}

/// A line editor whose printer does not disturb what is being typed. It keeps a memory of this run only: a history in a
/// file would keep what people write to each other.
pub(crate) fn terminal() -> (Input, Screen) {
    if let Ok(before) = tcgetattr(std::io::stdin()) {
        TERMINAL_BEFORE.get_or_init(|| before);
    }
    let printer = ExternalPrinter::new(LINES_TO_SHOW_MAX);
    let mut editor = Reedline::create().with_external_printer(printer.clone());
    let (sender, lines) = mpsc::channel(LINES_WAITING_MAX);
    let peer = Arc::<AtomicU64>::default();
    let prompt = PeerPrompt(Arc::clone(&peer));
    thread::spawn(move || {
        loop {
            match editor.read_line(&prompt) {
                Ok(Signal::Success(line)) => {
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
                // Ctrl-C and Ctrl-D are the end of input.
                Ok(_) => return,
                Err(error) => {
                    restore_terminal();
                    eprintln!("ringpost chat: the terminal: {error}");
                    return;
                }
            }
        }
    });
    (Input { lines, peer }, Screen::Terminal(printer))
}

/// The editor's thread may be in the middle of a line when the program ends, with the terminal in raw mode.
pub(crate) fn restore_terminal() {
    if let Some(before) = TERMINAL_BEFORE.get() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
        println!();
    }
}

/// `8> `, as long as lines go to user 8.
struct PeerPrompt(Arc<AtomicU64>);

impl Prompt for PeerPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        self.0.load(Ordering::Relaxed).to_string().into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "not ",
        };
        format!("({failing}found: {}) ", search.term).into()
    }
}
