use super::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Counts how often it is dropped.
struct CountedDrop<'a>(&'a AtomicUsize);

impl Drop for CountedDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl From<WorkerPoolError> for String {
    fn from(error: WorkerPoolError) -> Self {
        error.to_string()
    }
}

struct List {
    got: Vec<(usize, usize)>,
    spared: Vec<usize>,
    stop_at: usize,
}

impl ResultSink<usize, String> for List {
    fn cached_result(&mut self, position: usize) -> Option<usize> {
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
            let ended = run(
                jobs,
                workers,
                &WorkerControl::new(workers),
                |_| Ok(|p| Ok::<_, String>(Some(work(p) + 1))),
                &mut to,
            );
            assert_eq!(ended.unwrap(), RunOutcome::Done);
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
        let start = |_| {
            Ok(|p| {
                assert!(p != 17, "meant to fail");
                Ok::<_, String>(Some(p))
            })
        };
        let control = WorkerControl::new(workers);
        let ended = run(100, workers, &control, start, &mut list(usize::MAX));
        assert!(
            matches!(ended, Err(e) if e.contains("died")),
            "{workers} workers"
        );
    }
}

#[test]
fn errors_end_the_run() {
    let control = WorkerControl::new(3);
    let start = |_| {
        Ok(|p| {
            if p == 17 {
                Err("broken".to_owned())
            } else {
                Ok(Some(p))
            }
        })
    };
    assert!(matches!(run(100, 3, &control, start, &mut list(usize::MAX)), Err(e) if e == "broken"));
    let mut to = list(20);
    let start = |_| Ok(|p| Ok::<_, String>(Some(p)));
    assert!(matches!(run(100, 3, &control, start, &mut to), Err(e) if e == "full"));
    assert_eq!(to.got.len(), 21);
    let start = |_| Err::<fn(usize) -> Result<Option<usize>, String>, _>("no model".to_owned());
    assert!(
        matches!(run(100, 3, &control, start, &mut list(usize::MAX)), Err(e) if e == "no model")
    );
}

#[test]
fn a_stop_leaves_a_beginning() {
    for abandon in [false, true] {
        let control = WorkerControl::new(3);
        let mut to = list(usize::MAX);
        let start = |_| {
            Ok(|p| {
                if p == 50 {
                    if abandon {
                        control.abandon();
                    } else {
                        control.stop();
                    }
                }
                Ok::<_, String>((!control.is_abandoned()).then_some(p))
            })
        };
        let ended = run(100, 3, &control, start, &mut to);
        assert_eq!(ended.unwrap(), RunOutcome::Stopped);
        let positions: Vec<usize> = to.got.iter().map(|(p, _)| *p).collect();
        assert!(positions.iter().copied().eq(0..positions.len()));
        // A job in progress is finished, unless it is abandoned.
        assert_eq!(positions.contains(&50), !abandon, "{positions:?}");
        assert!(positions.len() < 60);
        control.reset();
        let start = |_| Ok(|p| Ok::<_, String>(Some(p)));
        let ended = run(100, 3, &control, start, &mut list(usize::MAX));
        assert_eq!(ended.unwrap(), RunOutcome::Done);
    }
}

#[test]
fn workers_rest_and_come_back() {
    let control = WorkerControl::new(0);
    let (starts, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = |_| {
        starts.fetch_add(1, SeqCst);
        let tools = CountedDrop(&ends);
        let control = &control;
        Ok(move |p| {
            // The closure keeps its tools for as long as it lives.
            let _tools = &tools;
            if p == 10 {
                control.set_workers(0);
            }
            Ok::<_, String>(Some(p))
        })
    };
    let mut to = list(usize::MAX);
    to.spared.clear();
    thread::scope(|scope| {
        let (control, ends) = (&control, &ends);
        scope.spawn(move || {
            control.set_workers(4);
            // Once job 10 is done, all four workers pause or have not started; then one continues alone.
            while control.workers() != 0 || ends.load(SeqCst) == 0 {
                thread::yield_now();
            }
            control.set_workers(1);
        });
        let ended = run(100, 4, control, start, &mut to);
        assert_eq!(ended.unwrap(), RunOutcome::Done);
    });
    assert_eq!(to.got.len(), 100);
    assert_eq!(starts.load(SeqCst), ends.load(SeqCst));
    assert!(starts.load(SeqCst) >= 2);
}
