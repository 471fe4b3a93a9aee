//! The API server's audit log: what was asked, by whom, and what came of it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// One answered request, from the audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The path with its query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// Who asked.
    pub user: AuditUser,
    /// What the request is about; absent for paths such as `/version`.
    pub object_ref: Option<AuditObject>,
    /// The answer's status.
    pub response_status: Option<AuditStatus>,
}

/// Who asked.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditUser {
    /// The user, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
}

/// What a request is about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditObject {
    /// Empty for the core group.
    #[serde(rename = "apiGroup")]
    pub api_group: String,
    /// Plural, such as `repobindings`.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// Empty for cluster-wide requests.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
}

/// How a request was answered.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditStatus {
    /// The HTTP status.
    pub code: u16,
}

impl AuditEvent {
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// The resource, with its subresource after a slash.
    pub fn resource(&self) -> String {
        match &self.object_ref {
            Some(object) if object.subresource.is_empty() => object.resource.clone(),
            Some(object) => format!("{}/{}", object.resource, object.subresource),
            None => String::new(),
        }
    }
}

/// The log of one API server. Whoever waits for something in it asks again and again, so that what was read is kept.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    read: Mutex<Read>,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Read {
    bytes: u64,
    events: Vec<AuditEvent>,
}

impl AuditLog {
    /// A log that may not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// How many events there are.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn position(&self) -> Result<usize> {
        self.with(<[AuditEvent]>::len)
    }

    /// The events since a position.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn since(&self, position: usize) -> Result<Vec<AuditEvent>> {
        self.with(|events| events.get(position..).unwrap_or_default().to_vec())
    }

    fn with<T>(&self, look: impl FnOnce(&[AuditEvent]) -> T) -> Result<T> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::open(&self.path).context("the audit log cannot be read")?;
        file.seek(SeekFrom::Start(read.bytes))?;
        let mut added = String::new();
        file.read_to_string(&mut added)?;
        // The last line may be in the making.
        for line in added.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            read.bytes += u64::try_from(line.len())?;
            read.events.extend(serde_json::from_str::<AuditEvent>(line));
        }
        Ok(look(&read.events))
    }
}
