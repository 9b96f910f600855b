//! Requests of HTTP as a script makes them, each by itself.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use crate::DEADLINE;

/// What a request was told.
#[derive(Debug)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The head, in small letters.
    pub head: String,
    /// What follows it.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A socket to a server.
///
/// # Panics
/// Nobody listens there.
#[must_use]
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("somebody listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("a wait above zero is allowed");
    socket.set_nodelay(true).expect("it is a socket");
    socket
}

/// One request by a socket of its own. `headers`: lines, each with its end.
#[must_use]
pub fn ask(host: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut socket = connect(host);
    send(&mut socket, host, (method, path, headers), body);
    // Of that only the head comes.
    if method == "HEAD" { read_head(&mut socket) } else { read(&mut socket) }
}

/// Makes a request: its method, its path and its headers.
///
/// # Panics
/// The server is gone.
pub fn send(socket: &mut TcpStream, host: SocketAddr, (method, path, headers): (&str, &str, &str), body: &[u8]) {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n");
    socket.write_all(&[head.as_bytes(), body].concat()).expect("the server takes bytes");
}

/// The next answer.
///
/// # Panics
/// It does not come whole.
#[must_use]
pub fn read(socket: &mut TcpStream) -> Answer {
    let mut answer = read_head(socket);
    let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length is a number"));
    answer.body = vec![0; length];
    socket.read_exact(&mut answer.body).expect("the body comes whole");
    answer
}

fn read_head(socket: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("the head comes whole");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("heads are text").to_ascii_lowercase();
    Answer { status: head[9..12].parse().expect("a status is a number"), head, body: Vec::new() }
}
