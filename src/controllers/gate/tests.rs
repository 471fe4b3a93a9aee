//! Tests which provider calls a binding may cause and what its status may show, one situation at a time, through facts, plan
//! and report. A recording provider lists all calls.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Resource;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ActiveClient, CleanupPermit, Grant, GrantDecision, Seal, Ungranted};
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget, RepoBindingStatus};
use crate::api::v1alpha1::{
    ConditionType, ConnectionGrant, EventKind, FINALIZER, GitProviderConnection, Permission, ProviderKind, RECONCILE_REQUESTED_AT,
    REVOKE_REQUESTED_AT, ROTATE_REQUESTED_AT, Reason, RepoBinding,
};
use crate::clock::{Clock as _, SystemClock};
use crate::controllers::binding::facts::Facts;
use crate::controllers::binding::memory::{BindingMemory, Memories};
use crate::controllers::binding::obstacle::UNTOLD;
use crate::controllers::binding::outcome::Outcome;
use crate::controllers::binding::ownership::{HookIdentity, tests as ownership};
use crate::controllers::binding::plan::{self, FinalizerStep, PlanStep};
use crate::controllers::binding::prepared::PreparedEntries;
use crate::controllers::binding::report::report;
use crate::controllers::catalog::state::Catalogs;
use crate::controllers::connection::snapshot::Snapshot;
use crate::controllers::connection::{self as connections, usage};
use crate::controllers::leftovers::{Leftover, LeftoverHook, Stored};
use crate::controllers::public_endpoints::PublicEndpoints;
use crate::controllers::sessions::{ConditionFailure, Session, Usage};
use crate::controllers::view::{ObjectReader, ProviderClients};
use crate::controllers::{Sessions, Triggers, View, install};
use crate::k8s::conditions::find;
use crate::network::NetworkPolicy;
use crate::protocol::grant;
use crate::providers::model::HookState;
use crate::providers::permission::Grants;
use crate::providers::transport::{TransportFactory, Unleased};
use crate::providers::{
    Client, Deletion, Endpoint, ErrorKind, GitProbe, Hook, HookRelease, HookRequest, HookShape, HookUrl, Inspection, ListedRepository,
    PermissionFinding, ProviderError, Repository, RepositoryPath, registry,
};

/// Name of a repository for which no binding here has a grant.
const HIDDEN: &str = "acme/hidden-canary";
/// Error message of the provider.
const WORDS: &str = "words of the provider";

/// A repository: the paths at which it is found, its id, and its present path.
struct Known {
    found_by: Vec<&'static str>,
    id: &'static str,
    path: &'static str,
}

/// A provider that records its calls.
struct Recorder {
    endpoint: Endpoint,
    repositories: Vec<Known>,
    hooks: Vec<(&'static str, HookUrl)>,
    fails: Option<ErrorKind>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn note(&self, call: String) -> Result<(), ProviderError> {
        self.calls.lock().push(call);
        self.fails.map_or(Ok(()), |kind| Err(ProviderError::new(kind, "call", WORDS)))
    }

    fn repository_of(&self, known: &Known) -> Repository {
        let provider = registry::provider(ProviderKind::Gitea).unwrap();
        Repository {
            id: known.id.to_owned(),
            path: provider.repository_path(&self.endpoint, known.path).unwrap(),
            web_url: Some(format!("https://gitea.acme.io/{}", known.path)),
            clone_url: Some(format!("https://gitea.acme.io/{}.git", known.path)),
            ssh_url: None,
            default_branch: Some("main".to_owned()),
            visibility: None,
            archived: false,
            empty: false,
            manage_webhooks: PermissionFinding::granted(),
            project: None,
        }
    }
}

fn absent<T>() -> Result<T, ProviderError> {
    Err(ProviderError::new(ErrorKind::NotFound, "look up repository", WORDS))
}

#[async_trait]
impl Client for Recorder {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        unreachable!("no binding inspects a credential")
    }

    fn permission(&self, _: &Inspection, _: Permission) -> PermissionFinding {
        PermissionFinding::granted()
    }

    async fn repository(&self, path: &RepositoryPath) -> Result<Repository, ProviderError> {
        self.note(format!("repository {path}"))?;
        let found = self.repositories.iter().find(|known| known.found_by.contains(&path.as_str()));
        found.map_or_else(absent, |known| Ok(self.repository_of(known)))
    }

    async fn repository_by_id(&self, id: &str) -> Result<Option<Repository>, ProviderError> {
        self.note(format!("by id {id}"))?;
        let found = self.repositories.iter().find(|known| known.id == id);
        found.map_or_else(absent, |known| Ok(Some(self.repository_of(known))))
    }

    async fn branch_exists(&self, repository: &Repository, _: &str) -> Result<bool, ProviderError> {
        self.note(format!("branch of {}", repository.id)).map(|()| true)
    }

    async fn probe_git(&self, path: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        self.note(format!("git {path}")).map(|()| GitProbe { heads: std::collections::BTreeMap::new() })
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        let other = Known { found_by: Vec::new(), id: "99", path: "acme/other" };
        let page = self.note("the owner's list".to_owned()).map(|()| vec![ListedRepository::of(self.repository_of(&other))]);
        stream::iter([page]).boxed()
    }

    fn hook_shapes(&self, events: &BTreeSet<EventKind>) -> Vec<HookShape> {
        vec![HookShape { events: events.clone(), ..HookShape::default() }]
    }

    async fn hooks(&self, repository: &Repository) -> Result<Vec<Hook>, ProviderError> {
        self.note(format!("hooks of {}", repository.id))?;
        let shape = HookShape { events: [EventKind::Push].into(), ..HookShape::default() };
        let hook = |(id, url): &(&str, HookUrl)| Hook {
            id: (*id).to_owned(),
            url: url.clone(),
            shape: shape.clone(),
            state: HookState::Active,
            has_secret: Some(true),
        };
        Ok(self.hooks.iter().map(hook).collect())
    }

    async fn create_hook(&self, repository: &Repository, _: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        self.note(format!("create at {}", repository.id)).and_then(|()| absent())
    }

    async fn update_hook(&self, repository: &Repository, id: &str, _: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        self.note(format!("update {id} of {}", repository.id)).and_then(|()| absent())
    }

    async fn release_hook(&self, repository: &Repository, id: &str, _: &HookRelease<'_>) -> Result<(), ProviderError> {
        self.note(format!("release {id} of {}", repository.id))
    }

    async fn delete_hook(&self, repository: &Repository, id: &str) -> Result<Deletion, ProviderError> {
        self.note(format!("delete {id} of {}", repository.id)).map(|()| Deletion::Deleted)
    }
}

struct NoReferences;

#[async_trait]
impl ObjectReader for NoReferences {
    async fn secret(&self, _: &str, _: &str) -> kube::Result<Option<Secret>> {
        Ok(None)
    }

    async fn config_map(&self, _: &str, _: &str) -> kube::Result<Option<ConfigMap>> {
        Ok(None)
    }
}

fn store<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&watcher::Event::Init);
    for object in objects {
        writer.apply_watcher_event(&watcher::Event::InitApply(object));
    }
    writer.apply_watcher_event(&watcher::Event::InitDone);
    store
}

fn target() -> ConnectionTarget {
    ConnectionTarget { namespace: "platform".to_owned(), name: "acme".to_owned() }
}

fn seal(name: &str) -> Seal {
    Seal::new(&ownership::keys(1).controller, "team", name)
}

fn hook_target(id: &str, path: &str) -> HookTarget {
    HookTarget {
        connection: target(),
        repository_id: id.to_owned(),
        repository: path.to_owned(),
        host: "hooks.acme.io".to_owned(),
        seal: None,
    }
}

/// The connection `platform/acme`.
fn connection() -> Value {
    json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "GitProviderConnection",
        "metadata": {"name": "acme", "namespace": "platform", "uid": "c", "generation": 1},
        "spec": {
            "provider": {"gitea": {"url": "https://gitea.acme.io", "organization": "acme"}},
            "access": "Granted",
        },
        "status": {"installation": ownership::keys(1).fingerprint},
    })
}

/// The new binding `team/shop` for `acme/shop`.
fn new_binding() -> Value {
    json!({
        "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding",
        "metadata": {"name": "shop", "namespace": "team", "uid": "b", "generation": 1},
        "spec": {
            "connectionRef": {"name": "acme", "namespace": "platform"}, "repository": "acme/shop", "branch": "main",
            "webhook": {"events": ["Push"]},
        },
        "status": {"installation": ownership::keys(1).fingerprint},
    })
}

/// The binding with hook 31 in repository 7, as this installation recorded it.
fn holding() -> Value {
    let mut binding = new_binding();
    binding["metadata"]["finalizers"] = json!([FINALIZER]);
    // Without a request, a binding that was settled before the start would not be probed at once.
    binding["metadata"]["annotations"] = json!({RECONCILE_REQUESTED_AT: "now"});
    let conditions: Vec<Value> = ["Ready", "ConnectionReady", "RepositoryFound", "WebhookInSync"]
        .map(|kind| json!({"type": kind, "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z"}))
        .into();
    binding["status"] = json!({
        "observedGeneration": 1, "installation": ownership::keys(1).fingerprint, "conditions": conditions,
        "repository": {"id": "7", "path": "acme/shop", "requested": {"connection": target(), "path": "acme/shop"}},
        "webhook": {
            "secretVersion": "1700000000", "target": seal("shop").put_on(hook_target("7", "acme/shop")),
            "hooks": [{"id": "31", "events": ["Push"], "adopted": false}],
        },
    });
    binding
}

fn deleted(mut binding: Value) -> Value {
    binding["metadata"]["deletionTimestamp"] = json!(SystemClock.now().to_string());
    binding
}

/// A new binding with a finalizer that somebody else set.
fn preset() -> Value {
    let mut binding = new_binding();
    binding["metadata"]["finalizers"] = json!([FINALIZER]);
    binding
}

/// State of the connection's credential.
#[derive(Clone, Copy, PartialEq)]
enum Credential {
    Works,
    /// The credential was refused after a start: there is no client at all.
    DeadAfterStart,
}

/// One situation.
struct Situation {
    connection: Option<Value>,
    /// The grants of the connection: namespaces, patterns of repositories, and hosts.
    rules: Value,
    /// For how long no grant has fitted for the binding's hooks, if none does.
    missing_for: SignedDuration,
    binding: Value,
    /// Other bindings.
    others: Vec<Value>,
    repositories: Vec<Known>,
    /// Whether the binding's own hook exists.
    hooked: bool,
    credential: Credential,
    fails: Option<ErrorKind>,
}

impl Situation {
    /// A working connection, and the repository with the binding's own hook.
    fn new(binding: Value) -> Self {
        let repositories = vec![Known { found_by: vec!["acme/shop"], id: "7", path: "acme/shop" }];
        Self {
            connection: Some(connection()),
            rules: json!([{"namespaces": {"from": "All"}, "repositories": ["acme/shop*"]}]),
            missing_for: SignedDuration::from_hours(2),
            binding,
            others: Vec::new(),
            repositories,
            hooked: true,
            credential: Credential::Works,
            fails: None,
        }
    }

    fn without_grant(self) -> Self {
        self.with_rules(&json!([]))
    }

    fn with_rules(mut self, rules: &Value) -> Self {
        self.rules = rules.clone();
        self
    }

    /// No grant has fitted since a moment ago.
    fn since_now(mut self) -> Self {
        self.missing_for = SignedDuration::ZERO;
        self
    }

    fn grants(&self) -> grant::Grants {
        let namespace = self.connection.as_ref().map_or(json!("platform"), |connection| connection["metadata"]["namespace"].clone());
        let grant = |(number, rule): (usize, &Value)| -> ConnectionGrant {
            let hosts = rule.get("destinationHosts").cloned().unwrap_or_else(|| json!([]));
            serde_json::from_value(json!({
                "apiVersion": "forgebind.dev/v1alpha1", "kind": "ConnectionGrant",
                "metadata": {"name": format!("g{number}"), "namespace": namespace},
                "spec": {
                    "connectionRef": {"name": "acme"}, "namespaces": rule["namespaces"],
                    "repositories": {"include": rule["repositories"]}, "destinationHosts": hosts,
                },
            }))
            .unwrap()
        };
        let grants: Vec<_> = self.rules.as_array().unwrap().iter().enumerate().map(grant).collect();
        grant::Grants::listing(&grants)
    }

    /// The memory of an operator that has seen for a while that no grant fits.
    fn memory(&self) -> Memories {
        let binding: RepoBinding = serde_json::from_value(self.binding.clone()).unwrap();
        let since = SystemClock.now() - self.missing_for;
        let ungranted = Ungranted::default().only(binding.hook_targets(), since);
        let memory = Memories::default();
        memory.store("b", BindingMemory { ungranted, ..BindingMemory::default() }, false);
        memory
    }

    /// The binding's path now leads to the repository at `path`.
    fn leading_to(mut self, path: &'static str) -> Self {
        self.repositories = vec![Known { found_by: vec!["acme/shop", path], id: "7", path }];
        self
    }

    fn view(&self) -> (View, Arc<Mutex<Vec<String>>>) {
        let (keys, settings) = (ownership::keys(1), ownership::settings("https://hooks.acme.io", &[]));
        let (clock, network) = (Arc::new(SystemClock), Arc::new(NetworkPolicy::default()));
        let (connections, _) = mpsc::unbounded_channel();
        let (grants, _) = mpsc::unbounded_channel();
        let (bindings, _) = mpsc::unbounded_channel();
        let (changed, _) = mpsc::unbounded_channel();
        let known = self.connection.clone().map(|object| serde_json::from_value::<GitProviderConnection>(object).unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let sessions = Sessions::new(changed);
        sessions.set(&target(), self.session(Arc::clone(&calls)));
        let view = View {
            references: Arc::new(NoReferences),
            clients: Arc::new(ProviderClients),
            transports: TransportFactory::new(Arc::clone(&network), Arc::new(Unleased), clock.clone(), &mut Registry::default()),
            clock,
            settings,
            keys,
            network,
            sessions,
            connections: store(known),
            bindings: store(self.others.iter().chain([&self.binding]).map(|binding| serde_json::from_value(binding.clone()).unwrap())),
            grant_objects: store([]),
            grants: self.grants(),
            namespaces: store([]),
            memory: self.memory(),
            prepared: PreparedEntries::default(),
            public_endpoints: PublicEndpoints::default(),
            catalogs: Catalogs::default(),
            key_failure: install::KeyFailure::default(),
            shows_connections: false,
            triggers: Triggers { connections, grants, bindings },
        };
        (view, calls)
    }

    fn session(&self, calls: Arc<Mutex<Vec<String>>>) -> Session {
        let now = SystemClock.now();
        let rejected = || ConditionFailure::new(ConditionType::Authenticated, Reason::CredentialRejected, WORDS);
        let works = self.credential == Credential::Works;
        Session {
            uid: "c".to_owned(),
            inputs: String::new(),
            inspected_at: now,
            works_since: works.then_some(now),
            next: None,
            failures: 0,
            failure: (!works).then(rejected),
            active_client: works.then(|| self.active_client(calls)),
            inspection_requested: false,
            hung: false,
            usage: Usage::default(),
        }
    }

    fn active_client(&self, calls: Arc<Mutex<Vec<String>>>) -> ActiveClient {
        let provider = registry::provider(ProviderKind::Gitea).unwrap();
        let spec = serde_json::from_value(connection()["spec"]["provider"].clone()).unwrap();
        let endpoint = provider.endpoint(&spec).unwrap();
        let known = |known: &Known| Known { found_by: known.found_by.clone(), ..*known };
        let own = ownership::identity(1, &ownership::settings("https://hooks.acme.io", &[]), None).receiver_url("1700000000").unwrap();
        let other = HookUrl::new("https://ci.other.io/hook".to_owned());
        let client = Recorder {
            endpoint: endpoint.clone(),
            repositories: self.repositories.iter().map(known).collect(),
            hooks: self.hooked.then_some(("31", own)).into_iter().chain([("32", other)]).collect(),
            fails: self.fails,
            calls,
        };
        let inspection = Inspection {
            flavor: "Gitea".to_owned(),
            version: None,
            identity: None,
            credential_name: None,
            expires_at: None,
            grants: Grants::Unknown("not asked".to_owned()),
            capabilities: provider.capabilities(),
            scope: None,
            warnings: Vec::new(),
        };
        ActiveClient::new(provider, endpoint, Arc::new(client), inspection, String::new(), "way".into())
    }

    async fn seen(&self) -> Seen {
        let (view, calls) = self.view();
        let binding: RepoBinding = serde_json::from_value(self.binding.clone()).unwrap();
        let facts = Facts::gather(&view, Arc::new(binding)).await;
        let plan = plan::plan(&facts);
        let report = report(&facts, &plan, &Outcome::nothing(Arc::clone(&facts.snapshot.object)));
        let actions = plan.steps.iter().map(|step| match step {
            PlanStep::Announce(_) => "announce".to_owned(),
            PlanStep::Hook { .. } => "hook".to_owned(),
            PlanStep::Clear { .. } => "clear".to_owned(),
            PlanStep::Record { why, .. } if why == UNTOLD => "record untold".to_owned(),
            PlanStep::Record { .. } => "record".to_owned(),
            PlanStep::PublishSecret(..) | PlanStep::PublishSinkSecrets | PlanStep::WithdrawSecret => "secret".to_owned(),
        });
        let actions = actions.filter(|action| action != "secret").collect::<Vec<_>>().join(", ");
        let told = serde_json::to_string(&report.status).unwrap() + &format!("{:?}", report.events);
        let calls = calls.lock().join(", ");
        Seen { calls, actions, finalizer_step: plan.finalizer_step, status: report.status, told }
    }
}

/// Results of a situation.
struct Seen {
    calls: String,
    actions: String,
    finalizer_step: FinalizerStep,
    status: RepoBindingStatus,
    told: String,
}

impl Seen {
    fn says(&self, kind: ConditionType) -> String {
        find(&self.status.conditions, kind).map(|condition| format!("{}/{}", condition.status, condition.reason)).unwrap_or_default()
    }

    /// Whether the receiver refuses deliveries: only for one of these two conditions.
    fn closes_route(&self) -> bool {
        self.says(ConditionType::ConnectionReady) == "False/RefNotPermitted"
            || self.says(ConditionType::RepositoryFound) == "False/RepositoryMovedOutOfScope"
    }
}

/// A forged status: a hook in a repository for which the binding has no grant.
fn forged(seal: Option<String>) -> Value {
    let mut binding = holding();
    binding["status"]["webhook"]["target"] = json!(HookTarget { seal, ..hook_target("8", HIDDEN) });
    binding["status"]["webhook"]["formerTargets"] = json!([hook_target("9", HIDDEN)]);
    binding
}

/// A binding with a hook whose repository was renamed to `path`.
fn renamed(path: &'static str) -> Situation {
    let mut situation = Situation::new(holding()).leading_to(path);
    situation.repositories[0].found_by = vec!["acme/shop", path];
    situation
}

#[tokio::test]
async fn what_is_called_told_and_kept_open_in_every_situation() {
    let gone = |mut situation: Situation| {
        situation.repositories.clear();
        situation
    };
    let dead = |mut situation: Situation| {
        situation.credential = Credential::DeadAfterStart;
        situation
    };
    let refused = |mut situation: Situation, kind| {
        situation.fails = Some(kind);
        situation
    };
    let going = |mut situation: Situation| {
        situation.connection.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
        situation
    };
    let missing = |mut situation: Situation| {
        situation.connection = None;
        situation
    };
    let with = |mut situation: Situation, field: &str, value: Value| {
        situation.binding["spec"][field] = value;
        situation
    };
    let moved_away = |situation| with(situation, "connectionRef", json!({"name": "there-is-none"}));
    let copied = seal("other").put_on(hook_target("8", HIDDEN)).seal;
    let moved_copy = seal("shop").put_on(hook_target("7", "acme/shop")).seal;
    let found_elsewhere = || {
        let mut binding = holding();
        binding["status"]["repository"]["path"] = json!("acme/store");
        Situation::new(binding)
    };
    let lost = || preset();
    let orphan = |object| {
        let mut object = deleted(object);
        object["spec"]["deletionPolicy"] = json!("Orphan");
        object
    };
    let with_url = |mut object: Value| {
        object["spec"]["webhook"]["url"] = json!("https://ci.acme.io/hook");
        object
    };
    let anywhere = |object| {
        let rule = json!({"namespaces": {"from": "All"}, "repositories": ["acme/*"], "destinationHosts": ["ci.acme.io"]});
        Situation::new(object).with_rules(&json!([rule]))
    };
    // A repository that the path no longer leads to, with the id in the status.
    let known_by_id = |seal: Option<String>| {
        let mut binding = holding();
        binding["status"]["webhook"] = Value::Null;
        binding["status"]["repository"]["requested"]["seal"] = json!(seal);
        let repositories = vec![Known { found_by: Vec::new(), id: "7", path: HIDDEN }];
        Situation { repositories, ..Situation::new(binding) }
    };
    let found = seal("shop").put_on(hook_target("7", "acme/shop")).seal;
    let of_another = seal("other").put_on(hook_target("7", "acme/shop")).seal;
    let (probe, clean) = ("repository acme/shop, branch of 7, hooks of 7", "by id 7, hooks of 7");
    let look_and_clean = "repository acme/shop, by id 7, hooks of 7";
    let cases: Vec<(&str, Situation, &str, &str, FinalizerStep, bool)> = vec![
        // (situation, calls, actions, finalizer, whether the route is closed)
        ("granted", Situation { hooked: false, ..Situation::new(new_binding()) }, probe, "announce, hook", FinalizerStep::Add, false),
        ("granted, with its hook", Situation::new(holding()), probe, "", FinalizerStep::Keep, false),
        ("no grant", Situation::new(new_binding()).without_grant(), "", "", FinalizerStep::Keep, true),
        ("no connection", missing(Situation::new(new_binding())), "", "", FinalizerStep::Keep, true),
        (
            "redirect out of the grant",
            Situation::new(new_binding()).leading_to(HIDDEN),
            "repository acme/shop",
            "",
            FinalizerStep::Keep,
            true,
        ),
        ("renamed out of the grant", renamed(HIDDEN), look_and_clean, "clear", FinalizerStep::Remove, true),
        ("transferred out of the owner", renamed("other/canary"), look_and_clean, "clear", FinalizerStep::Remove, true),
        ("renamed within the grant", renamed("acme/shop-2"), probe, "", FinalizerStep::Keep, false),
        ("grant withdrawn", Situation::new(holding()).without_grant(), clean, "clear", FinalizerStep::Remove, true),
        ("grant withdrawn, dead credential, restart", dead(Situation::new(holding()).without_grant()), "", "", FinalizerStep::Keep, true),
        ("grant for the found path withdrawn, dead credential, restart", dead(found_elsewhere()), "", "", FinalizerStep::Keep, true),
        ("dead credential, restart", dead(Situation::new(holding())), "", "", FinalizerStep::Keep, false),
        ("moved away, grant withdrawn", moved_away(Situation::new(holding()).without_grant()), clean, "clear", FinalizerStep::Keep, false),
        ("moved away, grant kept", moved_away(Situation::new(holding())), "", "", FinalizerStep::Keep, false),
        ("moved away, connection being deleted", moved_away(going(Situation::new(holding()))), clean, "clear", FinalizerStep::Keep, false),
        (
            "suspended, grant withdrawn",
            with(Situation::new(holding()).without_grant(), "suspend", json!(true)),
            clean,
            "clear",
            FinalizerStep::Keep,
            true,
        ),
        (
            "observing, grant withdrawn",
            with(Situation::new(holding()).without_grant(), "managementPolicy", json!("Observe")),
            clean,
            "clear",
            FinalizerStep::Keep,
            true,
        ),
        ("suspended", with(Situation::new(holding()), "suspend", json!(true)), "", "", FinalizerStep::Keep, false),
        ("connection being deleted", going(Situation::new(holding())), clean, "clear", FinalizerStep::Remove, false),
        ("preset finalizer, no grant", Situation::new(preset()).without_grant(), "", "", FinalizerStep::Remove, true),
        ("preset finalizer, no connection", missing(Situation::new(preset())), "", "", FinalizerStep::Remove, true),
        (
            "preset finalizer, no grant, deleted",
            Situation::new(deleted(preset())).without_grant(),
            "",
            "",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        (
            "preset finalizer, no connection, deleted",
            missing(Situation::new(deleted(preset()))),
            "",
            "",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        (
            "preset finalizer, dead credential, deleted",
            dead(Situation::new(deleted(preset())).without_grant()),
            "",
            "",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        ("forged status, no grant", Situation::new(forged(None)).without_grant(), "", "", FinalizerStep::Remove, true),
        (
            "forged status, deleted",
            Situation::new(deleted(forged(None))),
            "repository acme/shop, hooks of 7",
            "clear",
            FinalizerStep::RemoveAndForget,
            false,
        ),
        (
            "forged status with another binding's seal",
            Situation::new(deleted(forged(copied))),
            "repository acme/shop, hooks of 7",
            "clear",
            FinalizerStep::RemoveAndForget,
            false,
        ),
        (
            "forged status with the seal of another target",
            Situation::new(deleted(forged(moved_copy))),
            "repository acme/shop, hooks of 7",
            "clear",
            FinalizerStep::RemoveAndForget,
            false,
        ),
        (
            "renamed, the id is known",
            known_by_id(found),
            "repository acme/shop, by id 7, repository acme/shop",
            "",
            FinalizerStep::Remove,
            true,
        ),
        ("an id that somebody wrote", known_by_id(None), "repository acme/shop", "", FinalizerStep::Keep, false),
        ("an id that another binding found", known_by_id(of_another), "repository acme/shop", "", FinalizerStep::Keep, false),
        ("left as an orphan", Situation::new(orphan(holding())), "", "", FinalizerStep::RemoveAndForget, false),
        (
            "left as an orphan, grant withdrawn",
            Situation::new(orphan(holding())).without_grant(),
            clean,
            "clear",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        (
            "left as an orphan at another endpoint",
            anywhere(orphan(with_url(holding()))),
            clean,
            "clear",
            FinalizerStep::RemoveAndForget,
            false,
        ),
        ("deleted", Situation::new(deleted(holding())), clean, "clear", FinalizerStep::RemoveAndForget, false),
        (
            "deleted without a grant",
            Situation::new(deleted(holding())).without_grant(),
            clean,
            "clear",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        (
            "deleted, renamed out of the grant",
            {
                let mut situation = renamed(HIDDEN);
                situation.binding = deleted(holding());
                situation
            },
            clean,
            "clear",
            FinalizerStep::RemoveAndForget,
            false,
        ),
        (
            "deleted without a grant, refused",
            refused(Situation::new(deleted(holding())).without_grant(), ErrorKind::PermissionDenied),
            "by id 7",
            "record untold",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        (
            "deleted without a grant, out of reach",
            refused(Situation::new(deleted(holding())).without_grant(), ErrorKind::Unreachable),
            "by id 7",
            "record untold",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        (
            "deleted without a grant, no client",
            dead(Situation::new(deleted(holding())).without_grant()),
            "",
            "record untold",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        (
            "deleted without a grant, repository gone",
            gone(Situation::new(deleted(holding())).without_grant()),
            "by id 7",
            "record untold",
            FinalizerStep::RemoveAndForget,
            true,
        ),
        (
            "deleted, repository gone",
            gone(Situation::new(deleted(holding()))),
            "by id 7, the owner's list",
            "record",
            FinalizerStep::RemoveAndForget,
            false,
        ),
        (
            "deleted, out of reach",
            refused(Situation::new(deleted(holding())), ErrorKind::Unreachable),
            "by id 7",
            "",
            FinalizerStep::Keep,
            false,
        ),
        (
            "status lost, deleted",
            Situation::new(deleted(lost())),
            "repository acme/shop, hooks of 7",
            "clear",
            FinalizerStep::RemoveAndForget,
            false,
        ),
        (
            "status lost, deleted, redirect",
            Situation::new(deleted(lost())).leading_to(HIDDEN),
            "repository acme/shop",
            "",
            FinalizerStep::RemoveAndForget,
            false,
        ),
        (
            "status lost, deleted, repository gone",
            gone(Situation::new(deleted(lost()))),
            "repository acme/shop, the owner's list",
            "",
            FinalizerStep::RemoveAndForget,
            false,
        ),
    ];
    let mut wrong = Vec::new();
    for (what, situation, calls, actions, finalizer_step, closed) in cases {
        let seen = situation.seen().await;
        let found = (seen.calls.as_str(), seen.actions.as_str(), seen.finalizer_step, seen.closes_route());
        // Values in a forged status stay there until the next write; the report must not add others.
        let before = situation.binding["status"].to_string();
        let leaked = ["canary", WORDS].into_iter().find(|word| closed && seen.told.contains(word) && !before.contains(word));
        if found != (calls, actions, finalizer_step, closed) || leaked.is_some() {
            wrong.push(format!("{what}: {found:?}, leaked {leaked:?}: {}", seen.told));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A restore or a sync may bring a grant later: its route is closed at once, and its hook stays for an hour.
#[tokio::test]
async fn a_hook_whose_grant_is_missing_for_less_than_an_hour_stays() {
    let with = |mut situation: Situation, field: &str, value: Value| {
        situation.binding["spec"][field] = value;
        situation
    };
    let withdrawn = || Situation::new(holding()).without_grant().since_now();
    let mut orphan = deleted(holding());
    orphan["spec"]["deletionPolicy"] = json!("Orphan");
    let mut found_elsewhere = holding();
    found_elsewhere["status"]["repository"]["path"] = json!("acme/store");
    let moved = || with(withdrawn(), "connectionRef", json!({"name": "there-is-none"}));
    let mut going = withdrawn();
    going.connection.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
    let (probe, clean) = ("repository acme/shop", "by id 7, hooks of 7");
    let cases = [
        // (situation, calls, actions, finalizer, whether the route is closed)
        ("no grant", withdrawn(), "", "", FinalizerStep::Keep, true),
        ("renamed out of the grant", renamed(HIDDEN).since_now(), probe, "", FinalizerStep::Keep, true),
        (
            "no grant for the found path",
            Situation::new(found_elsewhere).leading_to("acme/store").since_now(),
            probe,
            "",
            FinalizerStep::Keep,
            true,
        ),
        ("suspended", with(withdrawn(), "suspend", json!(true)), "", "", FinalizerStep::Keep, true),
        ("moved away", moved(), "", "", FinalizerStep::Keep, false),
        ("deleted, left as an orphan", Situation::new(orphan).without_grant().since_now(), "", "", FinalizerStep::RemoveAndForget, true),
        // These are not missing grants.
        ("deleted", Situation::new(deleted(holding())).without_grant().since_now(), clean, "clear", FinalizerStep::RemoveAndForget, true),
        ("the connection is being deleted", going, clean, "clear", FinalizerStep::Remove, true),
        (
            "transferred out of the owner",
            renamed("other/canary").since_now(),
            "repository acme/shop, by id 7, hooks of 7",
            "clear",
            FinalizerStep::Remove,
            true,
        ),
    ];
    for (what, situation, calls, actions, finalizer_step, closed) in cases {
        let seen = situation.seen().await;
        let found = (seen.calls.as_str(), seen.actions.as_str(), seen.finalizer_step, seen.closes_route());
        assert_eq!(found, (calls, actions, finalizer_step, closed), "{what}: {}", seen.told);
        let held = seen.status.webhook.is_some_and(|webhook| !webhook.hooks.is_empty());
        assert!(held || !actions.is_empty(), "{what}: the status keeps telling of the hook");
    }
}

#[tokio::test]
async fn without_a_grant_everything_looks_like_a_connection_that_does_not_exist() {
    let mut none = Situation::new(new_binding());
    none.connection = None;
    let with = |pointer: &str, field: &str, value: Value| {
        let mut situation = Situation::new(new_binding()).without_grant();
        situation.connection.as_mut().unwrap()[pointer][field] = value;
        situation
    };
    let mut without_webhook = preset();
    without_webhook["spec"].as_object_mut().unwrap().remove("webhook");
    for binding in [new_binding(), preset(), deleted(preset()), without_webhook] {
        let of = |mut situation: Situation| {
            situation.binding = binding.clone();
            situation
        };
        let expected = of(Situation { connection: None, ..Situation::new(new_binding()) }).seen().await;
        for (what, mut situation) in [
            ("works", Situation::new(new_binding()).without_grant()),
            ("no repository", Situation { repositories: Vec::new(), ..Situation::new(new_binding()).without_grant() }),
            ("dead", Situation { credential: Credential::DeadAfterStart, ..Situation::new(new_binding()).without_grant() }),
            ("out of reach", Situation { fails: Some(ErrorKind::Unreachable), ..Situation::new(new_binding()).without_grant() }),
            ("suspended", with("spec", "suspend", json!(true))),
            ("observing", with("spec", "managementPolicy", json!("Observe"))),
            ("asking", with("metadata", "annotations", json!({ROTATE_REQUESTED_AT: "canary", REVOKE_REQUESTED_AT: "canary"}))),
        ] {
            situation = of(situation);
            let seen = situation.seen().await;
            assert_eq!(conditions(&seen), conditions(&expected), "{what}");
            assert_eq!((seen.finalizer_step, seen.calls.as_str(), seen.actions.as_str()), (expected.finalizer_step, "", ""), "{what}");
            assert_eq!(seen.status.repository, None, "{what}");
            assert_eq!(seen.status.last_handled, expected.status.last_handled, "{what}");
        }
    }
}

/// The conditions without their times.
fn conditions(seen: &Seen) -> Vec<(String, String, String, String)> {
    let strip = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        (condition.type_.clone(), condition.status.clone(), condition.reason.clone(), condition.message.clone())
    };
    seen.status.conditions.iter().map(strip).collect()
}

/// Labels of namespaces cannot be read, as with Roles alone.
#[tokio::test]
async fn a_grant_by_labels_that_cannot_be_read_tells_nothing_to_whom_it_did_not_admit_before() {
    let rules =
        json!([{"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}, "repositories": ["acme/shop*"]}]);
    let mut elsewhere = holding();
    elsewhere["metadata"]["generation"] = json!(2);
    for condition in elsewhere["status"]["conditions"].as_array_mut().unwrap() {
        condition["observedGeneration"] = json!(1);
    }
    let other = ConnectionTarget { name: "other".to_owned(), ..target() };
    elsewhere["status"]["repository"]["requested"]["connection"] = json!(other);
    elsewhere["status"]["webhook"]["target"] =
        json!(seal("shop").put_on(HookTarget { connection: other, ..hook_target("7", "acme/shop") }));
    let mut forged_path = new_binding();
    forged_path["status"]["repository"] =
        json!({"id": "7", "path": "acme/secret", "requested": {"connection": target(), "path": "acme/shop"}});
    let strangers = [
        ("new", new_binding()),
        ("with a finalizer", preset()),
        ("deleted", deleted(preset())),
        ("moved here from another connection", elsewhere),
        ("a status of somebody else", forged_path),
    ];
    for (what, binding) in strangers {
        let missing = Situation { connection: None, ..Situation::new(binding.clone()) }.seen().await;
        for rules in [&rules, &json!([])] {
            let seen = Situation::new(binding.clone()).with_rules(rules).seen().await;
            assert_eq!(conditions(&seen), conditions(&missing), "{what}");
            assert_eq!((seen.finalizer_step, seen.calls.as_str(), &seen.actions), (missing.finalizer_step, "", &missing.actions), "{what}");
            assert_eq!((&seen.status.last_handled, &seen.status.repository), (&missing.status.last_handled, &missing.status.repository));
        }
    }

    // A binding that had a grant before is neither refused nor probed.
    let mut unreachable = holding();
    unreachable["status"]["conditions"][1] = json!({"type": "ConnectionReady", "status": "Unknown", "reason": "ConnectionUnreachable", "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z"});
    let mut without_hook = holding();
    without_hook["spec"].as_object_mut().unwrap().remove("webhook");
    without_hook["status"].as_object_mut().unwrap().remove("webhook");
    for (what, binding, says) in [
        ("with a hook", holding(), "True/Succeeded"),
        ("with a hook, during an outage", unreachable, "Unknown/ConnectionUnreachable"),
        ("without a hook", without_hook, "True/Succeeded"),
    ] {
        let seen = Situation::new(binding).with_rules(&rules).seen().await;
        assert_eq!(seen.says(ConditionType::ConnectionReady), says, "{what}");
        assert_eq!((seen.finalizer_step, seen.calls.as_str(), seen.actions.as_str()), (FinalizerStep::Keep, "", ""), "{what}");
    }

    // Within a namespace nothing is hidden.
    let mut own = Situation::new(new_binding()).with_rules(&rules);
    own.connection.as_mut().unwrap()["metadata"]["namespace"] = json!("team");
    own.binding["spec"]["connectionRef"] = json!({"name": "acme"});
    assert_eq!(own.seen().await.says(ConditionType::ConnectionReady), "");
}

#[tokio::test]
async fn a_connection_that_was_made_again_for_another_server_begins_anew() {
    let known = |id: &str, api: Option<&str>| {
        let mut binding = holding();
        binding["status"]["repository"]["id"] = json!(id);
        binding["status"]["repository"]["requested"]["api"] = json!(api);
        binding["status"]["repository"]["requested"]["seal"] = json!(seal("shop").put_on(hook_target(id, "acme/shop")).seal);
        Situation::new(binding)
    };
    let (old, new) = ("https://git.old.io/api/v1", "https://gitea.acme.io/api/v1");
    let seen = known("9", Some(old)).seen().await;
    assert_eq!(seen.says(ConditionType::RepositoryFound), "True/Succeeded");
    let found = seen.status.repository.unwrap();
    assert_eq!((found.id.as_str(), found.requested.unwrap().api.as_deref()), ("7", Some(new)));
    for api in [Some(new), None] {
        let replaced = known("9", api).seen().await;
        assert_eq!(replaced.says(ConditionType::RepositoryFound), "False/RepositoryReplaced", "at the same server: {api:?}");
    }
    // An id of the other server does not count here.
    for (api, calls) in [(Some(old), "repository acme/shop"), (Some(new), "repository acme/shop, by id 7, branch of 7, hooks of 7")] {
        let mut situation = known("7", api);
        situation.repositories = vec![Known { found_by: vec!["acme/shop-2"], id: "7", path: "acme/shop-2" }];
        assert_eq!(situation.seen().await.calls, calls, "{api:?}");
    }
}

#[tokio::test]
async fn what_stands_against_a_removal_is_told_or_not_in_whatever_form_the_repository_is_named() {
    for text in ["acme/shop", "https://gitea.acme.io/acme/shop.git", "git@gitea.acme.io:acme/shop.git"] {
        let mut binding = deleted(preset());
        binding["spec"]["repository"] = json!(text);
        let granted = Situation { fails: Some(ErrorKind::Unreachable), ..Situation::new(binding.clone()) };
        let seen = granted.seen().await;
        assert_eq!(seen.finalizer_step, FinalizerStep::Keep, "{text}: it waits for an outage to end");
        assert!(seen.told.contains(WORDS), "{text}: {}", seen.told);
    }
}

/// A binding with a custom URL that adopts an existing hook.
fn adopting(mut binding: Value, host: &str) -> Value {
    binding["spec"]["webhook"] = json!({"events": ["Push"], "url": format!("https://{host}/hook"), "adopt": true});
    binding
}

#[tokio::test]
async fn a_hook_stays_with_the_binding_that_has_it_until_its_grant_is_withdrawn() {
    let rules = json!([{"namespaces": {"from": "All"}, "repositories": ["acme/shop*"], "destinationHosts": ["ci.acme.io"]}]);
    let not_ready = |mut binding: Value| {
        binding["status"]["conditions"][1] = json!({
            "type": "ConnectionReady", "status": "False", "reason": "ConnectionNotReady", "message": "", "lastTransitionTime": "2026-11-01T00:00:00Z",
        });
        binding
    };
    let holder = || {
        let mut holder = adopting(holding(), "ci.acme.io");
        holder["metadata"]["name"] = json!("holder");
        holder["metadata"]["uid"] = json!("h");
        holder["status"]["webhook"]["target"] = json!(seal("holder").put_on(hook_target("7", "acme/shop")));
        not_ready(holder)
    };
    let mut empty = holder();
    empty["status"]["webhook"]["hooks"] = json!([]);
    let mut refused = holder();
    refused["spec"]["repository"] = json!("acme/cart");
    refused["status"]["repository"]["requested"]["path"] = json!("acme/cart");
    let mut released = refused.clone();
    released["status"]["webhook"]["hooks"] = json!([]);
    let mut lost = holder();
    lost["spec"]["connectionRef"]["name"] = json!("gone");
    lost["status"]["repository"]["requested"] = json!({
        "connection": {"namespace": "platform", "name": "gone"}, "api": "https://gitea.acme.io/api/v1", "path": "acme/shop",
    });
    for (what, other, says) in [
        ("its connection does not work", holder(), "False/ClaimedByAnother"),
        // Without the connection, its claim cannot be judged; an existing hook of its own is never adopted.
        ("its connection is not there", lost, "True/Succeeded"),
        ("it has no hook, and its connection does not work", empty, "True/Succeeded"),
        ("it has no grant any more, and its hook is not removed yet", refused, "False/ClaimedByAnother"),
        ("it has no grant any more, and no hook", released, "True/Succeeded"),
    ] {
        let mut situation = Situation::new(adopting(new_binding(), "ci.acme.io")).with_rules(&rules);
        situation.others.push(other);
        let seen = situation.seen().await;
        assert_eq!(seen.says(ConditionType::WebhookInSync), says, "{what}");
        assert_eq!(seen.actions.contains("hook"), says == "True/Succeeded", "{what}");
    }
}

#[tokio::test]
async fn of_a_repository_that_was_renamed_out_of_the_grant_nothing_stays_while_the_binding_rests() {
    let described = json!({
        "id": "7", "path": HIDDEN, "webURL": "https://gitea.acme.io/web-canary", "cloneURL": "https://gitea.acme.io/clone-canary.git",
        "sshURL": "git@gitea.acme.io:ssh-canary.git", "defaultBranch": "branch-canary", "visibility": "private", "archived": true,
        "empty": true, "requested": {"connection": target(), "path": "acme/shop"},
    });
    for (what, field, value) in [("suspended", "suspend", json!(true)), ("observing", "managementPolicy", json!("Observe"))] {
        let mut binding = holding();
        binding["spec"][field] = value;
        binding["status"]["repository"] = described.clone();
        binding["status"]["plan"] = json!([{"action": "UpdateHook", "target": "plan-canary hook 31", "reason": "differs"}]);
        let mut situation = Situation { credential: Credential::DeadAfterStart, ..Situation::new(binding).leading_to(HIDDEN) };
        // Twice: the first report must keep the data that the second judgement needs.
        for _ in 0..2 {
            let seen = situation.seen().await;
            assert_eq!(seen.says(ConditionType::RepositoryFound), "False/RepositoryMovedOutOfScope", "{what}");
            for canary in ["web-canary", "clone-canary", "ssh-canary", "branch-canary", "private", "plan-canary", "\"archived\":true"] {
                assert!(!seen.told.contains(canary), "{what}: {canary} in {}", seen.told);
            }
            situation.binding["status"] = serde_json::to_value(&seen.status).unwrap();
        }
        situation.credential = Credential::Works;
        let seen = situation.seen().await;
        assert_eq!(seen.actions, "clear", "{what}: the hook goes all the same");
    }
}

#[tokio::test]
async fn a_hook_goes_when_its_endpoint_is_no_longer_allowed_whatever_the_spec_names_by_now() {
    let rules = |hosts: Value| json!([{"namespaces": {"from": "All"}, "repositories": ["acme/shop*"], "destinationHosts": hosts}]);
    for (allowed, actions) in [(json!(["ci.acme.io"]), ""), (json!([]), "clear")] {
        let mut binding = holding();
        binding["spec"]["suspend"] = json!(true);
        binding["status"]["webhook"]["url"] = json!("https://ci.acme.io/hook");
        let seen = Situation::new(binding).with_rules(&rules(allowed)).seen().await;
        assert_eq!(seen.actions, actions, "suspended, with webhook.url taken out of the spec");
    }
    let mut received = holding();
    received["spec"]["suspend"] = json!(true);
    received["status"]["webhook"]["url"] = json!("https://hooks.acme.io/hooks/…");
    assert_eq!(Situation::new(received).seen().await.actions, "", "our receiver is no endpoint of somebody else");
}

#[tokio::test]
async fn a_binding_leaves_its_hook_behind_within_the_grant_only() {
    let rules = |hosts: Value| json!([{"namespaces": {"from": "All"}, "repositories": ["acme/shop*"], "destinationHosts": hosts}]);
    let custom = |url: &str| {
        let mut binding = deleted(holding());
        binding["spec"]["deletionPolicy"] = json!("Orphan");
        binding["spec"]["webhook"]["url"] = json!(url);
        binding["status"]["webhook"]["url"] = json!(url);
        Situation::new(binding)
    };
    let observed = |mut situation: Situation| {
        situation.connection.as_mut().unwrap()["spec"]["managementPolicy"] = json!("Observe");
        situation
    };
    let (granted, clean) = (rules(json!(["ci.acme.io"])), "by id 7, hooks of 7");
    let url = "https://ci.acme.io/hook";
    let mut going = custom(url).with_rules(&granted);
    going.connection.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
    let dead = Situation { credential: Credential::DeadAfterStart, ..custom(url).without_grant() };
    let mut received = custom(url).with_rules(&granted);
    received.binding["spec"]["webhook"] = json!({"events": ["Push"]});
    received.binding["status"]["webhook"]["url"] = json!("https://hooks.acme.io/hooks/…");
    let mut dropped = custom(url).without_grant().since_now();
    dropped.binding["spec"]["webhook"] = json!({"events": ["Push"]});
    for (what, situation, calls, actions) in [
        ("granted to our receiver", received, "", ""),
        ("no grant for an hour yet, with webhook.url taken out of the spec", dropped, clean, "clear"),
        // The connection's owner could not end these deliveries later.
        ("granted", custom(url).with_rules(&granted), clean, "clear"),
        ("granted, while the connection is being deleted", going, clean, "clear"),
        ("no grant for the repository", custom(url).without_grant(), clean, "clear"),
        ("no grant for the endpoint", custom(url).with_rules(&rules(json!([]))), clean, "clear"),
        ("no grant, dead credential", dead, "", "record untold"),
        ("no grant, and nothing may be written now", observed(custom(url).without_grant()), clean, "record"),
    ] {
        let seen = situation.seen().await;
        assert_eq!(
            (seen.calls.as_str(), seen.actions.as_str(), seen.finalizer_step),
            (calls, actions, FinalizerStep::RemoveAndForget),
            "{what}"
        );
    }
}

/// A binding with a hook through one connection names another one, which does not grant it anything.
#[test]
fn a_move_to_a_connection_of_another_namespace_does_not_reveal_whether_that_one_exists() {
    let there = |namespace: &str| {
        let mut there = connection();
        there["metadata"]["namespace"] = json!(namespace);
        there
    };
    let decided = |connection: Option<&Value>, rules: &Value, namespace: &str| {
        let mut binding = holding();
        binding["spec"]["connectionRef"] = json!({"name": "acme", "namespace": namespace});
        let situation = Situation { connection: Some(there("elsewhere")), ..Situation::new(binding).with_rules(rules).since_now() };
        let (view, _) = situation.view();
        let object: RepoBinding = serde_json::from_value(situation.binding.clone()).unwrap();
        let connection = connection.map(|connection| serde_json::from_value(connection.clone()).unwrap());
        let decision = GrantDecision::of(&view, &object, connection.as_ref(), &seal("shop"), &Ungranted::default());
        (decision.lacks_grant, decision.spec, decision.withdrawn.len())
    };
    let ending = |mut connection: Value| {
        connection["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
        connection
    };
    let none = json!([]);
    let by_labels =
        json!([{"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}, "repositories": ["acme/shop*"]}]);
    let expected = (true, Grant::Refused { lacking: None }, 0);
    for rules in [&none, &by_labels] {
        for found in [None, Some(there("elsewhere")), Some(ending(there("elsewhere")))] {
            assert_eq!(decided(found.as_ref(), rules, "elsewhere"), expected, "{found:?}");
        }
    }
    // Within a namespace nothing is hidden.
    assert!(!decided(None, &none, "team").0);
}

#[tokio::test]
async fn a_repository_without_a_grant_gets_into_no_status() {
    let redirected = Situation::new(new_binding()).leading_to(HIDDEN).seen().await;
    assert_eq!(redirected.status.repository, None);
    assert_eq!(redirected.says(ConditionType::RepositoryFound), "False/RepositoryMovedOutOfScope");
    let renamed = renamed(HIDDEN).seen().await;
    assert_eq!(renamed.status.repository.as_ref().map(|known| known.path.as_str()), Some("acme/shop"), "as it was when it was granted");
    assert_eq!(renamed.says(ConditionType::WebhookInSync), "False/RepositoryMovedOutOfScope");
}

#[tokio::test]
async fn a_hook_that_goes_with_its_connection_is_no_longer_called_in_sync() {
    let mut situation = Situation::new(holding());
    situation.connection.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
    let going = situation.seen().await;
    assert_eq!(going.says(ConditionType::WebhookInSync), "False/ConnectionNotReady");
    assert!(going.told.contains("the hook is being removed: the connection is being deleted"), "{}", going.told);
    let withdrawn = Situation::new(holding()).without_grant().seen().await;
    assert_eq!(withdrawn.says(ConditionType::WebhookInSync), "False/RefNotPermitted");
}

#[test]
fn a_connection_counts_whom_it_grants_and_who_holds_a_hook_and_nobody_else() {
    let cases = [
        ("granted", Situation::new(new_binding()), (1, true, 0)),
        ("granted, with a finalizer alone", Situation::new(preset()), (1, true, 1)),
        ("granted, with a hook", Situation::new(holding()), (1, true, 1)),
        ("no grant", Situation::new(new_binding()).without_grant(), (0, false, 0)),
        ("no grant, with a finalizer alone", Situation::new(preset()).without_grant(), (0, false, 0)),
        ("no grant, with a hook", Situation::new(holding()).without_grant(), (1, false, 1)),
        ("no grant, with a status of somebody else", Situation::new(forged(None)).without_grant(), (0, false, 0)),
        (
            "another path is granted",
            Situation::new(preset()).with_rules(&json!([{"namespaces": {"from": "All"}, "repositories": ["acme/cart"]}])),
            (0, false, 0),
        ),
    ];
    for (what, mut situation, expected) in cases {
        for credential in [Credential::Works, Credential::DeadAfterStart] {
            situation.credential = credential;
            let (view, calls) = situation.view();
            let usage = usage::of(&view, &target());
            assert_eq!((usage.bindings, usage.webhooks, usage.holding), expected, "{what}");
            assert!(calls.lock().is_empty());
        }
    }
}

#[tokio::test]
async fn a_leftover_opens_the_bindings_own_hooks_in_its_repository_alone() {
    let entry = Stored::of_test(Leftover {
        namespace: "team".to_owned(),
        name: "shop".to_owned(),
        connection: target(),
        repository: "acme/shop".to_owned(),
        repository_id: "7".to_owned(),
        hooks: vec![LeftoverHook { id: "31".to_owned(), host: "hooks.acme.io".to_owned(), adopted: false }],
        hand_back: false,
        reason: String::new(),
        since: SystemClock.now(),
    });
    let calls = Arc::new(Mutex::new(Vec::new()));
    let identity = |name| {
        HookIdentity::new(&ownership::keys(1), &ownership::settings("https://hooks.acme.io", &[]), None, ("team", name), &entry.connection)
    };
    let active_client = Situation::new(new_binding()).active_client(Arc::clone(&calls));
    let owned_hooks = CleanupPermit::left(&entry, identity("shop")).list(&active_client).await.unwrap();
    assert_eq!(owned_hooks.hooks().iter().map(|hook| hook.id.as_str()).collect::<Vec<_>>(), ["31"]);
    assert_eq!(owned_hooks.delete("32").await.unwrap_err().kind, ErrorKind::Rejected, "somebody else's");
    assert_eq!(owned_hooks.delete("31").await.unwrap(), Deletion::Deleted);
    assert_eq!(calls.lock().join(", "), "by id 7, hooks of 7, delete 31 of 7");
    let others = CleanupPermit::left(&entry, identity("other")).list(&active_client).await.unwrap();
    assert!(others.hooks().is_empty(), "another binding's");
}

#[tokio::test]
async fn another_repository_under_a_path_that_was_written_down_is_left_alone() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let mut situation = Situation::new(new_binding());
    situation.repositories[0].id = "8";
    let mut active_client = situation.active_client(Arc::clone(&calls));
    active_client.inspection.capabilities.lookup_by_id = false;
    let sealed = seal("shop").put_on(hook_target("7", "acme/shop"));
    let own = ownership::identity(1, &ownership::settings("https://hooks.acme.io", &[]), None);
    let error = CleanupPermit::held(&seal("shop"), &own, &sealed).unwrap().list(&active_client).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(calls.lock().join(", "), "repository acme/shop");
}

/// The connection may be deleted during the inspection, and without a finalizer nothing delays the deletion.
#[tokio::test]
async fn a_look_that_ends_after_the_connection_is_gone_leaves_no_credential_in_memory() {
    let mut named = connection();
    // The Secret does not exist, so the provider is not called and the last working client stays.
    named["spec"]["credentials"] = json!({"secretRef": {"name": "token"}});
    for is_there in [true, false] {
        let situation = Situation { connection: is_there.then(|| named.clone()), ..Situation::new(new_binding()) };
        let (view, calls) = situation.view();
        let object: GitProviderConnection = serde_json::from_value(named.clone()).unwrap();
        let seen = connections::facts::Facts::gather(&view, Snapshot::read(&view, Arc::new(object)).await).await;
        connections::remember(&view, &seen);
        assert!(seen.session.active_client.is_some(), "it works for as long as the probe lasts");
        let remembered = view.sessions.get(&target()).is_some_and(|session| session.active_client.is_some());
        assert_eq!(remembered, is_there);
        assert!(calls.lock().is_empty());
    }
}
