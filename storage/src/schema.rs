//! PURE: records to ordered keys and values and back.

use proto_spec::UserId;

/// The logical partition of a user: the top 16 bits of a fixed mix of the id. Part of every stored key: never changes.
#[must_use]
pub const fn partition_of(user: UserId) -> u16 {
    // The finalizer of splitmix64: ids that count up spread evenly.
    let mut x = user.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 48) as u16
}
