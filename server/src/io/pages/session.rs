//! Session: the end of a session of long polling that is here. It lives between requests, and ends when nobody has asked for a while or the
//! core has closed it; what the core has said before that may still be asked for.

use std::{
    cell::{Cell, RefCell},
    io,
    os::{fd::OwnedFd, unix::net},
    rc::Rc,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    select,
    sync::{Mutex, Notify},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    limits::{PAGE_READ_BYTES, POLL_ASK_MS, POLL_GAP_MS, POLL_SAY_MS},
    pages::poll::{Astray, Poll, Told},
};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Session {
    poll: RefCell<Poll>,
    /// One request says something at a time.
    to: Mutex<OwnedWriteHalf>,
    /// When it was asked or told something last.
    last: Cell<Instant>,
    /// How often it was asked: only the newest of those who ask waits.
    asks: Cell<u64>,
    /// There is something new for who asks.
    news: Notify,
    /// Who asks has let go of something.
    room: Notify,
}

/// What comes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// So much of the client's stream has been taken.
    Taken(u64),
    /// The server's stream goes on with this.
    Bytes(Vec<u8>),
    /// There was nothing to say in time, or somebody else asks now.
    Nothing,
    /// The session has ended.
    Over,
    /// The request is none that this session can answer.
    Astray(Astray),
}

impl Session {
    /// A session, what is to be heard of it, and the other end of its socket.
    ///
    /// # Errors
    /// The kernel has no sockets.
    pub(super) fn open() -> io::Result<(Rc<Self>, OwnedReadHalf, OwnedFd)> {
        let (near, far) = net::UnixStream::pair()?;
        near.set_nonblocking(true)?;
        let (from, to) = UnixStream::from_std(near)?.into_split();
        let session = Self {
            poll: RefCell::default(),
            to: Mutex::new(to),
            last: Cell::new(Instant::now()),
            asks: Cell::new(0),
            news: Notify::new(),
            room: Notify::new(),
        };
        Ok((Rc::new(session), from, far.into()))
    }

    /// Takes what the core says, until that ends or nobody asks any more.
    pub(super) async fn live(&self, from: OwnedReadHalf) {
        loop {
            let has_room = self.poll.borrow().has_room();
            select! {
                ready = from.readable(), if has_room => {
                    let mut space = [0; PAGE_READ_BYTES];
                    match ready.and_then(|()| from.try_read(&mut space)) {
                        Ok(0) => break,
                        Ok(bytes) => {
                            self.poll.borrow_mut().came(&space[..bytes]);
                            self.news.notify_waiters();
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => break,
                    }
                }
                () = self.room.notified(), if !has_room => {}
                () = self.is_forgotten() => return,
            }
        }
        self.poll.borrow_mut().end();
        self.news.notify_waiters();
        // The core waits for this before it lets the connection's place go.
        let _ = self.to.lock().await.shutdown().await;
        // Who has not heard the end may still ask.
        self.is_forgotten().await;
    }

    /// Waits until nobody has asked or said anything for so long that nobody is there.
    async fn is_forgotten(&self) {
        loop {
            let until = self.last.get() + Duration::from_millis(POLL_GAP_MS);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// The client's stream goes on with this body, which stands at this place of it.
    pub(super) async fn say(&self, at: u64, body: &[u8]) -> Outcome {
        self.last.set(Instant::now());
        let mut to = self.to.lock().await;
        let mut rest = match self.poll.borrow().fresh(at, body) {
            Ok(fresh) => fresh,
            Err(astray) => return Outcome::Astray(astray),
        };
        let give = async {
            while !rest.is_empty() {
                match to.write(rest).await {
                    Ok(bytes @ 1..) => {
                        self.poll.borrow_mut().took(bytes);
                        rest = &rest[bytes..];
                    }
                    Ok(0) | Err(_) => return false,
                }
            }
            true
        };
        match timeout(Duration::from_millis(POLL_SAY_MS), give).await {
            Ok(false) => Outcome::Over,
            // A core that reads nothing has its reasons: the client says the rest again.
            Ok(true) | Err(_) => Outcome::Taken(self.poll.borrow().taken()),
        }
    }

    /// The client has the server's stream up to this place, and waits for more.
    pub(super) async fn hear(&self, at: u64) -> Outcome {
        self.last.set(Instant::now());
        let until = Instant::now() + Duration::from_millis(POLL_ASK_MS);
        let mine = self.asks.get() + 1;
        self.asks.set(mine);
        self.news.notify_waiters();
        loop {
            // Before the look, so that what comes behind it is not missed.
            let news = self.news.notified();
            let outcome = match self.poll.borrow_mut().ask(at) {
                Ok(Told::Bytes(bytes)) => Some(Outcome::Bytes(bytes.to_vec())),
                Ok(Told::Over) => Some(Outcome::Over),
                Ok(Told::Nothing) => None,
                Err(astray) => Some(Outcome::Astray(astray)),
            };
            self.room.notify_one();
            if let Some(outcome) = outcome {
                return outcome;
            }
            if self.asks.get() != mine {
                return Outcome::Nothing;
            }
            select! {
                () = news => {}
                () = sleep_until(until) => return Outcome::Nothing,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use tokio::{join, time::advance};

    use super::*;
    use crate::limits::{PAGE_READ_BYTES, POLL_WAITING_BYTES_MAX};

    fn core(socket: OwnedFd) -> net::UnixStream {
        let core = net::UnixStream::from(socket);
        core.set_nonblocking(true).unwrap();
        core
    }

    fn told(outcome: Outcome) -> Vec<u8> {
        let Outcome::Bytes(bytes) = outcome else { panic!("{outcome:?}") };
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_and_again_keeps_it_and_who_does_not_for_a_minute_has_lost_it() {
        let (session, from, socket) = Session::open().unwrap();
        let mut core = core(socket);
        let life = async {
            let begun = Instant::now();
            session.live(from).await;
            begun.elapsed().as_millis() as u64
        };
        let asks = async {
            for _ in 0..4 {
                assert!(matches!(session.hear(0).await, Outcome::Nothing), "nothing is said");
            }
        };
        let (lived_ms, ()) = join!(life, asks);
        let last_ms = 3 * POLL_ASK_MS;
        assert!((last_ms + POLL_GAP_MS..last_ms + POLL_GAP_MS + 100).contains(&lived_ms), "{lived_ms}");
        drop(session);
        assert_eq!(core.read(&mut [0]).unwrap(), 0, "the core hears of the end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_core_said_before_it_closed_may_be_asked_for() {
        let (session, from, socket) = Session::open().unwrap();
        let mut core = core(socket);
        core.write_all(b"bye").unwrap();
        drop(core);
        let asks = async {
            assert_eq!(told(session.hear(0).await), b"bye");
            assert_eq!(told(session.hear(1).await), b"ye");
            assert!(matches!(session.hear(3).await, Outcome::Over));
            assert!(matches!(session.say(0, b"more").await, Outcome::Over));
        };
        join!(session.live(from), asks);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_for_nothing_holds_up_the_core_and_nobody_else() {
        let (session, from, socket) = Session::open().unwrap();
        let mut core = core(socket);
        let asks = async {
            let mut written = 0;
            // The kernel's buffers fill, and then nothing more is taken.
            for _ in 0..1_000 {
                match core.write(&[7; PAGE_READ_BYTES]) {
                    Ok(bytes) => written += bytes,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
                advance(Duration::from_millis(1)).await;
            }
            let (mut heard, first) = (0, told(session.hear(0).await).len());
            assert!(first < POLL_WAITING_BYTES_MAX + PAGE_READ_BYTES && written > first, "{first} of {written}");
            while heard < written {
                heard += told(session.hear(heard as u64).await).len();
            }
            assert_eq!(heard, written);
        };
        join!(session.live(from), asks);
    }

    #[tokio::test(start_paused = true)]
    async fn a_core_that_does_not_read_lets_the_client_know_how_far_it_is() {
        let (session, from, socket) = Session::open().unwrap();
        let body = vec![7; 4 * 1024 * 1024];
        let says = async {
            let Outcome::Taken(taken) = session.say(0, &body).await else { panic!("it lives") };
            assert!(taken > 0 && taken < body.len() as u64, "{taken}");
            drop(socket);
        };
        join!(session.live(from), says);
    }
}
