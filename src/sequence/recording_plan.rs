//! Takes by hand: somebody says what will be signed, how often, and gets time to sit down before each.
//!
//! Says when signs are listened for and what they are called. Pure: time comes in.

use std::sync::Arc;
use std::time::Duration;

/// What signs are called that nobody gave a name.
pub const UNLABELLED: &str = "unlabelled";
/// Longest name of a gloss, characters.
const GLOSS_MAX: usize = 100;
/// Most takes that are asked for at once.
const COUNT_MAX: u32 = 10_000;
/// Longest time before a take.
const COUNTDOWN_MAX: Duration = Duration::from_hours(1);

/// Record so many takes of one gloss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRequest {
    /// The label.
    pub gloss: Arc<str>,
    /// How many.
    pub count: u32,
    /// Time before each, in which nothing is taken.
    pub countdown: Duration,
}

/// An order that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordRequestError {
    /// No name, or a very long one, or one that does not fit on a line.
    #[error("{0:?} is no gloss: give 1 to 100 characters on one line")]
    Gloss(String),
    /// None, or far too many.
    #[error("{0} takes: give 1 to 10000")]
    Count(u32),
    /// Longer than anybody waits.
    #[error("a countdown of {} s: give 3600 at most", .0.as_secs())]
    Countdown(Duration),
}

impl RecordRequest {
    /// An order whose parts make sense; blanks around the gloss are dropped.
    ///
    /// # Errors
    /// With the part that does not.
    pub fn new(gloss: &str, count: u32, countdown: Duration) -> Result<Self, RecordRequestError> {
        let gloss = gloss.trim();
        if gloss.is_empty()
            || gloss.chars().count() > GLOSS_MAX
            || gloss.chars().any(char::is_control)
        {
            return Err(RecordRequestError::Gloss(gloss.to_owned()));
        }
        if count == 0 || count > COUNT_MAX {
            return Err(RecordRequestError::Count(count));
        }
        if countdown > COUNTDOWN_MAX {
            return Err(RecordRequestError::Countdown(countdown));
        }
        Ok(Self {
            gloss: gloss.into(),
            count,
            countdown,
        })
    }
}

/// What is expected of the signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingPhase {
    /// Nothing is asked for.
    Idle,
    /// A take begins soon.
    Countdown {
        /// Until then.
        left: Duration,
        /// Which one, from 1.
        take: u32,
    },
    /// The next sign is a take.
    Open {
        /// Which one, from 1.
        take: u32,
    },
}

impl RecordingPhase {
    /// The name in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Countdown { .. } => "countdown",
            Self::Open { .. } => "open",
        }
    }
}

#[derive(Clone, Debug)]
struct ActiveRequest {
    order: RecordRequest,
    taken: u32,
    /// When the next take opens.
    opens: Duration,
}

/// What is being recorded.
#[derive(Clone, Debug, Default)]
pub struct RecordingPlan {
    /// Whether signs are kept that no order asked for.
    keeps_all: bool,
    running: Option<ActiveRequest>,
}

impl RecordingPlan {
    /// One without orders. With `keeps_all` every sign is kept, called [`UNLABELLED`]; else only those asked for.
    #[must_use]
    pub fn new(keeps_all: bool) -> Self {
        Self {
            keeps_all,
            running: None,
        }
    }

    /// Takes up an order in the place of any other.
    pub fn record(&mut self, order: RecordRequest, now: Duration) {
        let opens = now.saturating_add(order.countdown);
        self.running = Some(ActiveRequest {
            order,
            taken: 0,
            opens,
        });
    }

    /// Drops the order.
    pub fn cancel(&mut self) {
        self.running = None;
    }

    /// The order, also one that is done.
    #[must_use]
    pub fn order(&self) -> Option<&RecordRequest> {
        self.running.as_ref().map(|r| &r.order)
    }

    /// Takes of the order so far, and how many it asks for; `None` without one.
    #[must_use]
    pub fn tally(&self) -> Option<(u32, u32)> {
        self.running.as_ref().map(|r| (r.taken, r.order.count))
    }

    /// What is expected now.
    #[must_use]
    pub fn phase(&self, now: Duration) -> RecordingPhase {
        match &self.running {
            Some(r) if r.taken < r.order.count => {
                let take = r.taken + 1;
                match r.opens.checked_sub(now) {
                    Some(left) if !left.is_zero() => RecordingPhase::Countdown { left, take },
                    _ => RecordingPhase::Open { take },
                }
            }
            _ => RecordingPhase::Idle,
        }
    }

    /// Whether a sign at `now` would be kept.
    #[must_use]
    pub fn is_listening(&self, now: Duration) -> bool {
        match self.phase(now) {
            RecordingPhase::Open { .. } => true,
            RecordingPhase::Countdown { .. } => false,
            RecordingPhase::Idle => self.keeps_all,
        }
    }

    /// A sign was cut: what it is called. `None` when nobody wanted it.
    pub fn take(&mut self, now: Duration) -> Option<Arc<str>> {
        match self.phase(now) {
            RecordingPhase::Open { .. } => {
                let running = self.running.as_mut()?;
                running.taken += 1;
                running.opens = now.saturating_add(running.order.countdown);
                Some(Arc::clone(&running.order.gloss))
            }
            RecordingPhase::Countdown { .. } => None,
            RecordingPhase::Idle => self.keeps_all.then(|| UNLABELLED.into()),
        }
    }

    /// The last take of `gloss` was discarded: where the order asked for it, it is asked for again. Also for a sign
    /// that turned out to be none.
    pub fn again(&mut self, gloss: &str, now: Duration) {
        if let Some(running) = &mut self.running
            && *running.order.gloss == *gloss
            && running.taken > 0
        {
            running.taken -= 1;
            running.opens = now.saturating_add(running.order.countdown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn order(count: u32) -> RecordRequest {
        RecordRequest::new(" book ", count, S * 3).unwrap()
    }

    #[test]
    fn an_order_is_counted_down_taken_and_done() {
        let mut takes = RecordingPlan::new(false);
        assert!(!takes.is_listening(S) && takes.take(S).is_none());
        takes.record(order(2), S);
        let countdown = |left, take| RecordingPhase::Countdown { left, take };
        assert_eq!(takes.phase(S * 2), countdown(S * 2, 1));
        assert_eq!(
            (takes.is_listening(S * 2), takes.take(S * 2)),
            (false, None)
        );
        assert_eq!(takes.phase(S * 4), RecordingPhase::Open { take: 1 });
        assert_eq!(takes.take(S * 9).as_deref(), Some("book"));
        assert_eq!(takes.phase(S * 10), countdown(S * 2, 2));
        assert_eq!(takes.take(S * 13).as_deref(), Some("book"));
        assert_eq!(takes.phase(S * 14), RecordingPhase::Idle);
        assert_eq!(takes.take(S * 14), None);
        // Undone after the last: asked for once more.
        takes.again("deaf", S * 15);
        assert_eq!(takes.phase(S * 15), RecordingPhase::Idle);
        takes.again("book", S * 15);
        assert_eq!(takes.phase(S * 15), countdown(S * 3, 2));
        takes.cancel();
        assert_eq!(takes.phase(S * 30), RecordingPhase::Idle);
        takes.again("book", S * 30);
        assert_eq!(takes.phase(S * 30), RecordingPhase::Idle);
    }

    #[test]
    fn without_orders_all_or_nothing_is_kept() {
        let mut takes = RecordingPlan::new(true);
        assert!(takes.is_listening(S));
        assert_eq!(takes.take(S).as_deref(), Some(UNLABELLED));
        takes.record(order(1), S);
        assert!(!takes.is_listening(S * 2));
        assert_eq!(takes.take(S * 5).as_deref(), Some("book"));
        assert_eq!(takes.take(S * 6).as_deref(), Some(UNLABELLED));
    }

    #[test]
    fn orders_that_make_no_sense_are_refused() {
        let check = |gloss: &str, count, seconds, says: &str| {
            let error = RecordRequest::new(gloss, count, S * seconds).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        };
        check(" ", 1, 0, "gloss");
        check("a\nb", 1, 0, "gloss");
        check(&"x".repeat(101), 1, 0, "gloss");
        check("a", 0, 0, "1 to 10000");
        check("a", 10_001, 0, "1 to 10000");
        check("a", 1, 3601, "3600");
    }
}
