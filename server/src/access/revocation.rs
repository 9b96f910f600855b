//! Revocation: whose tokens the operator has made void, and the lines that remember it. PURE; the file is
//! `revocation_file`'s.
//!
//! A revocation is of a user, or of one device, and names a moment: tokens that were not issued after it are void, newer
//! ones are good. It holds until it is lifted, because only the issuer knows how long an old token would live.

use std::{collections::BTreeMap, fmt};

use proto_spec::{DeviceId, TimestampMs, UserId};
use thiserror::Error;

use crate::{
    access::auth::{parse_device, parse_user},
    limits::REVOCATIONS_MAX,
};

/// Whose tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Which user's.
    pub user: UserId,
    /// Those for one device; none: all.
    pub device: Option<DeviceId>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, device } = self;
        match device {
            Some(device) => write!(f, "user {user} device {device}"),
            None => write!(f, "user {user}"),
        }
    }
}

/// One thing that the operator decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Tokens that were issued up to this moment are void.
    Revoke(Subject, TimestampMs),
    /// They are good again.
    Lift(Subject),
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// No room for another one.
    #[error("{REVOCATIONS_MAX} revocations are in force already: lift those whose tokens have long expired")]
    TooMany,
    /// There is none.
    #[error("no revocation of {0} is in force")]
    NotRevoked(Subject),
}

/// All revocations that are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    moments: BTreeMap<Subject, TimestampMs>,
}

impl Revocations {
    /// Whether a token that was issued at `issued` (0: it does not say when) is void on this device.
    #[must_use]
    pub fn is_revoked(&self, user: UserId, device: DeviceId, issued: TimestampMs) -> bool {
        let subjects = [Subject { user, device: None }, Subject { user, device: Some(device) }];
        subjects.iter().filter_map(|subject| self.moments.get(subject)).any(|moment| issued <= *moment)
    }

    /// Whether a change can be made.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn check(&self, change: Change) -> Result<(), ChangeError> {
        match change {
            Change::Revoke(subject, _)
                if self.moments.len() >= REVOCATIONS_MAX && !self.moments.contains_key(&subject) =>
            {
                Err(ChangeError::TooMany)
            }
            Change::Lift(subject) if !self.moments.contains_key(&subject) => Err(ChangeError::NotRevoked(subject)),
            Change::Revoke(..) | Change::Lift(_) => Ok(()),
        }
    }

    /// Makes a change. A revocation never goes back in time.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Revoke(subject, moment) => {
                let known = self.moments.entry(subject).or_insert(moment);
                *known = moment.max(*known);
            }
            Change::Lift(subject) => _ = self.moments.remove(&subject),
        }
    }

    /// Those in force, by user and device.
    pub fn iter(&self) -> impl Iterator<Item = (Subject, TimestampMs)> + '_ {
        self.moments.iter().map(|(subject, moment)| (*subject, *moment))
    }

    /// How many are in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.moments.len()
    }

    /// Whether none is in force.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moments.is_empty()
    }
}

impl Change {
    /// The line that remembers it, with its line break: `revoke 7 * 1800000000000` or `lift 7 3`, and the CRC-32C of that in
    /// hexadecimal. `*` stands for all devices.
    #[must_use]
    pub fn line(self) -> String {
        let of = |Subject { user, device }| {
            let device = device.map_or_else(|| "*".to_owned(), |device| device.to_string());
            format!("{user} {device}")
        };
        let text = match self {
            Self::Revoke(subject, moment) => format!("revoke {} {moment}", of(subject)),
            Self::Lift(subject) => format!("lift {}", of(subject)),
        };
        format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
    }

    /// What a line says, without its line break. None: it is damaged.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (text, crc) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
        if crc != format!("{:08x}", crc32c::crc32c(text.as_bytes())) {
            return None;
        }
        let words: Vec<&str> = text.split(' ').collect();
        let subject = |user, device| {
            let device = if device == "*" { None } else { Some(parse_device(device)?) };
            Some(Subject { user: parse_user(user)?, device })
        };
        match words[..] {
            ["revoke", user, device, moment] => {
                Some(Self::Revoke(subject(user, device)?, TimestampMs(moment.parse().ok()?)))
            }
            ["lift", user, device] => Some(Self::Lift(subject(user, device)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USER: UserId = UserId(7);
    const PHONE: DeviceId = DeviceId(3);
    const LAPTOP: DeviceId = DeviceId(4);
    const ALL: Subject = Subject { user: USER, device: None };
    const OF_PHONE: Subject = Subject { user: USER, device: Some(PHONE) };

    fn revocations(changes: &[Change]) -> Revocations {
        let mut revocations = Revocations::default();
        changes.iter().for_each(|change| revocations.apply(*change));
        revocations
    }

    #[test]
    fn what_was_not_issued_after_the_moment_is_void_for_the_user_or_the_device() {
        let of_user = revocations(&[Change::Revoke(ALL, TimestampMs(100))]);
        let of_phone = revocations(&[Change::Revoke(OF_PHONE, TimestampMs(100))]);
        for (issued, is_void) in [(0, true), (99, true), (100, true), (101, false)] {
            assert_eq!(of_user.is_revoked(USER, LAPTOP, TimestampMs(issued)), is_void, "{issued}");
            assert_eq!(of_phone.is_revoked(USER, PHONE, TimestampMs(issued)), is_void, "{issued}");
            assert!(!of_phone.is_revoked(USER, LAPTOP, TimestampMs(issued)));
            assert!(!of_user.is_revoked(UserId(8), PHONE, TimestampMs(issued)));
        }
    }

    #[test]
    fn a_revocation_never_goes_back_in_time_and_holds_until_it_is_lifted() {
        let mut both = revocations(&[
            Change::Revoke(ALL, TimestampMs(100)),
            Change::Revoke(ALL, TimestampMs(50)),
            Change::Revoke(OF_PHONE, TimestampMs(200)),
        ]);
        assert!(both.is_revoked(USER, LAPTOP, TimestampMs(100)));
        both.apply(Change::Lift(ALL));
        assert!(!both.is_revoked(USER, LAPTOP, TimestampMs(100)) && both.is_revoked(USER, PHONE, TimestampMs(200)));
        assert_eq!(both.check(Change::Lift(ALL)), Err(ChangeError::NotRevoked(ALL)));
        assert_eq!(both.iter().collect::<Vec<_>>(), [(OF_PHONE, TimestampMs(200))]);
    }

    #[test]
    fn there_is_a_bound_and_one_that_is_in_force_can_be_made_later_all_the_same() {
        let mut full = Revocations::default();
        for user in 1..=REVOCATIONS_MAX as u64 {
            full.apply(Change::Revoke(Subject { user: UserId(user), device: None }, TimestampMs(1)));
        }
        assert_eq!(full.check(Change::Revoke(OF_PHONE, TimestampMs(2))), Err(ChangeError::TooMany));
        assert_eq!(full.check(Change::Revoke(ALL, TimestampMs(2))), Ok(()));
        full.apply(Change::Lift(ALL));
        assert_eq!(full.check(Change::Revoke(OF_PHONE, TimestampMs(2))), Ok(()));
    }

    #[test]
    fn lines_are_as_documented() {
        let line = Change::Revoke(ALL, TimestampMs(1_800_000_000_000)).line();
        assert!(line.starts_with("revoke 7 * 1800000000000 ") && line.ends_with('\n'), "{line}");
        assert!(Change::Lift(OF_PHONE).line().starts_with("lift 7 3 "));
    }

    proptest! {
        #[test]
        fn every_change_comes_back_from_its_line_and_no_changed_byte_goes_unnoticed(
            user in 1u64.., device in prop::option::of(1u64..), moment: u64, lift: bool,
            at: prop::sample::Index, bit in 0u32..8,
        ) {
            let subject = Subject { user: UserId(user), device: device.map(DeviceId) };
            let change = if lift { Change::Lift(subject) } else { Change::Revoke(subject, TimestampMs(moment)) };
            let mut line = change.line().into_bytes();
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert_eq!(Change::parse(&line), Some(change));
            let at = at.index(line.len());
            line[at] ^= 1 << bit;
            prop_assert_eq!(Change::parse(&line), None);
        }

        #[test]
        fn noise_is_no_line(noise: Vec<u8>) {
            prop_assert_eq!(Change::parse(&noise), None);
        }
    }
}
