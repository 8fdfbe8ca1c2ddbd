//! TLS: authorities to trust and the client's certificate, in PEM files. They are read again for every connection, so
//! that a renewed certificate needs no restart.

use native_tls::{Certificate, Identity, TlsConnector};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities to trust, and of no others; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// This device's certificate, then those between it and the authority.
    pub cert_file: Option<PathBuf>,
    /// Its key, PKCS#8, not encrypted.
    pub key_file: Option<PathBuf>,
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; check path and permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The content of a file, or their combination, cannot be used: why, and what to do about it.
    #[error("{0}")]
    Unusable(String),
}

/// Checks whether TLS can be set up with these files, which it reads.
///
/// # Errors
/// Fails when it cannot.
pub fn check_tls(tls: &Tls) -> Result<(), TlsError> {
    connector(tls).map(drop)
}

/// Reads the files.
pub(super) fn connector(tls: &Tls) -> Result<TlsConnector, TlsError> {
    let mut builder = TlsConnector::builder();
    if let Some(path) = &tls.ca_file {
        let broken = |reason: &str| {
            TlsError::Unusable(format!(
                "{} holds no certificate in PEM form ({reason}); it should have -----BEGIN CERTIFICATE----- lines",
                path.display()
            ))
        };
        let authorities =
            Certificate::stack_from_pem(&read(path)?).map_err(|e| broken(&e.to_string()))?;
        if authorities.is_empty() {
            return Err(broken("there is none"));
        }
        builder.disable_built_in_roots(true);
        for authority in authorities {
            builder.add_root_certificate(authority);
        }
    }
    let half = |given: &Path, missing: &str| {
        TlsError::Unusable(format!(
            "{} is given without its {missing}; a client certificate needs both certificate and key",
            given.display()
        ))
    };
    match (&tls.cert_file, &tls.key_file) {
        (None, None) => {}
        (Some(given), None) => return Err(half(given, "key")),
        (None, Some(given)) => return Err(half(given, "certificate")),
        (Some(cert), Some(key)) => {
            builder.identity(identity(cert, key)?);
        }
    }
    let files = || {
        let all = [&tls.cert_file, &tls.key_file].into_iter().flatten();
        all.map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(" and ")
    };
    builder.build().map_err(|error| {
        TlsError::Unusable(if error.to_string().contains("key values mismatch") {
            format!("{}: the key does not belong to the certificate; give the key with which the certificate was requested", files())
        } else {
            format!("TLS cannot be set up: {error}; check that the key belongs to the certificate")
        })
    })
}

fn identity(cert: &Path, key: &Path) -> Result<Identity, TlsError> {
    let (cert_pem, key_pem) = (read(cert)?, read(key)?);
    // Some tools write text before the key; the library would take it for another format.
    let begin = b"-----BEGIN PRIVATE KEY-----";
    let Some(at) = key_pem.windows(begin.len()).position(|w| w == begin) else {
        let key = key.display();
        return Err(TlsError::Unusable(format!(
            "{key} is not an unencrypted PKCS#8 key in PEM form; convert it: openssl pkcs8 -topk8 -nocrypt -in {key} -out NEW"
        )));
    };
    Identity::from_pkcs8(&cert_pem, &key_pem[at..]).map_err(|error| {
        let (cert, key) = (cert.display(), key.display());
        TlsError::Unusable(format!(
            "cannot use {cert} with the key {key}: {error}; both must be whole PEM files"
        ))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
        .map_err(|source| TlsError::Read {
            path: path.to_owned(),
            source,
        })?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::Unusable(format!(
            "{} is larger than 1 MiB, so it holds no certificates; name a PEM file",
            path.display()
        )));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_that_do_not_serve_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            Some(path)
        };
        let gone = Some(dir.path().join("gone.pem"));
        let text = place("text.pem", "not a certificate");
        let broken = place(
            "broken.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        let old_key = place("old.key", "-----BEGIN RSA PRIVATE KEY-----\n");
        let key = place(
            "new.key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        );
        let large = Some(dir.path().join("large.pem"));
        let file = File::create(large.as_ref().unwrap()).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        let check = |ca: &Option<PathBuf>,
                     cert: &Option<PathBuf>,
                     key: &Option<PathBuf>,
                     words: &[&str]| {
            let tls = Tls {
                ca_file: ca.clone(),
                cert_file: cert.clone(),
                key_file: key.clone(),
            };
            let message = check_tls(&tls).unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "no \"{word}\" in {message}");
            }
        };
        check(&gone, &None, &None, &["gone.pem", "permissions"]);
        check(&text, &None, &None, &["text.pem", "BEGIN CERTIFICATE"]);
        check(&broken, &None, &None, &["broken.pem", "PEM"]);
        check(&large, &None, &None, &["large.pem", "1 MiB"]);
        check(&None, &text, &None, &["text.pem", "without its key"]);
        check(&None, &None, &key, &["new.key", "without its certificate"]);
        check(&None, &text, &old_key, &["old.key", "openssl pkcs8"]);
        check(&None, &text, &key, &["text.pem", "new.key"]);
        assert!(check_tls(&Tls::default()).is_ok());
    }
}
