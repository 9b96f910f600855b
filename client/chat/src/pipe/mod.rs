//! The chat from a pipe, for a script: lines in, lines out.

mod behind;
mod following;
mod group_line;
mod input;
pub(crate) mod line;
mod script;
mod told;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use client::{Client, ClientEvent, Content, Events};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

pub(crate) use self::script::Who;
use self::{
    input::Lines,
    line::Line,
    script::{Said, Script},
};
use crate::{
    attach::Attach,
    exit::{Exit, Failure},
    renewal::Renewal,
    tell, words,
};

/// What the program is told, for [`run`].
pub(crate) struct Options {
    pub(crate) who: Who,
    pub(crate) server: String,
    pub(crate) wait_for: u64,
    pub(crate) wait_delivered: bool,
    pub(crate) timeout: Duration,
    pub(crate) linger: Duration,
    pub(crate) renewal: Renewal,
}

/// Sends what comes in and tells what happens, until both are at their end.
pub(crate) async fn run(client: Client, events: Events, options: Options) -> Result<(), Failure> {
    let Options { who, server, wait_for, wait_delivered, timeout, linger, renewal } = options;
    let script = Script::new(client.clone(), who, server.clone());
    let mut run = Run { client, events, script, server, renewal };
    let input = run.take_all(input::lines()).await?;
    let is_done = |script: &Script| {
        script.is_answered() && script.received() >= wait_for && (!wait_delivered || script.is_delivered())
    };
    if let Err(failure) = run.settle(timeout, is_done).await {
        return Err(match input {
            Some(wrong) => Failure::new(Exit::Input, format!("{wrong}; {failure}")),
            None => failure,
        });
    }
    run.linger(linger).await?;
    run.leave().await;
    match (input, run.script.refused()) {
        (Some(wrong), _) => Err(Failure::new(Exit::Input, wrong)),
        (None, 0) => Ok(()),
        (None, refused) => Err(Failure::new(Exit::Refused, format!("{refused} of the messages were refused"))),
    }
}

struct Run {
    client: Client,
    events: Events,
    script: Script,
    server: String,
    renewal: Renewal,
}

impl Run {
    /// Takes the input to its end; or to the line at which it had to stop, in words.
    async fn take_all(&mut self, mut lines: Lines) -> Result<Option<String>, Failure> {
        // A line that found the queue full; nothing more is read until it has gone.
        let mut held: Option<String> = None;
        let mut number: u64 = 0;
        loop {
            if let Some(line) = held.take() {
                let mut said = self.script.say(&line);
                if let Said::Describe(attach) = said {
                    let described = self.describe(attach).await?;
                    said = self.script.attach(described);
                }
                match said {
                    Said::Taken(lines) => show(&lines)?,
                    // Described again then, which is a pity for a large file and happens only to who sends hundreds at once.
                    Said::Later | Said::Describe(_) => held = Some(line),
                    Said::Quit => return Ok(None),
                    Said::Wrong(why) => return Ok(Some(stopped(number, &why))),
                }
            }
            tokio::select! {
                event = self.events.next() => self.on_event(event)?,
                line = lines.recv(), if held.is_none() => {
                    number += 1;
                    match line {
                        None => return Ok(None),
                        Some(Ok(line)) => held = Some(line),
                        Some(Err(error)) => return Ok(Some(stopped(number, &error.to_string()))),
                    }
                }
            }
        }
    }

    /// Describes an attachment on a thread of its own, for a file may be large, and the connection must be heard meanwhile.
    async fn describe(&mut self, attach: Box<Attach>) -> Result<Result<Content, String>, Failure> {
        let mut described = spawn_blocking(move || attach.content());
        loop {
            tokio::select! {
                event = self.events.next() => self.on_event(event)?,
                described = &mut described => {
                    return Ok(described.unwrap_or_else(|_| Err("the file can not be read".to_owned())));
                }
            }
        }
    }

    /// Goes on until `is_done`.
    async fn settle(&mut self, timeout: Duration, is_done: impl Fn(&Script) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        while !is_done(&self.script) {
            tokio::select! {
                event = self.events.next() => self.on_event(event)?,
                () = sleep_until(deadline) => {
                    let words = format!("gave up after {} s: {}", timeout.as_secs(), self.script.state());
                    return Err(Failure::new(Exit::Unanswered, words));
                }
            }
        }
        Ok(())
    }

    async fn linger(&mut self, time: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + time;
        loop {
            tokio::select! {
                biased;
                event = self.events.next() => self.on_event(event)?,
                () = sleep_until(deadline) => return Ok(()),
            }
        }
    }

    /// Says bye, so that the server does not have to find out.
    async fn leave(&mut self) {
        self.client.close();
        while self.events.next().await.is_some() {}
    }

    fn on_event(&mut self, event: Option<ClientEvent>) -> Result<(), Failure> {
        let event = event.ok_or_else(|| Failure::new(Exit::Failed, "the client has stopped"))?;
        match &event {
            ClientEvent::Ended(reason) => return Err(words::ended(reason, &self.server)),
            ClientEvent::Disconnected { reason, .. } => {
                if let Some(failure) = words::fatal(reason, &self.server) {
                    return Err(failure);
                }
            }
            _ => {}
        }
        self.renewal.on_event(&self.client, &event);
        let newest = event.newest_of_group();
        show(&self.script.on_event(event))?;
        // Told, so it has arrived.
        self.client.acknowledge(self.script.shown());
        newest.into_iter().for_each(|(group, seq)| self.client.acknowledge_group(group, seq));
        Ok(())
    }
}

fn stopped(number: u64, why: &str) -> String {
    format!("line {number} of the input: {why}. Nothing from this line on was sent")
}

/// Written at once: a script at the other end of a pipe waits for it.
fn show(lines: &[Line]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for line in lines {
        match (line.plain(), line) {
            (Some(plain), _) => writeln!(stdout, "{plain}")?,
            (None, Line::Problem(problem)) => tell(problem),
            (None, _) => {}
        }
    }
    stdout.flush()
}
