//! Every bound of this crate, with unit and reason. Those of the client are in `client::limits`.

/// Events of a batch: a page of the log and what belongs to it. One transaction of a phone's database takes as many in some milliseconds.
pub const EVENTS_BATCH_MAX: usize = 256;

/// Milliseconds after which the application is asked again for a token that it did not have. As long as an attempt to connect may take.
pub(crate) const TOKEN_AGAIN_AFTER_MS: u64 = client::limits::OPEN_TIMEOUT_MS;

/// Milliseconds that a goodbye is waited for. It is said at once, unless the machine is busy with something else.
pub(crate) const GOODBYE_MS: u64 = 1_000;

/// Conversations whose rows are asked for beside the list, because something happened in them: more at once are asked for as a list anew.
pub(crate) const MISSING_MAX: usize = 16;
