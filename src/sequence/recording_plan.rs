//! Decides which signs of a camera become takes, and under which label.
//!
//! A request is for a number of takes of one gloss, with a countdown before each. Pure: the caller gives the time.

use std::sync::Arc;
use std::time::Duration;

/// Label of signs without a request.
pub const UNLABELLED: &str = "unlabelled";
/// Longest gloss, in characters.
const GLOSS_MAX: usize = 100;
/// Largest number of takes in one request.
const COUNT_MAX: u32 = 10_000;
/// Longest countdown.
const COUNTDOWN_MAX: Duration = Duration::from_hours(1);

/// A request to record takes of one gloss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRequest {
    /// The label.
    pub gloss: Arc<str>,
    /// Number of takes.
    pub count: u32,
    /// Time before each take in which no sign is recorded.
    pub countdown: Duration,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordRequestError(String);

impl RecordRequest {
    /// Checks the parts of a request; blanks around the gloss are dropped.
    ///
    /// # Errors
    /// With the first part that is not valid.
    pub fn new(gloss: &str, count: u32, countdown: Duration) -> Result<Self, RecordRequestError> {
        let gloss = gloss.trim();
        if gloss.is_empty()
            || gloss.chars().count() > GLOSS_MAX
            || gloss.chars().any(char::is_control)
        {
            return Err(RecordRequestError(format!(
                "gloss {gloss:?} is not valid: give 1 to {GLOSS_MAX} characters on one line"
            )));
        }
        if count == 0 || count > COUNT_MAX {
            return Err(RecordRequestError(format!(
                "{count} takes cannot be recorded: give 1 to {COUNT_MAX}"
            )));
        }
        if countdown > COUNTDOWN_MAX {
            return Err(RecordRequestError(format!(
                "a countdown of {} s is too long: give at most {}",
                countdown.as_secs(),
                COUNTDOWN_MAX.as_secs()
            )));
        }
        Ok(Self {
            gloss: gloss.into(),
            count,
            countdown,
        })
    }
}

/// What the signer should do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingPhase {
    /// No take is requested.
    Idle,
    /// A take can begin when the countdown is over.
    Countdown {
        /// Time left of the countdown.
        left: Duration,
        /// Number of the take, from 1.
        take: u32,
    },
    /// The next sign becomes a take.
    Open {
        /// Number of the take, from 1.
        take: u32,
    },
}

impl RecordingPhase {
    /// Name of the phase in messages.
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
    request: RecordRequest,
    taken: u32,
    /// When the countdown of the next take is over.
    opens: Duration,
}

/// Which signs are recorded.
#[derive(Clone, Debug, Default)]
pub struct RecordingPlan {
    /// Whether signs are kept while there is no request.
    keeps_all: bool,
    running: Option<ActiveRequest>,
}

impl RecordingPlan {
    /// A plan without a request. With `keeps_all` every sign is kept under [`UNLABELLED`], else only requested ones.
    #[must_use]
    pub fn new(keeps_all: bool) -> Self {
        Self {
            keeps_all,
            running: None,
        }
    }

    /// Replaces any request by `request`.
    pub fn record(&mut self, request: RecordRequest, now: Duration) {
        let opens = now.saturating_add(request.countdown);
        self.running = Some(ActiveRequest {
            request,
            taken: 0,
            opens,
        });
    }

    /// Drops the request.
    pub fn cancel(&mut self) {
        self.running = None;
    }

    /// The request, even if it is complete.
    #[must_use]
    pub fn request(&self) -> Option<&RecordRequest> {
        self.running.as_ref().map(|r| &r.request)
    }

    /// Number of takes recorded and requested; `None` without a request.
    #[must_use]
    pub fn progress(&self) -> Option<(u32, u32)> {
        self.running.as_ref().map(|r| (r.taken, r.request.count))
    }

    /// Whether the request has all its takes, or there is no request.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.progress().is_none_or(|(taken, count)| taken >= count)
    }

    /// The phase at the time `now`.
    #[must_use]
    pub fn phase(&self, now: Duration) -> RecordingPhase {
        match &self.running {
            Some(r) if r.taken < r.request.count => {
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

    /// Counts a sign that ended at `now`. Returns its label; `None` when the sign must not be kept.
    pub fn claim(&mut self, now: Duration) -> Option<Arc<str>> {
        match self.phase(now) {
            RecordingPhase::Open { .. } => {
                let running = self.running.as_mut()?;
                running.taken += 1;
                running.opens = now.saturating_add(running.request.countdown);
                Some(Arc::clone(&running.request.gloss))
            }
            RecordingPhase::Countdown { .. } => None,
            RecordingPhase::Idle => self.keeps_all.then(|| UNLABELLED.into()),
        }
    }

    /// Takes back the last take of `gloss`, if it is the request's: it was discarded or is too short. The next
    /// countdown begins at `since`.
    pub fn retry(&mut self, gloss: &str, since: Duration) {
        if let Some(running) = &mut self.running
            && *running.request.gloss == *gloss
            && running.taken > 0
        {
            running.taken -= 1;
            running.opens = since.saturating_add(running.request.countdown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn request(count: u32) -> RecordRequest {
        RecordRequest::new(" book ", count, S * 3).unwrap()
    }

    #[test]
    fn a_request_is_counted_down_recorded_and_complete() {
        let mut plan = RecordingPlan::new(false);
        assert!(!plan.is_listening(S) && plan.claim(S).is_none());
        plan.record(request(2), S);
        let countdown = |left, take| RecordingPhase::Countdown { left, take };
        assert_eq!(plan.phase(S * 2), countdown(S * 2, 1));
        assert_eq!((plan.is_listening(S * 2), plan.claim(S * 2)), (false, None));
        assert_eq!(plan.phase(S * 4), RecordingPhase::Open { take: 1 });
        assert_eq!(plan.claim(S * 9).as_deref(), Some("book"));
        assert_eq!(plan.phase(S * 10), countdown(S * 2, 2));
        assert_eq!(plan.claim(S * 13).as_deref(), Some("book"));
        assert_eq!(plan.phase(S * 14), RecordingPhase::Idle);
        assert_eq!(plan.claim(S * 14), None);
        // The last take was discarded, so one more is recorded.
        plan.retry("deaf", S * 15);
        assert_eq!(plan.phase(S * 15), RecordingPhase::Idle);
        plan.retry("book", S * 15);
        assert_eq!(plan.phase(S * 15), countdown(S * 3, 2));
        plan.cancel();
        assert_eq!(plan.phase(S * 30), RecordingPhase::Idle);
        plan.retry("book", S * 30);
        assert_eq!(plan.phase(S * 30), RecordingPhase::Idle);
    }

    #[test]
    fn without_a_request_all_or_nothing_is_kept() {
        let mut plan = RecordingPlan::new(true);
        assert!(plan.is_listening(S));
        assert_eq!(plan.claim(S).as_deref(), Some(UNLABELLED));
        plan.record(request(1), S);
        assert!(!plan.is_listening(S * 2));
        assert_eq!(plan.claim(S * 5).as_deref(), Some("book"));
        assert_eq!(plan.claim(S * 6).as_deref(), Some(UNLABELLED));
    }

    #[test]
    fn requests_that_are_not_valid_are_refused() {
        let check = |gloss: &str, count, seconds, expected: &str| {
            let error = RecordRequest::new(gloss, count, S * seconds).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(" ", 1, 0, "gloss");
        check("a\nb", 1, 0, "gloss");
        check(&"x".repeat(101), 1, 0, "gloss");
        check("a", 0, 0, "1 to 10000");
        check("a", 10_001, 0, "1 to 10000");
        check("a", 1, 3601, "3600");
    }
}
