//! Relay: a piece of a network between two processes, which a test may slow down or cut, in each direction for itself.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a direction that is cut looks whether it still is.
const LOOK: Duration = Duration::from_millis(5);

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// Nothing goes this way: it stays where it is, and goes on when the way is open again, as long as the connection lives.
    is_cut: AtomicBool,
    delay_ms: AtomicU64,
    /// Bytes that have gone.
    bytes: AtomicU64,
}

/// Passes connections on from one place to another one.
#[derive(Debug)]
pub struct Relay {
    forth: Arc<Way>,
    back: Arc<Way>,
}

impl Relay {
    /// Between who connects to `from` and whoever listens at `to`.
    ///
    /// # Panics
    /// Somebody listens at `from` already.
    #[must_use]
    pub fn start(from: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(from).expect("the address is nobody else's");
        let relay = Self { forth: Arc::default(), back: Arc::default() };
        let [forth, back] = [&relay.forth, &relay.back].map(Arc::clone);
        // It ends with the process of the test.
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(to) else { continue };
                let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else { continue };
                let [forth, back] = [&forth, &back].map(Arc::clone);
                thread::spawn(move || pass(near, far, &forth));
                thread::spawn(move || pass(far_again, near_again, &back));
            }
        });
        relay
    }

    /// Cuts or mends the way from who connects, and the way back.
    pub fn cut(&self, forth: bool, back: bool) {
        self.forth.is_cut.store(forth, Ordering::Relaxed);
        self.back.is_cut.store(back, Ordering::Relaxed);
    }

    /// From now on each read takes so much longer, in both directions.
    pub fn delay(&self, delay: Duration) {
        for way in [&self.forth, &self.back] {
            way.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// Bytes that have passed, both ways together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.forth.bytes.load(Ordering::Relaxed) + self.back.bytes.load(Ordering::Relaxed)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, way: &Way) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let due = Instant::now() + Duration::from_millis(way.delay_ms.load(Ordering::Relaxed));
        while way.is_cut.load(Ordering::Relaxed) || Instant::now() < due {
            thread::sleep(LOOK);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        way.bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
    // Whoever has said all, or is gone, is so for the other one too.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
