//! PURE: what FoundationDB says, as a [`StoreError`].
//!
//! Which errors mean that nothing was committed is asked of the client library. For a commit, all others may mean either: a
//! commit that has timed out or was cancelled can still be on its way to the database. What comes of that is in `fdb`.

use std::ops::RangeInclusive;

use foundationdb::FdbError;

use crate::store::StoreError;

/// Another transaction has written what this one has read.
const NOT_COMMITTED: i32 = 1020;
/// What the operator allows this part of the database is used up.
const STORAGE_QUOTA_EXCEEDED: i32 = 1225;
/// The file of the cluster cannot be read, or is not there.
const NO_CLUSTER_FILE: [i32; 2] = [1513, 1515];
/// Requests that are wrong in themselves: larger than allowed, of a wrong form, at a wrong time. Refused before anything is sent.
const WRONG_REQUESTS: RangeInclusive<i32> = 2000..=2999;
/// What this client may not do.
const FORBIDDEN: RangeInclusive<i32> = 6000..=6999;

/// Whether a commit that gave this error may have happened, or may happen yet.
pub(super) fn may_have_committed(error: FdbError) -> bool {
    !error.is_retryable_not_committed() && error.code() != STORAGE_QUOTA_EXCEEDED && !is_refusal(error)
}

/// The error of something that changed nothing.
pub(super) fn store_error(error: FdbError) -> StoreError {
    let reason = words(error);
    match error.code() {
        NOT_COMMITTED => StoreError::Conflict,
        STORAGE_QUOTA_EXCEEDED => StoreError::Full { reason },
        _ if is_refusal(error) => StoreError::Refused { reason },
        _ => StoreError::Unavailable { reason },
    }
}

/// The error of a commit.
pub(super) fn commit_error(error: FdbError) -> StoreError {
    if may_have_committed(error) { StoreError::Unknown { reason: words(error) } } else { store_error(error) }
}

/// What FoundationDB calls it, and the number by which its documents list it.
pub(super) fn words(error: FdbError) -> String {
    format!("{} (FoundationDB error {})", error.message(), error.code())
}

fn is_refusal(error: FdbError) -> bool {
    NO_CLUSTER_FILE.contains(&error.code())
        || WRONG_REQUESTS.contains(&error.code())
        || FORBIDDEN.contains(&error.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32) -> FdbError {
        FdbError::from_code(code)
    }

    #[test]
    fn of_a_commit_it_is_known_whether_it_may_have_happened() {
        // Unknown result, cluster version changed, timed out, cancelled, network shut down, broken promise, internal error.
        for code in [1021, 1039, 1031, 1025, 1043, 1100, 4100] {
            assert!(matches!(commit_error(error(code)), StoreError::Unknown { .. }), "{code}");
            assert!(matches!(store_error(error(code)), StoreError::Unavailable { .. }), "{code}");
        }
        // Too old, future version, database locked, memory limits of the proxies, throttled, process behind.
        for code in [1007, 1009, 1038, 1042, 1078, 1051, 1213, 1223, 1037] {
            assert!(matches!(commit_error(error(code)), StoreError::Unavailable { .. }), "{code}");
        }
        assert!(matches!(commit_error(error(1020)), StoreError::Conflict));
        assert!(matches!(commit_error(error(1225)), StoreError::Full { .. }));
    }

    #[test]
    fn what_will_never_work_is_not_tried_again() {
        // No file of the cluster, invalid operation, transaction, key and value too large, API version not supported, permission denied.
        for code in [1515, 2000, 2101, 2102, 2103, 2203, 6000] {
            for told in [store_error(error(code)), commit_error(error(code))] {
                assert!(matches!(told, StoreError::Refused { .. }) && !told.is_retryable(), "{code}");
            }
        }
    }

    #[test]
    fn the_words_of_the_database_and_its_number_are_kept() {
        let told = store_error(error(1031)).to_string();
        assert!(told.contains("1031") && told.contains("timed out"), "{told}");
    }
}
