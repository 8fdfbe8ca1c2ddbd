//! The broker's address in the config.
#![no_main]

use handloom::messages::broker_address::BrokerAddress;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    drop(BrokerAddress::parse(text));
});
