//! Error messages when TLS fails or when no broker is at the port: each one names the cause and the fix.

use handloom::mqtt::subscriber::{Event, Subscriber};
use handloom::mqtt::{Settings, Tls, check_tls};
use native_tls::{Identity, TlsAcceptor};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;
use test_support::broker::{Broker, find, free_port, make_certificates, tls_config};
use test_support::stub_broker::StubBroker;

/// Makes `NAME.pem`, issued by `issuer` and valid from `from` until `until`.
fn issue(openssl: &Path, dir: &Path, name: &str, issuer: &str, from: &str, until: &str) {
    let extension = if name == "between" {
        "basicConstraints=critical,CA:TRUE"
    } else {
        "subjectAltName=DNS:localhost"
    };
    let config = format!(
        "[ca]\ndefault_ca=d\n[d]\ndatabase={name}.index\nserial={name}.serial\nnew_certs_dir=.\ndefault_md=sha256\n\
         policy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n[x]\n{extension}\n"
    );
    fs::write(dir.join("config"), config).unwrap();
    fs::write(dir.join(format!("{name}.index")), "").unwrap();
    fs::write(dir.join(format!("{name}.serial")), "01\n").unwrap();
    let request = if name == "between" {
        "device"
    } else {
        "server"
    };
    let line = format!(
        "ca -batch -notext -config config -cert {issuer}.pem -keyfile {issuer}.key -in {request}.csr -startdate {from} -enddate {until} -out {name}.pem"
    );
    let done = Command::new(openssl)
        .args(line.split(' '))
        .current_dir(dir)
        .output()
        .unwrap();
    let openssl_stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "openssl {line}: {openssl_stderr}");
}

/// Starts a TLS server with the certificate `name` and returns its port.
fn serve(dir: &Path, name: &str) -> u16 {
    let read = |name: String| fs::read(dir.join(name)).unwrap();
    let key = read("server.key".into());
    let identity = Identity::from_pkcs8(&read(format!("{name}.pem")), &key).unwrap();
    let acceptor = TlsAcceptor::new(identity).unwrap();
    accept_on_free_port(move |stream| {
        if let Ok(mut stream) = acceptor.accept(stream) {
            // Until the client ends the connection.
            std::io::copy(&mut stream, &mut std::io::sink()).ok();
        }
    })
}

/// Handles each connection to a new port; the thread ends with the process.
fn accept_on_free_port(handle: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_secs(10))).ok();
            handle(stream);
        }
    });
    port
}

/// The reason why the client does not connect.
fn reason(host: &str, port: u16, tls: Option<Tls>) -> String {
    let mut settings = Settings::new("pi-1", host, port);
    settings.tls = tls;
    settings.connect_timeout = Duration::from_secs(5);
    let subscriber = Subscriber::start("check", &settings, vec!["a/b".into()]).unwrap();
    let event = subscriber.events().recv_timeout(Duration::from_mins(1));
    match event.unwrap() {
        Event::Disconnected(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_names_all(reason: &str, words: &[&str]) {
    for word in words {
        assert!(reason.contains(word), "no {word:?} in: {reason}");
    }
}

#[test]
fn each_failure_of_tls_is_named() {
    let Some(openssl) = find("openssl") else {
        println!("SKIPPED: no openssl here to make certificates with");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make_certificates(&openssl, dir);
    issue(
        &openssl,
        dir,
        "expired",
        "ca",
        "20200101000000Z",
        "20210101000000Z",
    );
    issue(
        &openssl,
        dir,
        "early",
        "ca",
        "20990101000000Z",
        "21000101000000Z",
    );
    // An intermediate authority with the device's key, and a certificate that it has issued.
    issue(
        &openssl,
        dir,
        "between",
        "ca",
        "20200101000000Z",
        "20990101000000Z",
    );
    fs::copy(dir.join("device.key"), dir.join("between.key")).unwrap();
    issue(
        &openssl,
        dir,
        "deep",
        "between",
        "20200101000000Z",
        "20990101000000Z",
    );
    let file = |name: &str| Some(dir.join(name));
    let trusting = |ca: Option<&str>| {
        let ca_file = ca.and_then(file);
        Some(Tls {
            ca_file,
            ..Tls::default()
        })
    };

    let good = serve(dir, "server");
    assert_names_all(
        &reason("127.0.0.1", good, trusting(Some("ca.pem"))),
        &["another host name", "subjectAltName"],
    );
    assert_names_all(
        &reason("localhost", good, trusting(Some("other.pem"))),
        &["authority", "unknown", "CA file"],
    );
    assert_names_all(
        &reason("localhost", good, trusting(None)),
        &["authority", "unknown"],
    );
    let expired = serve(dir, "expired");
    assert_names_all(
        &reason("localhost", expired, trusting(Some("ca.pem"))),
        &["has expired", "clock of this device, which says 20"],
    );
    let early = serve(dir, "early");
    assert_names_all(
        &reason("localhost", early, trusting(Some("ca.pem"))),
        &["not valid yet", "set the clock"],
    );
    let deep = serve(dir, "deep");
    assert_names_all(
        &reason("localhost", deep, trusting(Some("ca.pem"))),
        &["intermediate"],
    );

    let broker = Broker::start_with(false, |_| {
        format!("allow_anonymous true\n{}", tls_config(dir))
    });
    assert_names_all(
        &reason("localhost", broker.port(), trusting(Some("ca.pem"))),
        &["client certificate", "key"],
    );
    assert_names_all(
        &reason("127.0.0.1", broker.port(), None),
        &["speaks TLS", "mqtts://"],
    );
    let mixed = Tls {
        ca_file: file("ca.pem"),
        cert_file: file("device.pem"),
        key_file: file("server.key"),
    };
    let message = check_tls(&mixed).unwrap_err().to_string();
    assert_names_all(&message, &["device.pem", "server.key", "does not belong"]);
    let plain = Broker::start(false);
    assert_names_all(
        &reason("localhost", plain.port(), trusting(Some("ca.pem"))),
        &["without TLS", "mqtt://"],
    );
}

#[test]
fn what_else_is_at_the_port_is_named() {
    assert_names_all(
        &reason("127.0.0.1", free_port(), None),
        &["refused", "is a broker running there?"],
    );
    let closing = StubBroker::start(|_| {});
    assert_names_all(
        &reason("127.0.0.1", closing.port(), None),
        &["closes the connection at once", "port"],
    );
    // Like a web server, it reads a line before it answers.
    let web = accept_on_free_port(|mut stream| {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\n") && matches!(stream.read(&mut byte), Ok(1)) {
            text.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            .ok();
    });
    assert_names_all(&reason("127.0.0.1", web, None), &["web server", "1883"]);
    assert_names_all(
        &reason("127.0.0.1", web, Some(Tls::default())),
        &["web server", "8883"],
    );
}
