//! Endpoint: a provider on this machine, over TLS, that notes what it is sent and answers as a test says.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority whose certificates the push service of a test believes.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the test's authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.0.der().to_vec())).unwrap();
        roots
    }

    /// Its certificate, for a server that is measured.
    #[allow(dead_code, reason = "one of those who have this file needs it")]
    pub(crate) fn pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.0.der().to_vec()))
    }

    fn identity(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Which connection it came by: 0, 1, 2, ...
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {:?}", self.headers)).to_str().unwrap()
    }
}

/// What an endpoint does with a request.
pub(crate) enum Reply {
    Status(u16),
    With(u16, &'static [(&'static str, &'static str)], String),
    /// Never answers.
    Hang,
    /// Ends the connection.
    Reset,
}

/// What it speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    /// HTTP/1.1 without TLS.
    Plain,
}

pub(crate) struct Endpoint {
    pub(crate) port: u16,
    seen: mpsc::Receiver<Seen>,
}

impl Endpoint {
    /// Starts one for `localhost`. `reply` is asked for each request, and given how many came before.
    pub(crate) fn start(
        authority: &Authority,
        speaks: Speaks,
        reply: impl FnMut(&Seen, usize) -> Reply + Send + 'static,
    ) -> Self {
        let (chain, key) = authority.identity("localhost");
        let tls = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
        let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut tls = tls.with_single_cert(chain, key).unwrap();
        tls.alpn_protocols = vec![if speaks == Speaks::Http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let (note, seen) = mpsc::channel();
        let (tell_port, port) = mpsc::channel();
        let reply = Arc::new(Mutex::new((reply, 0_usize)));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                tell_port.send(listener.local_addr().unwrap().port()).unwrap();
                for connection in 0.. {
                    let (tcp, _) = listener.accept().await.unwrap();
                    let (acceptor, note, reply) = (acceptor.clone(), note.clone(), reply.clone());
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (note, reply) = (note.clone(), reply.clone());
                        async move {
                            let seen = see(request, connection).await;
                            let reply = {
                                let (reply, count) = &mut *reply.lock().unwrap();
                                *count += 1;
                                reply(&seen, *count - 1)
                            };
                            // A test that has seen enough does not listen any more.
                            let _ = note.send(seen);
                            answer(reply).await
                        }
                    });
                    tokio::spawn(async move {
                        let server = auto::Builder::new(TokioExecutor::new());
                        // However it ends: the client's side is what is tested.
                        if speaks == Speaks::Plain {
                            let _ = server.serve_connection(TokioIo::new(tcp), service).await;
                        } else if let Ok(tls) = acceptor.accept(tcp).await {
                            let _ = server.serve_connection(TokioIo::new(tls), service).await;
                        }
                    });
                }
            });
        });
        Self { port: port.recv().unwrap(), seen }
    }

    /// The next request, which must come.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.recv_timeout(Duration::from_secs(60)).expect("a request comes")
    }

    /// All requests that have come and were not looked at.
    pub(crate) fn seen_meanwhile(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }
}

async fn see(request: Request<Incoming>, connection: usize) -> Seen {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let path = parts.uri.path_and_query().unwrap().to_string();
    Seen { method: parts.method, path, version: parts.version, headers: parts.headers, body, connection }
}

async fn answer(reply: Reply) -> io::Result<Response<Full<Bytes>>> {
    let (status, headers, body): (u16, &[(&str, &str)], String) = match reply {
        Reply::Status(status) => (status, &[], String::new()),
        Reply::With(status, headers, body) => (status, headers, body),
        Reply::Hang => std::future::pending().await,
        Reply::Reset => return Err(io::Error::other("the test says so")),
    };
    let response = headers
        .iter()
        .fold(Response::builder().status(status), |response, (name, value)| response.header(*name, *value));
    Ok(response.body(Full::new(body.into())).unwrap())
}
