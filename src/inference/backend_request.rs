//! What the user says of accelerators, whole and ready to be held against the machine.

use super::delegate_library::DelegateSpec;
use crate::selection::{BackendPreference, CUSTOM};
use std::time::Duration;

/// What the user says of accelerators.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendRequest {
    /// Which.
    pub preference: BackendPreference,
    /// A delegate of the user's own, or what is different about a known one.
    pub delegate: DelegatePreference,
    /// How far a landmark may be from where the CPU sees it, fractions of the picture.
    pub tolerance: f32,
    /// How long one may take to get ready.
    pub timeout: Duration,
}

impl BackendRequest {
    /// Whether a delegate of the user's own is asked for, and no library named for it.
    #[must_use]
    pub fn lacks_library(&self) -> bool {
        let is_custom = self.delegate.name == CUSTOM && self.preference.name() == Some(CUSTOM);
        is_custom && self.delegate.spec.library.as_os_str().is_empty()
    }
}

/// What the user says of one delegate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegatePreference {
    /// A preset, or [`CUSTOM`].
    pub name: String,
    /// What to take in place of the preset's.
    pub spec: DelegateSpec,
}
