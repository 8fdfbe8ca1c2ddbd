//! The daemon's config: what is taken, what is refused and in which words.

mod case;
mod chaos;
mod defaults;
mod layers;
mod refusals;
