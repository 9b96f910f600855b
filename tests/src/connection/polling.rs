//! Polling: the protocol's stream in requests of HTTP (SPEC 1.5), by two connections: one says, one asks.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::SocketAddr,
};

use proto_spec::FRAMES_PATH;

use super::Carrier;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Polling {
    say: Carrier,
    pub(super) ask: Carrier,
    host: SocketAddr,
    /// None before the first bytes have been said.
    session: Option<String>,
    said: u64,
    heard: u64,
    /// What has come of the answer to who asks.
    answer: Vec<u8>,
    asks: bool,
    /// What has come and has not been read.
    rest: VecDeque<u8>,
}

impl Polling {
    pub(super) fn new(say: Carrier, ask: Carrier, host: SocketAddr) -> Self {
        let (answer, rest) = (Vec::new(), VecDeque::new());
        Self { say, ask, host, session: None, said: 0, heard: 0, answer, asks: false, rest }
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let Some(session) = &self.session else { return Err(io::Error::other("nothing has been said")) };
            if !self.asks {
                let address = format!("{FRAMES_PATH}?session={session}&at={}", self.heard);
                write!(self.ask, "GET {address} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host)?;
                self.ask.flush()?;
                self.asks = true;
            }
            let (status, body) = answer(&mut self.ask, &mut self.answer)?;
            self.asks = false;
            match status {
                200 => {
                    self.heard += body.len() as u64;
                    self.rest.extend(body);
                }
                204 => {}
                410 => return Ok(0),
                status => return Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(&body)))),
            }
        }
        self.rest.read(bytes)
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let body = &bytes[..bytes.len().min(64 * 1024)];
            let address = match &self.session {
                None => FRAMES_PATH.to_owned(),
                Some(session) => format!("{FRAMES_PATH}?session={session}&at={}", self.said),
            };
            let (host, length) = (self.host, body.len());
            write!(self.say, "POST {address} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")?;
            self.say.write_all(body)?;
            self.say.flush()?;
            let (status, said) = answer(&mut self.say, &mut Vec::new())?;
            let said = String::from_utf8_lossy(&said).into_owned();
            let taken = match (status, said.split_once(' ')) {
                (201, Some((session, taken))) => {
                    self.session = Some(session.to_owned());
                    taken
                }
                (200, None) => &said,
                _ => return Err(io::Error::other(format!("{status}: {said}"))),
            };
            let taken = taken.parse::<u64>().map_err(io::Error::other)?;
            bytes = &bytes[(taken - self.said) as usize..];
            self.said = taken;
        }
        Ok(())
    }
}

/// The next answer of HTTP: its status and its body. What has come of it waits in `whole`, if the rest does not come in time.
fn answer(carrier: &mut Carrier, whole: &mut Vec<u8>) -> io::Result<(u16, Vec<u8>)> {
    loop {
        if let Some(end) = whole.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&whole[..end]).to_ascii_lowercase();
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(Some(0), |length| length.parse().ok());
            let (Some(status), Some(length)) = (status, length) else { return Err(io::Error::other(head)) };
            let behind = end + 4 + length;
            if whole.len() >= behind {
                let body = whole[end + 4..behind].to_vec();
                whole.drain(..behind);
                return Ok((status, body));
            }
        }
        let mut bytes = [0; 16 * 1024];
        match carrier.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => whole.extend_from_slice(&bytes[..count]),
        }
    }
}
