//! What the user says of accelerators, whole and ready to be held against the machine.

use super::library::DelegateSpec;
use crate::selection::Wish;
use serde_json::{Value, json};
use std::time::Duration;

/// What the user says of accelerators.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which.
    pub wish: Wish,
    /// A delegate of the user's own, or what is different about a known one.
    pub delegate: DelegateWish,
    /// How far a landmark may be from where the CPU sees it, fractions of the picture.
    pub tolerance: f32,
    /// How long one may take to get ready.
    pub patience: Duration,
}

/// What the user says of one delegate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegateWish {
    /// A preset, or [`super::presets::CUSTOM`].
    pub name: String,
    /// What to take in place of the preset's.
    pub spec: DelegateSpec,
}

impl Wanted {
    /// What of it decides the numbers: one backend, or any that agrees.
    #[must_use]
    pub fn identity(&self) -> Value {
        match self.wish.fixed() {
            None => json!("any that agrees with cpu"),
            Some(name) if name == self.delegate.name => json!({name: self.delegate.spec}),
            Some(name) => json!(name),
        }
    }
}
