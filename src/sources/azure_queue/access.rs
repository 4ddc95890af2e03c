//! Who asks a storage account: its key, which signs each request, or a token that Azure has signed (SAS).

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use reqwest::header::HeaderName;
use sha2::Sha256;
use url::Url;

use crate::config::Secret;
use crate::net::{Ask, Credential};

/// The version of the service that is asked: <https://learn.microsoft.com/rest/api/storageservices/versioning-for-the-azure-storage-services>.
const VERSION: &str = "2021-12-02";

const DATE_HEADER: HeaderName = HeaderName::from_static("x-ms-date");
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-ms-version");

/// What proves who asks.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// A key of the account, in base64.
    Key { account: String, key: Secret<String> },
    /// A shared access signature, as a query.
    Sas(Secret<String>),
}

/// A connection string taken apart: where the queues are, and what proves who asks.
#[derive(Debug)]
pub(super) struct Connection {
    /// The URL of the account's queues.
    pub url: String,
    pub proof: Proof,
}

impl Connection {
    /// Reads a connection string: <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.
    ///
    /// # Errors
    /// What is wrong with it, without anything of it.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let parts: Option<HashMap<_, _>> = parts.map(|part| part.split_once('=')).collect();
        let parts = parts.ok_or("it is no connection string, which is NAME=VALUE;NAME=VALUE")?;
        let part = |name: &str| parts.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_owned());
        if parts.contains_key("UseDevelopmentStorage") {
            return Err("it is for the emulator without saying where; give url, account and account_key");
        }
        let account = part("AccountName");
        let url = part("QueueEndpoint").or_else(|| {
            let scheme = part("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
            let suffix = part("EndpointSuffix").unwrap_or_else(|| super::USUAL_SUFFIX.to_owned());
            Some(format!("{scheme}://{}.queue.{suffix}", account.as_ref()?))
        });
        let proof = match (part("AccountKey"), part("SharedAccessSignature"), account) {
            (Some(key), _, Some(account)) => Proof::Key { account, key: Secret::new(key) },
            (None, Some(sas), _) => Proof::Sas(Secret::new(sas)),
            _ => return Err("it has neither AccountName and AccountKey nor SharedAccessSignature"),
        };
        Ok(Self { url: url.ok_or("it has neither QueueEndpoint nor AccountName")?, proof })
    }
}

/// A GET, signed with the account's key: <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.
///
/// # Errors
/// Where the key is no base64.
pub(super) fn signed(url: &Url, account: &str, key: &Secret<String>, now: Timestamp) -> Result<Ask, &'static str> {
    let key = STANDARD.decode(key.expose().trim()).map_err(|_| "the account's key is no base64")?;
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).expect("the time has four digits of a year");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length");
    mac.update(text_to_sign(url, account, &date).as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let credential = Credential::Raw(Secret::new(format!("SharedKey {account}:{signature}")));
    let headers = vec![(DATE_HEADER, date), (VERSION_HEADER, VERSION.to_owned())];
    Ok(Ask { headers, credential: Some(credential), ..Ask::default() })
}

/// A GET that proves nothing, for a URL that has a signature in it.
pub(super) fn unsigned() -> Ask {
    Ask { headers: vec![(VERSION_HEADER, VERSION.to_owned())], ..Ask::default() }
}

/// The method, eleven standard headers that are not sent, Azure's own headers, and what is asked for.
fn text_to_sign(url: &Url, account: &str, date: &str) -> String {
    let mut query: Vec<_> =
        url.query_pairs().map(|(name, value)| format!("\n{}:{value}", name.to_lowercase())).collect();
    query.sort();
    let headers = format!("x-ms-date:{date}\nx-ms-version:{VERSION}\n");
    format!("GET{}{headers}/{account}{}{}", "\n".repeat(12), url.path(), query.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_says_where_and_who() {
        let read = |text: &str| Connection::read(text).map(|connection| connection.url);
        let key = "AccountName=orders;AccountKey=Y2FuYXJ5;";
        assert_eq!(read(key), Ok("https://orders.queue.core.windows.net".to_owned()));
        let china = format!("DefaultEndpointsProtocol=http;{key}EndpointSuffix=core.chinacloudapi.cn");
        assert_eq!(read(&china), Ok("http://orders.queue.core.chinacloudapi.cn".to_owned()));
        let sas =
            "QueueEndpoint=https://orders.queue.core.windows.net/;SharedAccessSignature=sv=2021-12-02&sig=canary%3D";
        assert_eq!(read(sas), Ok("https://orders.queue.core.windows.net/".to_owned()));
        match Connection::read(&format!("{key}QueueEndpoint=https://q.example")).expect("it is one").proof {
            Proof::Key { account, key } => {
                assert_eq!((account.as_str(), key.expose().as_str()), ("orders", "Y2FuYXJ5"))
            }
            Proof::Sas(_) => panic!("it has a key"),
        }
        for wrong in ["", "canary", "AccountName=orders", "AccountKey=canary", "UseDevelopmentStorage=true"] {
            let problem = Connection::read(wrong).expect_err(wrong);
            assert!(!problem.contains("canary"), "{problem}");
        }
    }

    #[test]
    fn the_text_that_is_signed_is_as_azure_describes_it() {
        let url = Url::parse("https://orders.queue.core.windows.net/in?comp=metadata").expect("a URL");
        let date = "Fri, 26 Jun 2015 23:39:12 GMT";
        let expected = "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2021-12-02\n/orders/in\ncomp:metadata";
        assert_eq!(text_to_sign(&url, "orders", date), expected);
    }
}
