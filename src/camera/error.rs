//! Faults of a camera.

use std::io;
use std::time::Duration;

/// Why a camera gives no frames. Every message ends with a fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CameraError {
    /// No device is at this path now.
    #[error("{0} is not there; plug it in, or see `handloom camera --list`")]
    NotFound(String),
    /// The system denies access to the device.
    #[error(
        "no permission to open {0}; add the user to the group video, or name the device in DeviceAllow of the unit"
    )]
    Denied(String),
    /// Another program uses the camera.
    #[error("{0} is in use by another program; end that one (`fuser {0}` names it)")]
    Busy(String),
    /// The device cannot be used as a camera.
    #[error("{device} cannot be used as a camera: {reason}; see `handloom camera --list`")]
    NoCamera {
        /// The device, as the user named it.
        device: String,
        /// What the device lacks.
        reason: String,
    },
    /// The camera does not have the requested format.
    #[error("{device} does not offer {wanted}; it offers {offered}")]
    NoFormat {
        /// The device, as the user named it.
        device: String,
        /// The requested format.
        wanted: String,
        /// The formats that it has.
        offered: String,
    },
    /// The device was unplugged.
    #[error("{device} is gone ({reason}); plug it in again, it is found automatically")]
    Gone {
        /// The device, as the user named it.
        device: String,
        /// The system's message.
        reason: String,
    },
    /// The device exists but gives no frame.
    #[error(
        "{device} gave no frame for {:.1} s; it is opened again, unplug it and plug it in if that does not help", .after.as_secs_f64()
    )]
    Frozen {
        /// The device, as the user named it.
        device: String,
        /// Time without a frame.
        after: Duration,
    },
    /// The driver does not return from a call.
    #[error(
        "{device} did not answer for {:.1} s: its driver hangs; unplug it and plug it in, capture continues when it answers", .after.as_secs_f64()
    )]
    Hangs {
        /// The device, as the user named it.
        device: String,
        /// Time in the call so far.
        after: Duration,
    },
    /// The format changed during capture.
    #[error("{device} changed its format: {what}; it is opened again")]
    Changed {
        /// The device, as the user named it.
        device: String,
        /// The old and the new format.
        what: String,
    },
    /// Too many damaged frames in a row.
    #[error(
        "{device} gave {count} damaged frames in a row ({reason}); it is opened again, try another cable or port"
    )]
    Damaged {
        /// The device, as the user named it.
        device: String,
        /// Number of frames.
        count: u32,
        /// What is wrong with the last one.
        reason: String,
    },
    /// Another failure of a driver or a library.
    #[error("{device} failed: {reason}; it is opened again")]
    Failed {
        /// The device, as the user named it.
        device: String,
        /// The system's message.
        reason: String,
    },
    /// A file cannot be read.
    #[error(
        "{path} cannot be read as a camera: {reason}; give the path of a clip or of a PNG or JPEG image"
    )]
    NoFile {
        /// The file, as the user named it.
        path: String,
        /// The system's message.
        reason: String,
    },
    /// The content of a file cannot be used, or not up to its end. It is not opened again.
    #[error("{path} cannot be used as a camera: {reason}; give a clip or a PNG or JPEG image")]
    File {
        /// The file, as the user named it.
        path: String,
        /// The decoder's message.
        reason: String,
    },
    /// The decoder of a file does not return from a call.
    #[error("{path} cannot be used as a camera: its decoder hangs, for {:.1} s so far; give another clip", .after.as_secs_f64())]
    FileHangs {
        /// The file, as the user named it.
        path: String,
        /// Time in the call so far.
        after: Duration,
    },
    /// The thread cannot be started.
    #[error("cannot start the camera's thread: {0}; end other programs")]
    Thread(String),
    /// The thread ended unexpectedly, which is a bug.
    #[error("the camera's thread ended unexpectedly; start again, and report the log as a bug")]
    Lost,
}

impl CameraError {
    /// Converts an I/O error of `device`.
    #[must_use]
    pub fn of(device: &str, error: &io::Error) -> Self {
        let device = device.to_owned();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO) => Self::NotFound(device),
            Some(libc::EACCES | libc::EPERM) => Self::Denied(device),
            Some(libc::EBUSY) => Self::Busy(device),
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

    /// Whether the camera is a file that cannot be used, so that another attempt would also fail.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::File { .. } | Self::FileHangs { .. })
    }

    /// Name of the error's kind in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Denied(_) => "denied",
            Self::Busy(_) => "busy",
            Self::NoCamera { .. } => "no_camera",
            Self::NoFormat { .. } => "no_format",
            Self::Gone { .. } => "gone",
            Self::Frozen { .. } => "frozen",
            Self::Hangs { .. } => "hangs",
            Self::Changed { .. } => "changed",
            Self::Damaged { .. } => "damaged",
            Self::Failed { .. } => "failed",
            Self::NoFile { .. } => "no_file",
            Self::File { .. } => "file",
            Self::FileHangs { .. } => "file_hangs",
            Self::Thread(_) => "thread",
            Self::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_error_numbers_are_distinguished() {
        let check = |number, name: &str, expected: &str| {
            let error = CameraError::of("/dev/video0", &io::Error::from_raw_os_error(number));
            assert_eq!(error.name(), name);
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(libc::ENOENT, "not_found", "--list");
        check(libc::EACCES, "denied", "group video");
        check(libc::EBUSY, "busy", "fuser");
        check(libc::ENODEV, "gone", "plug");
        check(libc::EIO, "failed", "Input/output");
    }
}
