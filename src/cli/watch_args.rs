//! The command line of `watch`.

use super::seconds;
use crate::messages::topics::is_device_id;
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const WATCH_ABOUT: &str = "\
Watch a fleet in the terminal, from the broker alone: who works, how far, who needs help.

Shows every device that publishes below handloom/, the ones in trouble marked with !! (needs help)
or ! (wants a look) and named in the second line. Where stdout is no terminal, or with --once, it
listens for some seconds, prints one table and the faults it heard, and ends. Faults and batches
are not kept by the broker: only those since the start are seen.

A device that is no longer there is forgotten when its retained messages are taken away:
  mosquitto_pub -r -n -t handloom/ID/status    and the same for state and progress

Examples:
  handloom watch --broker mqtt://broker.local
  handloom watch --broker mqtts://broker.local --username viewer --password-file pw --ca-file ca.pem
  handloom watch --broker mqtt://broker.local --once --seconds 12 | grep -w help";

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The broker: mqtt://[user[:password]@]host[:port], or mqtts:// for TLS
    #[arg(long, value_name = "URL", default_value = "mqtt://localhost:1883")]
    pub broker: String,
    /// Only this device [default: all]
    #[arg(long, value_name = "ID", value_parser = device_id)]
    pub device: Option<String>,
    /// Print one table and end
    #[arg(long)]
    pub once: bool,
    /// How long to listen before the table is printed; a device speaks at least every 10 s
    #[arg(long, value_name = "N", default_value = "2", value_parser = seconds)]
    pub seconds: Duration,
    /// User name at the broker
    #[arg(long, value_name = "U")]
    pub username: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Certificates to trust instead of the system's, PEM
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show to the broker, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM, PKCS#8, not encrypted
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
}

impl WatchArgs {
    /// Whether the terminal is taken for a live view.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.once && std::io::stdout().is_terminal()
    }
}

fn device_id(text: &str) -> Result<String, String> {
    if is_device_id(text) {
        Ok(text.to_owned())
    } else {
        Err("allowed are 1 to 64 of A-Z a-z 0-9 . _ -".to_owned())
    }
}
