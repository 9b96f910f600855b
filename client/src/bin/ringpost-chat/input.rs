//! Where lines come from: a thread, because both a terminal and a pipe block.

use std::{
    io::BufRead,
    sync::{OnceLock, mpsc as std_mpsc},
    thread,
};

use anyhow::Context;
use client::UserId;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::DefaultEditor;
use tokio::sync::mpsc;

use crate::screen::Screen;

/// Lines read ahead of the network. More would only hide that it is slow.
const LINES_WAITING_MAX: usize = 16;

static TERMINAL_BEFORE: OnceLock<Termios> = OnceLock::new();

pub(crate) struct Input {
    lines: mpsc::Receiver<String>,
    /// The editor asks for each line with the prompt of the moment.
    prompts: Option<std_mpsc::Sender<String>>,
}

impl Input {
    /// The next line; none at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Lets the person type the next line.
    pub(crate) fn prompt(&self, peer: UserId) {
        if let Some(prompts) = &self.prompts {
            // A thread that is gone has ended the lines as well.
            let _ = prompts.send(format!("{peer}> "));
        }
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
                    eprintln!("ringpost-chat: standard input: {error}");
                    return;
                }
            }
        }
    });
    Input { lines, prompts: None }
}

/// A line editor whose printer does not disturb what is being typed.
pub(crate) fn terminal() -> anyhow::Result<(Input, Screen)> {
    if let Ok(before) = tcgetattr(std::io::stdin()) {
        TERMINAL_BEFORE.get_or_init(|| before);
    }
    let mut editor = DefaultEditor::new().context("the terminal can not be edited on")?;
    let printer = editor.create_external_printer().context("the terminal can not be written to while editing")?;
    let (sender, lines) = mpsc::channel(LINES_WAITING_MAX);
    let (prompts, wanted) = std_mpsc::channel::<String>();
    thread::spawn(move || {
        for prompt in wanted {
            // Ctrl-C and Ctrl-D are the end of input.
            let Ok(line) = editor.readline(&prompt) else { return };
            // Only the memory of this run: a history in a file would keep what people write to each other.
            let _ = editor.add_history_entry(&line);
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    Ok((Input { lines, prompts: Some(prompts) }, Screen::Terminal(Box::new(printer))))
}

/// The editor's thread may be in the middle of a line when the program ends, with the terminal in raw mode.
pub(crate) fn restore_terminal() {
    if let Some(before) = TERMINAL_BEFORE.get() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
        println!();
    }
}
