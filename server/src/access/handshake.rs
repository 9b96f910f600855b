//! Handshake: a connection that has not said who it is. PURE: bytes, keys and time in, one [`Step`] out.
//!
//! Looks at the first frame only, and only if it is a hello; whatever follows it is handed on untouched. Holds at most
//! one incomplete hello: `held.len() < CLIENT_FRAME_BYTES_MAX + 10`, and nothing before the first byte. The deadline is
//! the rim's.

use proto_spec::{
    ClientFrame, ClientKind, DeviceId, EpochId, ErrorCode, FramingError, PROTOCOL_VERSION, Resume, Seq, ServerFrame,
    TimestampMs,
    framing::{Cut, cut},
    limits::CLIENT_FRAME_BYTES_MAX,
    wire::{Prefix, peek_varint},
};

use crate::access::{
    auth::{Claims, Keys, TokenError},
    proxy::{NO_HEADER_EXPECTED, looks_like_header},
};

/// The lowest protocol version that this server speaks. The highest is [`PROTOCOL_VERSION`].
pub const VERSION_MIN: u64 = 1;

const _: () = assert!(VERSION_MIN <= PROTOCOL_VERSION);

/// What came of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The hello has not arrived whole.
    More,
    /// The hello is good.
    Ready {
        /// What the token says. Whether it has been revoked is not looked at.
        claims: Claims,
        /// Which device.
        device: DeviceId,
        /// The negotiated protocol version.
        version: u64,
        /// Where to start pushing.
        resumption: Resumption,
        /// One more than redirects have brought the client here in a row; zero: it follows none.
        hops: u64,
        /// What the client sent after the hello, undecoded.
        rest: Vec<u8>,
    },
    /// The connection gets these bytes, and is closed.
    Refuse {
        /// An encoded bye frame.
        bytes: Vec<u8>,
        /// Why, for the log line.
        code: ErrorCode,
        /// Who it was, if the signature of the token is good.
        claims: Option<Claims>,
    },
}

/// Where a connection begins in its user's log, and what its device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// Where to start pushing.
    pub resume: Resume,
    /// The newest epoch of the log that the device was told of; zero if it was told of none.
    pub epoch: EpochId,
    /// With [`Resume::After`]: of what stands up to here, the device may lack something; zero: it lacks nothing.
    pub since: Seq,
    /// More seqs than this are not pushed; zero: however many there are.
    pub skip_above: u64,
}

impl Resumption {
    /// Of a device that holds everything up to where it resumes, and wants all that follows.
    #[must_use]
    pub const fn whole(resume: Resume) -> Self {
        Self { resume, epoch: EpochId(0), since: Seq::ZERO, skip_above: 0 }
    }
}

/// A connection that waits for its hello.
#[derive(Debug, Default)]
pub struct Handshake {
    held: Vec<u8>,
}

impl Handshake {
    /// At the start of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// Bytes of an incomplete hello that are held back, or of one that came in pieces.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes of the connection, in any cut. After another step than [`Step::More`] the handshake is over.
    pub fn bytes(&mut self, input: &[u8], keys: &Keys, now_wall: TimestampMs) -> Step {
        if self.held.is_empty() {
            // The usual case: the hello comes in one piece and nothing of it is copied.
            let step = first_frame(input, keys, now_wall);
            if step == Step::More {
                self.held = input.to_vec();
            }
            return step;
        }
        self.held.extend_from_slice(input);
        first_frame(&self.held, keys, now_wall)
    }

    /// Everything that the connection has said, of which `input` was the last that [`Handshake::bytes`] was given.
    #[must_use]
    pub fn said<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        if self.held.is_empty() { input } else { &self.held }
    }
}

/// Whether a connection's first bytes are those of a TLS handshake. No hello begins like this: the second byte is its kind.
#[must_use]
pub fn looks_like_tls(first: &[u8]) -> bool {
    matches!(first, [0x16] | [0x16, 0x03, ..])
}

/// An encoded bye frame.
#[must_use]
pub fn bye(code: ErrorCode, retry_after_ms: u64, detail: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (detail, devices) = (detail.to_owned(), Vec::new());
    ServerFrame::Bye { code, retry_after_ms, detail, devices }.encode(&mut bytes);
    bytes
}

fn first_frame(stream: &[u8], keys: &Keys, now_wall: TimestampMs) -> Step {
    match cut(stream, CLIENT_FRAME_BYTES_MAX) {
        // Before the frame is whole: what can not become a hello is not waited for.
        Ok(_) if kind_of_first(stream).is_some_and(|kind| kind != ClientKind::Hello.byte()) => {
            let detail = match (looks_like_tls(stream), looks_like_header(stream)) {
                (true, _) => "this looks like TLS, which this listener does not speak",
                (_, true) => NO_HEADER_EXPECTED,
                (false, false) => "the first frame must be a hello",
            };
            refuse(ErrorCode::NotNow, detail)
        }
        Ok(Cut::Incomplete) => Step::More,
        Ok(Cut::Frame { frame, taken }) => match ClientFrame::decode(frame) {
            Ok(ClientFrame::Hello {
                version_min,
                version_max,
                device,
                resume,
                token,
                epoch,
                since,
                skip_above,
                hops,
            }) => {
                let resumption = Resumption { resume, epoch, since, skip_above };
                let hello = Hello { version_min, version_max, device, resumption, hops, token: &token };
                judge(&hello, &stream[taken..], keys, now_wall)
            }
            Ok(_) => refuse(ErrorCode::NotNow, "the first frame must be a hello"),
            Err(error) => refuse(ErrorCode::Malformed, &error.to_string()),
        },
        Err(error @ (FramingError::Length | FramingError::Empty)) => refuse(ErrorCode::Malformed, &error.to_string()),
        Err(error @ FramingError::TooLong { .. }) => refuse(ErrorCode::FrameTooLarge, &error.to_string()),
    }
}

/// The kind of the first frame, as soon as that byte is there.
fn kind_of_first(stream: &[u8]) -> Option<u8> {
    match peek_varint(stream) {
        Prefix::Whole(_, prefix) => stream.get(prefix).copied(),
        Prefix::Incomplete | Prefix::Invalid => None,
    }
}

struct Hello<'a> {
    version_min: u64,
    version_max: u64,
    device: DeviceId,
    resumption: Resumption,
    hops: u64,
    token: &'a str,
}

fn judge(hello: &Hello<'_>, rest: &[u8], keys: &Keys, now_wall: TimestampMs) -> Step {
    let Some(version) = negotiate(hello.version_min, hello.version_max) else {
        return refuse(ErrorCode::Version, &format!("this server speaks versions {VERSION_MIN} to {PROTOCOL_VERSION}"));
    };
    if hello.device == DeviceId(0) {
        return refuse(ErrorCode::DeviceRefused, "device id 0 is not a device");
    }
    let refused = |error: TokenError, claims| {
        let code = error.code();
        Step::Refuse { bytes: bye(code, 0, &error.to_string()), code, claims }
    };
    match keys.read(hello.token) {
        Ok(claims) => match keys.check(&claims, now_wall).and_then(|()| claims.check_device(hello.device)) {
            Ok(()) => {
                let Hello { device, resumption, hops, .. } = *hello;
                Step::Ready { claims, device, version, resumption, hops, rest: rest.to_vec() }
            }
            Err(error) => refused(error, Some(claims)),
        },
        Err(error) => refused(error, None),
    }
}

/// The highest version that both sides speak.
fn negotiate(client_min: u64, client_max: u64) -> Option<u64> {
    let version = client_max.min(PROTOCOL_VERSION);
    (client_min <= version && version >= VERSION_MIN).then_some(version)
}

/// None of these refusals goes away by trying again unchanged, so there is no time to wait.
fn refuse(code: ErrorCode, detail: &str) -> Step {
    Step::Refuse { bytes: bye(code, 0, detail), code, claims: None }
}

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, time::Duration};

    use proptest::prelude::*;
    use proto_spec::{
        Decoder, UserId,
        limits::{SERVER_FRAME_BYTES_MAX, TOKEN_BYTES_MAX},
        wire::put_varint,
    };

    use super::*;
    use crate::access::auth::{Mint, SigningKey, generate_pem, mint, mint_with};

    const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

    struct World {
        keys: Keys,
        key: SigningKey,
        token: String,
    }

    impl World {
        fn new() -> Self {
            let pem = generate_pem().unwrap();
            let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
            let token = mint(&key, UserId(7), Duration::from_secs(60), NOW).unwrap();
            Self { keys: Keys::from_pem(pem.as_bytes()).unwrap(), key, token }
        }

        fn step(&self, stream: &[u8]) -> Step {
            Handshake::new().bytes(stream, &self.keys, NOW)
        }

        fn hello(&self) -> Vec<u8> {
            hello(1, 1, 3, &self.token)
        }

        fn ready(rest: &[u8]) -> Step {
            let claims = Claims {
                user: UserId(7),
                device: None,
                not_before: TimestampMs(0),
                expires: TimestampMs(NOW.0 + 60_000),
                issued: NOW,
                key: "key_file".into(),
            };
            let resumption = Resumption { since: Seq(4), ..Resumption::whole(Resume::After(Seq(9))) };
            Step::Ready { claims, device: DeviceId(3), version: 1, resumption, hops: 0, rest: rest.to_vec() }
        }
    }

    fn hello(version_min: u64, version_max: u64, device: u64, token: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let resume = Resume::After(Seq(9));
        let (device, token, epoch, since, skip_above) = (DeviceId(device), token.to_owned(), EpochId(0), Seq(4), 0);
        ClientFrame::Hello { version_min, version_max, device, resume, token, epoch, since, skip_above, hops: 0 }
            .encode(&mut bytes);
        bytes
    }

    /// The code of a refusal, which must be in its bye frame too.
    fn refused(step: Step) -> ErrorCode {
        let Step::Refuse { bytes, code, .. } = step else { panic!("not refused: {step:?}") };
        let mut frames = Vec::new();
        Decoder::new(SERVER_FRAME_BYTES_MAX as u32)
            .decode(&bytes, |raw| {
                frames.push(ServerFrame::decode(raw).unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(matches!(frames.as_slice(), [ServerFrame::Bye { code: said, .. }] if *said == code), "{frames:?}");
        code
    }

    #[test]
    fn a_good_hello_makes_the_connection_ready() {
        let world = World::new();
        assert_eq!(world.step(&world.hello()), World::ready(b""));
    }

    #[test]
    fn what_follows_the_hello_is_handed_on_untouched_in_any_cut() {
        let world = World::new();
        let rest = b"\x02\x06\x05not frames at all\xff";
        let stream = [world.hello().as_slice(), rest].concat();
        let whole = world.hello().len();
        for cut in 0..=stream.len() {
            let mut handshake = Handshake::new();
            match handshake.bytes(&stream[..cut], &world.keys, NOW) {
                Step::More => {
                    assert!(cut < whole, "{cut}");
                    assert_eq!(handshake.held_bytes(), cut);
                    assert_eq!(handshake.bytes(&stream[cut..], &world.keys, NOW), World::ready(rest));
                    assert_eq!(handshake.said(&stream[cut..]), stream);
                }
                step => {
                    assert!(cut >= whole, "{cut}");
                    assert_eq!(step, World::ready(&stream[whole..cut]));
                    assert_eq!(handshake.said(&stream[..cut]), &stream[..cut]);
                }
            }
        }
    }

    #[test]
    fn a_hello_may_come_byte_by_byte() {
        let world = World::new();
        let stream = world.hello();
        let mut handshake = Handshake::new();
        for byte in &stream[..stream.len() - 1] {
            assert_eq!(handshake.bytes(&[*byte], &world.keys, NOW), Step::More);
        }
        assert_eq!(handshake.bytes(&stream[stream.len() - 1..], &world.keys, NOW), World::ready(b""));
    }

    #[test]
    fn a_hello_may_grow_at_its_end() {
        let world = World::new();
        let (old, mut grown) = (world.hello(), Vec::new());
        let Ok(Cut::Frame { frame, .. }) = cut(&old, CLIENT_FRAME_BYTES_MAX) else { panic!() };
        // Behind the last field that is known.
        put_varint(&mut grown, frame.body.len() as u64 + 1 + 6);
        grown.push(frame.kind);
        grown.extend_from_slice(frame.body);
        grown.extend_from_slice(b"\x01newer");
        let Step::Ready { resumption, rest, .. } = world.step(&grown) else { panic!("it is good") };
        assert_eq!((resumption.since, resumption.skip_above, &rest[..]), (Seq(4), 1, &b""[..]));
    }

    #[test]
    fn every_other_first_frame_is_refused_as_soon_as_its_kind_is_there() {
        let world = World::new();
        for kind in (0..=255).filter(|&kind| kind != ClientKind::Hello.byte()) {
            assert_eq!(refused(world.step(&[1, kind])), ErrorCode::NotNow, "{kind}");
            assert_eq!(refused(world.step(&[100, kind])), ErrorCode::NotNow, "{kind}");
        }
    }

    #[test]
    fn who_speaks_tls_is_told_that_it_looks_like_it() {
        let Step::Refuse { bytes, code, .. } = World::new().step(&[0x16, 0x03, 0x01, 0x02, 0x00]) else { panic!() };
        assert_eq!(code, ErrorCode::NotNow);
        assert!(String::from_utf8_lossy(&bytes).contains("this looks like TLS"));
        assert!(looks_like_tls(&[0x16]) && !looks_like_tls(&[0x16, 0x01]) && !looks_like_tls(&World::new().hello()));
    }

    #[test]
    fn who_sends_a_header_of_a_balancer_is_told_so_in_any_cut() {
        let world = World::new();
        for stream in [&b"PROXY TCP4 192.0.2.1"[..], b"\r\n\r\n\0\r\nQUIT\n", b"PR\0", b"\r\n\0"] {
            for end in 2..=stream.len() {
                let Step::Refuse { bytes, code, .. } = world.step(&stream[..end]) else { panic!("{end}") };
                assert_eq!(code, ErrorCode::NotNow);
                assert!(String::from_utf8_lossy(&bytes).contains("looks like a PROXY header"), "{end}");
            }
        }
    }

    #[test]
    fn framing_faults_are_refused() {
        let world = World::new();
        assert_eq!(refused(world.step(&[0])), ErrorCode::Malformed);
        assert_eq!(refused(world.step(&[0x80, 0])), ErrorCode::Malformed);
        let mut too_long = Vec::new();
        put_varint(&mut too_long, CLIENT_FRAME_BYTES_MAX as u64 + 1);
        assert_eq!(refused(world.step(&too_long)), ErrorCode::FrameTooLarge);
        let mut longest = Vec::new();
        put_varint(&mut longest, CLIENT_FRAME_BYTES_MAX as u64);
        assert_eq!(world.step(&longest), Step::More);
    }

    #[test]
    fn a_malformed_hello_is_refused() {
        let world = World::new();
        assert_eq!(refused(world.step(&[1, 1])), ErrorCode::Malformed);
        let long_token = hello(1, 1, 3, &"x".repeat(TOKEN_BYTES_MAX + 1));
        assert_eq!(refused(world.step(&long_token)), ErrorCode::Malformed);
    }

    #[test]
    fn the_highest_common_version_is_taken() {
        let world = World::new();
        for (min, max) in [(1, 1), (0, 1), (0, u64::MAX), (1, 2)] {
            assert!(
                matches!(world.step(&hello(min, max, 3, &world.token)), Step::Ready { version: 1, .. }),
                "{min} {max}"
            );
        }
        for (min, max) in [(0, 0), (2, 2), (2, u64::MAX), (2, 1), (1, 0)] {
            assert_eq!(refused(world.step(&hello(min, max, 3, &world.token))), ErrorCode::Version, "{min} {max}");
        }
    }

    #[test]
    fn device_zero_is_refused() {
        let world = World::new();
        assert_eq!(refused(world.step(&hello(1, 1, 0, &world.token))), ErrorCode::DeviceRefused);
    }

    #[test]
    fn a_missing_wrong_or_expired_token_is_refused_with_its_code() {
        let world = World::new();
        assert_eq!(refused(world.step(&hello(1, 1, 3, ""))), ErrorCode::TokenMissing);
        assert_eq!(refused(world.step(&hello(1, 1, 3, "x"))), ErrorCode::TokenInvalid);
        assert_eq!(refused(world.step(&hello(1, 1, 3, &World::new().token))), ErrorCode::TokenInvalid);
        let late = Handshake::new().bytes(&world.hello(), &world.keys, TimestampMs(NOW.0 + 60_000));
        assert_eq!(refused(late), ErrorCode::TokenExpired);
    }

    #[test]
    fn a_token_for_a_device_is_good_for_that_device_only() {
        let world = World::new();
        let (user, ttl) = (UserId(7), Duration::from_secs(60));
        let what = Mint { user, device: Some(DeviceId(3)), ttl, audience: None, issuer: None };
        let token = mint_with(&world.key, &what, NOW).unwrap();
        assert!(matches!(world.step(&hello(1, 1, 3, &token)), Step::Ready { device: DeviceId(3), .. }));
        assert_eq!(refused(world.step(&hello(1, 1, 4, &token))), ErrorCode::TokenInvalid);
    }

    #[test]
    fn a_refusal_names_its_user_only_if_the_signature_is_good() {
        let world = World::new();
        let who = |step| match step {
            Step::Refuse { claims, .. } => claims.map(|claims: Claims| claims.user),
            step => panic!("{step:?}"),
        };
        assert_eq!(who(world.step(&hello(1, 1, 3, &World::new().token))), None);
        let late = Handshake::new().bytes(&world.hello(), &world.keys, TimestampMs(NOW.0 + 60_000));
        assert_eq!(who(late), Some(UserId(7)));
    }

    #[test]
    fn a_refusal_does_not_repeat_the_token() {
        let token = "eyJzZWNyZXQ.secret.secret";
        let Step::Refuse { bytes, .. } = World::new().step(&hello(1, 1, 3, token)) else { panic!() };
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    }

    proptest! {
        #[test]
        fn noise_never_panics_and_never_holds_more_than_one_frame(pieces: Vec<Vec<u8>>) {
            let world = World::new();
            let mut handshake = Handshake::new();
            for piece in &pieces {
                let step = handshake.bytes(piece, &world.keys, NOW);
                prop_assert!(handshake.held_bytes() < CLIENT_FRAME_BYTES_MAX + 10);
                if step != Step::More {
                    refused(step);
                    break;
                }
            }
        }

        #[test]
        fn a_damaged_hello_is_refused_or_waited_for(at: prop::sample::Index, byte: u8) {
            let world = World::new();
            let mut stream = world.hello();
            let at = at.index(stream.len());
            stream[at] = byte;
            // Device, resume point and version range are not signed; whoever it is, it is still user 7.
            match world.step(&stream) {
                Step::Ready { claims, .. } => prop_assert_eq!(claims.user, UserId(7)),
                Step::More => {}
                step @ Step::Refuse { .. } => { refused(step); }
            }
        }
    }
}
