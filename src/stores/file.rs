//! Files of this machine: for the command and the daemon. A lock makes compare-and-swap of a read and a rename.

use std::fs::{self, File};
use std::io::{self, ErrorKind as Io, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::document::{fingerprint, too_long};
use super::{Expect, Found, Store, Version};
use crate::adapter::{Kind, parse, schema_of};
use crate::error::{Error, ErrorKind, Result};

pub(super) static KIND: Kind<dyn Store> = Kind {
    name: "file",
    aliases: &[],
    about: "Files of this machine, outside Lambda. The folder must be on a local disk, where locks work.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check: |_| Vec::new(),
    identities: |_, _| Vec::new(),
    permissions: |_, _| Ok(Vec::new()),
    build: |settings, _| {
        let Settings { dir } = parse(settings)?;
        Ok(Box::new(Files { dir: dir.into() }))
    },
    #[cfg(test)]
    contract: crate::wire::Contract::Local { settings: |dir| serde_json::json!({ "dir": dir }) },
};

/// The settings of a `file` store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The folder for the state; made where it does not exist.
    #[serde(default = "tidegate_state")]
    #[schemars(length(min = 1))]
    dir: String,
}

fn tidegate_state() -> String {
    "tidegate-state".to_owned()
}

#[derive(Debug)]
struct Files {
    dir: PathBuf,
}

#[async_trait]
impl Store for Files {
    async fn load(&self, key: &str, unless: Option<&Version>) -> Result<Found> {
        let path = self.dir.join(key);
        let document = in_background(move || read(&path).map_err(|error| failed("reading", &path, error))).await?;
        Ok(Found::new(document, unless))
    }

    async fn save(&self, key: &str, document: Vec<u8>, expect: &Expect) -> Result<Version> {
        let (path, expect) = (self.dir.join(key), expect.clone());
        in_background(move || replace(&path, &document, &expect)).await
    }
}

/// Files block; they do so on a thread of their own.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(ErrorKind::Bug, "working on the state's files", error.to_string()))?
}

fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Version)>> {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == Io::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Some(cause) = too_long(about.len()) {
        return Err(io::Error::new(Io::InvalidData, cause));
    }
    let bytes = fs::read(path)?;
    let version = fingerprint(&bytes);
    Ok(Some((bytes, version)))
}

fn replace(path: &Path, document: &[u8], expect: &Expect) -> Result<Version> {
    let io = |error| failed("saving", path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io)?;
    // The lock is on a file of its own, since the document's file is another one after each rename.
    let lock = File::create(path.with_extension("lock")).map_err(io)?;
    lock.lock().map_err(io)?;
    let found = read(path).map_err(io)?.map_or(Expect::Absent, |(_, version)| Expect::At(version));
    if found != *expect {
        let during = format!("saving state {:?}", path.display().to_string());
        return Err(Error::new(ErrorKind::Conflict, during, "another version is there"));
    }
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh).map_err(io)?;
    file.write_all(document).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&fresh, path).map_err(io)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(fingerprint(document))
}

fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        Io::PermissionDenied => ErrorKind::Denied,
        Io::InvalidData => ErrorKind::Malformed,
        Io::NotFound | Io::NotADirectory => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{verb} state {:?}", path.display().to_string()), error.to_string()).caused_by(error)
}
