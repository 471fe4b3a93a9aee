//! The contract suite against a sandbox repository of a real account. It reads, and it creates, changes and deletes webhooks in
//! that repository; it leaves none behind.
//!
//! ```sh
//! make conformance PROVIDER=github TOKEN_ENV=GITHUB_TOKEN REPOSITORY=acme/sandbox
//! ```
//!
//! The repository needs a commit. The webhooks deliver to `TARGET`, whose answer does not matter.

#![allow(clippy::disallowed_methods, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::clock::SystemClock;
use forgebind::network::NetworkPolicy;
use forgebind::providers::credential::DeclaredCredential;
use forgebind::providers::transport::{TransportFactory, Unleased};
use forgebind::providers::{Client, Endpoint, Provider, registry};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use testkit::contract::Subject;
use testkit::samples::{self, Samples};

/// Runs the contract suite against a sandbox repository, and removes every webhook that it created.
#[derive(Parser)]
#[command(name = "conformance")]
struct Arguments {
    /// Which provider, by its name in the flag `--providers`, such as github.
    #[arg(long, env = "PROVIDER", value_parser = kind)]
    provider: ProviderKind,
    /// URL of the server; the clouds need none.
    #[arg(long, env = "URL")]
    url: Option<String>,
    /// URL of the API, if it is not at the documented place.
    #[arg(long, env = "API_URL")]
    api_url: Option<String>,
    /// The environment variable that contains the token.
    #[arg(long, env = "TOKEN_ENV")]
    token_env: String,
    /// The user name of the token, if it is a password.
    #[arg(long, env = "ACCOUNT_USERNAME")]
    username: Option<String>,
    /// The e-mail address of the token, for API tokens of Bitbucket Cloud.
    #[arg(long, env = "ACCOUNT_EMAIL")]
    email: Option<String>,
    /// Path of the sandbox repository: owner/name; for Azure DevOps organization/project/repository.
    #[arg(long, env = "REPOSITORY")]
    repository: String,
    /// Whether the owner is a user, for providers that distinguish users and organizations.
    #[arg(long, env = "OWNER_IS_USER", default_value_t = false, value_parser = clap::builder::BoolishValueParser::new())]
    owner_is_user: bool,
    /// URL to which the webhooks deliver.
    #[arg(long, env = "TARGET", default_value = "https://example.com/forgebind-conformance")]
    target: String,
    /// Loopback and private addresses that may be reached, such as 127.0.0.0/8.
    #[arg(long, env = "ALLOW_CIDRS", value_delimiter = ',')]
    allow_cidrs: Vec<String>,
    /// Whether plain http is allowed.
    #[arg(long, env = "ALLOW_INSECURE_HTTP", default_value_t = false, value_parser = clap::builder::BoolishValueParser::new())]
    allow_insecure_http: bool,
}

fn kind(text: &str) -> Result<ProviderKind, String> {
    let names = ProviderKind::ALL.map(ProviderKind::flag).join(", ");
    ProviderKind::ALL.into_iter().find(|kind| kind.flag() == text).ok_or_else(|| format!("{text} is unknown; use one of {names}"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Make passes unset variables as empty ones.
    let set = |value: Option<String>| value.filter(|value| !value.is_empty());
    let arguments = Arguments {
        url: set(arguments.url),
        api_url: set(arguments.api_url),
        username: set(arguments.username),
        email: set(arguments.email),
        ..arguments
    };
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The member `provider` of a connection's spec, with the owner of the repository, and the repository's path within it.
fn spec(arguments: &Arguments) -> Result<(Value, String)> {
    let Samples { member, sandbox, .. } = samples::of(arguments.provider);
    let segments: Vec<&str> = arguments.repository.split('/').collect();
    let length = usize::try_from(sandbox.segments).unwrap_or(segments.len() - 1);
    anyhow::ensure!(length > 0 && length < segments.len(), "REPOSITORY needs an owner and a name");
    let (owner, rest) = segments.split_at(length);
    let repository = if sandbox.path == "rest" { rest.join("/") } else { arguments.repository.clone() };
    let field = if arguments.owner_is_user { "user" } else { sandbox.owner.as_str() };
    let mut spec = json!({ field: owner.join("/") });
    for (name, value) in [("url", &arguments.url), ("apiURL", &arguments.api_url)] {
        if let Some(value) = value {
            spec[name] = json!(value);
        }
    }
    Ok((json!({ member: spec }), repository))
}

/// Creates clients for the provider with different credentials.
struct Way {
    provider: &'static dyn Provider,
    endpoint: Endpoint,
    factory: TransportFactory,
}

impl Way {
    fn client(&self, data: &[(&str, &str)]) -> Result<Arc<dyn Client>> {
        let transport =
            self.factory.transport(self.provider.profile().transport_settings(&self.endpoint, format!("{} keys", data.len())))?;
        let data: BTreeMap<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        let credential =
            if data.is_empty() { forgebind::providers::Credential::Anonymous } else { DeclaredCredential::from_secret(&data)?.credential };
        Ok(self.provider.connect(self.endpoint.clone(), credential, transport)?)
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    // The only possible error: a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token =
        std::env::var(&arguments.token_env).with_context(|| format!("the environment variable {} is not set", arguments.token_env))?;
    let (spec, repository) = spec(arguments)?;
    let provider = registry::provider(arguments.provider).with_context(|| format!("{} is not supported", arguments.provider))?;
    let endpoint = provider.endpoint(&serde_json::from_value(spec)?)?;
    let allow_cidrs = arguments.allow_cidrs.iter().filter(|range| !range.is_empty()).map(|range| range.parse()).collect::<Result<_, _>>();
    let allow_cidrs = allow_cidrs.context("ALLOW_CIDRS")?;
    let policy = NetworkPolicy { insecure_http: arguments.allow_insecure_http, allow_cidrs, ..NetworkPolicy::default() };
    let factory = TransportFactory::new(Arc::new(policy), Arc::new(Unleased), Arc::new(SystemClock), &mut Registry::default());
    let way = Way { provider, endpoint, factory };
    let (valid, wrong) = (data(arguments, &token), "0123456789abcdef0123456789abcdef01234567");
    let subject = Subject {
        provider,
        endpoint: way.endpoint.clone(),
        client: way.client(&valid)?,
        // Wrong passwords may lock the account, so the suite uses a wrong token instead.
        rejected: way.client(&[("token", wrong)])?,
        anonymous: way.client(&[])?,
        unknown: format!("{repository}-of-nobody"),
        repository,
        target: format!("{}/{}", arguments.target.trim_end_matches('/'), std::process::id()),
        prepared: None,
    };
    println!("Testing {} at {}", arguments.provider, way.endpoint.api);
    let subject = Arc::new(subject);
    let asked = Arc::clone(&subject);
    let outcome = tokio::spawn(async move { testkit::contract::run(&asked).await }).await;
    let left = clean_up(&subject).await?;
    if outcome.is_err() {
        bail!("the contract suite failed; {left} webhooks that it had left behind were removed");
    }
    println!("The contract suite passed and left no webhook behind.");
    Ok(())
}

fn data<'a>(arguments: &'a Arguments, token: &'a str) -> Vec<(&'static str, &'a str)> {
    match (&arguments.email, &arguments.username) {
        (Some(email), _) => vec![("email", email), ("token", token)],
        (None, Some(username)) => vec![("username", username), ("password", token)],
        (None, None) => vec![("token", token)],
    }
}

/// Removes webhooks that a failed test left behind, and returns their number.
async fn clean_up(subject: &Subject) -> Result<usize> {
    let repository = subject.found(&subject.repository).await;
    let mut left = 0;
    for hook in subject.client.hooks(&repository).await? {
        if hook.url.expose().starts_with(&subject.target) {
            subject.client.delete_hook(&repository, &hook.id).await?;
            left += 1;
        }
    }
    Ok(left)
}
