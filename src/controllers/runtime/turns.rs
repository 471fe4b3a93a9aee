//! Schedules reconciliations fairly: namespaces take turns, and no namespace takes all workers.
//!
//! A tenant's server that does not answer blocks a worker until the deadline. With first come, first served, the objects of
//! that tenant could occupy every worker, and all other tenants would wait for them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A pool of workers.
#[derive(Debug)]
pub(super) struct Turns {
    /// Maximum number of workers of one namespace.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    /// Workers in use, by namespace.
    taken: HashMap<String, usize>,
    /// Waiting requests by namespace. The first namespace is next.
    waiting: VecDeque<(String, VecDeque<oneshot::Sender<Turn>>)>,
}

/// One worker in use. Dropping it frees the worker.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Option<Arc<Turns>>,
    namespace: String,
}

impl Turns {
    /// A pool of this many workers.
    #[must_use]
    pub(super) fn new(workers: usize) -> Arc<Self> {
        let state = State { free: workers, ..State::default() };
        Arc::new(Self { most: (workers - workers / 4).max(1), state: Mutex::new(state) })
    }

    /// Waits for a worker. Dropping the future gives up the place in the queue.
    pub(super) async fn take(self: &Arc<Self>, namespace: &str) -> Turn {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state.lock();
            match state.waiting.iter_mut().find(|(other, _)| other == namespace) {
                Some((_, queue)) => queue.push_back(sender),
                None => state.waiting.push_back((namespace.to_owned(), VecDeque::from([sender]))),
            }
        }
        self.hand_out();
        match receiver.await {
            Ok(turn) => turn,
            // A waiting sender is in the queue, and is removed from it only to be used.
            Err(_) => std::future::pending().await,
        }
    }

    /// Assigns every free worker to the next request.
    fn hand_out(self: &Arc<Self>) {
        loop {
            // Send outside of the lock: dropping a turn takes the lock.
            let next = self.state.lock().next(self.most);
            let Some((namespace, sender)) = next else { return };
            let turn = Turn { turns: Some(Arc::clone(self)), namespace };
            if let Err(mut unwanted) = sender.send(turn) {
                // Give it back here: dropping the turn would recurse into this function for each cancelled request.
                unwanted.turns = None;
                self.state.lock().give_back(&unwanted.namespace);
            }
        }
    }
}

impl State {
    /// Takes a worker for the next namespace that is below its limit.
    fn next(&mut self, most: usize) -> Option<(String, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        let may_have_more = |(namespace, _): &(String, _)| self.taken.get(namespace).is_none_or(|taken| *taken < most);
        let position = self.waiting.iter().position(may_have_more)?;
        let (namespace, mut queue) = self.waiting.remove(position)?;
        let sender = queue.pop_front()?;
        if !queue.is_empty() {
            self.waiting.push_back((namespace.clone(), queue));
        }
        self.free -= 1;
        *self.taken.entry(namespace.clone()).or_default() += 1;
        Some((namespace, sender))
    }

    fn give_back(&mut self, namespace: &str) {
        self.free += 1;
        if let Some(taken) = self.taken.get_mut(namespace) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(namespace);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.state.lock().give_back(&self.namespace);
            turns.hand_out();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn now(turns: &Arc<Turns>, namespace: &str) -> Option<Turn> {
        turns.take(namespace).now_or_never()
    }

    #[tokio::test]
    async fn one_namespace_never_has_all_workers_and_another_begins_at_once() {
        let turns = Turns::new(8);
        let hanging: Vec<_> = std::iter::from_fn(|| now(&turns, "hostile")).collect();
        assert_eq!(hanging.len(), 6);
        let (one, two) = (now(&turns, "shop"), now(&turns, "blog"));
        assert!(one.is_some() && two.is_some());
        assert!(now(&turns, "more").is_none(), "there are only eight");
        drop((hanging, one, two));
        assert_eq!(turns.state.lock().free, 8);
        assert!(turns.state.lock().taken.is_empty());
    }

    #[tokio::test]
    async fn namespaces_take_turns_whoever_asked_first() {
        let turns = Turns::new(1);
        let mut running = now(&turns, "a").unwrap();
        let order = ["a", "a", "a", "b", "b", "c"];
        let mut waiting: Vec<_> = order.iter().map(|namespace| (*namespace, Box::pin(turns.take(namespace)))).collect();
        for (_, turn) in &mut waiting {
            assert!(futures::poll!(turn.as_mut()).is_pending());
        }
        let mut begun = Vec::new();
        while !waiting.is_empty() {
            drop(running);
            let mut next = None;
            for (position, (_, turn)) in waiting.iter_mut().enumerate() {
                if let std::task::Poll::Ready(turn) = futures::poll!(turn.as_mut()) {
                    next = Some((position, turn));
                    break;
                }
            }
            let (position, turn) = next.expect("somebody is next");
            begun.push(waiting.remove(position).0);
            running = turn;
        }
        assert_eq!(begun, ["a", "b", "c", "a", "b", "a"]);
    }

    #[tokio::test]
    async fn who_gives_up_loses_no_worker() {
        let turns = Turns::new(1);
        let running = now(&turns, "a").unwrap();
        let many: Vec<_> = (0..100_000).map(|_| Box::pin(turns.take("a"))).collect();
        let mut many = futures::future::join_all(many);
        assert!(futures::poll!(&mut many).is_pending());
        drop(many);
        drop(running);
        assert!(now(&turns, "b").is_some());
        // A worker that was assigned but never received is freed too.
        let running = now(&turns, "a").unwrap();
        let mut waiting = Box::pin(turns.take("b"));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(running);
        drop(waiting);
        assert!(now(&turns, "c").is_some());
    }
}
