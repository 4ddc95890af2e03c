//! What a failed TLS handshake with a broker means for the operator.

use tokio_rustls::rustls::{self, CertificateError, InvalidMessage};

/// What to think of where a handshake leads to nothing.
pub(super) const WITHOUT: &str = "; where the port does not speak TLS, set use_ssl to false";

/// What a handshake that failed means for the operator.
pub(super) fn explain(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let hint = match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; if that is right, give the CA that issued it as ca"
        }
        Some(rustls::Error::InvalidCertificate(_)) => "; it is verified, and nothing else will do",
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) | None => WITHOUT,
        Some(_) => "",
    };
    format!("TLS failed: {error}{hint}")
}
