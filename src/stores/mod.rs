//! Stores: what remembers. One file for each kind of storage, one line for each in the table.
//!
//! A store knows bytes and versions; what the bytes mean is in [`document`].

#[cfg(test)]
mod contract;
pub mod document;
#[cfg(feature = "dynamodb")]
mod dynamodb;
mod file;
mod memory;
#[cfg(feature = "s3")]
mod s3;

use std::fmt;

use async_trait::async_trait;

use crate::adapter::{Entry, entry};
use crate::error::Result;

pub use document::{Document, Lease, Loaded};

/// Keeps documents by key, with compare-and-swap.
///
/// # Contract
/// - A document that was never saved is `Absent`; one that cannot be read is `Err`.
/// - `save` replaces exactly the version it expects, or fails with `Conflict` and changes nothing; of any number of
///   concurrent saves that expect the same version, one succeeds.
/// - What was saved is whole: a reader never sees a part of it.
/// - No retry, sleep or log; safe to drop at any await.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Returns the document and its version, or that it is still the one that the caller has.
    ///
    /// Where the storage can compare versions itself, an unchanged document is not sent again.
    ///
    /// # Errors
    /// `Denied`, `NotFound` (the place that holds documents), `Throttled`, `Timeout`, `Unavailable` or `Malformed`.
    async fn load(&self, key: &str, unless: Option<&Version>) -> Result<Found>;

    /// Replaces the expected version and returns the new one.
    ///
    /// # Errors
    /// `Conflict` if another version is there, and those of [`Store::load`].
    async fn save(&self, key: &str, document: Vec<u8>, expect: &Expect) -> Result<Version>;
}

/// What a load found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing was saved yet.
    Absent,
    /// The version that the caller has.
    Unchanged,
    /// This document.
    Document(Vec<u8>, Version),
}

impl Found {
    /// What was read, for storages that compare no versions themselves.
    fn new(document: Option<(Vec<u8>, Version)>, unless: Option<&Version>) -> Self {
        match document {
            None => Self::Absent,
            Some((_, version)) if Some(&version) == unless => Self::Unchanged,
            Some((bytes, version)) => Self::Document(bytes, version),
        }
    }
}

/// What names one version of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// What a save expects to replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Nothing was saved yet.
    Absent,
    /// This version.
    At(Version),
}

/// The largest document that is read or written. A service takes below 1 KiB, so that a thousand fit.
pub const LONGEST_DOCUMENT: usize = 1 << 20;

/// Every store: registry, documentation index and test matrix at once.
pub static TABLE: &[Entry<dyn Store>] = &[entry!(s3, "s3"), entry!(dynamodb, "dynamodb"), entry!(file), entry!(memory)];
