//! The documentation: its examples run, its commands parse, its links resolve, and what it says of the numbers holds.

mod examples;
mod numbers;
mod pages;
mod references;
mod text;
