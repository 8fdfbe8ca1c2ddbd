//! Many workers, one order: jobs are handed out as workers get free, results come back in plan order.
//!
//! A worker is a thread with its own decoder and interpreters, which it makes when its turn comes and lets go of when
//! it is told to rest. What it is told comes through a [`WorkerControl`]. The channel of results is bounded and a job is
//! handed out only while it lies within a window of the oldest one that is not done, so a slow clip cannot pile up its
//! successors.

use crossbeam_channel::bounded;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Jobs on their way per worker: enough that none waits for the one that takes longest.
const WINDOW_PER_WORKER: usize = 8;

/// Why a run ended before its last job.
#[derive(Debug, thiserror::Error)]
pub enum WorkerPoolError<E> {
    /// A worker could not start or met an error that every job would meet.
    #[error("{0}")]
    Worker(E),
    /// The receiver of the results gave up.
    #[error("{0}")]
    Consumer(E),
    /// A worker thread ended without a word: a bug, its panic message is on stderr.
    #[error("a worker thread died; please report this with the message above")]
    Died,
    /// The system gave no thread.
    #[error("cannot start a worker thread: {0}")]
    Spawn(std::io::Error),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// With its last job.
    Done,
    /// Because it was told to; what was delivered is a beginning of the jobs.
    Stopped,
}

/// What a run is told from outside, from any thread, at any time.
#[derive(Debug, Default)]
pub struct WorkerControl {
    state: Mutex<ControlState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ControlState {
    /// Workers below this number may take jobs.
    workers: usize,
    stop: bool,
    abandon: bool,
    /// Jobs handed out and not taken.
    queue: VecDeque<usize>,
    /// No more jobs come.
    is_over: bool,
    /// Results that wait for an earlier one.
    waiting: usize,
}

/// What a worker is to do next.
enum WorkerStep {
    Job(usize),
    Rest,
    End,
}

impl WorkerControl {
    /// Lets `workers` of the workers work; 0 holds all of them.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let control = Self::default();
        control.set_workers(workers);
        control
    }

    /// Lets `workers` of the workers work from their next job on; 0 holds all of them.
    pub fn set_workers(&self, workers: usize) {
        self.lock_state().workers = workers;
        self.changed.notify_all();
    }

    /// How many may work.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.lock_state().workers
    }

    /// Ends the run after the jobs in hand.
    pub fn stop(&self) {
        self.lock_state().stop = true;
        self.changed.notify_all();
    }

    /// Ends the run as soon as its workers ask [`WorkerControl::is_abandoned`].
    pub fn abandon(&self) {
        self.lock_state().abandon = true;
        self.stop();
    }

    /// Whether the run is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock_state().stop
    }

    /// Whether jobs in hand are to be given up.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.lock_state().abandon
    }

    /// Results that wait for an earlier one.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock_state().waiting
    }

    /// Takes back [`WorkerControl::stop`] and [`WorkerControl::abandon`]: another run may follow.
    pub fn reset(&self) {
        let mut lock_state = self.lock_state();
        (lock_state.stop, lock_state.abandon) = (false, false);
    }

    fn lock_state(&self) -> MutexGuard<'_, ControlState> {
        // Nothing panics while it is held; were it so, the plain values would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut lock_state = self.lock_state();
        lock_state.queue.clear();
        (lock_state.is_over, lock_state.waiting) = (false, 0);
    }

    fn offer(&self, job: usize) {
        self.lock_state().queue.push_back(job);
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lock_state().is_over = true;
        self.changed.notify_all();
    }

    /// Waits until there is something to do for worker `n`, which has what it works with or not.
    fn next(&self, n: usize, has_tools: bool) -> WorkerStep {
        let mut lock_state = self.lock_state();
        loop {
            if lock_state.stop || (lock_state.is_over && lock_state.queue.is_empty()) {
                return WorkerStep::End;
            }
            if n >= lock_state.workers {
                if has_tools {
                    return WorkerStep::Rest;
                }
            } else if let Some(job) = lock_state.queue.pop_front() {
                return WorkerStep::Job(job);
            }
            lock_state = self
                .changed
                .wait(lock_state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs jobs `0..jobs` on at most `workers` threads, of which `control` says how many may work.
///
/// `start(n)` is called in thread `n` before its first job, and after each rest, and makes what does the jobs there;
/// that gives `None` for a job that it gives up because [`WorkerControl::is_abandoned`]. `cached_result(position)` is asked before a
/// job is handed out, when every result before the window is known; a result that it returns stands for the job.
/// `deliver(position, result)` gets each result, in order of position, on the calling thread.
///
/// # Errors
/// The first error ends the run; jobs in hand are finished first, their results dropped.
pub fn run<R, E, W, Start, Consumer>(
    jobs: usize,
    workers: usize,
    control: &WorkerControl,
    start: Start,
    consumer: &mut Consumer,
) -> Result<RunOutcome, WorkerPoolError<E>>
where
    R: Send,
    E: Send,
    W: FnMut(usize) -> Result<Option<R>, E>,
    Start: Fn(usize) -> Result<W, E> + Sync,
    Consumer: ResultSink<R, E>,
{
    let workers = workers.clamp(1, jobs.max(1));
    let window = workers * WINDOW_PER_WORKER;
    let (give_back, collect) = bounded::<Result<(usize, R), WorkerPoolError<E>>>(window + workers);
    control.begin();
    thread::scope(|scope| {
        // However this ends, the workers are told.
        let _over = QueueCloseGuard(control);
        for n in 0..workers {
            let (give_back, start) = (give_back.clone(), &start);
            let work = move || {
                // A panic is a bug of ours; caught, it ends the job instead of leaving it to wait for ever.
                let job = AssertUnwindSafe(|| {
                    let mut tools = None;
                    loop {
                        let position = match control.next(n, tools.is_some()) {
                            WorkerStep::Job(position) => position,
                            WorkerStep::Rest => {
                                tools = None;
                                continue;
                            }
                            WorkerStep::End => return Ok(()),
                        };
                        let worker = match &mut tools {
                            Some(worker) => worker,
                            None => tools.insert(start(n).map_err(WorkerPoolError::Worker)?),
                        };
                        let result = worker(position).map_err(WorkerPoolError::Worker)?;
                        let given = result.map(|r| give_back.send(Ok((position, r))));
                        // Given up, or nobody takes it any more.
                        if given.is_none_or(|sent| sent.is_err()) {
                            return Ok(());
                        }
                    }
                });
                if let Err(error) = catch_unwind(job).unwrap_or(Err(WorkerPoolError::Died)) {
                    // Nobody listens when another worker's error came first.
                    give_back.send(Err(error)).ok();
                }
            };
            thread::Builder::new()
                .name(format!("worker-{n}"))
                .spawn_scoped(scope, work)
                .map_err(WorkerPoolError::Spawn)?;
        }
        drop(give_back);
        let mut waiting: BTreeMap<usize, R> = BTreeMap::new();
        let (mut next, mut done, mut in_hand) = (0, 0, 0);
        while done < jobs {
            while next < jobs && next < done + window && in_hand < 2 * workers {
                if let Some(result) = consumer.cached_result(next) {
                    waiting.insert(next, result);
                } else {
                    control.offer(next);
                    in_hand += 1;
                }
                next += 1;
            }
            if !waiting.contains_key(&done) {
                // All workers have gone: they were told to, or died without a word.
                let Ok(result) = collect.recv() else {
                    return if control.is_stopped() {
                        Ok(RunOutcome::Stopped)
                    } else {
                        Err(WorkerPoolError::Died)
                    };
                };
                let (position, result) = result?;
                waiting.insert(position, result);
                in_hand -= 1;
            }
            while let Some(result) = waiting.remove(&done) {
                consumer
                    .deliver(done, result)
                    .map_err(WorkerPoolError::Consumer)?;
                done += 1;
            }
            control.lock_state().waiting = waiting.len();
        }
        Ok(RunOutcome::Done)
    })
}

/// Tells the workers that no more jobs come, when dropped.
struct QueueCloseGuard<'a>(&'a WorkerControl);

impl Drop for QueueCloseGuard<'_> {
    fn drop(&mut self) {
        let mut lock_state = self.0.lock_state();
        lock_state.queue.clear();
        lock_state.waiting = 0;
        drop(lock_state);
        self.0.end();
    }
}

/// Takes the results of a run.
pub trait ResultSink<R, E> {
    /// A result for job `position` without running it, or `None` to run it. Whatever was delivered so far is known.
    fn cached_result(&mut self, position: usize) -> Option<R>;

    /// The result of job `position`; positions come in order, each once.
    ///
    /// # Errors
    /// Ends the run.
    fn deliver(&mut self, position: usize, result: R) -> Result<(), E>;
}

#[cfg(test)]
mod tests;
