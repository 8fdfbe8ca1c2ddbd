//! The MQTT client: against a stub broker for faults at single packets, and against mosquitto.

mod commands;
mod faults;
mod harness;
mod mosquitto;
mod refused;
mod sending;
mod tls;
