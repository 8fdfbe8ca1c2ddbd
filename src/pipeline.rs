//! Many workers, one order: jobs are handed out as workers get free, results come back in plan order.
//!
//! A worker is a thread with its own decoder and interpreters. Both channels are bounded and a job is handed out only
//! while it lies within a window of the oldest one that is not done, so a slow clip cannot pile up its successors.

use crossbeam_channel::bounded;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// Runs jobs `0..jobs` on `workers` threads.
///
/// `start` is called once in each thread and makes what does the jobs there. `spare(position)` is asked before a job
/// is handed out, when every result before the window is known; a result that it returns stands for the job.
/// `deliver(position, result)` gets each result, in order of position, on the calling thread.
///
/// # Errors
/// The first error ends the run; jobs in hand are finished first, their results dropped.
pub fn run<R, E, W, Start, Consumer>(
    jobs: usize,
    workers: usize,
    start: Start,
    consumer: &mut Consumer,
) -> Result<(), PipelineError<E>>
where
    R: Send,
    E: Send,
    W: FnMut(usize) -> Result<R, E>,
    Start: Fn() -> Result<W, E> + Sync,
    Consumer: Collect<R, E>,
{
    let workers = workers.clamp(1, jobs.max(1));
    let window = workers * WINDOW_PER_WORKER;
    let (give, take) = bounded::<usize>(workers);
    let (give_back, collect) = bounded::<Result<(usize, R), PipelineError<E>>>(window + workers);
    thread::scope(|scope| {
        for n in 0..workers {
            let (take, give_back, start) = (take.clone(), give_back.clone(), &start);
            let work = move || {
                // A panic is a bug of ours; caught, it ends the job instead of leaving it to wait for ever.
                let job = AssertUnwindSafe(|| {
                    let mut worker = start().map_err(PipelineError::Worker)?;
                    for position in take {
                        let result = worker(position).map_err(PipelineError::Worker)?;
                        if give_back.send(Ok((position, result))).is_err() {
                            return Ok(());
                        }
                    }
                    Ok(())
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
        drop((take, give_back));
        let mut waiting: BTreeMap<usize, R> = BTreeMap::new();
        let (mut next, mut done, mut in_hand) = (0, 0, 0);
        while done < jobs {
            while next < jobs && next < done + window && in_hand < 2 * workers {
                if let Some(result) = consumer.spare(next) {
                    waiting.insert(next, result);
                } else if give.send(next).is_err() {
                    break;
                } else {
                    in_hand += 1;
                }
                next += 1;
            }
            if !waiting.contains_key(&done) {
                let (position, result) = collect.recv().map_err(|_| PipelineError::Died)??;
                waiting.insert(position, result);
                in_hand -= 1;
            }
            while let Some(result) = waiting.remove(&done) {
                consumer
                    .deliver(done, result)
                    .map_err(PipelineError::Consumer)?;
                done += 1;
            }
        }
        drop(give);
        Ok(())
    })
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
mod tests {
    use super::*;

    struct List {
        got: Vec<(usize, usize)>,
        spared: Vec<usize>,
        stop_at: usize,
    }

    impl Collect<usize, String> for List {
        fn spare(&mut self, position: usize) -> Option<usize> {
            self.spared.contains(&position).then_some(0)
        }

        fn deliver(&mut self, position: usize, result: usize) -> Result<(), String> {
            self.got.push((position, result));
            if position == self.stop_at {
                Err("full".into())
            } else {
                Ok(())
            }
        }
    }

    fn list(stop_at: usize) -> List {
        List {
            got: Vec::new(),
            spared: vec![0, 3, 4, 99],
            stop_at,
        }
    }

    /// Work of uneven length without a clock.
    fn work(position: usize) -> usize {
        (0..(position * 7919) % 5000).fold(position, |a, b| std::hint::black_box(a ^ b ^ b))
    }

    #[test]
    fn results_come_in_order_whatever_the_workers() {
        for workers in [1, 2, 5, 64] {
            for jobs in [0, 1, 2, 100] {
                let mut to = list(usize::MAX);
                run(
                    jobs,
                    workers,
                    || Ok(|p| Ok::<_, String>(work(p) + 1)),
                    &mut to,
                )
                .unwrap();
                let expected: Vec<_> = (0..jobs)
                    .map(|p| (p, if to.spared.contains(&p) { 0 } else { p + 1 }))
                    .collect();
                assert_eq!(to.got, expected, "{workers} workers, {jobs} jobs");
            }
        }
    }

    #[test]
    fn a_panic_ends_the_run() {
        for workers in [1, 3] {
            let start = || {
                Ok(|p| {
                    assert!(p != 17, "meant to fail");
                    Ok::<_, String>(p)
                })
            };
            let ended = run(100, workers, start, &mut list(usize::MAX));
            assert!(
                matches!(ended, Err(PipelineError::Died)),
                "{workers} workers"
            );
        }
    }

    #[test]
    fn errors_end_the_run() {
        let start = || {
            Ok(|p| {
                if p == 17 {
                    Err("broken".to_owned())
                } else {
                    Ok(p)
                }
            })
        };
        assert!(
            matches!(run(100, 3, start, &mut list(usize::MAX)), Err(PipelineError::Worker(e)) if e == "broken")
        );
        let mut to = list(20);
        let start = || Ok(Ok::<usize, String>);
        assert!(
            matches!(run(100, 3, start, &mut to), Err(PipelineError::Consumer(e)) if e == "full")
        );
        assert_eq!(to.got.len(), 21);
        let start = || Err::<fn(usize) -> Result<usize, String>, _>("no model".to_owned());
        assert!(
            matches!(run(100, 3, start, &mut list(usize::MAX)), Err(PipelineError::Worker(e)) if e == "no model")
        );
    }
}
