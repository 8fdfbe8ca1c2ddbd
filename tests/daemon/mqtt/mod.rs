//! The line to the broker: against a scripted one for faults packet by packet, and against mosquitto.

mod commands;
mod faults;
mod mosquitto;
mod refused;
mod rig;
mod sending;
mod tls;
