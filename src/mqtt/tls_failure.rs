//! Why a TLS handshake failed, from the text of the TLS library: its errors reach a caller as text only. The texts are
//! those of OpenSSL's `X509_verify_cert_error_string` and of its alerts.

use std::time::SystemTime;

/// What is wrong, with the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TlsFailure {
    /// The certificate names another host.
    #[error(
        "the broker's certificate is for another host name; connect by a name that stands in it (openssl x509 -noout -ext subjectAltName), or have one issued for this name"
    )]
    HostName,
    /// The certificate has expired; the text is today's date by the clock of this device.
    #[error(
        "the broker's certificate has expired by the clock of this device, which says {0}; renew the certificate at the broker, or set the clock if it is wrong"
    )]
    Expired(String),
    /// The certificate is not valid yet; the text is today's date by the clock of this device.
    #[error(
        "the broker's certificate is not valid yet by the clock of this device, which says {0}; set the clock, or wait until the certificate is valid"
    )]
    NotYetValid(String),
    /// The chain does not end at a trusted authority.
    #[error(
        "the authority that issued the broker's certificate is unknown; give its certificate as the CA file, or let the broker send the intermediate certificates between (mosquitto: after its own in certfile)"
    )]
    UnknownAuthority,
    /// The certificate is its own authority.
    #[error(
        "the broker's certificate is self-signed and not trusted; give that certificate as the CA file"
    )]
    SelfSigned,
    /// A certificate of the broker's chain is refused for another reason.
    #[error("the broker's certificate is refused: {0}; have a new one issued for the broker")]
    Certificate(String),
    /// The broker requires a client certificate.
    #[error("the broker requires a client certificate; give certificate and key of this device")]
    ClientCertificateMissing,
    /// The broker refuses the client certificate.
    #[error(
        "the broker refuses this device's client certificate ({0}); have it issued by the authority that the broker trusts (mosquitto: cafile)"
    )]
    ClientCertificateRefused(String),
    /// No common way to encrypt, or a broker that does not name its reason.
    #[error(
        "the broker refuses the TLS handshake ({0}); if it requires a client certificate, give certificate and key; else let it allow TLS 1.2 or newer"
    )]
    Refused(String),
    /// What answers is not TLS.
    #[error(
        "what answers there is not TLS; use mqtt://, or the broker's port for TLS, which is 8883 as a rule"
    )]
    NotTls,
    /// The connection ended within the handshake.
    #[error(
        "the connection ended within the TLS handshake; check that the port speaks TLS (8883 as a rule), and the broker's log"
    )]
    Closed,
    /// Anything else.
    #[error("the TLS handshake failed: {0}; check the CA file and that the port speaks TLS")]
    Other(String),
}

impl TlsFailure {
    /// The failure that a text of the TLS library describes.
    pub(super) fn of(text: &str) -> Self {
        Self::of_alert(text).unwrap_or_else(|| Self::of_verification(text))
    }

    /// The alert that the broker sent, if `text` names one. With TLS 1.3 it may come after the handshake.
    pub(super) fn of_alert(text: &str) -> Option<Self> {
        let (_, alert) = text.split_once(" alert ")?;
        let alert = alert.split(':').next().unwrap_or(alert).trim();
        let has = |words: &str| alert.contains(words);
        Some(if has("certificate required") {
            Self::ClientCertificateMissing
        } else if has("certificate") || has("unknown ca") || has("decrypt error") {
            Self::ClientCertificateRefused(alert.to_owned())
        } else {
            Self::Refused(alert.to_owned())
        })
    }

    fn of_verification(text: &str) -> Self {
        let lower = text.to_lowercase().replace("self signed", "self-signed");
        let has = |all: &[&str]| all.iter().any(|words| lower.contains(words));
        if has(&["hostname mismatch", "ip address mismatch"]) {
            Self::HostName
        } else if has(&["certificate has expired"]) {
            Self::Expired(today())
        } else if has(&["certificate is not yet valid"]) {
            Self::NotYetValid(today())
        } else if has(&[
            "issuer certificate",
            "verify the first",
            "in certificate chain",
        ]) {
            Self::UnknownAuthority
        } else if has(&["self-signed certificate"]) {
            Self::SelfSigned
        } else if has(&["certificate verify failed"]) {
            Self::Certificate(reason(text))
        } else if has(&[
            "wrong version number",
            "packet length too long",
            "http request",
        ]) {
            Self::NotTls
        } else if has(&[
            "unexpected eof",
            "connection reset",
            "connection closed",
            "broken pipe",
        ]) {
            Self::Closed
        } else if has(&[
            "unsupported protocol",
            "no protocols",
            "too small",
            "too weak",
        ]) {
            Self::Refused(reason(text))
        } else {
            Self::Other(reason(text))
        }
    }

    /// Whether the failure does not reveal which protocol the port speaks.
    pub(super) fn is_unexplained(&self) -> bool {
        matches!(self, Self::NotTls | Self::Closed | Self::Other(_))
    }
}

/// The specific part of an OpenSSL error: what is in brackets at its end, or all of it.
fn reason(text: &str) -> String {
    let bracketed = text
        .trim_end()
        .strip_suffix(')')
        .and_then(|t| t.rsplit_once('('));
    bracketed.map_or(text, |(_, reason)| reason).to_owned()
}

/// The day by this device's clock.
fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_named() {
        let verify = |words: &str| {
            format!(
                "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:../ssl/statem/statem_clnt.c:1889: ({words})"
            )
        };
        for (text, words) in [
            (verify("hostname mismatch"), "another host name"),
            (verify("IP address mismatch"), "another host name"),
            (verify("certificate has expired"), "has expired"),
            (verify("certificate is not yet valid"), "set the clock"),
            (verify("unable to get local issuer certificate"), "intermediate"),
            (verify("self signed certificate in certificate chain"), "authority"),
            (verify("self-signed certificate"), "self-signed"),
            (verify("CA md too weak"), "CA md too weak"),
            ("error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:../ssl/record:1600:SSL alert number 116".into(), "requires a client certificate"),
            ("error:x:SSL routines:y:tlsv1 alert unknown ca:../ssl:1".into(), "refuses this device's client certificate (unknown ca)"),
            ("error:x:SSL routines:y:sslv3 alert handshake failure:../ssl:1".into(), "handshake failure"),
            ("error:0A00010B:SSL routines:ssl3_get_record:wrong version number:..".into(), "not TLS"),
            ("error:0A000126:SSL routines:ssl3_read_n:unexpected eof while reading:..".into(), "ended within"),
            ("a new thing".into(), "a new thing"),
        ] {
            let message = TlsFailure::of(&text).to_string();
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
