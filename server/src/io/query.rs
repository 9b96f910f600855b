//! Queries: a small pool of threads that read the store, since the embedded engine blocks. Answers come back by mail.
//!
//! A query that the store refuses for now is tried again a few times. A core never waits for the threads: when they are
//! behind, its queries wait there and it stops reading from its clients.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use storage::{Answer, Query, Store, StoreError};

use super::{mailbox::Mailbox, node::AbortOnPanic};
use crate::{
    core::CoreMessage,
    limits::{QUERY_ATTEMPTS, QUERY_QUEUE_MAX, QUERY_RETRY_MS},
    shard::QueryId,
    topology::CoreId,
};

/// A query and where its answer goes.
#[derive(Clone, Debug)]
struct Job {
    core: CoreId,
    id: QueryId,
    query: Query,
}

/// Where one core asks.
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
        let (jobs, queue) = bounded(QUERY_QUEUE_MAX);
        let threads = (0..threads).map(|number| {
            let (store, mailboxes, queue) = (Arc::clone(store), Arc::clone(mailboxes), queue.clone());
            let name = format!("ringpost-reader-{number}");
            thread::Builder::new().name(name).spawn(move || read(&*store, &mailboxes, &queue))
        });
        Ok((Self { jobs }, threads.collect::<io::Result<_>>()?))
    }

    /// Asks. The answer comes to `core` by mail.
    ///
    /// # Errors
    /// The threads are behind: the query comes back.
    pub fn ask(&self, core: CoreId, id: QueryId, query: Query) -> Result<(), (QueryId, Query)> {
        match self.jobs.try_send(Job { core, id, query }) {
            // The threads end after the cores.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(Job { id, query, .. })) => Err((id, query)),
        }
    }
}

fn read<S: Store>(store: &S, mailboxes: &[Mailbox<CoreMessage>], jobs: &Receiver<Job>) {
    let _guard = AbortOnPanic;
    for Job { core, id, query } in jobs {
        let answer = Box::new(answer(store, &query));
        mailboxes[usize::from(core.0)].put_waiting(CoreMessage::Answer { query: id, answer });
    }
}

fn answer<S: Store>(store: &S, query: &Query) -> Result<Answer, StoreError> {
    let mut wait_ms = QUERY_RETRY_MS;
    for _ in 1..QUERY_ATTEMPTS {
        match pollster::block_on(storage::answer(store, query)) {
            Err(error) if error.is_retryable() => thread::sleep(Duration::from_millis(wait_ms)),
            ended => return ended,
        }
        wait_ms *= 2;
    }
    pollster::block_on(storage::answer(store, query))
}

#[cfg(test)]
mod tests {
    use proto_spec::UserId;
    use storage::MemoryStore;

    use super::*;

    /// The answer to one query, when the store fails as often as told before.
    fn ask_after_failures(failures: usize) -> Result<Answer, StoreError> {
        let store = Arc::new(MemoryStore::default());
        store.fail_next_reads(failures);
        let mailboxes: Arc<[_]> = vec![Mailbox::new().unwrap()].into();
        let (readers, threads) = Readers::start(1, &store, &mailboxes).unwrap();
        readers.ask(CoreId(0), QueryId(5), Query::User(UserId(1))).unwrap();
        drop(readers);
        for thread in threads {
            thread.join().unwrap();
        }
        match mailboxes[0].take() {
            Some(CoreMessage::Answer { query: QueryId(5), answer }) => *answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_query_that_fails_is_tried_again_but_not_for_ever() {
        assert!(matches!(ask_after_failures(0), Ok(Answer::User(_))));
        assert!(ask_after_failures(QUERY_ATTEMPTS as usize - 1).is_ok());
        assert!(ask_after_failures(QUERY_ATTEMPTS as usize).is_err());
    }
}
