//! A real mosquitto for one test: on a free loopback port, in its own folder, removed with the test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time limit for a start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub struct Broker {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Broker {
    /// Grants all rights to anonymous clients. With `persistence`, sessions and retained messages outlive a restart.
    pub fn start(persistence: bool) -> Self {
        Self::start_with(persistence, |_| "allow_anonymous true\n".to_owned())
    }

    /// Adds the configuration lines that `more` returns. `more` gets the broker's folder, for files that the lines
    /// name.
    pub fn start_with(persistence: bool, more: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let place = dir.path().display();
        let keep = if persistence {
            format!(
                "persistence true\npersistence_location {place}/\nautosave_on_changes true\nautosave_interval 1\n"
            )
        } else {
            String::new()
        };
        // Without `user`, a mosquitto started as root becomes a user who may not read the folder.
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\n{}{keep}max_inflight_messages 0\nlog_dest file {place}/log\n",
            more(dir.path()),
        );
        fs::write(dir.path().join("conf"), config).unwrap();
        let mut broker = Self {
            dir,
            port,
            child: None,
        };
        broker.restart();
        broker
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The sessions and messages that the broker has saved to disk.
    pub fn stored(&self) -> Vec<u8> {
        // The file is missing before the first save and during each save.
        fs::read(self.dir.path().join("mosquitto.db")).unwrap_or_default()
    }

    /// SIGKILL: the broker sends nothing and saves nothing.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Kills the broker if it runs, starts it with the same port and folder, and waits until it listens.
    pub fn restart(&mut self) {
        self.kill();
        let program = require_program("mosquitto");
        let child = Command::new(program)
            .arg("-c")
            .arg(self.dir.path().join("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let end = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                Instant::now() < end,
                "mosquitto does not listen: {}",
                fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that no process listens on now.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// A password file for mosquitto in `dir`, with one user in it.
pub fn password_file(dir: &Path, user: &str, password: &str) -> PathBuf {
    let file = dir.join("passwords");
    let made = Command::new(require_program("mosquitto_passwd"))
        .args(["-b", "-c"])
        .arg(&file)
        .args([user, password])
        .status();
    assert!(made.unwrap().success());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Makes two authorities (`ca`, `other`) and the certificates of a broker at localhost (`server`) and of a device
/// (`device`), each as `.pem` and `.key`. `old.key` is the device's key in the traditional format.
pub fn make_certificates(openssl: &Path, dir: &Path) {
    let run = |line: &str| {
        let words = line.split(' ').map(|w| w.replace('_', " "));
        let done = Command::new(openssl).args(words).current_dir(dir).output();
        let done = done.unwrap();
        let printed = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "openssl {line}: {printed}");
    };
    for authority in ["ca", "other"] {
        run(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
        ));
    }
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    for name in ["server", "device"] {
        run(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        run(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
        ));
    }
    run("rsa -in device.key -traditional -out old.key");
}

/// Mosquitto's configuration lines for TLS with the files of [`make_certificates`] and required client certificates.
pub fn tls_config(dir: &Path) -> String {
    let place = dir.display();
    format!(
        "require_certificate true\ncafile {place}/ca.pem\ncertfile {place}/server.pem\nkeyfile {place}/server.key\n"
    )
}

/// The path of a program of the package mosquitto, which `make setup` installs.
pub fn require_program(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| panic!("{program} not found: apt-get install mosquitto"))
}

/// The path of a program on PATH or in a folder for system programs.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
