//! MQTT over rumqttc. In reading order: [`subscriber`] listens to a fleet.

pub mod subscriber;
