//! What holds over every wire by which clients reach a real server. Whoever tests a wire says how it is opened.

use std::{
    io::{ErrorKind, Read as _},
    net::TcpStream,
};

use proto_spec::{ClientFrame, Direction, RequestId, Resume, Seq, ServerFrame, UserId, limits::TEXT_BYTES_MAX};
use server::shard::topology::Topology;

use crate::{connection::Connection, device::Device, process::Installation};

/// A way to a server that runs.
#[expect(missing_debug_implementations, reason = "a function says nothing of itself")]
pub struct Wire<'a> {
    /// Who may log in there.
    pub installation: &'a Installation,
    /// A connection that has said nothing.
    pub open: &'a dyn Fn() -> Connection,
}

impl Wire<'_> {
    /// A connection of a device that is ready.
    #[must_use]
    #[track_caller]
    pub fn login(&self, user: u64, device: u64) -> Connection {
        self.installation.login_over((self.open)(), user, device, Resume::Stored, &[])
    }

    /// A device that is connected.
    ///
    /// # Panics
    /// It is not welcome.
    #[must_use]
    #[track_caller]
    pub fn device(&self, user: u64, device: u64) -> Device {
        let mut device = Device::new(user, device, self.installation.token(user));
        assert!(device.try_connect_over((self.open)(), Resume::Stored), "{device}: not welcome");
        device
    }

    /// Two users write to each other, each by a wire of their own: several devices of each, so that some are accepted by the core that
    /// they do not live on. The two have written nothing before.
    ///
    /// # Panics
    /// Something does not come.
    pub fn converses_with(&self, other: &Self, [a, b]: [u64; 2]) {
        for device in 1..=4 {
            let (mut mine, mut yours) = (self.device(a, device), other.device(b, device));
            let before = yours.received().len();
            mine.say(b, "ping");
            mine.step_until("it is accepted", |mine| mine.unanswered() == 0);
            yours.step_until("it arrives", |yours| yours.received().len() > before);
            yours.say(a, "pong");
            mine.step_until("so does the answer", |mine| mine.received().last().is_some_and(|last| last.3 == "pong"));
        }
    }

    /// Texts and pages of the largest size go through. The two users have written nothing before.
    ///
    /// # Panics
    /// They do not.
    pub fn carries_the_largest_texts_and_pages(&self, [a, b]: [u64; 2]) {
        let text = "x".repeat(TEXT_BYTES_MAX);
        let mut writer = self.device(a, 1);
        for _ in 0..40 {
            writer.say(b, &text);
        }
        writer.step_until("all are accepted", |writer| writer.unanswered() == 0);
        let mut reader = self.device(b, 1);
        reader.step_until("all are pushed", |reader| reader.received().len() == 40);
        assert!(reader.received().iter().all(|message| message.3 == text));
        let mut asking = self.login(b, 2);
        let (request, from, direction) = (RequestId(1), Seq(1), Direction::Forwards);
        let fetch = ClientFrame::FetchLog { request, from, direction, limit: 100 };
        assert_eq!(asking.fetch(1, &fetch).entries.len(), 3, "as many as fit in a frame");
    }

    /// A reader that takes nothing until all is written, far more than the server keeps for it, gets all of it in its order. The two users
    /// have written nothing before.
    ///
    /// # Panics
    /// It does not.
    pub fn brings_a_slow_reader_everything_in_order(&self, [a, b]: [u64; 2]) {
        const MESSAGES: u64 = 400;
        let mut slow = self.login(b, 1);
        let mut writer = self.device(a, 1);
        for at in 0..MESSAGES {
            writer.say(b, &format!("{at} {}", "x".repeat(8_000)));
            if at % 50 == 0 {
                writer.step_until("they are accepted", |writer| writer.unanswered() == 0);
            }
        }
        writer.step_until("all are accepted", |writer| writer.unanswered() == 0);
        let mut reached = Seq(0);
        let mut comes = |seq: Seq| {
            assert_eq!(seq, reached.next());
            reached = seq;
            reached < Seq(MESSAGES)
        };
        while match slow.frame().expect("the connection goes on") {
            ServerFrame::Deliver { entry } => comes(entry.seq),
            ServerFrame::Page(page) => page.entries.iter().map(|entry| comes(entry.seq)).last().unwrap_or(true),
            _ => true,
        } {}
        slow.is_alive();
    }
}

/// Users with their home on each of two cores.
#[must_use]
pub fn users_of_two_cores() -> [u64; 2] {
    users_of_two_cores_from(1)
}

/// The first ones from a number on.
///
/// # Panics
/// There are none.
#[must_use]
pub fn users_of_two_cores_from(first: u64) -> [u64; 2] {
    let topology = Topology::new(2).expect("two cores are not too many");
    let with_home = |core: u16| (first..).find(|&user| topology.home_of(UserId(user)).0 == core);
    [0, 1].map(|core| with_home(core).expect("somebody has their home there"))
}

/// Everything until the server closes, or cuts the connection.
///
/// # Panics
/// It can not be read.
pub fn read_to_the_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}
