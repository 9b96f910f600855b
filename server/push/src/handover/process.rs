//! The process's part: takes notices that nodes hand over, makes one attempt for each, and says how it went.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    pin, select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinSet, LocalSet},
    time::{sleep, timeout},
};

use super::{Handed, PATH};
use crate::{
    keys::{BadSignature, WebhookKey},
    limits::{HANDED_BYTES_MAX, HANDED_CONNECTIONS_MAX, HANDED_IDLE_MAX, HANDED_READ_MAX, HANDED_STOP_MAX},
    notice::Outcome,
    plan::Verdict,
    settings::Settings,
    transport::Transport,
};

/// Where it says that it is there, to whoever asks.
const HEALTH_PATH: &str = "/health";

/// How long accepting rests after it failed: for want of descriptors, which come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes notices until it is told to stop. Then nobody comes in, and who has handed something over is told how it went, if that shows
/// within [`HANDED_STOP_MAX`].
///
/// `refused` is told whose requests were not signed as they must be.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    key: WebhookKey,
    refused: impl Fn(IpAddr, BadSignature) + 'static,
    stop: impl Future<Output = ()>,
) {
    let process = Rc::new(Process { transport: Transport::new(settings), key, refused });
    let room = Arc::new(Semaphore::new(HANDED_CONNECTIONS_MAX));
    let (stopping, is_stopping) = watch::channel(false);
    let accept = async {
        let mut connections = JoinSet::new();
        pin!(stop);
        loop {
            select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                (place, stream, client) = next(&listener, &room) => {
                    connections.spawn_local(attend(Rc::clone(&process), stream, client, is_stopping.clone(), place));
                }
            }
        }
        drop(listener);
        stopping.send_replace(true);
        // Whoever is not told by then hands it to another process, as if this one had been killed.
        let _ = timeout(HANDED_STOP_MAX, async { while connections.join_next().await.is_some() {} }).await;
    };
    LocalSet::new().run_until(accept).await;
}

/// The next connection that there is room for.
async fn next(listener: &TcpListener, room: &Arc<Semaphore>) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
    let place = Arc::clone(room).acquire_owned().await.expect("nobody closes it");
    loop {
        match listener.accept().await {
            Ok((stream, client)) => return (place, stream, client),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers the requests of one connection until it ends. Whatever it dies of, the node knows.
async fn attend<R: Fn(IpAddr, BadSignature) + 'static>(
    process: Rc<Process<R>>,
    stream: TcpStream,
    client: SocketAddr,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(|request| {
        let process = Rc::clone(&process);
        async move { Ok::<_, Infallible>(process.answer(client.ip(), request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDED_IDLE_MAX)
        .serve_connection(TokioIo::new(stream), service);
    pin!(connection);
    select! {
        _ = &mut connection => return,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

struct Process<R> {
    transport: Transport,
    key: WebhookKey,
    refused: R,
}

/// An answer that is no verdict.
type Refusal = (StatusCode, &'static str);

impl<R: Fn(IpAddr, BadSignature)> Process<R> {
    async fn answer(&self, client: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let answered = match (request.method(), request.uri().path()) {
            (&Method::POST, PATH) => self.take(client, request).await,
            (&Method::GET | &Method::HEAD, HEALTH_PATH) => Ok(Bytes::from_static(b"ok\n")),
            (_, PATH | HEALTH_PATH) => Err((StatusCode::METHOD_NOT_ALLOWED, "notices are posted, and health is got")),
            _ => Err((StatusCode::NOT_FOUND, "a push service has /v1/notices and /health")),
        };
        let (status, body) = match answered {
            Ok(body) => (StatusCode::OK, body),
            Err((status, words)) => (status, Bytes::from_static(words.as_bytes())),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response
    }

    /// Makes an attempt, and says how it went.
    async fn take(&self, client: IpAddr, request: Request<Incoming>) -> Result<Bytes, Refusal> {
        let (parts, body) = request.into_parts();
        let body = timeout(HANDED_READ_MAX, Limited::new(body, HANDED_BYTES_MAX).collect()).await;
        let body = body.map_err(|_| (StatusCode::REQUEST_TIMEOUT, "the notice did not come in time"))?;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => (StatusCode::PAYLOAD_TOO_LARGE, "no notice is as long as that"),
            false => (StatusCode::BAD_REQUEST, "the notice broke off"),
        })?;
        let handed = self.read(client, &parts.headers, &body.to_bytes())?;
        let notice = handed.into_notice();
        let verdict = match self.transport.settings().host_of(&notice.subscription) {
            Ok(_) => self.transport.send(&notice, notice.ttl).await,
            Err(bad) => Verdict::Final(Outcome::Refused(bad.into())),
        };
        Ok(serde_json::to_vec(&verdict).expect("nothing in it can be no JSON").into())
    }

    fn read(&self, client: IpAddr, headers: &HeaderMap, body: &[u8]) -> Result<Handed, Refusal> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.key.verify(headers, body, now_s).map_err(|bad| {
            (self.refused)(client, bad);
            (StatusCode::UNAUTHORIZED, bad.words())
        })?;
        serde_json::from_slice(body).map_err(|_| (StatusCode::BAD_REQUEST, "this is no notice"))
    }
}
