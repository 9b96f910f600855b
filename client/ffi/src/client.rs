//! The client as an object: its thread, what it hands out, and when it has a connection.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use client::{ClientEvent, Events};
use tokio::runtime;

use crate::{
    config::{Batch, Config, Store, TokenProvider},
    errors::RingpostError,
    event::Event,
    limits::{EVENTS_BATCH_MAX, GOODBYE_MS, TOKEN_AGAIN_AFTER_MS},
    list::List,
    receiving::Receiving,
    waiting::wait,
};

/// One device of one user, through all its connections. Any thread may call; one takes events.
#[derive(uniffi::Object)]
pub struct Client {
    pub(crate) client: client::Client,
    tokens: Option<Arc<dyn TokenProvider>>,
    pub(crate) list: Mutex<List>,
    wanted: Mutex<Wanted>,
    taking: Mutex<Taking>,
}

/// Who wants a connection. There is one as long as anybody does.
#[derive(Debug, Default)]
struct Wanted {
    is_foreground: bool,
    catching_up: u32,
}

/// What the thread has that takes events.
struct Taking {
    events: Events,
    receiving: Receiving,
    /// When the application is to be asked for a token, if it is.
    token_at: Option<Instant>,
    /// Drives the connections. None: it was waited for.
    driver: Option<JoinHandle<()>>,
}

/// What `Client::catch_up` has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct CaughtUp {
    /// Whether all that was there has been stored. If not the time was over.
    pub is_complete: bool,
    /// Messages of this device that still have no answer.
    pub unanswered: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[uniffi::export]
impl Client {
    /// A device that connects, and connects again whenever that is needed. Returns at once; `Event::Connected` says that the server is there.
    ///
    /// # Errors
    /// The configuration can not work.
    #[uniffi::constructor]
    pub fn connect(config: Config, tokens: Option<Arc<dyn TokenProvider>>) -> Result<Self, RingpostError> {
        Self::start(config, tokens, Wanted { is_foreground: true, catching_up: 0 })
    }

    /// A device without a connection until `Client::catch_up` or `Client::came_to_foreground`: for who was started by a push.
    ///
    /// # Errors
    /// As `Client::connect`.
    #[uniffi::constructor]
    pub fn in_background(config: Config, tokens: Option<Arc<dyn TokenProvider>>) -> Result<Self, RingpostError> {
        Self::start(config, tokens, Wanted::default())
    }

    /// Waits until something happens, at most so long, and gives all of it that is there, at most `EVENTS_BATCH_MAX` events. Without any the time
    /// was over. Call `Client::stored` when the batch is stored.
    ///
    /// # Errors
    /// `RingpostError::Ended` after `Event::Ended`; `RingpostError::Busy`.
    pub fn next_events(&self, timeout_ms: u64) -> Result<Batch, RingpostError> {
        let mut taking = self.taking()?;
        self.batch(&mut taking, after(timeout_ms))
    }

    /// Everything that was handed out so far is stored: entries are acknowledged, and messages may leave under the numbers that they were given.
    ///
    /// # Errors
    /// `RingpostError::Busy`.
    pub fn stored(&self) -> Result<(), RingpostError> {
        let mut taking = self.taking()?;
        self.say_stored(&mut taking.receiving);
        Ok(())
    }

    /// For who was woken by a push: connects, has all stored that came while the device was away, sends what has no answer yet, says bye and returns; after
    /// so long in any case. Everything that was there comes within the round trip of the greeting. If the application comes to the foreground
    /// meanwhile, the connection stays.
    ///
    /// # Errors
    /// The store has failed; `RingpostError::Ended`; `RingpostError::Busy`.
    pub fn catch_up(&self, store: Arc<dyn Store>, timeout_ms: u64) -> Result<CaughtUp, RingpostError> {
        let mut taking = self.taking()?;
        let until = after(timeout_ms);
        if !self.want(|_| {}) {
            // Of the connection that ends nothing is known of what came since.
            self.store_until(&mut taking, store.as_ref(), until, |_, receiving| receiving.is_suspended())?;
        }
        self.want(|wanted| wanted.catching_up += 1);
        let caught_up = self.store_until(&mut taking, store.as_ref(), until, |client, receiving| {
            receiving.is_caught_up() && client.unanswered_count() == 0
        });
        let stays = self.want(|wanted| wanted.catching_up -= 1);
        let is_complete = caught_up?;
        if !stays {
            // The goodbye takes along what was stored.
            let until = after(GOODBYE_MS);
            self.store_until(&mut taking, store.as_ref(), until, |_, receiving| receiving.is_suspended())?;
        }
        Ok(CaughtUp { is_complete, unanswered: self.client.unanswered_count() as u64 })
    }

    /// Somebody looks at the application: connects at once, without waiting for what failed before.
    pub fn came_to_foreground(&self) {
        self.want(|wanted| wanted.is_foreground = true);
    }

    /// Nobody looks any more, and the application is about to stand still: says bye, with what is stored, and closes. Messages may be given all the same.
    pub fn went_to_background(&self) {
        self.want(|wanted| wanted.is_foreground = false);
    }

    /// The network may be another one: the connection is asked whether it still leads to the server, and made anew after three seconds without an answer. Without
    /// one, an attempt begins at once.
    pub fn network_changed(&self) {
        self.client.network_changed();
    }

    /// Another token, for who has no `TokenProvider`.
    ///
    /// # Errors
    /// It is one that no server takes.
    pub fn set_token(&self, token: String) -> Result<(), RingpostError> {
        Ok(self.client.set_token(token)?)
    }

    /// Says bye and stops, whatever is still without an answer. Waits until that is done, unless another thread takes events, which is told then.
    pub fn stop(&self) {
        self.client.close();
        if let Ok(mut taking) = self.taking() {
            taking.stop();
        }
    }
}

impl Client {
    fn start(config: Config, tokens: Option<Arc<dyn TokenProvider>>, wanted: Wanted) -> Result<Self, RingpostError> {
        let receiving = Receiving::new(&config.begin);
        let (client, events, driver) = client::Client::prepare(config.into_client(tokens.is_some())?)?;
        if !wanted.is_foreground {
            client.suspend();
        }
        let failed = |error: std::io::Error| RingpostError::Configuration { words: format!("no thread: {error}") };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let run = move || runtime.block_on(driver);
        let driver = thread::Builder::new().name("ringpost".to_owned()).spawn(run).map_err(failed)?;
        let taking = Taking { events, receiving, token_at: None, driver: Some(driver) };
        Ok(Self { client, tokens, list: Mutex::default(), wanted: Mutex::new(wanted), taking: Mutex::new(taking) })
    }

    fn taking(&self) -> Result<MutexGuard<'_, Taking>, RingpostError> {
        match self.taking.try_lock() {
            Ok(taking) => Ok(taking),
            // A callback of the application panicked, which changes nothing here.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(RingpostError::Busy),
        }
    }

    pub(crate) fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody wants a connection now.
    fn want(&self, change: impl FnOnce(&mut Wanted)) -> bool {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut wanted);
        let is_wanted = wanted.is_foreground || wanted.catching_up > 0;
        // Under the lock: what is wanted last is what the client is told last.
        if is_wanted {
            self.client.resume()
        } else {
            self.client.suspend()
        }
        is_wanted
    }

    /// The next batch, which is empty when the time is over.
    fn batch(&self, taking: &mut Taking, until: Instant) -> Result<Batch, RingpostError> {
        let mut events = VecDeque::new();
        let mut is_list_changed = false;
        while events.len() < EVENTS_BATCH_MAX {
            self.ask_for_token(taking, &mut events);
            self.ask_for_list();
            let has_some = !events.is_empty() || is_list_changed;
            let Some(event) = taking.next(until, has_some)? else {
                if has_some || taking.receiving.has_ended() || Instant::now() >= until {
                    break;
                }
                continue;
            };
            taking.receiving.take(&event);
            is_list_changed |= self.list().take(&event);
            if self.tokens.is_some()
                && matches!(event, ClientEvent::TokenExpiring { .. } | ClientEvent::TokenWanted { .. })
            {
                taking.token_at = Some(Instant::now());
            }
            events.extend(Event::of(event));
        }
        if is_list_changed {
            events.push_front(Event::ConversationsChanged);
        }
        if events.is_empty() && taking.receiving.has_ended() {
            return Err(RingpostError::Ended);
        }
        Ok(Batch { events: events.into(), cursor: taking.receiving.cursor() })
    }

    /// Has everything stored that happens, until it is done. Whether it is done; if not the time was over.
    fn store_until(
        &self,
        taking: &mut Taking,
        store: &dyn Store,
        until: Instant,
        is_done: impl Fn(&client::Client, &Receiving) -> bool,
    ) -> Result<bool, RingpostError> {
        while !is_done(&self.client, &taking.receiving) {
            let batch = self.batch(taking, until)?;
            if batch.events.is_empty() {
                return Ok(false);
            }
            store.store(batch)?;
            self.say_stored(&mut taking.receiving);
        }
        Ok(true)
    }

    fn say_stored(&self, receiving: &mut Receiving) {
        let handed = receiving.stored();
        for (handle, number) in handed.numbered {
            self.client.kept(handle, number);
        }
        for _ in 0..handed.discarded {
            self.client.log_discarded();
        }
        if let Some(position) = handed.position {
            self.client.acknowledge(position);
        }
        for (group, seq) in handed.groups {
            self.client.acknowledge_group(group, seq);
        }
    }

    fn ask_for_token(&self, taking: &mut Taking, events: &mut VecDeque<Event>) {
        let (Some(tokens), Some(_)) = (&self.tokens, taking.token_at.take_if(|at| *at <= Instant::now())) else {
            return;
        };
        let given = tokens.token().and_then(|token| Ok(self.client.set_token(token)?));
        if let Err(error) = given {
            taking.token_at = Some(after(TOKEN_AGAIN_AFTER_MS));
            events.push_back(Event::NoToken { words: error.to_string() });
        }
    }

    pub(crate) fn ask_for_list(&self) {
        let mut list = self.list();
        if let Some((before, rows)) = list.ask()
            && let Ok(fetch) = self.client.fetch_inbox(before, rows, 0)
        {
            list.asked(fetch, before);
        }
    }
}

impl Taking {
    /// The next event. None: there is none, and something is there already, or a token is due, or the time is over.
    fn next(&mut self, until: Instant, has_some: bool) -> Result<Option<ClientEvent>, RingpostError> {
        if let Some(event) = self.events.try_next() {
            return Ok(Some(event));
        }
        if has_some || self.receiving.has_ended() {
            return Ok(None);
        }
        let until = self.token_at.map_or(until, |at| at.min(until));
        match wait(until, self.events.next()) {
            None => Ok(None),
            Some(Some(event)) => Ok(Some(event)),
            // The driver has gone without a word, which is a fault of this library.
            Some(None) => Err(RingpostError::Ended),
        }
    }

    /// The client was closed: waits for its end. What has happened meanwhile was never said to be stored, and comes to the next run.
    fn stop(&mut self) {
        while let Some(event) = wait(after(u64::MAX), self.events.next()).flatten() {
            self.receiving.take(&event);
        }
        // One that has panicked has said so on standard error.
        let _ = self.driver.take().map(JoinHandle::join);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop();
    }
}

fn after(ms: u64) -> Instant {
    let now = Instant::now();
    // Whoever waits for longer waits for ever.
    now.checked_add(Duration::from_millis(ms)).unwrap_or_else(|| now + Duration::from_secs(1 << 32))
}
