#!/usr/bin/env bash
# hyper-util 0.1.21, `client::legacy::Client`, with hyper 1.12.0.
#
# Guess: a client that finds out by ALPN that a host speaks HTTP/2 sends requests that come at once over one connection: those that come
# while the first connection is being made wait for it, as they do with `http2_only`.
#
# Behaviour: each of them makes a connection of its own, as for HTTP/1.1, since nobody knows yet; all but one are ended again at once.
# Requests that come later share one. With `http2_only` it is one from the start.
#
# Why it matters here: the push service has hundreds of notices for one provider when it starts, or when the provider is well again. By
# the guess they would cost a connection; in truth each costs a TLS handshake, at a moment when the provider may be in trouble. So a host
# that is not known gets one request first, and hosts that have answered by HTTP/2 a client that speaks nothing else.
#
# Needs Rust. Takes about half a minute.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "seen"
version = "0.0.0"
edition = "2024"

[dependencies]
bytes = "1"
http-body-util = "0.1"
hyper = { version = "=1.12.0", features = ["client", "server", "http1", "http2"] }
hyper-util = { version = "=0.1.21", features = ["client-legacy", "http1", "http2", "tokio"] }
tokio = { version = "1", features = ["rt", "net", "macros"] }
tower-service = "0.3"
TOML
cat >src/main.rs <<'RUST'
use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, Response, Uri,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Says of each connection that HTTP/2 was agreed on, as a connector with TLS does after ALPN.
#[derive(Clone)]
struct Connector;

struct Stream(TokioIo<TcpStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().negotiated_h2()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let address = (uri.host().unwrap(), uri.port_u16().unwrap());
            Ok(Stream(TokioIo::new(TcpStream::connect(address).await?)))
        })
    }
}

/// How many connections come to be for so many requests at once.
async fn connections(client: &Client<Connector, Empty<Bytes>>, uri: &Uri, accepted: &AtomicUsize) -> usize {
    let before = accepted.load(Ordering::Relaxed);
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let request = Request::post(uri).body(Empty::new()).unwrap();
        let answer = client.request(request);
        requests.spawn(async move { answer.await.unwrap().status() });
    }
    while let Some(status) = requests.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    accepted.load(Ordering::Relaxed) - before
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            let answer = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), answer));
        }
    });
    let client = Client::builder(TokioExecutor::new()).build(Connector);
    let crowd = connections(&client, &uri, &accepted).await;
    println!("a hundred requests at once to a host that is not known: {}", if crowd > 50 { "a crowd of connections" } else { "few" });
    println!("a hundred more: {} connections", connections(&client, &uri, &accepted).await);
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build(Connector);
    println!("a hundred with http2_only: {} connection", connections(&client, &uri, &accepted).await);
}
RUST
cargo run --quiet >seen
cat seen
expected='a hundred requests at once to a host that is not known: a crowd of connections
a hundred more: 0 connections
a hundred with http2_only: 1 connection'
[ "$(cat seen)" = "$expected" ] || { echo "this is not what was seen before" >&2; exit 1; }
