//! Notifications to systemd: readiness, one line of status, reloading, stopping, and the watchdog's ping.
//!
//! Without a service manager (`$NOTIFY_SOCKET` is unset) they do nothing. None waits long: a service manager that does
//! not read must not delay the work. The environment is not changed.

use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A message that cannot be delivered within this time is dropped.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The start or a reload is complete.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Sets the line that `systemctl status` shows.
pub fn status(text: &str) {
    send(&[NotifyState::Status(&line(text))]);
}

/// A reload begins; [`ready`] ends it. Carries the time, which `Type=notify-reload` requires.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the time for the service manager"),
    }
}

/// The process is about to end.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// A heartbeat for the watchdog.
pub fn ping() {
    send(&[NotifyState::Watchdog]);
}

/// How often to [`ping`]: half of the service manager's limit; `None` when it does not watch this process.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let wait = sd_notify::watchdog_enabled()?;
    Some(wait / 2).filter(|half| !half.is_zero())
}

fn send(states: &[NotifyState]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send_to(&socket, states, SEND_TIMEOUT) {
        tracing::warn!(?socket, %error, "cannot reach the service manager");
    }
}

/// Sends one message to the socket of this path, or of this abstract name when it begins with `@`.
fn send_to(socket: &OsStr, states: &[NotifyState], timeout: Duration) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(timeout))?;
    sender.send_to_addr(lines.join("\n").as_bytes(), &address)?;
    Ok(())
}

/// `text` in one line: each line of a message is a field of its own.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::child;
    use super::*;

    const NAME: &str = "system::notify::tests::messages_reach_the_service_manager";

    fn receive(socket: &UnixDatagram) -> String {
        socket
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        let mut buffer = [0; 4096];
        let bytes = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    }

    #[test]
    fn messages_reach_the_service_manager() {
        if child::is_here() {
            ready();
            status("2 of 3\nWATCHDOG=trigger\r\n");
            reloading();
            ping();
            stopping();
            // All as before, also for children.
            assert!(std::env::var_os("NOTIFY_SOCKET").is_some());
            assert_eq!(watchdog_interval(), Some(Duration::from_secs(15)));
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut command = child::command(NAME);
        command.env("NOTIFY_SOCKET", &path);
        command
            .env("WATCHDOG_USEC", "30000000")
            .env_remove("WATCHDOG_PID");
        let mut service = child::Guard(command.spawn().unwrap());
        assert_eq!(receive(&manager), "READY=1");
        assert_eq!(receive(&manager), "STATUS=2 of 3 WATCHDOG=trigger");
        let reloading = receive(&manager);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time: u64 = time.unwrap().parse().unwrap();
        assert!(time > 0, "{reloading}");
        assert_eq!(receive(&manager), "WATCHDOG=1");
        assert_eq!(receive(&manager), "STOPPING=1");
        assert!(service.0.wait().unwrap().success());
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        if child::is_here() {
            ready();
            status("x");
            assert_eq!(watchdog_interval(), None);
            return;
        }
        let name = "system::notify::tests::without_a_service_manager_nothing_happens";
        let check = |socket: Option<&str>, usec: Option<&str>, pid: Option<&str>| {
            let mut command = child::command(name);
            let all = [
                ("NOTIFY_SOCKET", socket),
                ("WATCHDOG_USEC", usec),
                ("WATCHDOG_PID", pid),
            ];
            for (key, value) in all {
                match value {
                    Some(value) => command.env(key, value),
                    None => command.env_remove(key),
                };
            }
            let ended = command.output().unwrap();
            assert!(ended.status.success(), "{ended:?}");
        };
        check(None, None, None);
        check(None, Some("0"), None);
        check(None, Some("often"), None);
        // Another process is watched: ours only inherited the variables.
        check(Some("/nowhere/notify"), Some("30000000"), Some("1"));
    }

    #[test]
    fn abstract_names_are_reached() {
        let name = format!("handloom-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send_to(
            OsStr::new(&format!("@{name}")),
            &[NotifyState::Ready],
            SEND_TIMEOUT,
        )
        .unwrap();
        assert_eq!(receive(&manager), "READY=1");
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _closed_socket = UnixDatagram::bind(&path).unwrap();
        let first_loss = (0..100_000).find_map(|_| {
            send_to(
                path.as_os_str(),
                &[NotifyState::Watchdog],
                Duration::from_millis(1),
            )
            .err()
        });
        assert_eq!(first_loss.unwrap().kind(), io::ErrorKind::WouldBlock);
        let gone = send_to(
            OsStr::new("/nowhere/notify"),
            &[NotifyState::Ready],
            SEND_TIMEOUT,
        );
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
