//! Queries: a small pool of threads that read the store, since the embedded engine blocks. Answers come back by mail.
//!
//! A query that the store refuses for now is tried again a few times, and holds up no other meanwhile. A core never waits for the threads: when they are
//! behind, its queries wait there and it stops reading from its clients.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use storage::{Query, Store};

use super::{mailbox::Mailbox, thread::spawn};
use crate::{
    core::CoreMessage,
    limits::{QUERIES_AGAIN_MAX, QUERY_ATTEMPTS, QUERY_QUEUE_MAX, QUERY_RETRY_MS},
    shard::{QueryId, topology::CoreId},
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
    /// Starts `threads` threads. They end when every copy of the readers is gone, and after the read under way when the node has ended.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start<S: Store>(
        threads: usize,
        store: &Arc<S>,
        mailboxes: &Arc<[Mailbox<CoreMessage>]>,
        ended: &Arc<AtomicBool>,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (jobs, queue) = bounded(QUERY_QUEUE_MAX);
        let threads = (0..threads).map(|number| {
            let (store, mailboxes, queue) = (Arc::clone(store), Arc::clone(mailboxes), queue.clone());
            let ended = Arc::clone(ended);
            spawn(format!("ringpost-reader-{number}"), move || read(&*store, &mailboxes, &queue, &ended))
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

fn read<S: Store>(store: &S, mailboxes: &[Mailbox<CoreMessage>], jobs: &Receiver<Job>, ended: &AtomicBool) {
    // Those that failed, by when they are tried again, and how often they were.
    let mut again: VecDeque<(Instant, u32, Job)> = VecDeque::new();
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        let next = match again.front() {
            None => jobs.recv().map(|job| (0, job)).ok(),
            Some((due, ..)) if *due <= now => again.pop_front().map(|(_, attempts, job)| (attempts, job)),
            Some((due, ..)) => match jobs.recv_timeout(*due - now) {
                Ok(job) => Some((0, job)),
                Err(RecvTimeoutError::Timeout) => continue,
                // Nobody waits for better answers any more.
                Err(RecvTimeoutError::Disconnected) => again.pop_front().map(|(.., job)| (QUERY_ATTEMPTS, job)),
            },
        };
        let Some((attempts, job)) = next else { return };
        match pollster::block_on(storage::answer(store, &job.query)) {
            Err(error) if error.is_retryable() && attempts + 1 < QUERY_ATTEMPTS && again.len() < QUERIES_AGAIN_MAX => {
                again.push_back((now + Duration::from_millis(QUERY_RETRY_MS), attempts + 1, job));
            }
            answer => {
                let answer = CoreMessage::Answer { query: job.id, answer: Box::new(answer) };
                mailboxes[usize::from(job.core.0)].put_waiting(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::UserId;
    use storage::{Answer, MemoryStore, StoreError};

    use super::*;

    /// The answer to one query, when the store fails as often as told before.
    fn ask_after_failures(failures: usize) -> Result<Answer, StoreError> {
        let store = Arc::new(MemoryStore::default());
        store.fail_next_reads(failures);
        let mailboxes: Arc<[_]> = vec![Mailbox::new().unwrap()].into();
        let (readers, threads) = Readers::start(1, &store, &mailboxes, &Arc::default()).unwrap();
        readers.ask(CoreId(0), QueryId(5), Query::User(UserId(1))).unwrap();
        while !mailboxes[0].has_mail() {
            std::thread::yield_now();
        }
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

    #[test]
    fn what_is_asked_of_a_node_that_has_ended_is_not_read() {
        let store = Arc::new(MemoryStore::default());
        let mailboxes: Arc<[_]> = vec![Mailbox::new().unwrap()].into();
        let ended = Arc::new(AtomicBool::new(true));
        let (readers, threads) = Readers::start(1, &store, &mailboxes, &ended).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        readers.ask(CoreId(0), QueryId(1), Query::User(UserId(1))).unwrap();
        assert!(!mailboxes[0].has_mail());
    }

    #[test]
    fn a_query_that_is_tried_again_holds_up_no_other() {
        let store = Arc::new(MemoryStore::default());
        store.fail_next_reads(1);
        let mailboxes: Arc<[_]> = vec![Mailbox::new().unwrap()].into();
        let (readers, threads) = Readers::start(1, &store, &mailboxes, &Arc::default()).unwrap();
        for query in [1, 2] {
            readers.ask(CoreId(0), QueryId(query), Query::User(UserId(query))).unwrap();
        }
        drop(readers);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let answered = std::iter::from_fn(|| mailboxes[0].take());
        let answered: Vec<(u64, bool)> = answered
            .map(|message| match message {
                CoreMessage::Answer { query, answer } => (query.0, answer.is_ok()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(answered, [(2, true), (1, true)]);
    }
}
