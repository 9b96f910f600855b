//! Listeners: the sockets that clients connect to.

use std::{
    io, mem,
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use tracing::info;

use crate::{
    config::Transport,
    limits::{LISTEN_BACKLOG, LISTEN_RETRY_MS, LISTEN_WAIT_MAX_MS},
};

/// A socket that clients connect to.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) transport: Transport,
}

/// One listening socket, from which every core accepts. A socket for each core (SO_REUSEPORT) would let a second server
/// share the port unnoticed, and would lose the connections that wait in a stopping core's queue; with one, the kernel
/// wakes a single core for each connection, and where it is accepted matters for its hello only.
///
/// # Errors
/// The address is not ours, or still in use after a while.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = bind(address)?;
    let socket = socket2::SockRef::from(&listener);
    socket.listen(LISTEN_BACKLOG)?;
    // Accepted sockets inherit it. A turn's output leaves in one send, so there is nothing to wait for.
    socket.set_tcp_nodelay(true)?;
    Ok(listener)
}

/// A ring that accepts keeps its listening socket, and the kernel takes the rings of a killed process apart some time
/// after the process is gone: who starts it again at once finds the port in use for a moment.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let start = Instant::now();
    let mut waits = false;
    loop {
        match TcpListener::bind(address) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && start.elapsed() < Duration::from_millis(LISTEN_WAIT_MAX_MS) =>
            {
                if !mem::replace(&mut waits, true) {
                    info!(%address, "the address is in use; waiting for whoever had it");
                }
                thread::sleep(Duration::from_millis(LISTEN_RETRY_MS));
            }
            bound => return bound,
        }
    }
}
