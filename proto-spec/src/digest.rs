//! Digests of a history: what two who hold the same log can compare without reading it to each other (SPEC 8.9).

use aws_lc_rs::digest::{Context, SHA256};

use crate::{entry::Entry, group::GroupEntry};

/// Bytes of a digest: of SHA-256.
pub const DIGEST_BYTES: usize = 32;

/// A digest, of an entry or of a range of a log.
pub type Digest = [u8; DIGEST_BYTES];

/// The digest of one entry: of its bytes, as a page carries them.
#[must_use]
pub fn of_entry(entry: &Entry) -> Digest {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    let mut hash = Context::new(&SHA256);
    hash.update(&bytes);
    finished(hash)
}

/// The digest of one entry of a group's log: of its bytes, as a page carries them.
#[must_use]
pub fn of_group_entry(entry: &GroupEntry) -> Digest {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    let mut hash = Context::new(&SHA256);
    hash.update(&bytes);
    finished(hash)
}

/// The digest of the secret of an invitation (SPEC 5.4.8).
#[must_use]
pub fn of_secret(secret: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(secret);
    finished(hash)
}

/// The digest of a range in the making: of the digests of the entries that it has, by ascending seq.
#[derive(Clone)]
pub struct RangeDigest(Context);

impl RangeDigest {
    /// Of a range that no entry is known of yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// The next entry, by its digest.
    pub fn add(&mut self, entry: &Digest) {
        self.0.update(entry);
    }

    /// The range has no more entries.
    #[must_use]
    pub fn finish(self) -> Digest {
        finished(self.0)
    }
}

impl Default for RangeDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for RangeDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RangeDigest")
    }
}

fn finished(hash: Context) -> Digest {
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::Content,
        entry::Event,
        ids::{Seq, TimestampMs, UserId},
    };

    fn hex(digest: Digest) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What SPEC 8.9 has as its example, which vectors/check.py computes too.
    #[test]
    fn the_digests_of_the_specifications_example_are_these() {
        assert_eq!(
            hex(RangeDigest::new().finish()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let content = Content::text("Hi!");
        let event = Event::Received { from: UserId(8), origin: Seq(2), content };
        let entry = Entry { seq: Seq(3), time: TimestampMs(1_767_225_609_000), event };
        let of_entry = of_entry(&entry);
        assert_eq!(hex(of_entry), "3154a7804a2ea0e986d74be36ffd3440dd8712242d380aea23435d33bda96890");
        let mut range = RangeDigest::new();
        range.add(&of_entry);
        let specification = include_str!("../SPEC.md");
        assert!(specification.contains(&format!("the entry `{}`", hex(of_entry))));
        assert!(specification.contains(&format!("has it alone `{}`", hex(range.clone().finish()))));
        assert_eq!(hex(range.finish()), "fd508769f1be70d458f170c852f7b7c2915a1190476cb34f8427f576d8816d9b");
    }
}
