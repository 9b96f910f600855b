//! The chat on a terminal, for a person. What is seen and what a key does is in `model.rs` and `draw.rs`; here are the
//! keyboard, the signals, the connection and the clock, and what is done for each [`Effect`] of the model.

mod drafts;
mod draw;
mod editor;
mod effect;
mod list;
mod messages;
mod model;
mod notice;
mod terminal;
#[cfg(test)]
mod tests;

use std::{
    io, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use client::{Client, ClientEvent, ConversationId, Events, GroupId, MonotonicMs, TimestampMs, UserId};
use crossterm::{event, terminal::size};
use jiff::tz::TimeZone;
use ratatui_core::layout::Rect;
use rustix::process::{Signal as Kill, kill_process};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::sleep_until,
};

use self::{
    effect::{Described, Effect, Input, Now, Wish},
    model::{Model, Setup},
    terminal::{Screen, Taken},
};
use crate::{
    exit::{Exit, Failure},
    renewal::Renewal,
    tell,
    visible::tame,
    words,
};

/// Keys ahead of the screen; a paste is one of them.
const KEYS_WAITING_MAX: usize = 64;

/// Events that are taken before the screen is drawn again: a page of history is one picture.
const EVENTS_A_PICTURE_MAX: usize = 512;

/// Entries of a group that are asked for at once, when some are missing.
const FILL_PAGE: u64 = 100;

/// How a run on a terminal has ended.
pub(crate) enum Left {
    Quit,
    /// By this signal.
    Signal(i32),
}

/// What the program is told, for [`run`].
pub(crate) struct Options {
    /// None: the list of conversations is shown.
    pub(crate) peer: Option<ConversationId>,
    pub(crate) history: u64,
    pub(crate) server: String,
    pub(crate) renewal: Renewal,
}

/// Shows the conversation until the person leaves, or it can not go on. The terminal is as before then.
pub(crate) async fn run(client: Client, mut events: Events, options: Options) -> Result<Left, Failure> {
    let Options { peer, history, server, renewal } = options;
    let mut signals = Signals::listen()?;
    let (taken, screen) = Taken::take()?;
    let size = size().unwrap_or((80, 24));
    let setup = Setup { peer, history, server: server.clone(), zone: TimeZone::system(), size };
    let mut run = Run {
        model: Model::new(setup),
        client,
        screen,
        server,
        renewal,
        start: Instant::now(),
        keys: keyboard(),
        watched: Vec::new(),
        describing: None,
    };
    let ended = run.until_the_end(&mut events, &mut signals).await;
    drop(taken);
    let (waiting, draft) = run.model.unsent();
    for text in &waiting {
        tell(&format!("without an answer from the server: {}", tame(text)));
    }
    if let Some(draft) = draft {
        tell(&format!("not sent, as it was still a draft: {}", tame(&draft)));
    }
    let ended = ended?;
    run.client.close();
    while events.next().await.is_some() {}
    match (ended, waiting.len()) {
        (Left::Quit, 1..) => Err(Failure::new(Exit::Unanswered, "left before the server had answered")),
        (ended, _) => Ok(ended),
    }
}

/// What the keyboard says, from a thread, because a terminal blocks. The thread ends with the program.
fn keyboard() -> mpsc::Receiver<io::Result<event::Event>> {
    let (sender, keys) = mpsc::channel(KEYS_WAITING_MAX);
    thread::spawn(move || {
        loop {
            let event = event::read();
            let is_last = event.is_err();
            if sender.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    });
    keys
}

struct Run {
    model: Model,
    client: Client,
    screen: Screen,
    server: String,
    renewal: Renewal,
    start: Instant,
    keys: mpsc::Receiver<io::Result<event::Event>>,
    /// Whom the client watches.
    watched: Vec<UserId>,
    /// A file is being read that is to be attached.
    describing: Option<JoinHandle<Described>>,
}

/// Something that has happened outside of the model.
enum Woken {
    Client(Option<ClientEvent>),
    Key(Option<io::Result<event::Event>>),
    Signal(Told),
    Described(Described),
    Time,
}

impl Run {
    async fn until_the_end(&mut self, events: &mut Events, signals: &mut Signals) -> Result<Left, Failure> {
        self.draw()?;
        loop {
            let deadline = self.model.deadline(self.now()).map(|at| self.start + Duration::from_millis(at.0));
            let woken = tokio::select! {
                event = events.next() => Woken::Client(event),
                key = self.keys.recv() => Woken::Key(key),
                told = signals.next() => Woken::Signal(told),
                described = described(&mut self.describing) => Woken::Described(described),
                () = until(deadline) => Woken::Time,
            };
            let mut next = Some(woken);
            let mut taken = 0;
            while let Some(woken) = next {
                if let Some(left) = self.on(woken)? {
                    return Ok(left);
                }
                taken += 1;
                next = if taken < EVENTS_A_PICTURE_MAX { self.ready(events) } else { None };
            }
            self.draw()?;
        }
    }

    /// What has happened already.
    fn ready(&mut self, events: &mut Events) -> Option<Woken> {
        let key = self.keys.try_recv().ok().map(|key| Woken::Key(Some(key)));
        key.or_else(|| events.try_next().map(|event| Woken::Client(Some(event))))
    }

    fn on(&mut self, woken: Woken) -> Result<Option<Left>, Failure> {
        let mut newest = None;
        let input = match woken {
            Woken::Client(None) => return Err(Failure::new(Exit::Failed, "the client has stopped")),
            Woken::Client(Some(ClientEvent::Ended(reason))) => return Err(words::ended(&reason, &self.server)),
            Woken::Client(Some(event)) => {
                if let ClientEvent::Disconnected { reason, .. } = &event
                    && let Some(failure) = words::fatal(reason, &self.server)
                {
                    return Err(failure);
                }
                self.renewal.on_event(&self.client, &event);
                newest = event.newest_of_group();
                Input::Client(event)
            }
            Woken::Key(None) => return Err(Failure::new(Exit::Failed, "the terminal is not read any more")),
            Woken::Key(Some(event)) => {
                match event.map_err(|error| Failure::new(Exit::Failed, format!("the terminal: {error}")))? {
                    event::Event::Key(key) => Input::Key(key),
                    event::Event::Paste(text) => Input::Pasted(text),
                    event::Event::Resize(columns, rows) => {
                        // All of it, even if the size is as before: it may have been smaller in between.
                        self.screen.resize(Rect::new(0, 0, columns, rows))?;
                        Input::Resized(columns, rows)
                    }
                    event::Event::FocusGained | event::Event::FocusLost | event::Event::Mouse(_) => Input::Tick,
                }
            }
            Woken::Signal(Told::End(signal)) => return Ok(Some(Left::Signal(signal))),
            Woken::Signal(Told::Stop) => {
                self.suspend()?;
                Input::Tick
            }
            Woken::Signal(Told::GoOn) => {
                self.take_again()?;
                Input::Tick
            }
            Woken::Described(described) => Input::Described(Box::new(described)),
            Woken::Time => Input::Tick,
        };
        let left = self.step(input)?;
        // Shown, so it has arrived.
        newest.into_iter().for_each(|(group, seq)| self.client.acknowledge_group(group, seq));
        Ok(left)
    }

    fn step(&mut self, input: Input) -> Result<Option<Left>, Failure> {
        for effect in self.model.handle(self.now(), input) {
            match effect {
                Effect::Send { number, to, content } => match self.client.send(to, content) {
                    Ok(handle) => self.model.taken(number, handle),
                    Err(error) => self.model.not_taken(number, error),
                },
                Effect::Fetch { peer, from, limit } => {
                    match self.client.fetch_conversation(peer, from, client::Direction::Backwards, limit) {
                        Ok(fetch) => self.model.fetching(fetch),
                        Err(error) => self.model.not_fetched(error),
                    }
                }
                Effect::Cancel(handle) => _ = self.client.cancel(handle),
                Effect::Acknowledge(seq) => self.client.acknowledge(seq),
                Effect::Discarded => self.client.log_discarded(),
                // Should too much be on its way, the next one says it too.
                Effect::MarkRead { peer, up_to } => drop(self.client.mark_read(peer, up_to, true)),
                Effect::FetchInbox(ask) => match self.client.fetch_inbox(ask.before, ask.limit, 0) {
                    Ok(fetch) => self.model.list.fetching(fetch, ask.before),
                    Err(error) => self.model.not_listed(error),
                },
                Effect::Keep { peer, set, cleared } => match self.client.set_conversation(peer, set, cleared) {
                    Ok(_) => {}
                    Err(error) => self.model.not_asked(error),
                },
                Effect::Check(check) => match self.client.fetch_digest(check.ask()) {
                    Ok(fetch) => self.model.checking.asked(fetch, check),
                    Err(error) => self.model.not_asked(error),
                },
                Effect::Delete { peer, place } => match self.client.delete_message(peer, place) {
                    Ok(_) => {}
                    Err(error) => self.model.not_asked(error),
                },
                Effect::Devices(wish) => {
                    let asked = match wish {
                        Wish::List => self.client.fetch_devices(),
                        Wish::Name(device, name) => self.client.name_device(device, &name),
                        Wish::Remove(device) => self.client.remove_device(device),
                    };
                    match asked {
                        Ok(fetch) => self.model.asked_list(fetch),
                        Err(error) => self.model.not_asked(error),
                    }
                }
                Effect::Groups(after) => match self.client.fetch_groups(after, client::GROUP_ROWS_MAX) {
                    Ok(fetch) => self.model.asked_list(fetch),
                    Err(error) => self.model.not_asked(error),
                },
                Effect::Members(group, after) => {
                    let newest = self.model.newest(group);
                    match self.client.fetch_members(group, after, client::MEMBERS_PAGE_MAX, newest) {
                        Ok(fetch) => self.model.asked_list(fetch),
                        Err(error) => self.model.not_asked(error),
                    }
                }
                // Its row is the first behind the number before it.
                Effect::Name(group) => drop(self.client.fetch_groups(GroupId(group.0.saturating_sub(1)), 1)),
                Effect::Begin { number, name } => match self.client.create_group(&name, "", client::Rules::default()) {
                    Ok((group, handle)) => self.model.begun(number, group, handle),
                    Err(error) => self.model.not_taken(number, error),
                },
                Effect::Invite { number, group } => match self.client.invite(group) {
                    Ok((invitation, handle)) => self.model.invited(number, group, handle, invitation.secret()),
                    Err(error) => self.model.not_taken(number, error),
                },
                Effect::Fill { group, from } => {
                    let fetch = self.client.fetch_conversation(group, from, client::Direction::Forwards, FILL_PAGE);
                    match fetch {
                        Ok(fetch) => self.model.filling(fetch),
                        Err(_) => self.model.not_filled(),
                    }
                }
                Effect::Hide { set, cleared } => match self.client.set_visibility(set, cleared) {
                    Ok(fetch) => self.model.people.asked(fetch, set, cleared),
                    Err(error) => self.model.not_asked(error),
                },
                Effect::Typing(conversation) => self.client.typing(conversation),
                Effect::Status(status) => self.client.set_status(status),
                // On a thread of its own, for a file may be large, and the connection must be heard meanwhile.
                Effect::Describe { to, draft, attach } => {
                    let describe = move || Described { to, draft, content: attach.content() };
                    self.describing = Some(spawn_blocking(describe));
                }
                Effect::Suspend => self.suspend()?,
                Effect::Leave => return Ok(Some(Left::Quit)),
            }
        }
        Ok(None)
    }

    /// Shows what there is, and has those watched who are shown.
    fn draw(&mut self) -> io::Result<()> {
        let now = self.now();
        let Self { model, screen, .. } = self;
        screen.draw(|frame| {
            let area = frame.area();
            model.size = (area.width, area.height);
            if let Some(cursor) = draw::draw(model, now, frame.buffer_mut()) {
                frame.set_cursor_position(cursor);
            }
        })?;
        let watched = self.model.watched();
        // What has ended meanwhile says so by its last event.
        if watched != self.watched && self.client.watch(&watched).is_ok() {
            self.watched = watched;
        }
        Ok(())
    }

    /// Gives the terminal back and stops, until the shell has this program go on.
    fn suspend(&mut self) -> io::Result<()> {
        terminal::give_back();
        kill_process(rustix::process::getpid(), Kill::STOP)?;
        self.take_again()
    }

    fn take_again(&mut self) -> io::Result<()> {
        self.screen = terminal::take()?;
        Ok(())
    }

    fn now(&self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic: MonotonicMs(self.start.elapsed().as_millis() as u64),
            wall: TimestampMs(since_1970.as_millis() as u64),
        }
    }
}

/// What has been described, once that is done.
async fn described(describing: &mut Option<JoinHandle<Described>>) -> Described {
    match describing {
        Some(task) => {
            let described = task.await.expect("who describes an attachment neither panics nor is stopped");
            *describing = None;
            described
        }
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// What a signal asks for.
enum Told {
    End(i32),
    Stop,
    GoOn,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stop: Signal,
    go_on: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            stop: signal(SignalKind::from_raw(Kill::TSTP.as_raw()))?,
            go_on: signal(SignalKind::from_raw(Kill::CONT.as_raw()))?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End(Kill::TERM.as_raw()),
            _ = self.interrupt.recv() => Told::End(Kill::INT.as_raw()),
            _ = self.hangup.recv() => Told::End(Kill::HUP.as_raw()),
            _ = self.stop.recv() => Told::Stop,
            _ = self.go_on.recv() => Told::GoOn,
        }
    }
}
