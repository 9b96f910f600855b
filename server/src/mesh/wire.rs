//! What nodes say to each other, as bytes. The one place that knows them, and the only use of bincode beside what is stored.
//!
//! A frame is the length of its body (u32), the CRC-32C of its body (u32), both little-endian, and the body: what is said, of which the
//! order of the variants below says what their numbers are. Versions are negotiated by greetings, whose form stays the same for ever.

use std::{net::SocketAddr, sync::Arc};

use bincode::{
    BorrowDecode, Encode,
    config::{self, Configuration},
};
use proto_spec::{Content, ErrorCode, Seq, Standing, UserId};
use thiserror::Error;

use super::{
    groups::GroupBytes,
    presence::{PresenceBytes, PresenceSaid},
};
use crate::{
    limits::MESH_FRAME_BYTES_MAX,
    shard::{Envelope, EnvelopeBody, GroupMail, GroupStanding, Parcel, presence::PresenceNews, topology::CoreId},
};

/// Versions of what follows the greetings that this server speaks, the lowest and the highest.
pub const VERSIONS: [u32; 2] = [1, 3];

/// The first version that knows groups.
pub const GROUPS_SINCE: u32 = 2;

/// The first version that knows notifications of what comes in groups.
pub const NOTIFICATIONS_SINCE: u32 = 3;

/// Bytes in front of a body.
const HEAD_BYTES: usize = 8;

const CONFIG: Configuration = config::standard();

/// What one node says to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The first thing, in both directions.
    Greeting(Greeting),
    /// The other node is not talked to, in words for its operator.
    Refused(String),
    /// For a user of the other node.
    Envelope(Envelope),
    /// To be answered with the same number.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// Of who is there.
    Presence(PresenceSaid),
    /// Of a group, beside envelopes. The node of its core is not said: whoever has the link knows it.
    Group(Box<GroupMail>),
    /// The first thing on a connection of its own: a client. Answered with a greeting, behind which the bytes of the client follow, in
    /// both directions.
    Tunnel(Opening),
}

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Greeting {
    /// The lowest and the highest version that it speaks; of an answer, the one that is spoken, twice.
    pub versions: [u32; 2],
    /// The cluster.
    pub cluster: String,
    /// Who says so.
    pub node: String,
    /// Whom it takes the other one for.
    pub to: String,
    /// Of the map that it goes by.
    pub digest: u64,
}

/// A client who is to be served as if the connection were its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Of the node that it has come to.
    pub greeting: Greeting,
    /// Where it comes from.
    pub client: SocketAddr,
    /// What it has said so far, in plain: a hello, and whatever came with it.
    pub said: Vec<u8>,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Longer than anything that is said.
    #[error("a frame of {0} bytes, where {MESH_FRAME_BYTES_MAX} are the most")]
    TooLong(usize),
    /// Damaged on its way.
    #[error("the checksum of a frame is wrong")]
    Checksum,
    /// Not of this version, or damaged before it was sent.
    #[error("a frame that means nothing: {0}")]
    Meaning(String),
}

#[derive(Encode, BorrowDecode)]
enum SaidBytes<'a> {
    Greeting(Greeting),
    Refused(&'a str),
    Envelope { to: u64, from: u64, body: BodyBytes<'a> },
    Ping(u64),
    Pong(u64),
    Presence(PresenceBytes),
    Tunnel { greeting: Greeting, client: SocketAddr, said: &'a [u8] },
    Group(GroupBytes<'a>),
}

#[derive(Encode, BorrowDecode)]
enum BodyBytes<'a> {
    Message { origin: u64, after: u64, kind: u8, content: &'a [u8] },
    Read { origin: u64, after: u64, up_to: u64 },
    Forwarded { origin: u64, is_unwanted: bool },
    ForwardPutOff { origin: u64 },
    Receipt { up_to: u64, received_as: u64 },
    Receipted { received_as: u64 },
    ReceiptPutOff { received_as: u64 },
    GroupSend { origin: u64, after: u64, kind: u8, content: &'a [u8] },
    Placed { origin: u64, standing: StandingBytes },
    NotPlaced { origin: u64, code: u16 },
    GroupPutOff { origin: u64 },
    Stand { at: u64, by: u64, standing: StandingBytes },
    Stood { at: u64 },
    StandPutOff { at: u64 },
    GroupRead { origin: u64, after: u64, up_to: u64 },
    GroupReadTaken { origin: u64 },
    Declined { at: u64, reads: (u64, u64) },
    Reached { up_to: u64 },
    ReachedTaken { up_to: u64, is_subscribed: bool },
}

#[derive(Encode, BorrowDecode)]
struct StandingBytes {
    standing: u8,
    first: u64,
    up_to: u64,
}

impl From<&GroupStanding> for StandingBytes {
    fn from(standing: &GroupStanding) -> Self {
        let GroupStanding { standing, first, up_to } = standing;
        Self { standing: standing.byte(), first: first.0, up_to: up_to.0 }
    }
}

impl From<StandingBytes> for GroupStanding {
    fn from(bytes: StandingBytes) -> Self {
        let StandingBytes { standing, first, up_to } = bytes;
        Self { standing: Standing::from_byte(standing).unwrap_or_default(), first: Seq(first), up_to: Seq(up_to) }
    }
}

/// Appends a frame.
pub fn encode(said: &Said, out: &mut Vec<u8>) {
    let said = match said {
        Said::Greeting(greeting) => SaidBytes::Greeting(greeting.clone()),
        Said::Refused(words) => SaidBytes::Refused(words),
        Said::Envelope(envelope) => return encode_envelope(envelope, out),
        Said::Ping(number) => SaidBytes::Ping(*number),
        Said::Pong(number) => SaidBytes::Pong(*number),
        Said::Tunnel(Opening { greeting, client, said }) => {
            SaidBytes::Tunnel { greeting: greeting.clone(), client: *client, said }
        }
        Said::Group(mail) => return encode_group(mail, out),
        Said::Presence(PresenceSaid { from, to, news }) => return encode_presence((*from, *to), news, out),
    };
    frame(&said, out);
}

/// Appends the frame of what a core says of presence; to which core is as in [`PresenceSaid`].
pub fn encode_presence((from, to): (CoreId, Option<CoreId>), news: &PresenceNews, out: &mut Vec<u8>) {
    frame(&SaidBytes::Presence(PresenceBytes::of(from, to, news)), out);
}

/// Appends the frame of what is said of a group.
pub fn encode_group(mail: &GroupMail, out: &mut Vec<u8>) {
    frame(&SaidBytes::Group(GroupBytes::of(mail)), out);
}

/// Appends the frame of an envelope.
pub fn encode_envelope(envelope: &Envelope, out: &mut Vec<u8>) {
    let body = match &envelope.body {
        EnvelopeBody::Forward { origin, after, parcel: Parcel::Message(content) } => {
            let (kind, content) = content.parts();
            BodyBytes::Message { origin: origin.0, after: after.0, kind, content }
        }
        EnvelopeBody::Forward { origin, after, parcel: Parcel::Read(up_to) } => {
            BodyBytes::Read { origin: origin.0, after: after.0, up_to: up_to.0 }
        }
        EnvelopeBody::Forwarded { origin, is_unwanted } => {
            BodyBytes::Forwarded { origin: origin.0, is_unwanted: *is_unwanted }
        }
        EnvelopeBody::ForwardPutOff { origin } => BodyBytes::ForwardPutOff { origin: origin.0 },
        EnvelopeBody::Receipt { up_to, received_as } => {
            BodyBytes::Receipt { up_to: up_to.0, received_as: received_as.0 }
        }
        EnvelopeBody::Receipted { received_as } => BodyBytes::Receipted { received_as: received_as.0 },
        EnvelopeBody::ReceiptPutOff { received_as } => BodyBytes::ReceiptPutOff { received_as: received_as.0 },
        EnvelopeBody::GroupSend { origin, after, content } => {
            let (kind, content) = content.parts();
            BodyBytes::GroupSend { origin: origin.0, after: after.0, kind, content }
        }
        EnvelopeBody::Placed { origin, standing } => BodyBytes::Placed { origin: origin.0, standing: standing.into() },
        EnvelopeBody::NotPlaced { origin, code } => BodyBytes::NotPlaced { origin: origin.0, code: code.number() },
        EnvelopeBody::GroupPutOff { origin } => BodyBytes::GroupPutOff { origin: origin.0 },
        EnvelopeBody::Stand { at, by, standing } => BodyBytes::Stand { at: at.0, by: by.0, standing: standing.into() },
        EnvelopeBody::Stood { at } => BodyBytes::Stood { at: at.0 },
        EnvelopeBody::Declined { at, reads } => BodyBytes::Declined { at: at.0, reads: (reads.0.0, reads.1.0) },
        EnvelopeBody::StandPutOff { at } => BodyBytes::StandPutOff { at: at.0 },
        EnvelopeBody::GroupRead { origin, after, up_to } => {
            BodyBytes::GroupRead { origin: origin.0, after: after.0, up_to: up_to.0 }
        }
        EnvelopeBody::GroupReadTaken { origin } => BodyBytes::GroupReadTaken { origin: origin.0 },
        EnvelopeBody::Reached { up_to } => BodyBytes::Reached { up_to: up_to.0 },
        EnvelopeBody::ReachedTaken { up_to, is_subscribed } => {
            BodyBytes::ReachedTaken { up_to: up_to.0, is_subscribed: *is_subscribed }
        }
    };
    frame(&SaidBytes::Envelope { to: envelope.to.0, from: envelope.from.0, body }, out);
}

fn frame(said: &SaidBytes<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    bincode::encode_into_std_write(said, out, CONFIG).expect("appending to a Vec cannot fail");
    let (head, body) = out[begin..].split_at_mut(HEAD_BYTES);
    head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

/// The first frame of `bytes`, and how long it is; none if it is not whole.
///
/// # Errors
/// There is none, and nothing that follows can be read.
pub fn decode(bytes: &[u8]) -> Result<Option<(Said, usize)>, WireError> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Ok(None) };
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = number(0) as usize;
    if length > MESH_FRAME_BYTES_MAX {
        return Err(WireError::TooLong(length));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    if crc32c::crc32c(body) != number(4) {
        return Err(WireError::Checksum);
    }
    let (said, taken): (SaidBytes<'_>, usize) =
        bincode::borrow_decode_from_slice(body, CONFIG.with_limit::<MESH_FRAME_BYTES_MAX>())
            .map_err(|error| WireError::Meaning(error.to_string()))?;
    if taken != length {
        return Err(WireError::Meaning("there is more in it".to_owned()));
    }
    let said = Said::try_from(said).map_err(|what| WireError::Meaning(what.to_owned()))?;
    if let Said::Envelope(Envelope {
        body: EnvelopeBody::Forward { parcel: Parcel::Message(content), .. } | EnvelopeBody::GroupSend { content, .. },
        ..
    }) = &said
        && let Err(error) = content.body()
    {
        return Err(WireError::Meaning(error.to_string()));
    }
    Ok(Some((said, HEAD_BYTES + length)))
}

impl TryFrom<SaidBytes<'_>> for Said {
    type Error = &'static str;

    fn try_from(said: SaidBytes<'_>) -> Result<Self, Self::Error> {
        Ok(match said {
            SaidBytes::Greeting(greeting) => Self::Greeting(greeting),
            SaidBytes::Refused(words) => Self::Refused(words.to_owned()),
            SaidBytes::Envelope { to, from, body } => {
                Self::Envelope(Envelope { to: UserId(to), from: UserId(from), body: body.into() })
            }
            SaidBytes::Ping(number) => Self::Ping(number),
            SaidBytes::Pong(number) => Self::Pong(number),
            SaidBytes::Presence(said) => Self::Presence(said.said()?),
            SaidBytes::Group(mail) => Self::Group(Box::new(mail.mail()?)),
            SaidBytes::Tunnel { greeting, client, said } => {
                Self::Tunnel(Opening { greeting, client, said: said.to_vec() })
            }
        })
    }
}

impl From<BodyBytes<'_>> for EnvelopeBody {
    fn from(body: BodyBytes<'_>) -> Self {
        match body {
            BodyBytes::Message { origin, after, kind, content } => {
                let parcel = Parcel::Message(Content::from_parts(kind, Arc::from(content)));
                Self::Forward { origin: Seq(origin), after: Seq(after), parcel }
            }
            BodyBytes::Read { origin, after, up_to } => {
                Self::Forward { origin: Seq(origin), after: Seq(after), parcel: Parcel::Read(Seq(up_to)) }
            }
            BodyBytes::Forwarded { origin, is_unwanted } => Self::Forwarded { origin: Seq(origin), is_unwanted },
            BodyBytes::ForwardPutOff { origin } => Self::ForwardPutOff { origin: Seq(origin) },
            BodyBytes::Receipt { up_to, received_as } => {
                Self::Receipt { up_to: Seq(up_to), received_as: Seq(received_as) }
            }
            BodyBytes::Receipted { received_as } => Self::Receipted { received_as: Seq(received_as) },
            BodyBytes::ReceiptPutOff { received_as } => Self::ReceiptPutOff { received_as: Seq(received_as) },
            BodyBytes::GroupSend { origin, after, kind, content } => {
                let content = Content::from_parts(kind, Arc::from(content));
                Self::GroupSend { origin: Seq(origin), after: Seq(after), content }
            }
            BodyBytes::Placed { origin, standing } => Self::Placed { origin: Seq(origin), standing: standing.into() },
            BodyBytes::NotPlaced { origin, code } => {
                Self::NotPlaced { origin: Seq(origin), code: ErrorCode::from_number(code) }
            }
            BodyBytes::GroupPutOff { origin } => Self::GroupPutOff { origin: Seq(origin) },
            BodyBytes::Stand { at, by, standing } => {
                Self::Stand { at: Seq(at), by: UserId(by), standing: standing.into() }
            }
            BodyBytes::Stood { at } => Self::Stood { at: Seq(at) },
            BodyBytes::Declined { at, reads } => Self::Declined { at: Seq(at), reads: (Seq(reads.0), Seq(reads.1)) },
            BodyBytes::StandPutOff { at } => Self::StandPutOff { at: Seq(at) },
            BodyBytes::Reached { up_to } => Self::Reached { up_to: Seq(up_to) },
            BodyBytes::ReachedTaken { up_to, is_subscribed } => Self::ReachedTaken { up_to: Seq(up_to), is_subscribed },
            BodyBytes::GroupRead { origin, after, up_to } => {
                Self::GroupRead { origin: Seq(origin), after: Seq(after), up_to: Seq(up_to) }
            }
            BodyBytes::GroupReadTaken { origin } => Self::GroupReadTaken { origin: Seq(origin) },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto_spec::{
        Presence, TimestampMs,
        limits::{CONTENT_BYTES_MAX, PRESENCE_USERS_MAX},
    };

    use super::*;
    use crate::{
        limits::{CORES_MAX, PRESENCE_FRAME_ITEMS_MAX},
        mesh::groups,
        shard::presence::{Answer, Ask, Asked, Change, LookId, Sight, Told, Typing, Verdict, Version},
    };

    fn envelope(body: EnvelopeBody) -> Said {
        Said::Envelope(Envelope { to: UserId(7), from: UserId(300), body })
    }

    fn bodies() -> Vec<EnvelopeBody> {
        let (origin, after) = (Seq(5), Seq(4));
        vec![
            EnvelopeBody::Forward { origin, after, parcel: Parcel::Message(Content::text("hello")) },
            EnvelopeBody::Forward { origin, after: Seq(0), parcel: Parcel::Read(Seq(3)) },
            EnvelopeBody::Forwarded { origin, is_unwanted: true },
            EnvelopeBody::ForwardPutOff { origin },
            EnvelopeBody::Receipt { up_to: Seq(1_000), received_as: Seq(2) },
            EnvelopeBody::Receipted { received_as: Seq(2) },
            EnvelopeBody::ReceiptPutOff { received_as: Seq(2) },
        ]
    }

    fn greeting() -> Greeting {
        let [cluster, node, to] = ["chat", "a", "b"].map(str::to_owned);
        Greeting { versions: [1, 2], cluster, node, to, digest: 9 }
    }

    const VERDICT: Verdict = Verdict { version: Version(9), may: true };
    const SIGHT: Sight = Sight { state: Presence::Offline, last_seen: TimestampMs(60_000) };

    fn presence(to: Option<CoreId>, news: PresenceNews) -> Said {
        Said::Presence(PresenceSaid { from: CoreId(3), to, news })
    }

    /// What goes to homes, and what goes to who looks.
    fn news() -> [Said; 2] {
        let [user, other] = [UserId(7), UserId(300)];
        let asked = Asked { user, verdict: Some(VERDICT), count: 2, blocks: Some(false) };
        let new = Asked { user: other, verdict: None, count: 0, blocks: None };
        let told = Told { user, verdict: VERDICT, sight: SIGHT, is_crowded: false };
        let (version, before) = (Version(10), Version(9));
        let change = Change { user, sight: Sight::NONE, version, before, only: Some(other) };
        let homes = PresenceNews {
            asks: vec![Ask { look: LookId(5), looks: other, users: vec![asked, new] }],
            counts: vec![(user, 1)],
            typing: vec![Typing { from: other, version, to: user, seen: before }],
            ..PresenceNews::default()
        };
        let viewer = PresenceNews {
            answers: vec![Answer { look: LookId(5), told: Some(vec![told]) }, Answer { look: LookId(6), told: None }],
            changes: vec![change, Change { only: None, ..change }],
            ..PresenceNews::default()
        };
        [presence(None, homes), presence(Some(CoreId(1)), viewer)]
    }

    fn opening() -> Said {
        let client = "[2001:db8::7]:4000".parse().unwrap();
        Said::Tunnel(Opening { greeting: greeting(), client, said: b"hello".to_vec() })
    }

    /// What is said of groups in envelopes: since the second version.
    fn group_bodies() -> Vec<EnvelopeBody> {
        let (origin, after, at) = (Seq(5), Seq(4), Seq(9));
        let standing = GroupStanding { standing: Standing::Member, first: Seq(1), up_to: Seq(9) };
        vec![
            EnvelopeBody::GroupSend { origin, after, content: Content::text("hello") },
            EnvelopeBody::Placed { origin, standing },
            EnvelopeBody::NotPlaced { origin, code: ErrorCode::NotAllowed },
            EnvelopeBody::GroupPutOff { origin },
            EnvelopeBody::Stand { at, by: UserId(8), standing },
            EnvelopeBody::Stood { at },
            EnvelopeBody::StandPutOff { at },
            EnvelopeBody::GroupRead { origin, after, up_to: Seq(3) },
            EnvelopeBody::GroupReadTaken { origin },
            EnvelopeBody::Declined { at, reads: (Seq(2), Seq(3)) },
            EnvelopeBody::Reached { up_to: at },
            EnvelopeBody::ReachedTaken { up_to: at, is_subscribed: true },
        ]
    }

    fn all() -> Vec<Said> {
        let others = [Said::Greeting(greeting()), Said::Refused("no".to_owned()), Said::Ping(1), Said::Pong(251)];
        let first = bodies().into_iter().map(envelope).chain(others).chain(news()).chain([opening()]);
        let mail = groups::tests::said().into_iter().map(|mail| Said::Group(Box::new(mail)));
        first.chain(group_bodies().into_iter().map(envelope)).chain(mail).collect()
    }

    fn hex(said: &Said) -> String {
        let mut bytes = Vec::new();
        encode(said, &mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_frame_is_these_bytes_for_ever() {
        let expected = [
            "0f000000095c93f90207fb2c01000504010568656c6c6f",
            "09000000397640ee0207fb2c0101050003",
            "080000006d6318030207fb2c01020501",
            "07000000267748530207fb2c010305",
            "0a0000000050bc430207fb2c0104fbe80302",
            "07000000ff424dee0207fb2c010502",
            "0700000066eaaada0207fb2c010602",
            "0d000000491512c700010204636861740161016209",
            "04000000b8abdf9101026e6f",
            "02000000485ced370301",
            "04000000d9b0f7d104fbfb00",
            "220000000b6527dd0503000105fb2c010207010901020100fb2c01000000000001070101fb2c010a0709",
            "250000006d3bd69605030101000205010107090101fb60ea000600020700000a0901fb2c010700000a09000000",
            "27000000f07c2c63060102046368617401610162090120010db8000000000000000000000007fba00f0568656c6c6f",
            "0f00000090d3e8820207fb2c01070504010568656c6c6f",
            "0a0000003b9c021d0207fb2c010805010109",
            "08000000ba1bc7ac0207fb2c0109053d",
            "07000000e92cfedd0207fb2c010a05",
            "0b000000961c33240207fb2c010b0908010109",
            "070000000bb272f90207fb2c010c09",
            "070000007c2ad0ea0207fb2c010d09",
            "09000000c9cc8e4f0207fb2c010e050403",
            "0700000042d5d6800207fb2c010f05",
            "090000008dc7ab5b0207fb2c0110090203",
            "0700000099798b060207fb2c011109",
            "0800000083bc24a00207fb2c01120901",
            "0b000000ff1c4bcf07fb2c0103000207fb2c01",
            "060000004eafc0a807fb2c010301",
            "0b000000930c016007fb2c0103020507020132",
            "0d000000e45a87d607fb2c0103030507fb2c013209",
            "09000000bee2118307fb2c010304050708",
            "0d0000008899566307fb2c01030509010701fb2c01",
            "140000001713a30907fb2c01030609fbe803070403010568656c6c6f",
            "1a00000048ffa2de07fb2c010307050209010c0109fbe803070403010568656c6c6f",
            "11000000f08d8b8e07fb2c0103080509000107030108090100",
            "220000009169916b07fb2c0103090501020302090463726577000109fbe803070403010568656c6c6f01",
            "08000000628302f407fb2c01030a053c",
            "07000000d8a64dd107fb2c01030b07",
            "09000000616bdbef07fb2c01030cfb2c01",
            "09000000f90ca5c407fb2c01030d010709",
            "0b0000001a4ea43907fb2c01030e0507020904",
            "4c0000005439837007fb2c01030f05090209040201010101010101010101010101010101010101010101010101010101010101010202020202020202020202020202020202020202020202020202020202020202",
            "0a000000645dff3107fb2c01031007010101",
            "070000000fa4d95407fb2c01031107",
        ];
        let found: Vec<_> = all().iter().map(hex).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_said_is_heard_in_any_cut() {
        for said in all() {
            let mut bytes = Vec::new();
            encode(&said, &mut bytes);
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "{said:?}");
            }
            let length = bytes.len();
            bytes.push(0);
            assert_eq!(decode(&bytes), Ok(Some((said, length))));
        }
    }

    #[test]
    fn a_frame_with_more_in_it_or_a_wrong_text_or_no_end_is_refused() {
        let mut long = Vec::new();
        encode(&Said::Ping(1), &mut long);
        long.push(0);
        let body = long[HEAD_BYTES..].to_vec();
        long[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        long[4..8].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        assert!(matches!(decode(&long), Err(WireError::Meaning(_))));
        let content = Content::from_parts(Content::text("").parts().0, Arc::from([0xff]));
        let parcel = Parcel::Message(content);
        let mut wrong = Vec::new();
        encode(&envelope(EnvelopeBody::Forward { origin: Seq(1), after: Seq(0), parcel }), &mut wrong);
        assert!(matches!(decode(&wrong), Err(WireError::Meaning(_))));
        assert_eq!(decode(&u64::MAX.to_le_bytes()), Err(WireError::TooLong(u32::MAX as usize)));
    }

    #[test]
    fn the_longest_message_goes_from_node_to_node() {
        let parcel = Parcel::Message(Content::text(&"x".repeat(CONTENT_BYTES_MAX)));
        let said = envelope(EnvelopeBody::Forward { origin: Seq(u64::MAX), after: Seq(u64::MAX - 1), parcel });
        let mut bytes = Vec::new();
        encode(&said, &mut bytes);
        assert_eq!(decode(&bytes), Ok(Some((said, bytes.len()))));
    }

    #[test]
    fn the_most_that_is_said_of_presence_at_once_goes_in_one_frame() {
        let user = UserId(u64::MAX);
        let version = Version(u64::MAX);
        let verdict = Verdict { version, may: true };
        let sight = Sight { last_seen: TimestampMs(u64::MAX), ..SIGHT };
        let asked = Asked { user, verdict: Some(verdict), count: u32::MAX, blocks: Some(true) };
        let told = Told { user, verdict, sight, is_crowded: true };
        let look = LookId(u64::MAX);
        let each = PRESENCE_FRAME_ITEMS_MAX;
        let ask = |users| Ask { look, looks: user, users: vec![asked; users] };
        let none = PresenceNews::default();
        for news in [
            PresenceNews { asks: vec![ask(PRESENCE_USERS_MAX), ask(PRESENCE_USERS_MAX)], ..none.clone() },
            PresenceNews { asks: vec![ask(1); each / 2], ..none.clone() },
            PresenceNews { answers: vec![Answer { look, told: Some(vec![told; each - 1]) }], ..none.clone() },
            PresenceNews {
                changes: vec![Change { user, sight, version, before: version, only: Some(user) }; each],
                ..none.clone()
            },
            PresenceNews { counts: vec![(user, u32::MAX); each], ..none.clone() },
            PresenceNews { typing: vec![Typing { from: user, version, to: user, seen: version }; each], ..none },
        ] {
            let said = presence(Some(CoreId(CORES_MAX - 1)), news);
            let mut bytes = Vec::new();
            encode(&said, &mut bytes);
            assert_eq!(decode(&bytes), Ok(Some((said, bytes.len()))));
        }
    }

    #[test]
    fn what_nobody_says_of_presence_is_refused() {
        let asked = Asked { user: UserId(1), verdict: None, count: 1, blocks: None };
        let ask = Ask { look: LookId(1), looks: UserId(2), users: vec![asked; PRESENCE_USERS_MAX + 1] };
        let too_many = PresenceNews { asks: vec![ask], ..PresenceNews::default() };
        for said in [presence(None, too_many), presence(Some(CoreId(CORES_MAX)), PresenceNews::default())] {
            let mut bytes = Vec::new();
            encode(&said, &mut bytes);
            assert!(matches!(decode(&bytes), Err(WireError::Meaning(_))));
        }
    }

    proptest! {
        #[test]
        fn a_damaged_frame_is_found(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), by in 1..=u8::MAX) {
            let mut bytes = Vec::new();
            encode(which.get(&all()), &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            // A length that grew waits for what never comes, which the link's silence ends.
            let found = decode(&bytes);
            prop_assert!(found.is_err() || (found == Ok(None) && at < 4), "{found:?}");
        }

        #[test]
        fn bytes_of_anybody_are_no_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
            frame.extend(crc32c::crc32c(&bytes).to_le_bytes());
            frame.extend(&bytes);
            if let Ok(Some((said, length))) = decode(&frame) {
                let mut again = Vec::new();
                encode(&said, &mut again);
                prop_assert_eq!(length, frame.len());
                prop_assert_eq!(decode(&again), Ok(Some((said, again.len()))));
            }
        }
    }
}
