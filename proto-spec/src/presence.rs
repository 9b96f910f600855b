//! Who is there (SPEC 8.10): what a device says of its person, what others are told of a user, and lists of both (SPEC 2.2).

use crate::{
    ids::{TimestampMs, UserId},
    limits::PRESENCE_USERS_MAX,
    listed::listed,
    wire::{DecodeError, Reader, put_sized, put_varint},
};

listed! {
    /// What a connection says of its person (SPEC 4.36). A user is as present as the most present of their devices.
    Status {
        /// Somebody is looking at the application. So each connection begins.
        Here = 0 "here",
        /// The device is connected and nobody looks.
        Away = 1 "away",
    }
}

listed! {
    /// Whether a user is there, as far as the one who looks may know (SPEC 4.38). Ordered: a later one is more present.
    #[derive(Default, PartialOrd, Ord)]
    Presence {
        /// Not to be known, or not known now; also of a user who does not exist. So is a state of a newer version read.
        #[default]
        Unknown = 0 "unknown",
        /// No device is connected.
        Offline = 1 "offline",
        /// A device is connected, and nobody looks at any.
        Away = 2 "away",
        /// A device is connected, and somebody looks at it.
        Online = 3 "online",
    }
}

/// What is told of one user (SPEC 4.38).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceState {
    /// Of whom.
    pub user: UserId,
    /// Whether they are there.
    pub state: Presence,
    /// With [`Presence::Offline`]: when the user was last connected, rounded down. Zero: not told.
    pub last_seen: TimestampMs,
    /// In the answer to a watch: above zero, changes of this user are not pushed; ask again after so long.
    pub ask_again_ms: u64,
}

impl PresenceState {
    fn encode(&self, out: &mut Vec<u8>) {
        for value in [self.user.0, self.state.byte().into(), self.last_seen.0, self.ask_again_ms] {
            put_varint(out, value);
        }
    }

    /// Reads a state that fills `bytes`. What follows the known fields is of a newer version and is passed over.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        Ok(Self {
            user: UserId(r.varint("user")?),
            state: u8::try_from(r.varint("state")?).ok().and_then(Presence::from_byte).unwrap_or_default(),
            last_seen: TimestampMs(r.varint("last_seen")?),
            ask_again_ms: r.varint("ask_again_ms")?,
        })
    }
}

/// Bytes of the smallest state with its length.
const STATE_BYTES_MIN: usize = 5;

pub(crate) fn put_states(out: &mut Vec<u8>, states: &[PresenceState]) {
    put_varint(out, states.len() as u64);
    for state in states {
        put_sized(out, |out| state.encode(out));
    }
}

pub(crate) fn states(r: &mut Reader<'_>) -> Result<Vec<PresenceState>, DecodeError> {
    let count = count(r, "states", PRESENCE_USERS_MAX, STATE_BYTES_MIN)?;
    let mut states = Vec::with_capacity(count);
    for _ in 0..count {
        states.push(PresenceState::decode(r.bytes("states", usize::MAX)?)?);
    }
    Ok(states)
}

pub(crate) fn put_users(out: &mut Vec<u8>, users: &[UserId]) {
    put_varint(out, users.len() as u64);
    users.iter().for_each(|user| put_varint(out, user.0));
}

/// At most `users_max` of them.
pub(crate) fn users(r: &mut Reader<'_>, users_max: usize) -> Result<Vec<UserId>, DecodeError> {
    let count = count(r, "users", users_max, 1)?;
    let mut users = Vec::with_capacity(count);
    for _ in 0..count {
        users.push(UserId(r.varint("users")?));
    }
    Ok(users)
}

/// How many items follow. Found before anything is allocated: a count above the limit, and one of items that are not there.
fn count(
    r: &mut Reader<'_>,
    field: &'static str,
    count_max: usize,
    item_bytes_min: usize,
) -> Result<usize, DecodeError> {
    let count = r.varint(field)?;
    if count > count_max as u64 {
        return Err(DecodeError::TooLong { field, size: count, max: count_max as u64 });
    }
    let count = count as usize;
    if count > r.rest().len() / item_bytes_min {
        return Err(DecodeError::Truncated { field });
    }
    Ok(count)
}
