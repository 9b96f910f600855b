//! What carries the bytes of a line and its two tasks: one reads and waits until what it has read has been taken, one writes what waits.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    net::tcp::OwnedReadHalf,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use super::{Event, Happened, Line, crypt::Crypt};
use crate::limits::LINK_READ_BYTES;

/// What is shared with the tasks of one socket.
#[derive(Debug, Default)]
pub(super) struct Wires {
    pub(super) crypt: RefCell<Crypt>,
    pub(super) out: RefCell<Vec<u8>>,
    /// Something is to be sent, or it is to be closed.
    pub(super) send: Notify,
    /// Once everything has been sent.
    pub(super) is_closing: Cell<bool>,
    /// Nothing that is sent gets there any more.
    pub(super) is_broken: Cell<bool>,
    /// What was read last has been taken.
    pub(super) read_on: Notify,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) wires: Rc<Wires>,
    pub(super) reader: JoinHandle<()>,
    pub(super) writer: JoinHandle<()>,
}

/// Where what the other end says comes from.
pub(super) trait Source {
    /// What comes next; nothing at the end. Memory for it is taken when it is there.
    async fn next(&mut self) -> io::Result<Vec<u8>>;
}

/// Reads until the other node has closed it, or nobody has taken for so long what it has said last.
pub(super) async fn read(
    (line, patience): (Line, Duration),
    mut from: impl Source,
    first: Vec<u8>,
    wires: Rc<Wires>,
    happened: Rc<Happened>,
) {
    let (mut plain, mut end) = (first, None);
    let why = loop {
        if !plain.is_empty() {
            happened.push(Event::Bytes(line, std::mem::take(&mut plain)));
            if timeout(patience, wires.read_on.notified()).await.is_err() {
                break "what it has said is not taken".to_owned();
            }
        }
        if let Some(why) = end {
            break why;
        }
        let bytes = match from.next().await {
            Ok(bytes) if bytes.is_empty() => break "the other node has closed it".to_owned(),
            Ok(bytes) => bytes,
            Err(error) => break error.to_string(),
        };
        (plain, end) = wires.crypt.borrow_mut().receive(bytes);
    };
    happened.push(Event::Ended(line, why));
}

pub(super) async fn write(line: Line, mut to: impl AsyncWrite + Unpin, wires: Rc<Wires>, happened: Rc<Happened>) {
    loop {
        let plain = std::mem::take(&mut *wires.out.borrow_mut());
        let length = plain.len();
        if length == 0 {
            if wires.is_closing.get() {
                let goodbye = wires.crypt.borrow_mut().finish();
                // It is closed when both halves are dropped; whoever reads has been ended.
                let _ = to.write_all(&goodbye).await;
                let _ = to.shutdown().await;
                return;
            }
            wires.send.notified().await;
            continue;
        }
        let bytes = wires.crypt.borrow_mut().seal(plain);
        if let Err(error) = to.write_all(&bytes).await {
            match line {
                Line::Link(_) => happened.push(Event::Ended(line, error.to_string())),
                // Whoever reads finds the end, behind what the other node has said before it.
                Line::Tunnel(_) => wires.is_broken.set(true),
            }
            return;
        }
        happened.push(Event::Sent(line, length));
    }
}

impl Source for OwnedReadHalf {
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            self.readable().await?;
            let mut bytes = Vec::with_capacity(LINK_READ_BYTES);
            match self.try_read_buf(&mut bytes) {
                Ok(_) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::shard::ConnId;

    #[test]
    fn what_is_not_taken_in_time_ends_the_tunnel_and_what_is_does_not() {
        let line = Line::Tunnel(ConnId { slot: 1, generation: 1 });
        tokio_uring::start(async {
            for is_taken in [false, true] {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let mut other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let (from, _to) = listener.accept().await.unwrap().0.into_split();
                let (wires, happened) = (Rc::<Wires>::default(), Rc::<Happened>::default());
                let patience = Duration::from_millis(if is_taken { 60_000 } else { 1 });
                let task = tokio_uring::spawn(read(
                    (line, patience),
                    from,
                    Vec::new(),
                    Rc::clone(&wires),
                    Rc::clone(&happened),
                ));
                other.write_all(b"words").await.unwrap();
                if is_taken {
                    wires.read_on.notify_one();
                    other.shutdown().await.unwrap();
                }
                task.await.unwrap();
                let events: Vec<_> = std::iter::from_fn(|| happened.pop()).collect();
                let [Event::Bytes(of, bytes), Event::Ended(ended, why)] = &events[..] else { panic!("{events:?}") };
                assert_eq!((of, ended, &bytes[..]), (&line, &line, &b"words"[..]));
                assert_eq!(why.contains("not taken"), !is_taken, "{why}");
            }
        });
    }
}
