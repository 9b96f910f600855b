//! Tunnels to `pages`, and the sessions of long polling that come from there.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, DuplexStream, ReadBuf, ReadHalf},
    sync::mpsc,
};

use super::{super::pages::Polled, Crypt, Event, Line, Sockets, wires::Source};
use crate::{
    limits::{PAGE_READ_BYTES, PAGE_WAITING_BYTES_MAX},
    shard::ConnId,
};

impl Sockets {
    /// Opens a tunnel for a client that has said this. Whether `visit` takes its other end.
    pub(in crate::io) fn open_page(
        &mut self,
        conn: ConnId,
        said: Vec<u8>,
        visit: impl FnOnce(DuplexStream) -> bool,
    ) -> bool {
        let (near, far) = tokio::io::duplex(PAGE_WAITING_BYTES_MAX);
        let is_taken = visit(far);
        if is_taken {
            self.carry(Line::Tunnel(conn), Crypt::Plain, Vec::new(), tokio::io::split(near));
            self.send(Line::Tunnel(conn), &said);
        }
        is_taken
    }

    /// Hears of the sessions that begin on this core, for as long as the runtime lives.
    pub(in crate::io) fn take_in(&self, mut polled: mpsc::Receiver<Polled>) {
        let happened = Rc::clone(&self.happened);
        tokio_uring::spawn(async move {
            while let Some(polled) = polled.recv().await {
                happened.push(Event::Polled(polled));
            }
        });
    }
}

impl Source for ReadHalf<DuplexStream> {
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        poll_fn(|context| {
            let mut space = [0; PAGE_READ_BYTES];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *self).poll_read(context, &mut read))?;
            Poll::Ready(Ok(read.filled().to_vec()))
        })
        .await
    }
}
