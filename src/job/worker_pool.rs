//! Many workers, one order: jobs are handed out as workers get free, results come back in plan order.
//!
//! A worker is a thread with its own decoder and interpreters, which it makes when its turn comes and lets go of when
//! it is told to rest. What it is told comes through a [`Control`]. The channel of results is bounded and a job is
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
pub enum PipelineError<E> {
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
pub enum Ended {
    /// With its last job.
    Done,
    /// Because it was told to; what was delivered is a beginning of the jobs.
    Stopped,
}

/// What a run is told from outside, from any thread, at any time.
#[derive(Debug, Default)]
pub struct Control {
    state: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Told {
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
enum Next {
    Job(usize),
    Rest,
    End,
}

impl Control {
    /// Lets `workers` of the workers work; 0 holds all of them.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let control = Self::default();
        control.set_workers(workers);
        control
    }

    /// Lets `workers` of the workers work from their next job on; 0 holds all of them.
    pub fn set_workers(&self, workers: usize) {
        self.told().workers = workers;
        self.changed.notify_all();
    }

    /// How many may work.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.told().workers
    }

    /// Ends the run after the jobs in hand.
    pub fn stop(&self) {
        self.told().stop = true;
        self.changed.notify_all();
    }

    /// Ends the run as soon as its workers ask [`Control::is_abandoned`].
    pub fn abandon(&self) {
        self.told().abandon = true;
        self.stop();
    }

    /// Whether the run is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.told().stop
    }

    /// Whether jobs in hand are to be given up.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.told().abandon
    }

    /// Results that wait for an earlier one.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.told().waiting
    }

    /// Takes back [`Control::stop`] and [`Control::abandon`]: another run may follow.
    pub fn reset(&self) {
        let mut told = self.told();
        (told.stop, told.abandon) = (false, false);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Nothing panics while it is held; were it so, the plain values would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut told = self.told();
        told.queue.clear();
        (told.is_over, told.waiting) = (false, 0);
    }

    fn offer(&self, job: usize) {
        self.told().queue.push_back(job);
        self.changed.notify_all();
    }

    fn end(&self) {
        self.told().is_over = true;
        self.changed.notify_all();
    }

    /// Waits until there is something to do for worker `n`, which has what it works with or not.
    fn next(&self, n: usize, has_tools: bool) -> Next {
        let mut told = self.told();
        loop {
            if told.stop || (told.is_over && told.queue.is_empty()) {
                return Next::End;
            }
            if n >= told.workers {
                if has_tools {
                    return Next::Rest;
                }
            } else if let Some(job) = told.queue.pop_front() {
                return Next::Job(job);
            }
            told = self
                .changed
                .wait(told)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs jobs `0..jobs` on at most `workers` threads, of which `control` says how many may work.
///
/// `start(n)` is called in thread `n` before its first job, and after each rest, and makes what does the jobs there;
/// that gives `None` for a job that it gives up because [`Control::is_abandoned`]. `spare(position)` is asked before a
/// job is handed out, when every result before the window is known; a result that it returns stands for the job.
/// `deliver(position, result)` gets each result, in order of position, on the calling thread.
///
/// # Errors
/// The first error ends the run; jobs in hand are finished first, their results dropped.
pub fn run<R, E, W, Start, Consumer>(
    jobs: usize,
    workers: usize,
    control: &Control,
    start: Start,
    consumer: &mut Consumer,
) -> Result<Ended, PipelineError<E>>
where
    R: Send,
    E: Send,
    W: FnMut(usize) -> Result<Option<R>, E>,
    Start: Fn(usize) -> Result<W, E> + Sync,
    Consumer: Collect<R, E>,
{
    let workers = workers.clamp(1, jobs.max(1));
    let window = workers * WINDOW_PER_WORKER;
    let (give_back, collect) = bounded::<Result<(usize, R), PipelineError<E>>>(window + workers);
    control.begin();
    thread::scope(|scope| {
        // However this ends, the workers are told.
        let _over = Over(control);
        for n in 0..workers {
            let (give_back, start) = (give_back.clone(), &start);
            let work = move || {
                // A panic is a bug of ours; caught, it ends the job instead of leaving it to wait for ever.
                let job = AssertUnwindSafe(|| {
                    let mut tools = None;
                    loop {
                        let position = match control.next(n, tools.is_some()) {
                            Next::Job(position) => position,
                            Next::Rest => {
                                tools = None;
                                continue;
                            }
                            Next::End => return Ok(()),
                        };
                        let worker = match &mut tools {
                            Some(worker) => worker,
                            None => tools.insert(start(n).map_err(PipelineError::Worker)?),
                        };
                        let result = worker(position).map_err(PipelineError::Worker)?;
                        let given = result.map(|r| give_back.send(Ok((position, r))));
                        // Given up, or nobody takes it any more.
                        if given.is_none_or(|sent| sent.is_err()) {
                            return Ok(());
                        }
                    }
                });
                if let Err(error) = catch_unwind(job).unwrap_or(Err(PipelineError::Died)) {
                    // Nobody listens when another worker's error came first.
                    give_back.send(Err(error)).ok();
                }
            };
            thread::Builder::new()
                .name(format!("worker-{n}"))
                .spawn_scoped(scope, work)
                .map_err(PipelineError::Spawn)?;
        }
        drop(give_back);
        let mut waiting: BTreeMap<usize, R> = BTreeMap::new();
        let (mut next, mut done, mut in_hand) = (0, 0, 0);
        while done < jobs {
            while next < jobs && next < done + window && in_hand < 2 * workers {
                if let Some(result) = consumer.spare(next) {
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
                        Ok(Ended::Stopped)
                    } else {
                        Err(PipelineError::Died)
                    };
                };
                let (position, result) = result?;
                waiting.insert(position, result);
                in_hand -= 1;
            }
            while let Some(result) = waiting.remove(&done) {
                consumer
                    .deliver(done, result)
                    .map_err(PipelineError::Consumer)?;
                done += 1;
            }
            control.told().waiting = waiting.len();
        }
        Ok(Ended::Done)
    })
}

/// Tells the workers that no more jobs come, when dropped.
struct Over<'a>(&'a Control);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut told = self.0.told();
        told.queue.clear();
        told.waiting = 0;
        drop(told);
        self.0.end();
    }
}

/// Takes the results of a run.
pub trait Collect<R, E> {
    /// A result for job `position` without running it, or `None` to run it. Whatever was delivered so far is known.
    fn spare(&mut self, position: usize) -> Option<R>;

    /// The result of job `position`; positions come in order, each once.
    ///
    /// # Errors
    /// Ends the run.
    fn deliver(&mut self, position: usize, result: R) -> Result<(), E>;
}

#[cfg(test)]
mod tests;
