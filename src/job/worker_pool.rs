//! Runs jobs on many worker threads and returns their results in order.
//!
//! A worker is a thread with its own decoder process and interpreters. It creates them before its first job and drops them while
//! it is paused. A [`WorkerControl`] pauses and stops workers. The channel of results is bounded, and a job is handed out
//! only while it lies within a window from the oldest unfinished one, so that results cannot pile up behind a slow clip.

use crate::error::Exit;
use crossbeam_channel::bounded;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Size of the window, in jobs per worker. Large enough that no worker waits for the slowest job.
const WINDOW_PER_WORKER: usize = 8;
/// Clips in progress may finish for this long after a stop. Then they are abandoned.
const FINISH_GRACE: Duration = Duration::from_secs(5);
/// The process exits this long after a stop, whatever still runs: what is recorded is on disk.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(9);

/// A fault of the pool itself, which ends the run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerPoolError {
    /// A worker thread panicked, which is a bug. Its message is on stderr.
    #[error("a worker thread died; please report this with the message above")]
    Died,
    /// The system cannot start a thread.
    #[error("cannot start a worker thread: {0}; try fewer workers")]
    Spawn(std::io::Error),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// All jobs are done.
    Done,
    /// It was stopped. The delivered results are those of the first jobs.
    Stopped,
}

/// Pauses and stops a run, from any thread.
#[derive(Debug, Default)]
pub struct WorkerControl {
    state: Mutex<ControlState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ControlState {
    /// The workers with a number below this may take jobs.
    workers: usize,
    stop: bool,
    abandon: bool,
    /// Jobs that no worker has taken yet.
    queue: VecDeque<usize>,
    /// No more jobs follow.
    is_over: bool,
    /// Results that wait for an earlier one.
    waiting: usize,
}

/// What a worker does next.
enum WorkerStep {
    Job(usize),
    Rest,
    End,
}

impl WorkerControl {
    /// Lets `workers` of the workers run; 0 pauses all of them.
    pub(crate) fn new(workers: usize) -> Self {
        let control = Self::default();
        control.set_workers(workers);
        control
    }

    /// Lets `workers` of the workers run from their next job on; 0 pauses all of them.
    pub(crate) fn set_workers(&self, workers: usize) {
        self.lock_state().workers = workers;
        self.changed.notify_all();
    }

    /// How many workers may run.
    pub(crate) fn workers(&self) -> usize {
        self.lock_state().workers
    }

    /// Ends the run after the jobs in progress.
    pub(crate) fn stop(&self) {
        self.lock_state().stop = true;
        self.changed.notify_all();
    }

    /// Ends the run as soon as its workers check [`WorkerControl::is_abandoned`].
    pub(crate) fn abandon(&self) {
        self.lock_state().abandon = true;
        self.stop();
    }

    /// Whether the run was stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock_state().stop
    }

    /// Whether jobs in progress are abandoned.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock_state().abandon
    }

    /// Results that wait for an earlier one.
    pub(crate) fn waiting(&self) -> usize {
        self.lock_state().waiting
    }

    /// Undoes [`WorkerControl::stop`] and [`WorkerControl::abandon`], so that another run may follow.
    pub(crate) fn reset(&self) {
        let mut state = self.lock_state();
        (state.stop, state.abandon) = (false, false);
    }

    fn lock_state(&self) -> MutexGuard<'_, ControlState> {
        // No holder panics, and the plain values would be valid even then.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empties the queue. `is_over`: no more jobs follow.
    fn clear(&self, is_over: bool) {
        let mut state = self.lock_state();
        state.queue.clear();
        (state.is_over, state.waiting) = (is_over, 0);
        self.changed.notify_all();
    }

    fn offer(&self, job: usize) {
        self.lock_state().queue.push_back(job);
        self.changed.notify_all();
    }

    /// Waits for the next step of worker `n`. `has_tools`: its decoder and interpreters are open.
    fn next(&self, n: usize, has_tools: bool) -> WorkerStep {
        let mut state = self.lock_state();
        loop {
            if state.stop || (state.is_over && state.queue.is_empty()) {
                return WorkerStep::End;
            }
            if n >= state.workers {
                if has_tools {
                    return WorkerStep::Rest;
                }
            } else if let Some(job) = state.queue.pop_front() {
                return WorkerStep::Job(job);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs jobs `0..jobs` on at most `workers` threads. `control` limits how many of them work.
///
/// `start(n)` runs in thread `n` before its first job and after each pause. It returns the function that does the jobs.
/// That function returns `None` for a job that it abandons because of [`WorkerControl::is_abandoned`].
/// `consumer` gets the results on the calling thread.
///
/// # Errors
/// The first error ends the run. Jobs in progress finish first and their results are dropped.
pub(crate) fn run<R, E, W, Start, Consumer>(
    jobs: usize,
    workers: usize,
    control: &WorkerControl,
    start: Start,
    consumer: &mut Consumer,
) -> Result<RunOutcome, E>
where
    R: Send,
    E: Send + From<WorkerPoolError>,
    W: FnMut(usize) -> Result<Option<R>, E>,
    Start: Fn(usize) -> Result<W, E> + Sync,
    Consumer: ResultSink<R, E>,
{
    let workers = workers.clamp(1, jobs.max(1));
    let window = workers * WINDOW_PER_WORKER;
    let (results, collect) = bounded::<Result<(usize, R), E>>(window + workers);
    control.clear(false);
    thread::scope(|scope| {
        // Releases the workers, however this ends.
        let _over = QueueCloseGuard(control);
        for n in 0..workers {
            let (results, start) = (results.clone(), &start);
            let work = move || {
                // A panic is a bug. It is caught so that the run ends instead of waiting for ever.
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
                            None => tools.insert(start(n)?),
                        };
                        let given = worker(position)?.map(|r| results.send(Ok((position, r))));
                        // Abandoned, or the run has ended.
                        if given.is_none_or(|sent| sent.is_err()) {
                            return Ok(());
                        }
                    }
                });
                if let Err(error) = catch_unwind(job).unwrap_or(Err(WorkerPoolError::Died.into())) {
                    // The receiver is gone when the error of another worker came first.
                    results.send(Err(error)).ok();
                }
            };
            thread::Builder::new()
                .name(format!("worker-{n}"))
                .spawn_scoped(scope, work)
                .map_err(WorkerPoolError::Spawn)?;
        }
        drop(results);
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
                // All workers have ended: they were stopped or panicked.
                let Ok(result) = collect.recv() else {
                    return if control.is_stopped() {
                        Ok(RunOutcome::Stopped)
                    } else {
                        Err(WorkerPoolError::Died.into())
                    };
                };
                let (position, result) = result?;
                waiting.insert(position, result);
                in_hand -= 1;
            }
            while let Some(result) = waiting.remove(&done) {
                consumer.deliver(done, result)?;
                done += 1;
            }
            control.lock_state().waiting = waiting.len();
        }
        Ok(RunOutcome::Done)
    })
}

/// Ends the queue of jobs when dropped.
struct QueueCloseGuard<'a>(&'a WorkerControl);

impl Drop for QueueCloseGuard<'_> {
    fn drop(&mut self) {
        self.0.clear(true);
    }
}

/// Receives the results of a run.
pub trait ResultSink<R, E> {
    /// The result of job `position` if it is known without running it; `None` to run it. Called before the job is handed
    /// out.
    fn cached_result(&mut self, position: usize) -> Option<R>;

    /// Receives the result of job `position`. Positions come in order, each once.
    ///
    /// # Errors
    /// Ends the run.
    fn deliver(&mut self, position: usize, result: R) -> Result<(), E>;
}

/// Stops the run of `control`: lets clips in progress finish, then abandons them, then exits the process with
/// [`Exit::Stopped`]. Returns at once.
pub(crate) fn shutdown_with_deadline(control: &Arc<WorkerControl>) {
    control.stop();
    let control = Arc::clone(control);
    let wait = move || {
        thread::sleep(FINISH_GRACE);
        control.abandon();
        thread::sleep(SHUTDOWN_GRACE.saturating_sub(FINISH_GRACE));
        tracing::warn!("a clip did not end in time; exiting without it");
        exit(Exit::Stopped as i32);
    };
    let thread = thread::Builder::new().name("deadline".into());
    if let Err(error) = thread.spawn(wait) {
        tracing::warn!(%error, "cannot wait for the clips in progress");
        exit(Exit::Stopped as i32);
    }
}

#[cfg(test)]
mod tests;
