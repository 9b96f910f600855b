//! Pairs of users write to each other. Closed loop: a user has at most `window` messages without an answer, and sends the next
//! one when one is accepted. So the rate is what the server gives, and latencies under overload are flattering: this measures
//! capacity, not what people would wait.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, bail};
use client::{
    Client, ClientEvent, Config, Content, DeviceId, Direction, Entry, Events, Resume, SendHandle, UserId, WelcomeInfo,
};
use tokio::{
    sync::{Barrier, watch},
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    World,
    report::{Latencies, Report},
    verify::{Label, Ledger, TEXT_BYTES_MIN},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Pairs of users; each user is one connection
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: u64,

    /// Messages of one user that may wait for their answer
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=256))]
    window: u64,

    /// Messages that each user sends
    #[arg(long, default_value_t = 1_000, conflicts_with = "seconds")]
    messages: u64,

    /// Send for this long instead of a number of messages
    #[arg(long)]
    seconds: Option<u64>,

    /// Bytes of a message's text
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(TEXT_BYTES_MIN as u64..=16_384))]
    size: u64,
}

/// A server that was killed on purpose is back soon, and a run should not wait half a minute for its last user.
const BACKOFF_MAX_MS: u64 = 2_000;

/// How long a user goes on sending.
#[derive(Clone, Copy)]
enum Until {
    Count(u64),
    Time(Duration),
}

/// What all users of the run share.
struct Run {
    world: World,
    until: Until,
    window: usize,
    text_bytes: usize,
    start: Instant,
    /// Everybody is connected: nobody measures connecting.
    everybody_in: Barrier,
    began: Cell<Option<Instant>>,
    ended: Cell<Option<Instant>>,
    /// Accepted and received messages of everybody. Stands still when the run is stuck.
    progress: Cell<u64>,
    /// Turns true when the run is stuck: everybody stops and shows what there is.
    is_stuck: watch::Sender<bool>,
    latencies: RefCell<(Latencies, Latencies)>,
    disconnects: Cell<u64>,
}

pub(crate) async fn run(world: World, arguments: Arguments) -> anyhow::Result<Report> {
    let users = arguments.pairs * 2;
    let run = Rc::new(Run {
        until: arguments.seconds.map_or(Until::Count(arguments.messages), |s| Until::Time(Duration::from_secs(s))),
        window: arguments.window as usize,
        text_bytes: arguments.size as usize,
        start: Instant::now(),
        everybody_in: Barrier::new(users as usize),
        began: Cell::new(None),
        ended: Cell::new(None),
        progress: Cell::new(0),
        is_stuck: watch::Sender::new(false),
        latencies: RefCell::new((Latencies::new(), Latencies::new())),
        disconnects: Cell::new(0),
        world,
    });
    let local = LocalSet::new();
    let ledgers = local.run_until(both_ends(&run, arguments.pairs)).await?;

    let sent: usize = ledgers.iter().map(|ledger| ledger.accepted.len()).sum();
    let received: usize = ledgers.iter().map(|ledger| ledger.received.len()).sum();
    let mut faults: Vec<String> = ledgers.into_iter().flat_map(|ledger| ledger.faults).collect();
    if *run.is_stuck.borrow() {
        faults.insert(0, format!("gave up: nothing happened for {} s", run.world.stall_after.as_secs()));
    }
    let began = run.began.get().unwrap_or(run.start);
    let (accepted_us, delivered_us) = run.latencies.replace((Latencies::new(), Latencies::new()));
    Ok(Report {
        scenario: "chat",
        parameters: vec![("pairs", arguments.pairs), ("window", arguments.window), ("text bytes", arguments.size)],
        counts: vec![
            ("messages accepted", sent as u64),
            ("messages delivered", received as u64),
            ("disconnects", run.disconnects.get()),
        ],
        rates: vec![("messages", sent as u64)],
        latencies: vec![("send to accepted", accepted_us), ("send to delivered", delivered_us)],
        took: run.ended.get().unwrap_or_else(Instant::now) - began,
        faults,
    })
}

/// Runs all users, then compares each with the other of the pair.
async fn both_ends(run: &Rc<Run>, pairs: u64) -> anyhow::Result<Vec<Ledger>> {
    let watchdog = tokio::task::spawn_local(watch_progress(Rc::clone(run)));
    let mut tasks = Vec::new();
    let first = run.world.first_user;
    for pair in 0..pairs {
        let (a, b) = (UserId(first + 2 * pair), UserId(first + 2 * pair + 1));
        // How many messages each of the two will have been sent is known when the other one stops.
        let (a_sent, b_sent) = (watch::Sender::new(None), watch::Sender::new(None));
        let (a_wants, b_wants) = (b_sent.subscribe(), a_sent.subscribe());
        tasks.push(tokio::task::spawn_local(User::run(Rc::clone(run), a, b, a_sent, a_wants)));
        tasks.push(tokio::task::spawn_local(User::run(Rc::clone(run), b, a, b_sent, b_wants)));
    }
    let mut ledgers = Vec::new();
    for task in tasks {
        // The others would wait at the barrier for the one that could not come.
        ledgers.push(task.await.context("a user's task has panicked")??);
    }
    watchdog.abort();
    for pair in ledgers.chunks_exact_mut(2) {
        let (a, b) = pair.split_at_mut(1);
        a[0].check_against(&b[0]);
        b[0].check_against(&a[0]);
    }
    Ok(ledgers)
}

async fn watch_progress(run: Rc<Run>) {
    loop {
        let before = run.progress.get();
        sleep(run.world.stall_after).await;
        if run.progress.get() == before {
            run.is_stuck.send_replace(true);
            return;
        }
    }
}

impl Run {
    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn progressed(&self) {
        self.progress.set(self.progress.get() + 1);
        self.ended.set(Some(Instant::now()));
    }
}

/// One user with one device.
struct User {
    run: Rc<Run>,
    client: Client,
    events: Events,
    ledger: Ledger,
    peer: UserId,
    /// Unanswered messages: handle, index, and when they left.
    unanswered: VecDeque<(SendHandle, u64, u64)>,
    sent: u64,
}

impl User {
    async fn run(
        run: Rc<Run>,
        user: UserId,
        peer: UserId,
        sent: watch::Sender<Option<u64>>,
        wanted: watch::Receiver<Option<u64>>,
    ) -> anyhow::Result<Ledger> {
        let mut config = Config::new(&run.world.server, run.world.mint.token(user)?, DeviceId(1));
        // The logs may hold earlier runs; what is measured begins now.
        config.resume = Resume::Live;
        config.backoff_max_ms = BACKOFF_MAX_MS;
        let (client, mut events) = Client::connect(config)?;
        let welcome = first_welcome(&mut events, run.world.stall_after).await?;
        if welcome.user != user {
            bail!("the server took user {user} for user {}", welcome.user);
        }
        run.progress.set(run.progress.get() + 1);
        let ledger = Ledger::new(run.world.run, user, peer, welcome.cursor);
        let unanswered = VecDeque::new();
        let mut this = Self { run, client, events, ledger, peer, unanswered, sent: 0 };
        let mut is_stuck = this.run.is_stuck.subscribe();
        tokio::select! {
            result = this.converse(&sent, wanted) => result?,
            _ = is_stuck.wait_for(|is_stuck| *is_stuck) => {}
        }
        let (unanswered, accepted) = (this.unanswered.len(), this.ledger.accepted.len());
        if unanswered > 0 {
            this.ledger.fault(format!("{unanswered} messages were never answered, {accepted} were accepted"));
        }
        this.client.close();
        Ok(this.ledger)
    }

    async fn converse(
        &mut self,
        sent: &watch::Sender<Option<u64>>,
        mut wanted: watch::Receiver<Option<u64>>,
    ) -> anyhow::Result<()> {
        self.run.everybody_in.wait().await;
        let began = self.run.began.get().unwrap_or_else(Instant::now);
        self.run.began.set(Some(began));
        loop {
            if self.is_sending(began) {
                self.fill_window()?;
            } else if self.unanswered.is_empty() {
                sent.send_if_modified(|sent| sent.replace(self.sent) != Some(self.sent));
            }
            let is_done = |wanted: Option<u64>| {
                sent.borrow().is_some() && wanted.is_some_and(|wanted| self.ledger.received.len() as u64 >= wanted)
            };
            if is_done(*wanted.borrow_and_update()) {
                break;
            }
            tokio::select! {
                event = self.events.next() => {
                    let Some(event) = event else { bail!("user {}: the client has stopped", self.ledger.user) };
                    self.on_event(event)?;
                }
                // The sender lives as long as the other's conversation, which told its count before.
                Ok(()) = wanted.changed() => {}
            }
        }
        let history = self.read_back().await?;
        self.ledger.check_history(&history);
        Ok(())
    }

    fn is_sending(&self, began: Instant) -> bool {
        match self.run.until {
            Until::Count(count) => self.sent < count,
            Until::Time(time) => began.elapsed() < time,
        }
    }

    fn fill_window(&mut self) -> anyhow::Result<()> {
        while self.unanswered.len() < self.run.window {
            if let Until::Count(count) = self.run.until
                && self.sent >= count
            {
                break;
            }
            let (index, sent_at_us) = (self.sent, self.run.now_us());
            let label = Label { run: self.run.world.run, from: self.ledger.user, index, sent_at_us };
            let handle = self.client.send(self.peer, Content::text(&label.text(self.run.text_bytes)))?;
            self.unanswered.push_back((handle, index, sent_at_us));
            self.sent += 1;
        }
        Ok(())
    }

    fn on_event(&mut self, event: ClientEvent) -> anyhow::Result<()> {
        match event {
            ClientEvent::MessageAccepted { handle, seq, .. } => {
                let Some(at) = self.unanswered.iter().position(|(unanswered, ..)| *unanswered == handle) else {
                    self.ledger.fault(format!("send {handle} was answered twice, the second time as {seq}"));
                    return Ok(());
                };
                if let Some((_, index, sent_at_us)) = self.unanswered.remove(at) {
                    self.ledger.accept(index, seq);
                    self.run.latencies.borrow_mut().0.record_us(self.run.now_us().saturating_sub(sent_at_us));
                    self.run.progressed();
                }
            }
            ClientEvent::Entry(entry) => self.on_entry(&entry),
            ClientEvent::Disconnected { reason, .. } => {
                self.run.disconnects.set(self.run.disconnects.get() + 1);
                if !self.run.world.tolerate_disconnects {
                    self.ledger.fault(format!("disconnected: {reason}"));
                }
            }
            ClientEvent::MessageRefused { handle, code } => {
                self.unanswered.retain(|(unanswered, ..)| *unanswered != handle);
                self.ledger.fault(format!("send {handle} was refused for good: {}", code.name()));
            }
            ClientEvent::FetchRefused { code, detail, .. } => bail!("a fetch was refused: {} ({detail})", code.name()),
            ClientEvent::ServerError { code, kind, detail } => {
                self.ledger.fault(format!("error {} for frame kind {kind:#04x}: {detail}", code.name()));
            }
            ClientEvent::Ended(reason) => bail!("user {}: {reason}", self.ledger.user),
            ClientEvent::Welcome(_)
            | ClientEvent::Committed { .. }
            | ClientEvent::Page { .. }
            | ClientEvent::Numbered { .. } => {}
        }
        Ok(())
    }

    fn on_entry(&mut self, entry: &Entry) {
        if let Some(label) = self.ledger.entry(entry) {
            self.run.latencies.borrow_mut().1.record_us(self.run.now_us().saturating_sub(label.sent_at_us));
            self.run.progressed();
        }
    }

    /// The conversation since the start of the run, page by page.
    async fn read_back(&mut self) -> anyhow::Result<Vec<Entry>> {
        let mut history = Vec::new();
        let mut from = self.ledger.start.next();
        loop {
            let wanted = self.client.fetch_conversation(self.peer, from, Direction::Forwards, u64::MAX)?;
            let page = loop {
                match self.events.next().await {
                    Some(ClientEvent::Page { fetch, page }) if fetch == wanted => break page,
                    Some(event) => self.on_event(event)?,
                    None => bail!("user {}: the client has stopped", self.ledger.user),
                }
            };
            if page.first > from && page.last >= page.first {
                self.ledger.fault(format!("a page from {from} on begins at {}", page.first));
            }
            history.extend(page.entries);
            if !page.more {
                return Ok(history);
            }
            if page.last < from {
                bail!("user {}: a page from {from} on has no entries and says there are more", self.ledger.user);
            }
            self.run.progress.set(self.run.progress.get() + 1);
            from = page.last.next();
        }
    }
}

async fn first_welcome(events: &mut Events, patience: Duration) -> anyhow::Result<WelcomeInfo> {
    let mut last_problem = String::from("no answer");
    let welcome = async {
        loop {
            match events.next().await {
                Some(ClientEvent::Welcome(welcome)) => return Ok(welcome),
                Some(ClientEvent::Disconnected { reason, .. }) => last_problem = reason.to_string(),
                Some(ClientEvent::Ended(reason)) => bail!("{reason}"),
                Some(_) => {}
                None => bail!("the client has stopped"),
            }
        }
    };
    match timeout(patience, welcome).await {
        Ok(welcome) => welcome,
        Err(_) => bail!("not connected after {} s: {last_problem}", patience.as_secs()),
    }
}
