//! Gateway: what an operator has who is notified by a webhook, for tests.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
};

use serde_json::Value;

use crate::wait_until;

/// The headers of a request, in small letters.
pub type Headers = BTreeMap<String, String>;

/// The operator's gateway: it answers all requests with one status, and remembers those that it has taken.
#[derive(Debug)]
pub struct Gateway {
    /// Where it is.
    pub address: SocketAddr,
    status: Arc<AtomicU16>,
    /// Nobody is answered while it is held.
    pub held: Arc<Mutex<()>>,
    /// Whatever was asked, with what it was answered, in order.
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

/// The status that it was answered with, and what it was.
pub type Asked = (u16, Headers, Value);

impl Gateway {
    /// One that answers with 200.
    ///
    /// # Panics
    /// There is no port for it.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (status, held) = (Arc::new(AtomicU16::new(200)), Arc::<Mutex<()>>::default());
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let gateway = Self { address, status: Arc::clone(&status), held: Arc::clone(&held), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever is killed amid a request has asked nothing.
                let Ok(mut stream) = stream else { continue };
                let Some((headers, body)) = request(&stream) else { continue };
                let status = status.load(Ordering::SeqCst);
                asked.lock().unwrap().push((status, headers, body));
                drop(held.lock().unwrap());
                let _ = write!(stream, "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            }
        });
        gateway
    }

    /// From now on it answers so.
    pub fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// The bodies of what was answered so.
    ///
    /// # Panics
    /// It has panicked.
    #[must_use]
    pub fn answered(&self, status: u16) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(answer, ..)| *answer == status).map(|(_, _, body)| body.clone()).collect()
    }

    /// Waits until it has answered something like this so.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn has(&self, status: u16, notice: &Value) {
        let is_like =
            |body: &Value| notice.as_object().unwrap().iter().all(|(key, value)| &body["notice"][key] == value);
        wait_until(&format!("{notice} answered with {status}"), || self.answered(status).iter().any(is_like));
    }
}

/// One request: its headers, and what it holds.
fn request(stream: &TcpStream) -> Option<(Headers, Value)> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines();
    let first = lines.next()?.ok()?;
    assert_eq!(first, "POST /hook HTTP/1.1");
    let mut headers = BTreeMap::new();
    loop {
        let line = lines.next()?.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some((headers, serde_json::from_slice(&body).unwrap()))
}
