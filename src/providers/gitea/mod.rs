//! Supports Gitea and Forgejo. Both have the same API; the client detects the product at run time.

mod client;
mod convert;
mod error;
mod inspect;
mod page;
mod path;
mod permission;
mod webhook;
mod wire;

use std::sync::Arc;

use url::Url;

use crate::api::v1alpha1::connection::{CredentialKind, ProviderSpec};
use crate::api::v1alpha1::{EventKind, Permission, ProviderKind};
use crate::providers::model::Scope;
use crate::providers::transport::Transport;
use crate::providers::{Capabilities, Client, Credential, Endpoint, PathError, Provider, ProviderError, RepositoryPath, Webhook, address};

use client::GiteaClient;
pub use webhook::GiteaWebhook;

/// The provider for Gitea and Forgejo.
#[derive(Clone, Copy, Debug)]
pub struct Gitea;

impl Provider for Gitea {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Gitea
    }

    fn credential_kinds(&self) -> &'static [CredentialKind] {
        &[CredentialKind::Token, CredentialKind::BasicAuth, CredentialKind::Anonymous]
    }

    fn events(&self) -> &'static [EventKind] {
        &EventKind::ALL
    }

    fn capabilities(&self) -> Capabilities {
        inspect::capabilities(true)
    }

    fn permission_words(&self, permission: Permission) -> Option<String> {
        permission::words(permission)
    }

    fn event_words(&self, event: EventKind) -> &'static [&'static str] {
        convert::words(event)
    }

    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError> {
        let spec = spec.gitea.as_ref().ok_or_else(|| address::invalid("the spec has no member gitea"))?;
        let web = address::parse("gitea.url", &spec.url.0)?;
        let api = match &spec.api_url {
            Some(api) => address::parse("gitea.apiURL", &api.0)?,
            None => address::below(&web, "/api/v1"),
        };
        let scope = match (&spec.organization, &spec.user) {
            (Some(path), None) => Scope { word: path::ORGANIZATION, path: path::owner("gitea.organization", path)?, project: None },
            (None, Some(path)) => Scope { word: "user", path: path::owner("gitea.user", path)?, project: None },
            _ => return Err(address::invalid("gitea needs either organization or user")),
        };
        Ok(Endpoint { web, api, further_origins: Vec::new(), scope: Some(scope) })
    }

    fn version_address(&self, endpoint: &Endpoint) -> Url {
        address::with_segments(&endpoint.api, ["version"])
    }

    fn repository_path(&self, endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
        path::parse(endpoint, text)
    }

    fn client(&self, endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        GiteaClient::connect(endpoint, credential, transport)
    }

    fn webhook(&self) -> &dyn Webhook {
        &GiteaWebhook
    }
}
