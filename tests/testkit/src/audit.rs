//! The API server's audit log: requests, users and results.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// An answered request, from the audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The path with its query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub user: AuditUser,
    /// The object of the request; absent for paths such as `/version`.
    pub object_ref: Option<AuditObject>,
    pub response_status: Option<AuditStatus>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct AuditUser {
    /// The user, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
}

/// The object of a request.
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

#[derive(Clone, Debug, Deserialize)]
pub struct AuditStatus {
    pub code: u16,
}

impl AuditEvent {
    /// Whether the request may change something.
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

/// The audit log of one API server. A test that waits for an event asks repeatedly, so the part already read is kept.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    read: Mutex<Read>,
}

/// The part already read.
#[derive(Debug, Default)]
struct Read {
    bytes: u64,
    events: Vec<AuditEvent>,
}

impl AuditLog {
    /// A log file that may not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// The number of events.
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
        // The last line may still be incomplete.
        for line in added.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            read.bytes += u64::try_from(line.len())?;
            read.events.extend(serde_json::from_str::<AuditEvent>(line));
        }
        Ok(look(&read.events))
    }
}
