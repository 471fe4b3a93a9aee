//! Resolves conflicts between bindings that request the same hook: same repository and same custom URL. URLs of our own receiver
//! never collide.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use url::Url;

use super::ownership::normal_form;
use super::requested::is_as_requested;
use crate::api::v1alpha1::{ConditionType, EventKind, Reason, RepoBinding};
use crate::controllers::View;
use crate::controllers::gate::{self, ActiveClient, Seal, Server};
use crate::k8s::conditions;
use crate::providers::{Repository, RepositoryPath, registry};

/// The repository of a binding, as far as it is known without a provider call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundRepository {
    /// API URL of the server: ids are unique within one server only.
    api: Url,
    /// The server as its connection reaches it; `None` while the connection has no active client for this API.
    server: Option<Server>,
    /// Stable id, once the repository was found.
    id: Option<String>,
    /// Path; `None` if the spec's text is not a repository path of this provider.
    path: Option<RepositoryPath>,
}

impl BoundRepository {
    /// Reads the spec, the status and the connection; `None` if the connection is missing or names no valid provider.
    fn of(view: &View, object: &RepoBinding) -> Option<Self> {
        let connection = view.connection(&object.connection_target())?;
        let spec = &connection.spec.provider;
        let provider = registry::provider(spec.kind()?)?;
        let endpoint = provider.endpoint(spec).ok()?;
        let path = provider.repository_path(&endpoint, &object.spec.repository).ok();
        let known = object.known_repository();
        let known = known.filter(|known| path.as_ref().is_some_and(|path| is_as_requested(object, &endpoint.api, path, known)));
        let session = view.sessions.get(&object.connection_target());
        let server =
            session.and_then(|session| Some(session.active_client?.server().clone())).filter(|server| *server.api() == endpoint.api);
        Some(Self { api: endpoint.api, server, id: known.map(|known| known.id.clone()), path })
    }

    fn is(&self, server: &Server, repository: &Repository) -> bool {
        let same = match (&self.id, &self.path) {
            (Some(id), _) => *id == repository.id,
            (None, Some(path)) => path.same_as(repository.path.as_str()),
            (None, None) => false,
        };
        same && self.server.as_ref().map_or(self.api == *server.api(), |ours| ours == server)
    }

    fn is_that_of(&self, other: &Self) -> bool {
        let same = match (&self.id, &other.id) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => matches!((&self.path, &other.path), (Some(ours), Some(theirs)) if ours.same_as(theirs.as_str())),
        };
        same && self.api == other.api
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whether the binding holds no hook at present: holders sort first.
    not_holding: bool,
    created: Option<Timestamp>,
    name: (String, String),
    /// The repository; `None` if the connection is missing or the claim does not count.
    bound: Option<BoundRepository>,
}

impl Claim {
    fn of(object: &RepoBinding, seal: &Seal, bound: Option<BoundRepository>) -> Self {
        Self {
            not_holding: !holds(object, seal),
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            name: (object.namespace().unwrap_or_default(), object.name_any()),
            bound,
        }
    }
}

/// Whether a binding has hooks at a target that this installation sealed.
fn holds(object: &RepoBinding, seal: &Seal) -> bool {
    let webhook = object.webhook_status();
    webhook.is_some_and(|webhook| !webhook.hooks.is_empty() && webhook.target.as_ref().is_some_and(|target| seal.is_on(target)))
}

/// Claims of other bindings to the custom URL of a binding. Bindings that are being deleted, or have neither hooks nor a
/// grant, do not compete; a claim to another repository has no effect.
pub fn claims(view: &View, object: &RepoBinding) -> Vec<Claim> {
    let claim = |other: &Arc<RepoBinding>| {
        let seal = Seal::of_binding(&view.keys.controller, other);
        let bound = BoundRepository::of(view, other).filter(|bound| counts(object, other, bound, &seal));
        Claim::of(other, &seal, bound)
    };
    others(view, object).iter().map(claim).collect()
}

/// Whether a claim counts against a binding. A claim through the same connection always counts, because the connection's rules
/// allowed it. Anybody can create another connection to the same server, so a claim through it counts only if that connection was
/// proved to reach the repository.
fn counts(object: &RepoBinding, other: &RepoBinding, bound: &BoundRepository, seal: &Seal) -> bool {
    let known = other.known_repository();
    let is_proved = bound.server.is_some() && known.is_some_and(|known| seal.is_on_repository(known));
    is_proved || other.connection_target() == object.connection_target()
}

/// Other bindings that name the same custom URL, in any spelling, have hooks or a grant and are not being deleted.
pub fn others(view: &View, object: &RepoBinding) -> Vec<Arc<RepoBinding>> {
    let Some(url) = object.custom_url().map(|url| normal_form(&url)) else { return Vec::new() };
    view.bindings.state_filter(|other| {
        other.metadata.uid != object.metadata.uid
            && !other.is_being_deleted()
            && other.custom_url().is_some_and(|theirs| normal_form(&theirs) == url)
            && !is_held_back(view, other)
    })
}

/// Events of the other bindings that request a hook on a repository, if the provider limits its hooks.
pub fn siblings(view: &View, object: &RepoBinding, active_client: &ActiveClient, repository: &Repository) -> Vec<BTreeSet<EventKind>> {
    if active_client.provider.hook_limit(&active_client.endpoint).is_none() {
        return Vec::new();
    }
    // Cheap comparison before the exact one: there may be thousands of bindings.
    let name = |path: &str| path.trim_end_matches('/').trim_end_matches(".git").rsplit(['/', ':']).next().map(str::to_lowercase);
    let ours = name(repository.path.as_str());
    let alike = |other: &RepoBinding| {
        let known = other.known_repository();
        known.map_or_else(|| name(&other.spec.repository) == ours, |known| known.id == repository.id)
    };
    let others = view.bindings.state_filter(|other| {
        other.metadata.uid != object.metadata.uid
            && alike(other)
            && !other.is_being_deleted()
            && other.spec.webhook.is_some()
            && !is_held_back(view, other)
            && BoundRepository::of(view, other).is_some_and(|bound| bound.is(active_client.server(), repository))
    });
    others.iter().map(|other| other.hook_events()).collect()
}

/// Whether a binding may not use its connection. A binding that was not probed yet counts as permitted: two bindings created
/// together must not both take the URL. A binding that already has hooks also counts as permitted until they are removed: they
/// remain its own while the credential is invalid, and for as long as they stay without a grant.
fn is_held_back(view: &View, other: &RepoBinding) -> bool {
    if holds(other, &Seal::of_binding(&view.keys.controller, other)) {
        return false;
    }
    if view.connection(&other.connection_target()).is_some_and(|connection| gate::grants(view, other, &connection) == Some(false)) {
        return true;
    }
    let conditions = other.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, ConditionType::ConnectionReady).is_some_and(|condition| condition.status == "False")
}

/// Bindings of the same repository that another binding kept from creating a hook.
pub fn waiting(view: &View, object: &RepoBinding) -> Vec<Arc<RepoBinding>> {
    let Some(ours) = BoundRepository::of(view, object) else { return Vec::new() };
    // A binding without a grant, which merely names the connection and the repository, must not trigger others. One that had
    // hooks may have lost them just now.
    let connection = view.connection(&object.connection_target());
    let had_hooks = holds(object, &Seal::of_binding(&view.keys.controller, object));
    if !had_hooks && connection.is_none_or(|connection| gate::grants(view, object, &connection) != Some(true)) {
        return Vec::new();
    }
    view.bindings.state_filter(|other| {
        let conditions = other.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let kept_back = conditions::find(conditions, ConditionType::WebhookInSync).is_some_and(|condition| {
            condition.reason == Reason::ClaimedByAnother.as_str() || condition.reason == Reason::ForeignHook.as_str()
        });
        kept_back
            && other.metadata.uid != object.metadata.uid
            && BoundRepository::of(view, other).is_some_and(|theirs| theirs.is_that_of(&ours))
    })
}

/// Whether another claim to the same repository of the same server has precedence: the holder of the hook, then the oldest
/// binding, then the lowest name.
pub fn loses_conflict(object: &RepoBinding, seal: &Seal, repository: &Repository, server: &Server, claims: &[Claim]) -> bool {
    let ours = Claim::of(object, seal, None);
    let key = |claim: &Claim| (claim.not_holding, claim.created, claim.name.clone());
    let same = |claim: &&Claim| claim.bound.as_ref().is_some_and(|bound| bound.is(server, repository));
    claims.iter().filter(same).any(|claim| key(claim) < key(&ours))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::ProviderKind;
    use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget, RequestedRepository};
    use crate::controllers::binding::ownership::tests as ownership;
    use crate::providers::PermissionFinding;

    fn binding(name: &str, created: &str, holds: bool) -> RepoBinding {
        let hooks = if holds { json!([{"id": "1"}]) } else { json!([]) };
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
            "metadata": {"name": name, "namespace": "team", "creationTimestamp": created},
            "spec": {"connectionRef": {"name": "c"}, "repository": "acme/shop",
                "webhook": {"url": "https://argocd.acme.io/api/webhook", "secretRef": {"name": "s"}}},
            "status": {"repository": {"id": "7", "path": "acme/shop"}, "webhook": {"hooks": hooks}},
        }))
        .unwrap()
    }

    fn api(host: &str) -> Url {
        Url::parse(&format!("https://{host}/api/v1/")).unwrap()
    }

    fn path_of(path: &str) -> RepositoryPath {
        let spec = serde_json::from_value(json!({"gitea": {"url": "https://git.acme.io", "organization": "acme"}})).unwrap();
        let provider = registry::provider(ProviderKind::Gitea).unwrap();
        provider.repository_path(&provider.endpoint(&spec).unwrap(), path).unwrap()
    }

    fn server(host: &str, way: &str) -> Server {
        Server::new(api(host), way.into())
    }

    /// Returns the binding with sealed hook targets, and its seal.
    fn sealed(mut object: RepoBinding) -> (RepoBinding, Seal) {
        let seal = Seal::new(&ownership::keys(1).controller, "team", &object.name_any());
        let target = HookTarget {
            connection: object.connection_target(),
            repository_id: "7".to_owned(),
            repository: "acme/shop".to_owned(),
            host: "argocd.acme.io".to_owned(),
            seal: None,
        };
        if let Some(webhook) = object.status.as_mut().and_then(|status| status.webhook.as_mut()) {
            webhook.target = Some(gate::sealed(&seal, target));
        }
        (object, seal)
    }

    fn bound(host: &str, id: Option<&str>, path: &str) -> BoundRepository {
        BoundRepository { api: api(host), server: Some(server(host, "")), id: id.map(str::to_owned), path: Some(path_of(path)) }
    }

    fn repository(id: &str, path: &str) -> Repository {
        Repository {
            id: id.to_owned(),
            path: path_of(path),
            web_url: None,
            clone_url: None,
            ssh_url: None,
            default_branch: None,
            visibility: None,
            archived: false,
            empty: false,
            manage_webhooks: PermissionFinding::granted(),
            project: None,
        }
    }

    fn goes_first(object: &RepoBinding, other: &RepoBinding, bound: BoundRepository) -> bool {
        let ((object, ours), (other, theirs)) = (sealed(object.clone()), sealed(other.clone()));
        let claims = [Claim::of(&other, &theirs, Some(bound))];
        loses_conflict(&object, &ours, &repository("7", "acme/shop"), &server("git.acme.io", ""), &claims)
    }

    #[test]
    fn dt_26_the_holder_goes_first_then_the_oldest_then_the_name() {
        let old = binding("b", "2026-01-01T00:00:00Z", false);
        let new = binding("a", "2026-01-02T00:00:00Z", false);
        let holder = binding("c", "2026-01-03T00:00:00Z", true);
        let same = || bound("git.acme.io", Some("7"), "acme/shop");
        assert!(goes_first(&new, &old, same()));
        assert!(!goes_first(&old, &new, same()));
        assert!(goes_first(&old, &holder, same()));
        let twin = binding("d", "2026-01-01T00:00:00Z", false);
        assert!(goes_first(&twin, &old, same()));
        assert!(!goes_first(&old, &twin, same()));
    }

    #[test]
    fn repositories_with_the_same_small_id_at_two_servers_are_no_conflict() {
        let (new, holder) = (binding("a", "2026-01-02T00:00:00Z", false), binding("c", "2026-01-03T00:00:00Z", true));
        for (theirs, conflicts) in [
            (bound("git.acme.io", Some("7"), "acme/renamed"), true),
            (bound("git.acme.io", Some("8"), "acme/shop"), false),
            (bound("git.acme.io", None, "Acme/Shop"), true),
            (bound("git.acme.io", None, "acme/store"), false),
            (bound("git.other.io", Some("7"), "acme/shop"), false),
            (bound("git.other.io", None, "acme/shop"), false),
        ] {
            assert_eq!(goes_first(&new, &holder, theirs.clone()), conflicts, "{theirs:?}");
            assert_eq!(theirs.is_that_of(&bound("git.acme.io", Some("7"), "acme/shop")), conflicts, "{theirs:?}");
        }
        let ((new, ours), (holder, theirs)) = (sealed(new), sealed(holder));
        let goes_first = |claim: Claim| loses_conflict(&new, &ours, &repository("7", "acme/shop"), &server("git.acme.io", ""), &[claim]);
        assert!(!goes_first(Claim::of(&holder, &theirs, None)), "without a connection");
        let elsewhere =
            BoundRepository { server: Some(server("git.acme.io", "own proxy")), ..bound("git.acme.io", Some("7"), "acme/shop") };
        assert!(!goes_first(Claim::of(&holder, &theirs, Some(elsewhere))), "what answers there may be anybody");
        let same = || Some(bound("git.acme.io", Some("7"), "acme/shop"));
        assert!(goes_first(Claim::of(&holder, &theirs, same())));
        assert!(!goes_first(Claim::of(&holder, &ours, same())), "somebody wrote the status");
    }

    #[test]
    fn a_claim_through_another_connection_counts_once_that_one_led_to_the_repository() {
        let ours = binding("a", "2026-01-02T00:00:00Z", false);
        let (mut theirs, seal) = sealed(binding("b", "2026-01-01T00:00:00Z", false));
        let inspected = bound("git.acme.io", Some("7"), "acme/shop");
        let not_inspected = BoundRepository { server: None, ..inspected.clone() };
        assert!(counts(&ours, &theirs, &not_inspected, &seal), "through the same connection");
        theirs.spec.connection_ref.name = "own".to_owned();
        assert!(!counts(&ours, &theirs, &inspected, &seal), "anybody can name a repository");
        let known = theirs.status.as_mut().unwrap().repository.as_mut().unwrap();
        let target = ConnectionTarget { namespace: "team".to_owned(), name: "own".to_owned() };
        let cleanup_target = HookTarget {
            connection: target.clone(),
            repository_id: known.id.clone(),
            repository: known.path.clone(),
            host: String::new(),
            seal: None,
        };
        let seal_on_it = gate::sealed(&seal, cleanup_target).seal;
        known.requested = Some(RequestedRepository {
            connection: target,
            api: Some("https://git.acme.io/api/v1/".to_owned()),
            path: "acme/shop".to_owned(),
            seal: seal_on_it,
        });
        assert!(counts(&ours, &theirs, &inspected, &seal));
        assert!(!counts(&ours, &theirs, &not_inspected, &seal));
        theirs.status.as_mut().unwrap().repository.as_mut().unwrap().id = "8".to_owned();
        assert!(!counts(&ours, &theirs, &inspected, &seal), "somebody wrote the status");
    }
}
