//! The sockets of tunnels: opened for a client that is here, or handed to the ring for one that is to be served here. What a tunnel is:
//! `core/tunnels.rs`.

use std::{io, net::SocketAddr, os::fd::OwnedFd, rc::Rc, sync::Arc};

use rustls::ClientConfig;
use tokio::{net::TcpStream, sync::Semaphore, task::JoinHandle};

use super::{
    super::socket::Stream,
    Event, Fresh, Line, Place, Sockets, What, call,
    crypt::{Crypt, hear, say},
    within,
};
use crate::{
    limits::{LINK_GREETING_MS, TUNNELS_DIALLED_MAX},
    mesh::{
        certificate::Certificate,
        wire::{self, Greeting, Opening, Said},
    },
    shard::ConnId,
};

/// A tunnel that is being opened.
#[derive(Debug)]
pub(super) struct Call(JoinHandle<()>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client that comes by a tunnel.
#[derive(Debug)]
pub(in crate::io) struct Visitor {
    stream: TcpStream,
    crypt: Crypt,
    opening: Opening,
    /// Until it is judged, or has gone.
    _place: Place,
}

impl Visitor {
    pub(super) fn new(stream: TcpStream, crypt: Crypt, opening: Opening, place: Place) -> Self {
        Self { stream, crypt, opening, _place: place }
    }

    /// What the node that sends it says of itself, and its certificate, if it has shown one.
    pub(in crate::io) fn sent_by(&self) -> (&Greeting, Option<Certificate>) {
        (&self.opening.greeting, self.crypt.certificate())
    }

    /// What the ring needs: the socket, what lies over it, where the client comes from and what it has said.
    ///
    /// # Errors
    /// The kernel says so of the socket.
    pub(in crate::io) fn into_parts(self) -> io::Result<(OwnedFd, Stream, SocketAddr, Vec<u8>)> {
        let Self { stream, crypt, opening: Opening { client, said, .. }, .. } = self;
        let socket = stream.into_std()?;
        // The ring waits for a socket that blocks, and fails at once on one that does not.
        socket.set_nonblocking(false)?;
        let stream = match crypt {
            Crypt::Came(tls) => Stream::new(Some(tls), false),
            Crypt::Plain | Crypt::Dialled(_) => Stream::default(),
        };
        Ok((socket.into(), stream, client, said))
    }
}

impl Sockets {
    /// Connects to the node of this name and gives it the opening of a client's tunnel.
    pub(in crate::io) fn open_tunnel(&mut self, conn: ConnId, address: SocketAddr, name: String, opening: Vec<u8>) {
        let (fresh, happened) = (Rc::clone(&self.fresh), Rc::clone(&self.happened));
        let dials = self.dials.entry(address).or_insert_with(|| Rc::new(Semaphore::new(TUNNELS_DIALLED_MAX)));
        let dials = Rc::clone(dials);
        let config = self.tls.as_ref().map(|tls| Arc::clone(&tls.client));
        let task = tokio_uring::spawn(async move {
            let open = async {
                // A crowd of clients must not take all the places that the other node has for those who greet.
                let _turn = dials.acquire().await.map_err(|error| error.to_string())?;
                open(conn, address, name, config, opening).await
            };
            match within(LINK_GREETING_MS, open).await {
                Ok(one) => {
                    fresh.borrow_mut().push_back(one);
                    happened.woken.notify_one();
                }
                Err(why) => happened.push(Event::NotTunnelled(conn, format!("{address}: {why}"))),
            }
        });
        self.calls.insert(conn, Call(task));
    }

    /// A client has gone, or is to: the other node hears of that behind what the client has said, as far as the kernel still brings that.
    pub(in crate::io) fn end_tunnel(&mut self, conn: ConnId) {
        self.calls.remove(&conn);
        self.finish(Line::Tunnel(conn));
    }

    /// Bytes of a client that wait for the other node, but for those that the kernel is being given.
    pub(in crate::io) fn waiting_in_tunnel(&self, conn: ConnId) -> usize {
        self.sockets.get(&Line::Tunnel(conn)).map_or(0, |socket| socket.wires.out.borrow().len())
    }

    /// A client has taken what it was told.
    pub(in crate::io) fn read_tunnel_on(&self, conn: ConnId) {
        if let Some(socket) = self.sockets.get(&Line::Tunnel(conn)) {
            socket.wires.read_on.notify_one();
        }
    }

    /// Tells the node that has sent a client what is to become of it; if it is taken in, [`Event::Admitted`] follows.
    pub(in crate::io) fn answer(&self, mut visitor: Visitor, answer: Result<Vec<u8>, Vec<u8>>) {
        let happened = Rc::clone(&self.happened);
        tokio_uring::spawn(async move {
            let is_taken = answer.is_ok();
            let (Ok(bytes) | Err(bytes)) = answer;
            let Visitor { stream, crypt, .. } = &mut visitor;
            let said = within(LINK_GREETING_MS, say(stream, crypt, bytes)).await;
            if said.is_ok() && is_taken {
                happened.push(Event::Admitted(visitor));
            }
        });
    }
}

async fn open(
    conn: ConnId,
    address: SocketAddr,
    name: String,
    config: Option<Arc<ClientConfig>>,
    opening: Vec<u8>,
) -> Result<Fresh, String> {
    let (mut stream, mut crypt, mut first) = call(address, name, config).await?;
    say(&mut stream, &mut crypt, opening).await?;
    loop {
        match wire::decode(&first).map_err(|error| error.to_string())? {
            None => _ = hear(&mut stream, &mut crypt, &mut first).await?,
            Some((Said::Greeting(_), length)) => {
                first.drain(..length);
                return Ok(Fresh { stream, crypt, first, what: What::Tunnel(conn) });
            }
            Some((Said::Refused(words), _)) => return Err(words),
            Some(_) => return Err("it answers with something else".to_owned()),
        }
    }
}
