//! Waiting for a future on a thread that has no runtime, for so long and no longer.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::Instant,
};

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What the future gives, if that comes in time.
pub(crate) fn wait<T>(until: Instant, future: impl Future<Output = T>) -> Option<T> {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::{future, time::Duration};

    use super::*;

    #[test]
    fn what_is_there_is_given_though_no_time_is_left() {
        assert_eq!(wait(Instant::now(), future::ready(7)), Some(7));
        assert_eq!(wait(Instant::now(), future::pending::<()>()), None);
    }

    #[test]
    fn what_another_thread_gives_is_waited_for() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let giving = thread::spawn(move || sender.send(7));
        let given = wait(Instant::now() + Duration::from_secs(60), receiver);
        assert_eq!(given.map(Result::ok), Some(Some(7)));
        assert!(giving.join().is_ok_and(|sent| sent.is_ok()));
    }
}
