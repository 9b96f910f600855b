//! Tasks: the commits and reads of one core where the store is a database. Each is a future on the core's own runtime; what it
//! ends with waits here for the core's next turn. What to commit, and when again, is decided by [`crate::durability::lanes`].

use std::{cell::RefCell, collections::VecDeque, fmt, future::Future, pin::Pin, rc::Rc, sync::Arc, time::Instant};

use storage::{Advanced, Answer, Fence, Query, Run, Step, Store, StoreError, fold::Sorted};
use tokio::sync::Notify;

use crate::{
    durability::lanes::{Work, WorkId},
    shard::QueryId,
};

/// What the database will have said.
type Said<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A way of asking the database something.
type Way<Question, T> = Arc<dyn Fn(Question) -> Said<T> + Send + Sync>;

/// A database, as cores use it: the store without its type.
#[derive(Clone)]
pub struct Database {
    advance: Way<(Vec<Step>, Sorted), Advanced>,
    answer: Way<Query, Answer>,
    check: Way<(), ()>,
    reads_max: usize,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("reads_max", &self.reads_max).finish_non_exhaustive()
    }
}

impl Database {
    /// This store, under this fence; each core has at most so many reads under way at a time.
    pub fn new<S: Store>(store: &Arc<S>, fence: Fence, reads_max: usize) -> Self {
        let [writer, reader, checker] = [(); 3].map(|()| Arc::clone(store));
        let advance = move |(steps, sorted): (Vec<Step>, _)| -> Said<_> {
            let store = Arc::clone(&writer);
            Box::pin(async move { store.advance(fence, &steps, sorted).await })
        };
        let answer = move |query| -> Said<_> {
            let store = Arc::clone(&reader);
            Box::pin(async move { storage::answer(&*store, &query).await })
        };
        let check = move |()| -> Said<_> {
            let store = Arc::clone(&checker);
            Box::pin(async move { store.commit(fence, &Run::default()).await })
        };
        Self { advance: Arc::new(advance), answer: Arc::new(answer), check: Arc::new(check), reads_max }
    }
}

/// What a task has ended with.
#[derive(Debug)]
pub enum Done {
    /// A commit.
    Advanced {
        /// Which.
        work: WorkId,
        /// How.
        result: Result<Advanced, StoreError>,
        /// How many batches it was about.
        batches: usize,
        /// How long it took, in microseconds.
        took_us: u64,
    },
    /// A look whether the fence still holds.
    Checked(Result<(), StoreError>),
    /// A read.
    Answer(QueryId, Result<Answer, StoreError>),
}

/// The tasks of one core. Made and used on its thread.
#[derive(Debug)]
pub struct Tasks {
    database: Database,
    done: Rc<Ended>,
    /// Under way.
    reads: usize,
    /// A look at the fence is under way.
    checks: bool,
}

#[derive(Debug, Default)]
struct Ended {
    queue: RefCell<VecDeque<Done>>,
    woken: Notify,
}

impl Ended {
    fn push(&self, done: Done) {
        self.queue.borrow_mut().push_back(done);
        self.woken.notify_one();
    }
}

impl Tasks {
    /// None yet.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, done: Rc::default(), reads: 0, checks: false }
    }

    /// Begins a commit. On the core's runtime.
    pub fn commit(&self, work: Work) {
        let Work { id: work, steps, sorted, batches } = work;
        let (begun, ended) = (Instant::now(), Rc::clone(&self.done));
        let advance = (self.database.advance)((steps, sorted));
        tokio_uring::spawn(async move {
            let result = advance.await;
            let took_us = begun.elapsed().as_micros() as u64;
            ended.push(Done::Advanced { work, result, batches, took_us });
        });
    }

    /// Looks whether the fence still holds, unless it does so already. On the core's runtime.
    pub fn check(&mut self) {
        if !std::mem::replace(&mut self.checks, true) {
            let (check, ended) = ((self.database.check)(()), Rc::clone(&self.done));
            tokio_uring::spawn(async move { ended.push(Done::Checked(check.await)) });
        }
    }

    /// Asks. On the core's runtime.
    ///
    /// # Errors
    /// As many reads as may be are under way: the query comes back.
    pub fn ask(&mut self, id: QueryId, query: Query) -> Result<(), (QueryId, Query)> {
        if self.reads >= self.database.reads_max {
            return Err((id, query));
        }
        self.reads += 1;
        let (answer, ended) = (Arc::clone(&self.database.answer), Rc::clone(&self.done));
        tokio_uring::spawn(async move {
            // Its client has tried again already, as long as it may.
            ended.push(Done::Answer(id, answer(query).await));
        });
        Ok(())
    }

    /// The next thing that has ended.
    pub fn take(&mut self) -> Option<Done> {
        let done = self.done.queue.borrow_mut().pop_front();
        match done {
            Some(Done::Answer(..)) => self.reads -= 1,
            Some(Done::Checked(_)) => self.checks = false,
            Some(Done::Advanced { .. }) | None => {}
        }
        done
    }

    /// Whether something has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.done.queue.borrow().is_empty()
    }

    /// Waits until something has ended.
    pub async fn ended(&self) {
        self.done.woken.notified().await;
    }
}
