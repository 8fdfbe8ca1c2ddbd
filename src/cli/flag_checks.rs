//! Checks of flags that depend on each other, for commands without a config file.

use crate::config::Config;
use crate::error::{CliError, Exit};
use anyhow::anyhow;

/// Checks the settings of a command line together.
///
/// # Errors
/// When two flags exclude each other; names both.
pub(super) fn check(config: &Config) -> Result<(), CliError> {
    let (hands, segments) = (&config.sequence.hands, &config.camera.segments);
    let (frames, length) = (hands.min_frames, hands.sequence_length);
    let (min, max) = (segments.min_seconds, segments.max_seconds);
    let reason = if frames > length {
        format!(
            "--min-frames ({frames}) must not exceed --sequence-length ({length}), or no clip would be accepted"
        )
    } else if min > max {
        format!("--min-seconds ({min}) must not exceed --max-seconds ({max})")
    } else if config.backend_request().lacks_library() {
        let preference = &config.run.accelerator.preference;
        format!(
            "--accelerator {preference} needs a plugin: name its library with --delegate-library"
        )
    } else {
        return Ok(());
    };
    Err(CliError::new(Exit::Usage, anyhow!(reason)))
}
