//! The command line of `watch`.

use crate::config::constraints::{device_id, seconds};
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const WATCH_ABOUT: &str = "\
Watch a fleet of devices in the terminal, through the MQTT broker.

Shows every device that publishes below handloom/: its state, its progress and its faults. Devices
with a fault are marked with !! (critical) or ! (warning) and named in the second line. Where stdout
is not a terminal, or with --once, it listens for some seconds, prints one table and the faults that
it received, and ends. The broker does not retain faults and batches: only those since the start
are seen.

To forget a device that no longer exists, remove its retained messages:
  mosquitto_pub -r -n -t handloom/ID/status    and the same for state and progress

Examples:
  handloom watch --broker mqtt://broker.local
  handloom watch --broker mqtts://broker.local --username viewer --password-file pw --ca-file ca.pem
  handloom watch --broker mqtt://broker.local --once --seconds 12 | grep -w help";

/// Arguments of `watch`.
#[derive(Debug, Args)]
#[allow(
    rustdoc::broken_intra_doc_links,
    reason = "brackets mark what may be left out in the help"
)]
pub struct WatchArgs {
    /// URL of the broker: mqtt://[user[:password]@]host[:port], or mqtts:// for TLS
    #[arg(long, value_name = "URL", default_value = "mqtt://localhost:1883")]
    pub broker: String,
    /// Only this device [default: all]
    #[arg(long, value_name = "ID", value_parser = device_id)]
    pub device: Option<String>,
    /// Print one table and stop
    #[arg(long)]
    pub once: bool,
    /// Seconds to listen before the table is printed; a device publishes at least every 10 s
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
    /// Certificate of this client, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Key of this client: PEM, PKCS#8, not encrypted
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
}

impl WatchArgs {
    /// Whether the terminal shows a live view.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.once && std::io::stdout().is_terminal()
    }
}
