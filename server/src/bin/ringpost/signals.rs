//! The signals that a process is told something by.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a server is told. From [`Signals::listen`] on they no longer end the process by themselves.
pub(crate) struct Signals {
    pub(crate) hangup: Signal,
    pub(crate) ending: Ending,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, ending: Ending::listen()? })
    }
}

/// The signals that end a process.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
