//! The documentation: examples run, commands parse, links resolve, and the description of the numbers is correct.

mod examples;
mod numbers;
mod pages;
mod references;
mod text;
