//! What the engine's errors mean for whoever uses the store: try again, make room, or it is damaged.

use std::{io, path::Path};

use fjall::LsmError;

use crate::store::StoreError;

pub(super) fn damaged(folder: &Path, what: &str) -> StoreError {
    StoreError::Damaged { what: format!("{}: {what}", folder.display()) }
}

pub(super) fn closed() -> StoreError {
    StoreError::Unavailable { reason: "it could not be opened again after a fault".to_owned() }
}

pub(super) fn unavailable(folder: &Path, error: &io::Error) -> StoreError {
    let reason = format!("{}: {error}", folder.display());
    if is_full(error) { StoreError::Full { reason } } else { StoreError::Unavailable { reason } }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(super) fn opening(folder: &Path, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::InUse { path: folder.to_owned() },
        error => reading(folder, error),
    }
}

pub(super) fn reading(folder: &Path, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => io_error(folder, error),
        fjall::Error::Poisoned | fjall::Error::Locked | fjall::Error::KeyspaceDeleted => {
            StoreError::Unavailable { reason: format!("{}: {error}", folder.display()) }
        }
        error => StoreError::Damaged { what: format!("{}: {error}", folder.display()) },
    }
}

/// A file that is missing, too short or there against expectation is not the operating system's fault.
fn io_error(folder: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidData => StoreError::Damaged { what: format!("{}: {error}", folder.display()) },
        _ => unavailable(folder, error),
    }
}

/// An ingestion that fails before its last step has changed nothing; in the last step nobody can tell.
pub(super) fn committing(folder: &Path, error: &fjall::Error) -> StoreError {
    match reading(folder, error) {
        StoreError::Unavailable { reason } => StoreError::Unknown { reason },
        other => other,
    }
}
