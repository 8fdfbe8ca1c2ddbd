//! What can happen to a camera.

use std::io;
use std::time::Duration;

/// Why a camera gives no frames. Every message ends with the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CameraError {
    /// No device at this place, or not now.
    #[error("{device} is not there; plug it in, or see `handloom camera --list`")]
    NotFound {
        /// As named.
        device: String,
    },
    /// The system does not let us.
    #[error(
        "{device} may not be opened; add the user to the group video, or in a unit name it in DeviceAllow"
    )]
    Denied {
        /// As named.
        device: String,
    },
    /// Another program films.
    #[error("{device} is in use by another program; end that one (`fuser {device}` names it)")]
    Busy {
        /// As named.
        device: String,
    },
    /// It is no camera that we can use.
    #[error("{device} cannot be filmed with: {reason}; see `handloom camera --list`")]
    NoCamera {
        /// As named.
        device: String,
        /// What it lacks.
        reason: String,
    },
    /// It does not give what was asked for.
    #[error("{device} gives no {wanted}; it offers {offered}")]
    NoFormat {
        /// As named.
        device: String,
        /// What was asked for.
        wanted: String,
        /// What it can do.
        offered: String,
    },
    /// It was there and is not any longer.
    #[error("{device} is gone ({reason}); plug it in again, it is found by itself")]
    Gone {
        /// As named.
        device: String,
        /// The system's words.
        reason: String,
    },
    /// It is there and gives nothing.
    #[error(
        "{device} gave no frame for {:.1} s; it is opened again, plug it out and in if that does not help", .after.as_secs_f64()
    )]
    Frozen {
        /// As named.
        device: String,
        /// For how long.
        after: Duration,
    },
    /// Its driver does not return from a call.
    #[error(
        "{device} did not answer for {:.1} s: its driver hangs; plug it out and in, it films again once it answers", .after.as_secs_f64()
    )]
    Hangs {
        /// As named.
        device: String,
        /// For how long so far.
        after: Duration,
    },
    /// What it gives is not what was agreed on.
    #[error("{device} changed its format: {what}; it is opened again")]
    Changed {
        /// As named.
        device: String,
        /// From what to what.
        what: String,
    },
    /// Frame after frame is no good.
    #[error(
        "{device} gave {count} damaged frames in a row ({reason}); it is opened again, try another cable or port"
    )]
    Damaged {
        /// As named.
        device: String,
        /// How many.
        count: u32,
        /// What was wrong with the last.
        reason: String,
    },
    /// A driver or a library said something else.
    #[error("{device} failed: {reason}; it is opened again")]
    Failed {
        /// As named.
        device: String,
        /// The system's words.
        reason: String,
    },
    /// A file that stands in for a camera cannot be used.
    #[error("{path} cannot stand in for a camera: {reason}; give a clip or a PNG or JPEG image")]
    File {
        /// As named.
        path: String,
        /// The decoder's words.
        reason: String,
    },
    /// There is no thread to film in.
    #[error("no thread for the camera: {0}; end other programs")]
    Thread(String),
    /// The thread ended by itself: our own fault.
    #[error("the camera's thread ended by itself; start again, and report what the log says")]
    Lost,
}

impl CameraError {
    /// What the system's error means for a device.
    #[must_use]
    pub fn of(device: &str, error: &io::Error) -> Self {
        let device = device.to_owned();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO) => Self::NotFound { device },
            Some(libc::EACCES | libc::EPERM) => Self::Denied { device },
            Some(libc::EBUSY) => Self::Busy { device },
            Some(libc::ENODEV) => Self::Gone {
                device,
                reason: error.to_string(),
            },
            _ => Self::Failed {
                device,
                reason: error.to_string(),
            },
        }
    }

    /// The name in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Denied { .. } => "denied",
            Self::Busy { .. } => "busy",
            Self::NoCamera { .. } => "no_camera",
            Self::NoFormat { .. } => "no_format",
            Self::Gone { .. } => "gone",
            Self::Frozen { .. } => "frozen",
            Self::Hangs { .. } => "hangs",
            Self::Changed { .. } => "changed",
            Self::Damaged { .. } => "damaged",
            Self::Failed { .. } => "failed",
            Self::File { .. } => "file",
            Self::Thread(_) => "thread",
            Self::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_numbers_are_told_apart() {
        let check = |number, name: &str, says: &str| {
            let error = CameraError::of("/dev/video0", &io::Error::from_raw_os_error(number));
            assert_eq!(error.name(), name);
            assert!(error.to_string().contains(says), "{error}");
        };
        check(libc::ENOENT, "not_found", "--list");
        check(libc::EACCES, "denied", "group video");
        check(libc::EBUSY, "busy", "fuser");
        check(libc::ENODEV, "gone", "plug");
        check(libc::EIO, "failed", "Input/output");
    }
}
