//! Attacks: what somebody does who can reach the port, or has the token of an ordinary user, and means harm. Used by the tests, and
//! by hand (`cargo run -p tests --bin attacker`).

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use proto_spec::{
    ClientFrame, Content, Direction, RequestId, Resume, SendNumber, Seq, UserId,
    limits::{CLIENT_FRAME_BYTES_MAX, TEXT_BYTES_MAX},
    wire::put_varint,
};
use socket2::{Domain, Socket, Type};

use crate::{connection::hello, rng::Rng};

/// Each of them; the text is its name on the command line.
pub const ALL: &[(&str, Attack)] = &[
    ("silent", Attack::Silent),
    ("slow", Attack::Slow),
    ("half-open", Attack::HalfOpen),
    ("deaf", Attack::Deaf),
    ("oversized", Attack::Oversized),
    ("hellos", Attack::Hellos),
    ("long-tokens", Attack::LongTokens),
    ("replay", Attack::Replay),
    ("frames", Attack::Frames),
    ("logins", Attack::Logins),
];

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Connections that say nothing.
    Silent,
    /// A good hello, a byte a second.
    Slow,
    /// One side ended, or the connection reset, at every stage.
    HalfOpen,
    /// Asks for pages and reads none.
    Deaf,
    /// Lengths beyond every limit, before and after the hello.
    Oversized,
    /// Hellos with tokens that are well formed and signed by nobody.
    Hellos,
    /// Hellos with tokens of 60 KB.
    LongTokens,
    /// A recorded session, sent again and again.
    Replay,
    /// A welcome client that sends frames without end.
    Frames,
    /// A welcome client that connects without end.
    Logins,
}

/// Whom, as whom, and from where.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server.
    pub server: SocketAddr,
    /// Where the attacker sits; none: wherever the kernel likes.
    pub from: Option<IpAddr>,
    /// A token of an ordinary user.
    pub token: String,
    /// Somebody to write to.
    pub victim: u64,
    /// Connections held at a time.
    pub connections: usize,
}

/// What came of an attack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Connections opened.
    pub opened: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// Connections that could not be opened.
    pub refused: u64,
}

/// One connection of the attacker, never waited for.
struct Line {
    stream: TcpStream,
    /// Sent so far of what it is to say.
    sent: usize,
    next_at: Instant,
}

impl Target {
    fn open(&self) -> io::Result<TcpStream> {
        let domain = Domain::for_address(self.server);
        let socket = Socket::new(domain, Type::STREAM, None)?;
        if let Some(from) = self.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect_timeout(&self.server.into(), Duration::from_secs(2))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    fn hello(&self, device: u64) -> Vec<u8> {
        encoded(&[hello(&self.token, device, Resume::Live)])
    }
}

fn encoded(frames: &[ClientFrame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

/// Runs until `until`, with as many connections as the target says, opening another one for each that ends.
#[must_use]
pub fn run(attack: Attack, target: &Target, until: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rng = Rng::new(1);
    let mut lines: Vec<Line> = Vec::new();
    let mut scratch = [0; 16 * 1024];
    while !until.load(Ordering::Relaxed) {
        let before = lines.len();
        lines.retain_mut(|line| step(attack, target, line, &mut rng, &mut scratch));
        outcome.ended += (before - lines.len()) as u64;
        // Some at a time: those that are open are served in between.
        for _ in 0..64.min(target.connections.saturating_sub(lines.len())) {
            match target.open() {
                Ok(stream) => {
                    outcome.opened += 1;
                    lines.push(Line { stream, sent: 0, next_at: Instant::now() });
                }
                Err(_) => {
                    outcome.refused += 1;
                    break;
                }
            }
        }
        std::thread::sleep(pause(attack, lines.len() >= target.connections));
    }
    outcome
}

/// Between two rounds over all connections. Silent ones that are all there have nothing to do: if those that are given up for others came
/// back at once, the crowd would take the processors that it shares with the server, and that would be measured.
const fn pause(attack: Attack, is_complete: bool) -> Duration {
    match attack {
        Attack::Silent if is_complete => Duration::from_secs(2),
        _ => Duration::from_millis(1),
    }
}

/// What a connection does next; false when it is over.
fn step(attack: Attack, target: &Target, line: &mut Line, rng: &mut Rng, scratch: &mut [u8]) -> bool {
    // Who reads nothing does not see the end either, and finds it when it writes.
    if attack != Attack::Deaf {
        match line.stream.read(scratch) {
            Ok(0) => return false,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return false,
            _ => {}
        }
    }
    match attack {
        Attack::Silent => true,
        Attack::Slow => {
            if Instant::now() < line.next_at {
                return true;
            }
            line.next_at = Instant::now() + Duration::from_secs(1);
            let hello = target.hello(1);
            let at = line.sent.min(hello.len() - 1);
            line.write(&hello[at..=at])
        }
        Attack::HalfOpen => {
            let stage = rng.within(0, 3);
            if stage > 0 && !line.write(&target.hello(rng.within(1, 8))) {
                return false;
            }
            match stage {
                0 | 1 => line.stream.shutdown(Shutdown::Write).is_ok() && rng.chance(50),
                // Closing with bytes unread resets the connection.
                _ => rng.chance(10),
            }
        }
        Attack::Deaf => {
            if line.sent == 0 {
                return line.write(&target.hello(rng.within(1, 30)));
            }
            let (from, direction) = (Seq(0), Direction::Backwards);
            let request = RequestId(rng.within(1, 1 << 30));
            line.write(&encoded(&[ClientFrame::FetchLog { request, from, direction, limit: 500 }]))
        }
        Attack::Oversized => {
            let mut bytes = if rng.chance(50) { target.hello(1) } else { Vec::new() };
            put_varint(&mut bytes, *rng.pick(&[CLIENT_FRAME_BYTES_MAX as u64 + 1, 1 << 28, u64::MAX]));
            bytes.extend_from_slice(&[1; 64]);
            line.write(&bytes)
        }
        Attack::Hellos => {
            if line.sent > 0 {
                return true;
            }
            // Header and claims are good, the signature is of nobody.
            let mut parts: Vec<String> = target.token.split('.').map(str::to_owned).collect();
            let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let at = rng.within(0, parts[2].len() as u64 - 2) as usize;
            let digit = char::from(*rng.pick(digits)).to_string();
            parts[2].replace_range(at..=at, &digit);
            parts[2].replace_range(at + 1..at + 2, if digit == "A" { "B" } else { "A" });
            line.write(&encoded(&[hello(&parts.join("."), 1, Resume::Live)]))
        }
        Attack::LongTokens => {
            if line.sent > 0 {
                return true;
            }
            line.write(&encoded(&[hello(&"x".repeat(60 * 1024), 1, Resume::Live)]))
        }
        Attack::Replay => {
            if line.sent > 0 {
                return true;
            }
            let send = |number| ClientFrame::Send {
                number: SendNumber(number),
                to: UserId(target.victim).into(),
                content: Content::text(&format!("said once: {number}")),
            };
            let mut session = vec![hello(&target.token, 9, Resume::Live)];
            session.extend((1..=20).map(send));
            line.write(&encoded(&session))
        }
        Attack::Frames => {
            if line.sent == 0 {
                return line.write(&target.hello(rng.within(1, 30)));
            }
            let (number, to) = (SendNumber(rng.next() | 1 << 40), UserId(target.victim));
            let flood =
                vec![
                    ClientFrame::Send { number, to: to.into(), content: Content::text(&"x".repeat(TEXT_BYTES_MAX)) };
                    4
                ];
            line.write(&encoded(&flood))
        }
        Attack::Logins => {
            if line.sent == 0 {
                return line.write(&target.hello(rng.within(1, 30)));
            }
            rng.chance(50)
        }
    }
}

impl Line {
    /// As much as goes; false when the connection is broken.
    fn write(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write(bytes) {
            Ok(count) => self.sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        true
    }
}
