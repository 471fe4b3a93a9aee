//! Requests to a provider.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

/// Default maximum size of a response in bytes.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// The purpose of a call: used in errors, traces and metrics, and counted by rate budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Find out which product and version answers.
    ReadVersion,
    /// Find out the credential's account and permissions.
    InspectCredential,
    /// Mint a short-lived token from a credential that is not a token itself.
    MakeToken,
    /// Look up a repository.
    LookUpRepository,
    /// Look up a branch.
    LookUpBranch,
    /// Probe the git endpoint.
    ProbeGit,
    /// List the owner's repositories.
    ListRepositories,
    /// List a repository's hooks.
    ListHooks,
    /// Create a hook.
    CreateHook,
    /// Change a hook.
    UpdateHook,
    /// Delete a hook.
    DeleteHook,
}

impl Operation {
    /// Whether it belongs to the list of an owner's repositories, which may be long and for which nobody waits.
    pub(super) const fn is_listing(self) -> bool {
        matches!(self, Self::ListRepositories)
    }

    /// The name for errors and traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadVersion => "read the version",
            Self::InspectCredential => "inspect the credential",
            Self::MakeToken => "make a token",
            Self::LookUpRepository => "look up the repository",
            Self::LookUpBranch => "look up the branch",
            Self::ProbeGit => "probe git",
            Self::ListRepositories => "list repositories",
            Self::ListHooks => "list hooks",
            Self::CreateHook => "create the hook",
            Self::UpdateHook => "update the hook",
            Self::DeleteHook => "delete the hook",
        }
    }

    /// The label for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ReadVersion => "read_version",
            Self::InspectCredential => "inspect_credential",
            Self::MakeToken => "make_token",
            Self::LookUpRepository => "look_up_repository",
            Self::LookUpBranch => "look_up_branch",
            Self::ProbeGit => "probe_git",
            Self::ListRepositories => "list_repositories",
            Self::ListHooks => "list_hooks",
            Self::CreateHook => "create_hook",
            Self::UpdateHook => "update_hook",
            Self::DeleteHook => "delete_hook",
        }
    }
}

/// Whether a call changes something. The method does not determine it: some providers read with POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only reads: may be retried and may follow redirects.
    Read,
    /// Changes something: sent once.
    Write,
    /// Removes something: sent once, and rate budgets keep a reserve for it.
    Delete,
}

/// One request. It uses the transport's credential unless it has its own.
#[derive(Clone)]
pub struct Call {
    pub(super) operation: Operation,
    pub(super) access: Access,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) body: Option<Bytes>,
    pub(super) body_limit: usize,
    pub(super) concealed: Vec<String>,
}

impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Call({})", self.operation.as_str())
    }
}

impl Call {
    /// Creates a call that only reads. `Accept` is JSON unless it is overridden.
    #[must_use]
    pub fn read(operation: Operation, method: Method, url: Url) -> Self {
        Self::new(operation, Access::Read, method, url)
    }

    /// Creates a call that changes something.
    #[must_use]
    pub fn write(operation: Operation, method: Method, url: Url) -> Self {
        Self::new(operation, Access::Write, method, url)
    }

    /// Creates a call that removes something.
    #[must_use]
    pub fn delete(operation: Operation, url: Url) -> Self {
        Self::new(operation, Access::Delete, Method::DELETE, url)
    }

    fn new(operation: Operation, access: Access, method: Method, url: Url) -> Self {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        Self { operation, access, method, url, headers, authorization: None, body: None, body_limit: BODY_LIMIT, concealed: Vec::new() }
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, document: &serde_json::Value) -> Self {
        self.body = Some(document.to_string().into());
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Overrides the transport's credential. Mark the value as sensitive.
    #[must_use]
    pub fn authorization(mut self, value: HeaderValue) -> Self {
        self.authorization = Some(value);
        self
    }

    /// Sets the maximum size of the response in bytes; 4 MiB by default. Refusals are always truncated, whatever this limit.
    #[must_use]
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Redacts a text from every error of this call: a webhook secret or an unguessable URL.
    #[must_use]
    pub fn conceal(mut self, text: impl Into<String>) -> Self {
        self.concealed.push(text.into());
        self
    }
}
