//! Invitations to groups (SPEC 8.12): a secret that is drawn, of which the group is told the digest. PURE.

use proto_spec::{
    Act,
    digest::{self, Digest},
};

/// Bytes that a secret is made of: nobody guesses 128 bits.
pub const INVITATION_BYTES: usize = 16;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    secret: String,
    digest: Digest,
}

impl Invitation {
    /// Made of so many random bytes.
    #[must_use]
    pub fn new(random: [u8; INVITATION_BYTES]) -> Self {
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = digest::of_secret(secret.as_bytes());
        Self { secret, digest }
    }

    /// What is passed on to whoever is invited, with the group's id: letters and digits, for [`Act::Join`].
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// What is sent to the group.
    #[must_use]
    pub const fn act(&self) -> Act<'_> {
        Act::Invite { digest: Some(&self.digest) }
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::Content;

    use super::*;

    #[test]
    fn a_secret_is_what_a_group_takes_and_its_digest_is_of_its_letters() {
        let invitation = Invitation::new([0xa7; INVITATION_BYTES]);
        let secret = invitation.secret().as_bytes();
        assert_eq!(invitation.secret(), "a7".repeat(INVITATION_BYTES));
        assert_eq!(Content::act(&Act::Join { secret }).fault(), None);
        assert_eq!(invitation.act(), Act::Invite { digest: Some(&digest::of_secret(secret)) });
        // FIPS 180-4, of "abc".
        let abc = [0xba, 0x78, 0x16, 0xbf];
        assert_eq!(digest::of_secret(b"abc")[..4], abc);
    }
}
