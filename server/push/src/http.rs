//! Http: requests over connections that are kept. A connection goes to an address that was looked at, and a redirect is an answer as any.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    error::Error as _,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::{
    hosts::{self, Reach},
    limits::{ANSWER_BYTES_MAX, CONNECTIONS, HOSTS_MAX, IDLE_MAX, PING_EVERY, PING_MAX},
    notice::Trouble,
    provider::{Answer, Sending},
    settings::Pace,
};

/// All connections to providers.
pub(crate) struct Http {
    public: Pools,
    any: Pools,
    /// Hosts that have answered by HTTP/2.
    speak_http2: RefCell<HashSet<(Reach, String)>>,
    turn: Cell<usize>,
    pace: Pace,
}

/// Connections to hosts of one reach.
struct Pools {
    /// To whoever is not known to speak HTTP/2: each request that finds no idle connection makes one.
    http1: Client<Connector, Full<Bytes>>,
    /// Each has one connection to a host.
    http2: Vec<Client<Connector, Full<Bytes>>>,
}

impl Http {
    pub(crate) fn new(roots: RootCertStore, pace: Pace) -> Self {
        let mut tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("AWS-LC has all that TLS 1.2 and 1.3 need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = Arc::new(tls);
        let pools = |reach| Pools::new(&Connector { reach, tls: tls.clone(), connect_max: pace.connect_max });
        Self {
            public: pools(Reach::Public),
            any: pools(Reach::Any),
            speak_http2: RefCell::default(),
            turn: Cell::new(0),
            pace,
        }
    }

    /// Sends a request and reads the answer. `now_s` is in seconds since 1970.
    pub(crate) async fn exchange(&self, sending: Sending, now_s: u64) -> Result<Answer, Trouble> {
        let Sending { request, reach } = sending;
        let host = (reach, request.uri().authority().map(ToString::to_string).unwrap_or_default());
        let pools = match reach {
            Reach::Public => &self.public,
            Reach::Any => &self.any,
        };
        let client = if self.speak_http2.borrow().contains(&host) {
            self.turn.set((self.turn.get() + 1) % CONNECTIONS);
            &pools.http2[self.turn.get()]
        } else {
            &pools.http1
        };
        let exchange = async {
            let answer = client.request(request.map(Full::new)).await?;
            let (parts, body) = answer.into_parts();
            // The status is the answer. A body that is too long or breaks off tells nothing.
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            Ok((parts, body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
        };
        let outcome = timeout(self.pace.answer_max, exchange).await;
        let mut speak_http2 = self.speak_http2.borrow_mut();
        match outcome {
            Ok(Ok((parts, body))) => {
                if parts.version == Version::HTTP_2 && speak_http2.len() < HOSTS_MAX {
                    speak_http2.insert(host);
                }
                Ok(Answer::new(parts.status, &parts.headers, body, now_s))
            }
            // Perhaps it is another program by now, and speaks something else.
            Ok(Err(error)) => {
                speak_http2.remove(&host);
                Err(trouble(&error))
            }
            Err(_) => Err(Trouble::Timeout),
        }
    }
}

impl Pools {
    fn new(connector: &Connector) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_MAX);
        // Without these a connection whose other end is gone would take requests until the kernel gives up.
        builder.http2_keep_alive_interval(PING_EVERY).http2_keep_alive_timeout(PING_MAX);
        let http1 = builder.build(connector.clone());
        let http2 = builder.http2_only(true);
        Self { http1, http2: (0..CONNECTIONS).map(|_| http2.build(connector.clone())).collect() }
    }
}

/// Makes connections.
#[derive(Clone)]
struct Connector {
    reach: Reach,
    tls: Arc<ClientConfig>,
    connect_max: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the name of the host was not found: {0}")]
    Lookup(io::Error),
    #[error("no address of the host is public")]
    Inside,
    #[error("the host is not reached: {0}")]
    Connect(#[from] io::Error),
    #[error("the host is not reached in time")]
    Timeout,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let connected = timeout(this.connect_max, this.connect(&uri)).await;
            connected.map_err(|_| ConnectError::Timeout)?
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> Result<Stream, ConnectError> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let found: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(ConnectError::Lookup)?.collect();
        let allowed = found.into_iter().filter(|address| match self.reach {
            Reach::Public => hosts::is_public(address.ip()),
            Reach::Any => true,
        });
        let allowed: Vec<SocketAddr> = allowed.collect();
        let tcp = self.first_that_answers(&allowed).await?;
        tcp.set_nodelay(true)?;
        if !is_tls {
            return Ok(Stream { io: TokioIo::new(Box::new(tcp)), is_http2: false });
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await?;
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Stream { io: TokioIo::new(Box::new(tls)), is_http2 })
    }

    /// One after the other, each for its share of the time: so one that swallows everything does not hide the next.
    async fn first_that_answers(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
        let share = self.connect_max / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut failed = ConnectError::Inside;
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => failed = ConnectError::Connect(error),
                Err(_) => failed = ConnectError::Timeout,
            }
        }
        Err(failed)
    }
}

/// A connection, with TLS or without.
struct Stream {
    io: TokioIo<Box<dyn Bytestream>>,
    is_http2: bool,
}

trait Bytestream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytestream for T {}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        if self.is_http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn trouble(error: &hyper_util::client::legacy::Error) -> Trouble {
    let mut cause = error.source();
    while let Some(error) = cause {
        match error.downcast_ref::<ConnectError>() {
            Some(ConnectError::Lookup(_)) => return Trouble::Lookup,
            Some(ConnectError::Inside) => return Trouble::Inside,
            Some(ConnectError::Connect(_)) => return Trouble::Connect,
            Some(ConnectError::Timeout) => return Trouble::Timeout,
            None => cause = error.source(),
        }
    }
    Trouble::Broken
}
