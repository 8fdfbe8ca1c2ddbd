//! The memory budget for unpacked files, shared by all threads that unpack.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that may be in use at the same time.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    total: u64,
    free: Mutex<u64>,
    released: Condvar,
}

impl MemoryBudget {
    /// A budget of `total` bytes, all of them free.
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            free: Mutex::new(total),
            released: Condvar::new(),
        }
    }

    /// Takes `bytes`, or the whole budget when they exceed it, and waits until they are free. The calling thread must
    /// hold none.
    pub(super) fn take(&self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.total);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.released.wait_while(free, |free| *free < bytes);
        *free.unwrap_or_else(PoisonError::into_inner) -= bytes;
        bytes
    }

    /// Returns the bytes that [`MemoryBudget::take`] gave.
    pub(super) fn give(&self, bytes: u64) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        self.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn what_is_in_use_never_exceeds_the_budget() {
        let budget = MemoryBudget::new(100);
        let (used, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (budget, used, most) = (&budget, &used, &most);
                scope.spawn(move || {
                    for turn in 0..200 {
                        let taken = budget.take((thread * 37 + turn * 13) % 120);
                        let now = used.fetch_add(taken, Ordering::SeqCst) + taken;
                        most.fetch_max(now, Ordering::SeqCst);
                        used.fetch_sub(taken, Ordering::SeqCst);
                        budget.give(taken);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 100);
        assert_eq!(budget.take(1 << 40), 100);
    }
}
