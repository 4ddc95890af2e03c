//! What a failed TLS handshake with Redis means for the operator.

use std::io;

use tokio_rustls::rustls::{CertificateError, Error as TlsError};

/// What a failed handshake means for the operator.
pub(super) fn explain(error: &io::Error) -> String {
    let found = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
    match found {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is of an unknown issuer; if that is right, give the CA that issued it as ca".to_owned()
        }
        Some(TlsError::InvalidCertificate(why)) => {
            format!("its certificate is refused ({why}); it is verified, and nothing else will do")
        }
        Some(TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. }) => NO_TLS.to_owned(),
        Some(other) => other.to_string(),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => format!("{NO_TLS} ({error})"),
            _ => error.to_string(),
        },
    }
}

pub(super) const NO_TLS: &str = "the port does not speak TLS, so that use_ssl may be false, or the URL redis://";
