//! Gitea and Forgejo. One API; which of them answers is told apart at run time.

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
use crate::api::v1alpha1::{EventKind, ProviderKind};
use crate::providers::model::Scope;
use crate::providers::transport::Transport;
use crate::providers::{Client, Credential, Endpoint, ErrorKind, PathError, Provider, ProviderError, RepositoryPath, Webhook};

use client::GiteaClient;
pub use webhook::GiteaWebhook;

/// The word of a scope that is an organization.
const ORGANIZATION: &str = "organization";

/// Gitea and Forgejo.
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

    fn endpoint(&self, spec: &ProviderSpec) -> Result<Endpoint, ProviderError> {
        let spec = spec.gitea.as_ref().ok_or_else(|| invalid("the spec has no member gitea"))?;
        let web = address(&spec.url.0)?;
        let api = match &spec.api_url {
            Some(api) => address(&api.0)?,
            None => below(&web, "/api/v1"),
        };
        let scope = match (&spec.organization, &spec.user) {
            (Some(path), None) => Scope { word: ORGANIZATION, path: path.clone(), holder: None },
            (None, Some(path)) => Scope { word: "user", path: path.clone(), holder: None },
            _ => return Err(invalid("gitea needs either organization or user")),
        };
        Ok(Endpoint { web, api, further_origins: Vec::new(), scope: Some(scope) })
    }

    fn repository_path(&self, endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
        path::parse(endpoint, text)
    }

    fn connect(&self, endpoint: Endpoint, credential: Credential, transport: Transport) -> Result<Arc<dyn Client>, ProviderError> {
        GiteaClient::connect(endpoint, credential, transport)
    }

    fn webhook(&self) -> &dyn Webhook {
        &GiteaWebhook
    }
}

fn invalid(message: &str) -> ProviderError {
    ProviderError::new(ErrorKind::EndpointInvalid, "read the address", message)
}

/// An address without a slash at the end of its path.
fn address(text: &str) -> Result<Url, ProviderError> {
    let url = Url::parse(text).map_err(|error| invalid(&format!("the address is no URL: {error}")))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain {
        return Err(invalid("the address must be an http or https URL without user name, query or fragment"));
    }
    Ok(below(&url, ""))
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}
