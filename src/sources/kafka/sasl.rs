//! Proving who asks: PLAIN (RFC 4616), SCRAM (RFC 5802 and 7677) and MSK's own.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha512};

/// Most rounds of a password's hash that a server may ask for. Kafka's default is 4096 and its most 16384 (KIP-554).
const MOST_ROUNDS: u32 = 100_000;

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        const ANY: &str = "HMAC takes keys of any length";
        match self {
            Self::Sha256 => {
                Hmac::<Sha256>::new_from_slice(key).expect(ANY).chain_update(data).finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                Hmac::<Sha512>::new_from_slice(key).expect(ANY).chain_update(data).finalize().into_bytes().to_vec()
            }
        }
    }

    /// `Hi` of RFC 5802: PBKDF2 of one block.
    fn stretch(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        let mut last = self.hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut all = last.clone();
        for _ in 1..rounds {
            last = self.hmac(password, &last);
            all = xor(&all, &last);
        }
        all
    }
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

/// The one message of PLAIN.
pub(super) fn plain(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

/// A SCRAM exchange from the client's side.
pub(super) struct Scram {
    hash: Hash,
    nonce: String,
    first: String,
}

impl Scram {
    pub fn new(hash: Hash, user: &str, random: [u8; 18]) -> Self {
        let nonce = STANDARD.encode(random);
        // Kafka normalizes neither names nor passwords, so that neither does this.
        let first = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        Self { hash, nonce, first }
    }

    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first).into_bytes()
    }

    /// The answer to the server's challenge, and what the server must then send to prove that it knows the password too.
    /// `None` where the challenge is none.
    pub fn answer(&self, challenge: &[u8], password: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        let challenge = std::str::from_utf8(challenge).ok()?;
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name));
        let nonce = field("r=").filter(|nonce| nonce.starts_with(&self.nonce) && self.nonce.len() < nonce.len())?;
        let salt = STANDARD.decode(field("s=")?).ok()?;
        let rounds = field("i=")?.parse().ok().filter(|rounds| (1..=MOST_ROUNDS).contains(rounds))?;
        let salted = self.hash.stretch(password.as_bytes(), &salt, rounds);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let unproven = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{unproven}", self.first);
        let signature = self.hash.hmac(&self.hash.digest(&client_key), signed.as_bytes());
        let proof = STANDARD.encode(xor(&client_key, &signature));
        let server = self.hash.hmac(&self.hash.hmac(&salted, b"Server Key"), signed.as_bytes());
        Some((format!("{unproven},p={proof}").into_bytes(), format!("v={}", STANDARD.encode(server)).into_bytes()))
    }
}

/// The one message of `AWS_MSK_IAM`: the parts of a presigned URL, as JSON. <https://github.com/aws/aws-msk-iam-auth#details>.
pub(super) fn msk_iam(credentials: Credentials, region: &str, host: &str, now: Timestamp) -> Result<Vec<u8>, String> {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(900));
    let identity = credentials.into();
    let params = v4::SigningParams::builder().identity(&identity).region(region).name("kafka-cluster").time(now.into());
    let params: SigningParams<'_> = params.settings(settings).build().map_err(|error| error.to_string())?.into();
    let url = format!("kafka://{host}/?Action=kafka-cluster%3AConnect");
    let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]));
    let signed = sign(request.map_err(|error| error.to_string())?, &params).map_err(|error| error.to_string())?;
    let (instructions, _) = signed.into_parts();
    let fixed = [
        ("version", "2020_10_22"),
        ("host", host),
        ("user-agent", concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
        ("action", "kafka-cluster:Connect"),
    ];
    let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
    let of_url = instructions.params().iter().map(|(name, value)| (name.to_lowercase(), Value::from(value.as_ref())));
    Ok(Value::Object(fixed.chain(of_url).collect::<Map<_, _>>()).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As scramp 1.5, an implementation by others, has it for the same nonces, salt and password.
    #[test]
    fn scram_is_what_others_make_of_it() {
        let random = std::array::from_fn(|at| at as u8);
        let challenge = b"r=AAECAwQFBgcICQoLDA0ODxARserver+nonce,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096";
        for (hash, proof, server) in [
            (
                Hash::Sha256,
                "QvIwsswIYN0OC27i1Iv3K3QzV/hYX4XVXyfk9eq6Kl8=",
                "v=iDNlfWytfKrDC1JM4MMqOKFepM19jdHkcU/yPdwDwDw=",
            ),
            (
                Hash::Sha512,
                "hbwRxpMXiHuMbO1zg3GM0TPXLDh2uar7rsFI+ngfN+U4mf9Gnw5WOpOl5GuhQ4Tawvz30RDy1hUA8AGbVWN7Pw==",
                "v=TDpg6nX2tVcPHCysGtRHkausBNQTnofcUyTKn1gEbyYcqBUK6aef5ccmyEE1RFqRzeNyNlP6f4XcePsn1LHnKw==",
            ),
        ] {
            let scram = Scram::new(hash, "user", random);
            assert_eq!(scram.first(), b"n,,n=user,r=AAECAwQFBgcICQoLDA0ODxAR");
            let (answer, expected) = scram.answer(challenge, "pen,=cil").expect("it is a challenge");
            let wanted = format!("c=biws,r=AAECAwQFBgcICQoLDA0ODxARserver+nonce,p={proof}");
            assert_eq!(String::from_utf8(answer).expect("it is text"), wanted);
            assert_eq!(String::from_utf8(expected).expect("it is text"), server);
        }
        assert_eq!(Scram::new(Hash::Sha256, "a=b,c", random).first(), b"n,,n=a=3Db=2Cc,r=AAECAwQFBgcICQoLDA0ODxAR");
    }

    #[test]
    fn what_is_no_challenge_gets_no_proof() {
        let scram = Scram::new(Hash::Sha256, "user", [0; 18]);
        let nonce = "AAAAAAAAAAAAAAAAAAAAAAAA";
        let proves = |challenge: &str| scram.answer(challenge.as_bytes(), "canary").is_some();
        assert!(proves(&format!("r={nonce}x,s=AAAA,i=4096")));
        for challenge in [
            String::new(),
            format!("r={nonce},s=AAAA,i=4096"),
            format!("r=x{nonce},s=AAAA,i=4096"),
            format!("r={nonce}x,s=AAAA,i=0"),
            format!("r={nonce}x,s=AAAA,i=100001"),
            format!("r={nonce}x,s=*,i=4096"),
            format!("r={nonce}x,s=AAAA"),
        ] {
            assert!(!proves(&challenge), "{challenge}");
        }
    }

    /// As botocore signs the same URL (`SigV4QueryAuth`).
    #[test]
    fn what_msk_is_sent_is_signed_as_by_botocore() {
        let now = "2026-11-22T12:00:00Z".parse().expect("a time");
        let host = "b-1.orders.kafka.eu-west-1.amazonaws.com";
        for (session, signature) in [
            (None, "f48be7e60cf8033d443801367754089e96b090dba4baf31d9ab404e27a0f4d99"),
            (Some("canary/token+=="), "2e21fc715aba1746cfa7bc773bd4e8b5ed5080a80cd21fdb27b075f32e9f7aa6"),
        ] {
            let session = session.map(str::to_owned);
            let credentials = Credentials::new("AKIDEXAMPLE", "canary-secret-key", session.clone(), None, "test");
            let token = msk_iam(credentials, "eu-west-1", host, now).expect("it can be signed");
            let token: Map<String, Value> = serde_json::from_slice(&token).expect("it is JSON");
            for (name, value) in [
                ("version", "2020_10_22"),
                ("host", host),
                ("action", "kafka-cluster:Connect"),
                ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
                ("x-amz-credential", "AKIDEXAMPLE/20261122/eu-west-1/kafka-cluster/aws4_request"),
                ("x-amz-date", "20261122T120000Z"),
                ("x-amz-expires", "900"),
                ("x-amz-signedheaders", "host"),
                ("x-amz-signature", signature),
            ] {
                assert_eq!(token[name], value, "{name}");
            }
            assert_eq!(token.get("x-amz-security-token").and_then(Value::as_str), session.as_deref());
            assert!(!format!("{token:?}").contains("canary-secret-key"));
        }
    }
}
