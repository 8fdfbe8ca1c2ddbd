//! The daemon's config: accepted values, refused values and the messages of refusals.

mod case;
mod defaults;
mod layers;
mod random_config;
mod refusals;
