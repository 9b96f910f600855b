//! Queries: a small pool of threads that read the store, since the embedded engine blocks. Answers come back by mail.
//!
//! A query that the store refuses for now is tried again a few times. A core never waits for the threads: when they are
//! behind, its queries wait here and it stops reading from its clients.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use storage::{Answer, Query, Store, StoreError};

use super::{mailbox::Mailbox, message::CoreMessage, node::AbortOnPanic};
use crate::{
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
    /// Queries that found the queue full.
    waiting: VecDeque<Job>,
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
        Ok((Self { jobs, waiting: VecDeque::new() }, threads.collect::<io::Result<_>>()?))
    }

    /// Asks. The answer comes to `core` by mail.
    pub fn ask(&mut self, core: CoreId, id: QueryId, query: Query) {
        self.waiting.push_back(Job { core, id, query });
    }

    /// Hands the threads as much as they take.
    pub fn flush(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            match self.jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => return self.waiting.push_front(job),
                // The threads end after the cores.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Whether queries wait because the threads are behind: the source must wait.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        !self.waiting.is_empty()
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
        let (mut readers, threads) = Readers::start(1, &store, &mailboxes).unwrap();
        readers.ask(CoreId(0), QueryId(5), Query::User(UserId(1)));
        readers.flush();
        assert!(!readers.is_stalled());
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
