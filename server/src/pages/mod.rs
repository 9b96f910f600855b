//! Pages: what requests of HTTP mean that ask for no WebSocket. PURE: a request in, what it asks for out; the thread that answers is `io`'s.
//!
//! Owns how a session of long polling is asked and told (SPEC 1.5), and the files of the web page.

pub mod files;
pub mod poll;
pub mod request;
