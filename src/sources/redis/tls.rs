//! TLS for connections that are made here: verified by the system's CAs and a given one.
//!
//! The Redis client could do it, with a CA in place of the system's and with whatever cryptography the process happens to have.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use crate::net;

/// What a source's settings say of TLS.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub ca: Option<String>,
    pub insecure: bool,
}

impl Tls {
    pub async fn connector(&self) -> Result<TlsConnector, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let config = match self.insecure {
            true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
            false => builder.with_root_certificates(self.roots().await?),
        };
        Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
    }

    async fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = system().clone();
        if let Some(ca) = &self.ca {
            let pem = net::pem(ca).await?;
            let given: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
            let (added, _) = roots.add_parsable_certificates(given.unwrap_or_default());
            if added == 0 {
                return Err("ca holds no certificate in PEM".to_owned());
            }
        }
        match roots.is_empty() {
            true => Err("the system has no certificates of CAs; give the one to trust as ca".to_owned()),
            false => Ok(roots),
        }
    }
}

/// The system's CAs, read once: they are 140 files' worth of parsing.
fn system() -> &'static RootCertStore {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

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

/// Accepts every certificate, for `insecure_tls`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
