//! Which backend the user requests, with its settings.

use super::delegate_library::DelegateSpec;
use crate::selection::{BackendPreference, CUSTOM};
use std::time::Duration;

/// Which backend the user requests, with its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRequest {
    /// The backend.
    pub preference: BackendPreference,
    /// The delegate plugin that [`CUSTOM`] runs; without a library there is none.
    pub delegate: DelegateSpec,
    /// Largest allowed difference of a landmark to the CPU's, in fractions of the image size.
    pub tolerance: f32,
    /// How long opening the backend may take.
    pub timeout: Duration,
}

impl BackendRequest {
    /// Whether [`CUSTOM`] is requested without a library.
    #[must_use]
    pub fn lacks_library(&self) -> bool {
        let is_custom = self.preference.name() == Some(CUSTOM);
        is_custom && self.delegate.library.as_os_str().is_empty()
    }
}
