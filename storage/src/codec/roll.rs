//! The values of the roll's rows, to bytes and back. None but a database has them.

use super::*;
use crate::{
    roll::{Member, MemberId, Owner},
    store::Holder,
};

#[derive(Encode, BorrowDecode)]
struct StoredMember<'a> {
    name: &'a str,
    holder: u128,
    beat: u64,
    mesh: &'a str,
    clients: Option<&'a str>,
    clients_tls: Option<&'a str>,
    weight: u16,
    is_leaving: bool,
    lease_ms: u64,
}

#[derive(Encode, BorrowDecode)]
struct StoredOwner {
    member: u16,
    term: u64,
    is_pinned: bool,
}

/// The value of the row that says whose the store is.
pub(crate) fn put_cluster(name: &str) -> Vec<u8> {
    written(&name)
}

/// Reads the value of the row that says whose the store is.
pub(crate) fn cluster(bytes: &[u8]) -> Result<&str, CodecError> {
    read_value("the name of the store's cluster", bytes)
}

/// The value of the row of a member.
pub(crate) fn put_member(member: &Member) -> Vec<u8> {
    let Member { name, holder, beat, mesh, clients, clients_tls, weight, is_leaving, lease_ms } = member;
    written(&StoredMember {
        name,
        holder: holder.0,
        beat: *beat,
        mesh,
        clients: clients.as_deref(),
        clients_tls: clients_tls.as_deref(),
        weight: *weight,
        is_leaving: *is_leaving,
        lease_ms: *lease_ms,
    })
}

/// Reads the value of the row of a member.
pub(crate) fn member(bytes: &[u8]) -> Result<Member, CodecError> {
    let stored: StoredMember<'_> = read_value("the row of a member", bytes)?;
    Ok(Member {
        name: stored.name.to_owned(),
        holder: Holder(stored.holder),
        beat: stored.beat,
        mesh: stored.mesh.to_owned(),
        clients: stored.clients.map(str::to_owned),
        clients_tls: stored.clients_tls.map(str::to_owned),
        weight: stored.weight,
        is_leaving: stored.is_leaving,
        lease_ms: stored.lease_ms,
    })
}

/// The value of the row of a slot's owner.
pub(crate) fn put_owner(owner: Owner) -> Vec<u8> {
    written(&StoredOwner { member: owner.member.0, term: owner.term, is_pinned: owner.is_pinned })
}

/// Reads the value of the row of a slot's owner.
pub(crate) fn owner(bytes: &[u8]) -> Result<Owner, CodecError> {
    let StoredOwner { member, term, is_pinned } = read_value("the row of an owner", bytes)?;
    Ok(Owner { member: MemberId(member), term, is_pinned })
}

fn written<T: Encode>(stored: &T) -> Vec<u8> {
    let mut out = Vec::new();
    put_value(&mut out, stored);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_member() -> impl Strategy<Value = Member> {
        let place = || proptest::option::of(".{0,20}");
        let names = (".{0,20}", ".{0,20}", place(), place());
        (names, any::<(u128, u64, u16, bool, u64)>()).prop_map(|((name, mesh, clients, clients_tls), numbers)| {
            let (holder, beat, weight, is_leaving, lease_ms) = numbers;
            Member { name, holder: Holder(holder), beat, mesh, clients, clients_tls, weight, is_leaving, lease_ms }
        })
    }

    proptest! {
        #[test]
        fn the_rows_of_a_roll_survive_the_round_trip_and_no_prefix_of_them_is_one(
            stored in any_member(), (by, term, is_pinned) in any::<(u16, u64, bool)>(), name in ".{0,20}",
        ) {
            let bytes = put_member(&stored);
            prop_assert!((0..bytes.len()).all(|cut| member(&bytes[..cut]).is_err()));
            prop_assert_eq!(member(&bytes), Ok(stored));
            let of = Owner { member: MemberId(by), term, is_pinned };
            let bytes = put_owner(of);
            prop_assert!((0..bytes.len()).all(|cut| owner(&bytes[..cut]).is_err()));
            prop_assert_eq!(owner(&bytes), Ok(of));
            let bytes = put_cluster(&name);
            prop_assert!((0..bytes.len()).all(|cut| cluster(&bytes[..cut]).is_err()));
            prop_assert_eq!(cluster(&bytes), Ok(&*name));
        }

        #[test]
        fn noise_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            for version in [bytes[0], VALUE_VERSION] {
                bytes[0] = version;
                let _ = (member(&bytes), owner(&bytes), cluster(&bytes));
            }
        }
    }

    #[test]
    fn the_rows_of_a_roll_never_change() {
        let stored = Member {
            name: "ab".to_owned(),
            holder: Holder(7),
            beat: 300,
            mesh: "c".to_owned(),
            clients: None,
            clients_tls: Some("d".to_owned()),
            weight: 9,
            is_leaving: true,
            lease_ms: 5,
        };
        assert_eq!(put_member(&stored), b"\x01\x02ab\x07\xfb\x2c\x01\x01c\0\x01\x01d\x09\x01\x05");
        assert_eq!(put_owner(Owner { member: MemberId(3), term: 4, is_pinned: false }), [1, 3, 4, 0]);
        assert_eq!(put_cluster("ab"), b"\x01\x02ab");
    }
}
