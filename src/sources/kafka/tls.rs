//! TLS for a protocol that is spoken here itself.

use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, RootCertStore, SignatureScheme,
};

/// Longest file of certificates, in bytes: 512 KiB, as for HTTP.
const LONGEST_CA: u64 = 512 << 10;

/// What to think of where a handshake leads to nothing.
pub(super) const WITHOUT: &str = "; where the port does not speak TLS, set use_ssl to false";

/// What a connection trusts: the system's roots, those of `ca` beside them, or anybody.
pub(super) async fn config(ca: Option<&str>, insecure: bool) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    if insecure {
        let anybody = Arc::new(Anybody(provider));
        return Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(ca) = ca {
        let pem = pem(ca).await?;
        let given: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect();
        if roots.add_parsable_certificates(given).0 == 0 {
            return Err("ca holds no certificate in PEM".to_owned());
        }
    }
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// The certificates themselves: as given, or from the file that is named.
async fn pem(ca: &str) -> Result<String, String> {
    if ca.contains("-----BEGIN ") {
        return Ok(ca.to_owned());
    }
    let unreadable = |error: std::io::Error| format!("the file that ca names cannot be read: {error}");
    let (mut text, file) = (String::new(), tokio::fs::File::open(ca).await.map_err(unreadable)?);
    file.take(LONGEST_CA + 1).read_to_string(&mut text).await.map_err(unreadable)?;
    match LONGEST_CA < text.len() as u64 {
        true => Err("ca names no file of certificates".to_owned()),
        false => Ok(text),
    }
}

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

/// Trusts whoever answers, and still has the handshake signed by who it is.
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
