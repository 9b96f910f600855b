//! Push against providers on this machine, which are strict: they decrypt, check signatures and headers, and answer as real ones do.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

mod answers;
mod apns;
mod endpoint;
mod fcm;
mod services;
mod web_push;
mod webhook;
mod world;
