//! Pages: the thread that answers requests of HTTP other than for WebSocket. Their connections are the cores', with their TLS, their limits
//! and their balancers; what they say comes here through memory. A session of long polling is a socket of which one end is here and the other
//! with a core, which takes it for a client like any other: so all that holds for clients holds for it.
//!
//! Here: the thread, its connections and their end. What is answered is in `pages/answer.rs`, what a session does in `pages/session.rs`.

mod answer;
mod session;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    thread::JoinHandle,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::DuplexStream,
    pin,
    runtime::Builder,
    select,
    sync::{Notify, mpsc, watch},
    task::{JoinSet, LocalSet},
};

use self::session::Session;
use super::thread::spawn;
use crate::{
    limits::{PAGE_CONNECTIONS_MAX, PAGE_HEAD_MS, POLLS_COMING_MAX, UPGRADE_BYTES_MAX, UPGRADE_HEADERS_MAX},
    pages::request::SessionId,
    shard::topology::CoreId,
};

/// A connection whose requests are to be answered.
#[derive(Debug)]
pub(super) struct Visit {
    /// What it says and is told.
    pub(super) stream: DuplexStream,
    /// Where it comes from.
    pub(super) client: SocketAddr,
    /// It speaks TLS.
    pub(super) is_tls: bool,
}

/// The socket of a session, for a core.
#[derive(Debug)]
pub(super) struct Polled {
    pub(super) socket: OwnedFd,
    /// Where the request came from that has begun it.
    pub(super) client: SocketAddr,
}

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Pages {
    visits: mpsc::Sender<Visit>,
    polled: Mutex<Vec<Option<mpsc::Receiver<Polled>>>>,
    is_stopping: watch::Sender<bool>,
}

impl Pages {
    /// Starts the thread. It ends once it has been stopped and nobody has anything to say to it.
    ///
    /// # Errors
    /// The kernel has no thread for it.
    pub(super) fn start(cores: u16, origins: Vec<String>, has_page: bool) -> io::Result<(Self, JoinHandle<()>)> {
        let (visits, visitors) = mpsc::channel(PAGE_CONNECTIONS_MAX);
        let (is_stopping, stop) = watch::channel(false);
        let (doors, polled) = (0..cores).map(|_| mpsc::channel(POLLS_COMING_MAX)).unzip();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = spawn("ringpost-pages", move || {
            let world = Rc::new(World { sessions: RefCell::default(), origins, has_page, doors, next: Cell::new(0) });
            LocalSet::new().block_on(&runtime, serve(world, visitors, stop));
        })?;
        let polled = Mutex::new(Vec::into_iter(polled).map(Some).collect());
        Ok((Self { visits, polled, is_stopping }, thread))
    }

    /// Has a connection answered. False: there is no room.
    pub(super) fn visit(&self, visit: Visit) -> bool {
        self.visits.try_send(visit).is_ok()
    }

    /// The sessions that begin on a core, for that one alone.
    pub(super) fn polled(&self, core: CoreId) -> mpsc::Receiver<Polled> {
        self.polled.lock()[usize::from(core.0)].take().expect("each core takes its own, once")
    }

    /// From now on no session begins, and each connection ends behind the request that it has made.
    pub(super) fn stop(&self) {
        self.is_stopping.send_replace(true);
    }
}

/// What the thread's tasks share.
#[derive(Debug)]
struct World {
    sessions: RefCell<HashMap<SessionId, Rc<Session>>>,
    /// Pages of which origins may poll; none: those of the host that they ask.
    origins: Vec<String>,
    /// The web page is served.
    has_page: bool,
    /// Where new sessions go, by core.
    doors: Vec<mpsc::Sender<Polled>>,
    /// Which of them is next.
    next: Cell<usize>,
}

async fn serve(world: Rc<World>, mut visitors: mpsc::Receiver<Visit>, mut stop: watch::Receiver<bool>) {
    let (mut connections, stopping) = (JoinSet::new(), stop.clone());
    loop {
        select! {
            visit = visitors.recv() => match visit {
                Some(visit) => _ = connections.spawn_local(attend(Rc::clone(&world), visit, stopping.clone())),
                None => break,
            },
            _ = stop.wait_for(|is_stopping| *is_stopping) => break,
            Some(_) = connections.join_next() => {}
        }
    }
    connections.join_all().await;
}

/// Answers the requests of one connection until it ends. Whatever it dies of, who asked knows.
async fn attend(world: Rc<World>, Visit { stream, client, is_tls }: Visit, mut stop: watch::Receiver<bool>) {
    let (is_stopping, asked) = (stop.clone(), Notify::new());
    let service = service_fn(|request| {
        let (world, is_stopping) = (Rc::clone(&world), *is_stopping.borrow());
        asked.notify_one();
        async move { Ok::<_, Infallible>(answer::answer(&world, (client, is_tls), request, is_stopping).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(PAGE_HEAD_MS))
        .max_headers(UPGRADE_HEADERS_MAX)
        .max_buf_size(UPGRADE_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    pin!(connection);
    let stops = async {
        // Who has come here has asked for something, and is answered that.
        asked.notified().await;
        _ = stop.wait_for(|is_stopping| *is_stopping).await;
    };
    select! {
        _ = &mut connection => return,
        () = stops => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
