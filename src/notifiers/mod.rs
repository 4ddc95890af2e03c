//! Notifiers: who is told what a tick did. One file for each channel, one line for each in the table.

mod log;

use std::fmt;

use async_trait::async_trait;

use crate::adapter::{Entry, entry};
use crate::error::Result;
use crate::record::Record;

/// Tells somebody what a tick did with one service.
///
/// # Contract
/// - Its failure is a warning in the record, never a failed tick.
/// - No retry or sleep; safe to drop at any await.
/// - Nothing that it writes carries a secret; records have none.
#[async_trait]
pub trait Notifier: fmt::Debug + Send + Sync {
    /// Passes one record on.
    ///
    /// # Errors
    /// Whatever kept the record from arriving.
    async fn notify(&self, record: &Record) -> Result<()>;
}

/// Every notifier: registry, documentation index and test matrix at once.
pub static TABLE: &[Entry<dyn Notifier>] = &[entry!(log)];

#[cfg(test)]
mod contract {
    use super::*;
    use crate::record::tests::a_record;
    use crate::shared::Shared;
    use crate::wire::Contract;

    #[tokio::test]
    async fn a_record_can_be_passed_on() {
        for entry in TABLE {
            let Entry::Built(kind) = entry else { continue };
            let Contract::Local { settings } = kind.contract else { panic!("{}: play it over the wire", kind.name) };
            let folder = tempfile::tempdir().expect("a temporary folder");
            let shared = Shared::for_wire("http://127.0.0.1:9");
            let notifier = (kind.build)(&settings(folder.path()), &shared).expect("settings are valid");
            notifier.notify(&a_record()).await.unwrap_or_else(|error| panic!("{}: {error}", kind.name));
        }
    }
}
