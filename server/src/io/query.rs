//! Queries: a small pool of threads that read the store, since the embedded engine blocks. Answers come back by mail.
//!
//! A query that the store refuses for now is tried again a few times; the core never waits.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{Receiver, Sender, bounded};
use storage::{CoreId, Query, Store};
use tracing::warn;

use super::{mailbox::Mailbox, message::CoreMessage};
use crate::{
    limits::{QUERIES_IN_FLIGHT_MAX, QUERY_ATTEMPTS, QUERY_RETRY_MS},
    shard::QueryId,
};

/// A query and where its answer goes.
#[derive(Debug)]
struct Job {
    core: CoreId,
    id: QueryId,
    query: Query,
}

/// Where cores ask.
#[derive(Clone, Debug)]
pub struct Readers {
    jobs: Sender<Job>,
}

impl Readers {
    /// Starts `threads` threads. They end when every copy of the readers is gone.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start<S: Store>(
        threads: usize,
        store: &Arc<S>,
        mailboxes: &Arc<[Mailbox<CoreMessage>]>,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        // Room for what all shards may ask at a time, so that asking never fails.
        let (jobs, queue) = bounded(mailboxes.len() * QUERIES_IN_FLIGHT_MAX);
        let threads = (0..threads).map(|number| {
            let (store, mailboxes, queue) = (Arc::clone(store), Arc::clone(mailboxes), queue.clone());
            let name = format!("ringpost-reader-{number}");
            thread::Builder::new().name(name).spawn(move || read(&*store, &mailboxes, &queue))
        });
        Ok((Self { jobs }, threads.collect::<io::Result<_>>()?))
    }

    /// Asks. The answer comes to `core` by mail.
    pub fn ask(&self, core: CoreId, id: QueryId, query: Query) {
        self.jobs.try_send(Job { core, id, query }).expect("a shard has at most QUERIES_IN_FLIGHT_MAX in flight");
    }
}

fn read<S: Store>(store: &S, mailboxes: &[Mailbox<CoreMessage>], jobs: &Receiver<Job>) {
    for Job { core, id, query } in jobs {
        let answer = answer(store, &query).map(Box::new);
        mailboxes[usize::from(core.0)].put_waiting(CoreMessage::Answer { query: id, answer });
    }
}

fn answer<S: Store>(store: &S, query: &Query) -> Option<storage::Answer> {
    let mut wait_ms = QUERY_RETRY_MS;
    for attempt in 1..=QUERY_ATTEMPTS {
        match pollster::block_on(storage::answer(store, query)) {
            Ok(answer) => return Some(answer),
            Err(error) => {
                warn!(attempt, %error, "a query failed");
                if !error.is_retryable() {
                    return None;
                }
            }
        }
        thread::sleep(Duration::from_millis(wait_ms));
        wait_ms *= 2;
    }
    None
}
