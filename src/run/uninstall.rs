//! `forgebind uninstall`: releases all objects of this installation, so that it can be removed, and reports what remains at the
//! providers. Used by the uninstallation jobs.
//!
//! Keeping the hooks requires that no controller is running, because a running one adds its finalizer again. Deleting them
//! requires a running controller, because only a controller calls providers.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::Value;
use tokio::time::Instant;

use super::cluster;
use super::error::RunError;
use crate::api::v1alpha1::{GitProviderConnection, RepoBinding};
use crate::config::{HooksOnUninstall, UninstallConfig};
use crate::controllers::{install, leftovers};
use crate::k8s::finalizer;
use crate::telemetry::freshness::WatchHealth;
use crate::text::wording::pluralize;

/// The pause between two checks.
const PAUSE: Duration = Duration::from_secs(2);

/// Releases this installation's objects, or deletes its bindings with their hooks, and prints what remains.
///
/// # Errors
/// When the API server refuses, or some objects still have the finalizer at the timeout.
pub async fn uninstall(config: UninstallConfig) -> Result<(), RunError> {
    // Another part of the process may have installed the same provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = cluster::client(&WatchHealth::default()).await?;
    let name = config.install_key_secret.as_deref().unwrap_or(install::INSTALL_KEY);
    let key = install::find(&client, &config.namespace, name).await?;
    let uninstall = Uninstall {
        client,
        namespaces: config.watch_namespaces.clone(),
        fingerprint: key.map(|key| key.fingerprint()),
        timeout: config.timeout,
    };
    if uninstall.fingerprint.is_none() {
        return uninstall.without_key(&config.namespace, name).await;
    }
    match config.hooks {
        HooksOnUninstall::Delete => uninstall.delete_bindings(&config.namespace).await,
        HooksOnUninstall::Keep => uninstall.keep(&config.namespace).await,
    }
}

struct Uninstall {
    client: Client,
    namespaces: Vec<String>,
    fingerprint: Option<String>,
    timeout: Duration,
}

impl Uninstall {
    /// Without the key the owner of the objects cannot be determined, so nothing is changed.
    async fn without_key(&self, namespace: &str, secret: &str) -> Result<(), RunError> {
        let held = self.list::<RepoBinding>().await?.len() + self.list::<GitProviderConnection>().await?.len();
        if held == 0 {
            println!("nothing to release: there is no install key, and no object has the finalizer");
            return Ok(());
        }
        Err(RunError::NotUninstalled(format!(
            "Secret {namespace}/{secret} is missing, so it is not known which of {held} objects with the finalizer belong to this \
             installation; restore the Secret, or remove the finalizers by hand"
        )))
    }

    /// The objects of a kind that carry our finalizer and do not belong to another installation. Read untyped, because an
    /// object that does not parse also carries the finalizer.
    async fn list<K>(&self) -> Result<Vec<DynamicObject>, RunError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let kind = ApiResource::erase::<K>(&());
        let apis: Vec<Api<DynamicObject>> = if self.namespaces.is_empty() {
            vec![Api::all_with(self.client.clone(), &kind)]
        } else {
            self.namespaces.iter().map(|namespace| Api::namespaced_with(self.client.clone(), namespace, &kind)).collect()
        };
        let mut found = Vec::new();
        for api in apis {
            let mut parameters = ListParams::default().limit(500);
            loop {
                let page = match api.list(&parameters).await {
                    Ok(page) => page,
                    // The kind is not installed, so there are no objects of it.
                    Err(kube::Error::Api(status)) if status.is_not_found() => break,
                    Err(error) => return Err(error.into()),
                };
                found.extend(page.items.into_iter().filter(|object| finalizer::is_present(object) && self.is_ours(object)));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => parameters = parameters.continue_token(&token),
                    None => break,
                }
            }
        }
        Ok(found)
    }

    fn is_ours(&self, object: &DynamicObject) -> bool {
        let installation = object.data.pointer("/status/installation").and_then(Value::as_str);
        self.fingerprint.is_none() || installation.is_none() || installation == self.fingerprint.as_deref()
    }

    fn api<K>(&self, object: &DynamicObject) -> Api<DynamicObject>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced_with(self.client.clone(), &object.namespace().unwrap_or_default(), &ApiResource::erase::<K>(&()))
    }

    /// Removes our finalizer until no object carries it: a controller that is just stopping may still add one.
    async fn keep(&self, namespace: &str) -> Result<(), RunError> {
        let until = Instant::now() + self.timeout;
        let mut told = BTreeSet::new();
        loop {
            let (bindings, connections) = (self.list::<RepoBinding>().await?, self.list::<GitProviderConnection>().await?);
            if bindings.is_empty() && connections.is_empty() {
                break;
            }
            for binding in &bindings {
                if self.let_go::<RepoBinding>(binding).await? && told.insert(place(binding)) {
                    tell(binding);
                }
            }
            for connection in &connections {
                if self.let_go::<GitProviderConnection>(connection).await? && told.insert(format!("connection {}", place(connection))) {
                    println!("connection {}: released", place(connection));
                }
            }
            if Instant::now() >= until {
                let held: Vec<_> = bindings.iter().chain(&connections).map(place).collect();
                return Err(RunError::NotUninstalled(format!(
                    "a running controller keeps adding the finalizer; stop it: {}",
                    held.join(", ")
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.tell_leftovers(namespace).await?;
        println!("{} released; a new installation with the same install key recognises these webhooks", pluralize(told.len(), "object"));
        Ok(())
    }

    /// Removes the finalizer. Returns `false` when the object changed meanwhile, so that it is checked again.
    async fn let_go<K>(&self, object: &DynamicObject) -> Result<bool, RunError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let Some(patch) = finalizer::removal_patch(object) else { return Ok(false) };
        match self.api::<K>(object).patch(&object.name_any(), &finalizer::parameters(), &patch).await {
            Ok(_) => Ok(true),
            // A failed test operation of the patch is 422, a concurrent change is 409.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 || status.code == 422 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Prints the leftover hooks, which no controller will delete any more. Returns the number of their bindings.
    async fn tell_leftovers(&self, namespace: &str) -> Result<usize, RunError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let mut bindings = BTreeSet::new();
        for map in maps.list(&ListParams::default().labels(leftovers::LABEL)).await?.items {
            for entry in
                map.data.unwrap_or_default().values().filter_map(|text| crate::text::json::read_text::<leftovers::Leftover>(text).ok())
            {
                println!("binding {}/{}, deleted: {}", entry.namespace, entry.name, left(&entry));
                bindings.insert((entry.namespace, entry.name));
            }
        }
        Ok(bindings.len())
    }

    /// Deletes the bindings and waits until the controller has removed every finalizer, after it has deleted the hooks or
    /// recorded them as leftover.
    async fn delete_bindings(&self, namespace: &str) -> Result<(), RunError> {
        let until = Instant::now() + self.timeout;
        let mut asked = BTreeSet::new();
        loop {
            let bindings = self.list::<RepoBinding>().await?;
            if bindings.is_empty() {
                let left = self.tell_leftovers(namespace).await?;
                let webhooks = if left == 0 { "each with its webhook" } else { "but some webhooks remain, see above" };
                println!("{} deleted, {webhooks}", pluralize(asked.len(), "binding"));
                return Ok(());
            }
            for binding in &bindings {
                if binding.metadata.deletion_timestamp.is_none() {
                    self.delete(binding).await?;
                }
                if asked.insert(binding.uid()) {
                    println!("binding {}: deleting the binding and its webhook", place(binding));
                }
            }
            if Instant::now() >= until {
                let held: Vec<_> = bindings.iter().map(why_held).collect();
                return Err(RunError::NotUninstalled(format!("not deleted in time: {}", held.join("; "))));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn delete(&self, binding: &DynamicObject) -> Result<(), RunError> {
        let same = Preconditions { uid: binding.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match self.api::<RepoBinding>(binding).delete(&binding.name_any(), &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The leftover hooks of a binding, and why they remain.
fn left(entry: &leftovers::Leftover) -> String {
    let ids: Vec<_> = entry.hooks.iter().map(|hook| hook.id.as_str()).collect();
    let webhooks = match ids.as_slice() {
        // A status that was lost names no hooks.
        [] => "a webhook may remain".to_owned(),
        [id] => format!("webhook {id} stays"),
        ids => format!("webhooks {} stay", ids.join(", ")),
    };
    format!("{webhooks} at {}, because {}", entry.repository, entry.reason)
}

fn place(object: &DynamicObject) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Prints what a released binding leaves at its provider.
fn tell(binding: &DynamicObject) {
    let stays = staying(&binding.data);
    if stays.is_empty() {
        println!("binding {}: released; it has no webhook", place(binding));
    }
    for hook in stays {
        println!("binding {}: released; {hook}", place(binding));
    }
}

/// The hooks in a binding's status, and the former targets where hooks may remain.
fn staying(object: &Value) -> Vec<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let repository = text("/status/repository/webURL").or_else(|| text("/status/repository/path")).or_else(|| text("/spec/repository"));
    let repository = repository.unwrap_or("its repository");
    let list = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let hooks = list("/status/webhook/hooks").filter_map(|hook| hook.get("id").and_then(Value::as_str));
    let former = list("/status/webhook/formerTargets").filter_map(|target| target.get("repository").and_then(Value::as_str));
    let hooks = hooks.map(|id| format!("webhook {id} stays at {repository}"));
    hooks.chain(former.map(|path| format!("a webhook may remain at {path}, the former repository"))).collect()
}

/// A binding that still exists, with the message of its `CleanupBlocked` condition.
fn why_held(binding: &DynamicObject) -> String {
    let conditions = binding.data.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let blocked = conditions
        .filter(|condition| condition.get("type").and_then(Value::as_str) == Some("CleanupBlocked"))
        .find_map(|condition| condition.get("message").and_then(Value::as_str));
    format!("{} ({})", place(binding), blocked.unwrap_or("no controller has answered"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_hook_that_stays_is_listed_with_its_repository() {
        let object = json!({
            "spec": {"repository": "acme/shop"},
            "status": {
                "repository": {"webURL": "https://git.acme.io/acme/shop"},
                "webhook": {"hooks": [{"id": "1"}, {"id": "2"}], "formerTargets": [{"repository": "acme/till"}]},
            },
        });
        let stays = staying(&object);
        assert_eq!(stays[0], "webhook 1 stays at https://git.acme.io/acme/shop");
        assert!(stays[1].contains("webhook 2") && stays[2].contains("acme/till"), "{stays:?}");
        assert!(staying(&json!({"spec": {"repository": "acme/shop"}})).is_empty());
    }
}
