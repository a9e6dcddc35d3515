//! Looks names up, which occupies a thread of the system for as long as a name server is silent: one
//! lookup for each name at a time, few in all, and what was not found is not looked for again at
//! once. So no receiver with a dead name takes the threads that others need.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use tokio::{sync::Semaphore, time::Instant};

/// Lookups at once. The runtime has 512 threads for such work.
const MAX_LOOKUPS: usize = 64;
/// How long a name that was not found is not looked for again.
const NOT_FOUND: Duration = Duration::from_secs(1);
/// Names that were not found and are remembered.
const MAX_NOT_FOUND: usize = 1_000;

/// A name has no address.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the name has no address: {0}")]
pub(super) struct NotFound(Arc<str>);

type Found = Result<Arc<[SocketAddr]>, NotFound>;
type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// The lookups under way. Clones are the same.
#[derive(Clone)]
pub(super) struct Names(Arc<Inner>);

struct Inner {
    lookup: Box<Lookup>,
    names: Mutex<HashMap<String, Known>>,
    turns: Semaphore,
}

enum Known {
    UnderWay(Shared<BoxFuture<'static, Found>>),
    NotFound(NotFound, Instant),
}

impl Default for Names {
    fn default() -> Names {
        Names::by(|name| {
            async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }.boxed()
        })
    }
}

impl Names {
    fn by(
        lookup: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>
        + Send
        + Sync
        + 'static,
    ) -> Names {
        let (lookup, names) = (Box::new(lookup), Mutex::default());
        Names(Arc::new(Inner { lookup, names, turns: Semaphore::new(MAX_LOOKUPS) }))
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a name.
    pub(super) async fn addresses(&self, name: &str) -> Found {
        self.addresses_at(name, Instant::now()).await
    }

    async fn addresses_at(&self, name: &str, now: Instant) -> Found {
        let under_way = {
            let mut names = self.names();
            match names.get(name) {
                Some(Known::UnderWay(lookup)) => lookup.clone(),
                Some(Known::NotFound(error, until)) if now < *until => {
                    return Err(error.clone());
                }
                _ => {
                    let lookup = self.begin(name.to_owned());
                    names.insert(name.to_owned(), Known::UnderWay(lookup.clone()));
                    lookup
                }
            }
        };
        under_way.await
    }

    /// Looks a name up. It goes on if nobody waits any more: the system's thread does so too, and its
    /// turn ends only then.
    fn begin(&self, name: String) -> Shared<BoxFuture<'static, Found>> {
        let own = self.clone();
        let task = tokio::spawn(async move {
            let found = {
                // The semaphore lives as long as this.
                let _turn = own.0.turns.acquire().await;
                (own.0.lookup)(name.clone()).await
            };
            let found: Found = match found {
                Ok(addresses) => Ok(addresses.into()),
                Err(error) => Err(NotFound(error.to_string().into())),
            };
            own.end(name, &found);
            found
        });
        let broken = |error: tokio::task::JoinError| NotFound(error.to_string().into());
        async move { task.await.map_err(broken)? }.boxed().shared()
    }

    fn end(&self, name: String, found: &Found) {
        let mut names = self.names();
        names.remove(&name);
        let Err(error) = found else { return };
        let now = Instant::now();
        if names.len() >= MAX_NOT_FOUND {
            let fresh =
                |known: &Known| !matches!(known, Known::NotFound(_, until) if *until <= now);
            names.retain(|_, known| fresh(known));
        }
        if names.len() < MAX_NOT_FOUND {
            names.insert(name, Known::NotFound(error.clone(), now + NOT_FOUND));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// Names that are found once they may be, and how often they were looked for.
    fn waiting() -> (Names, Arc<Notify>, Arc<AtomicUsize>) {
        let (may, lookups) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let (wait, count) = (Arc::clone(&may), Arc::clone(&lookups));
        let names = Names::by(move |name| {
            let (wait, count) = (Arc::clone(&wait), Arc::clone(&count));
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                if name == "nowhere" {
                    return Err(io::ErrorKind::NotFound.into());
                }
                wait.notified().await;
                Ok(vec!["127.0.0.1:0".parse().unwrap()])
            }
            .boxed()
        });
        (names, may, lookups)
    }

    /// Lets every task go on as far as it can: there is one thread.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_however_many_wait_and_few_are_looked_up_at_once() {
        let (names, may, lookups) = waiting();
        let ask = |name: String| {
            let names = names.clone();
            tokio::spawn(async move { names.addresses(&name).await.unwrap() })
        };
        let waiters: Vec<_> = (0..100).map(|_| ask("a".to_owned())).collect();
        let others: Vec<_> = (0..200).map(|number| ask(number.to_string())).collect();
        settle().await;
        assert_eq!(lookups.load(Ordering::SeqCst), MAX_LOOKUPS);
        // Who goes gives no turn free.
        others.iter().for_each(|other| other.abort());
        settle().await;
        assert_eq!(lookups.load(Ordering::SeqCst), MAX_LOOKUPS);
        may.notify_one();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_name_that_was_not_found_is_looked_for_again_after_a_second() {
        let (names, _, lookups) = waiting();
        for _ in 0..10 {
            assert!(names.addresses("nowhere").await.is_err());
        }
        assert_eq!(lookups.load(Ordering::SeqCst), 1);
        let later = Instant::now() + NOT_FOUND;
        assert!(names.addresses_at("nowhere", later).await.is_err());
        assert_eq!(lookups.load(Ordering::SeqCst), 2);
    }
}
