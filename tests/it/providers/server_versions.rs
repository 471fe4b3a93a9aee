//! Answers of server versions that no test runs, written by hand from their descriptions, and how the product reads them: a
//! look-up of a repository, and the whole life of a hook.
//!
//! Where the fields come from:
//! - GL17, GL19: GitLab 17.10 and 19.5, `openapi_v2.yaml` and `openapi_v3.yaml`; GL: GitLab's documentation of the API
//! - DC9: Bitbucket Data Center 9.2, `swagger.v3.json`; DC8: answers of Bitbucket Server recorded by go-scm (stash)
//! - GT: Gitea 1.26, `modules/structs`; GT23: answers of Gitea 1.23; FJ: Forgejo 16, `openapi.json`
//! - GH: GitHub, `api.github.com.json`; BC: Bitbucket Cloud, `swagger.v3.json`; AZ: Azure DevOps 7.1, recorded subscriptions

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::connection::PermissionState;
use forgebind::api::v1alpha1::{EventKind, ProviderKind};
use forgebind::providers::transport::Timings;
use forgebind::providers::{Deletion, Hook, HookRequest, HookUrl};
use http::Method;
use serde_json::{Value, json};

use testkit::contract::secret;
use testkit::sim::{
    Delivery, Outcome, ProviderEvent, Refusal, Request, Response, Retry, SeedData, Settings, Simulated, SimulatedProvider, Simulator,
    UserAction,
};

/// One version of a server, with one repository.
#[derive(Clone)]
struct Version {
    name: &'static str,
    kind: ProviderKind,
    /// The member `provider` of a spec, without the address.
    spec: Value,
    /// The data of the Secret.
    credential: Vec<(&'static str, String)>,
    /// The repository as people write it, and its id.
    repository: (&'static str, &'static str),
    /// What a look-up finds: the end of a path, and the answer.
    found: Vec<(&'static str, Value)>,
    /// A hook as the server shows it. Its id is a number that no other test uses.
    shown: fn(u64, &Value) -> Value,
    /// The list of the hooks.
    listed: fn(&[Value]) -> Value,
    /// The answers to a creation, an update and a deletion: the status, and whether the body is the hook.
    writes: [(u16, bool); 3],
}

/// A server of a version. It keeps hooks as they were sent and shows only fields that its version has.
struct Answering {
    version: Version,
    url: String,
    hooks: Mutex<Vec<Value>>,
}

/// The id of a hook in a path, as text: a number, or a text that represents a number.
fn id_of(hook: &Value) -> String {
    let id = if hook["uuid"].is_string() { &hook["uuid"] } else { &hook["id"] };
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

impl Answering {
    fn write(&self, which: usize, hook: &Value) -> Response {
        let (status, shows) = self.version.writes[which];
        if shows { Response::json(status, hook) } else { Response::empty(status) }
    }

    /// Answers requests below the list of the hooks.
    fn hooks(&self, request: &Request, rest: &[String]) -> Response {
        let mut hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || Response::json(404, &json!({"message": "404 Not found"}));
        match (request.method.as_str(), rest) {
            // All hooks are on the first page.
            ("GET", []) if request.number("page").is_some_and(|page| page > 1) => Response::json(200, &(self.version.listed)(&[])),
            ("GET", []) => Response::json(200, &(self.version.listed)(&hooks)),
            ("POST", []) => {
                let hook = (self.version.shown)(701, &request.json());
                hooks.push(hook.clone());
                self.write(0, &hook)
            }
            (method, [id]) => {
                let Some(position) = hooks.iter().position(|hook| id_of(hook) == *id) else { return missing() };
                match method {
                    "GET" => Response::json(200, &hooks[position]),
                    "PUT" | "PATCH" => {
                        hooks[position] = (self.version.shown)(701, &request.json());
                        self.write(1, &hooks[position])
                    }
                    _ => {
                        let hook = hooks.remove(position);
                        self.write(2, &hook)
                    }
                }
            }
            _ => missing(),
        }
    }
}

impl SimulatedProvider for Answering {
    fn kind(&self) -> ProviderKind {
        self.version.kind
    }

    fn seed_data(&self) -> SeedData {
        let member = self.version.spec.as_object().and_then(|spec| spec.keys().next()).cloned().unwrap_or_default();
        let mut provider = self.version.spec.clone();
        provider[member]["url"] = json!(self.url);
        let empty = String::new;
        SeedData {
            account: empty(),
            provider,
            credential: self.version.credential.clone(),
            rejected: Vec::new(),
            reader: Vec::new(),
            repository: self.version.repository.0.to_owned(),
            other: empty(),
            empty: empty(),
            public: None,
            outside: empty(),
            outsider: Vec::new(),
            spellings: Vec::new(),
            branch: empty(),
            archived: None,
            renamed: (empty(), empty()),
            crowded: (empty(), 0),
            repositories: 1,
            has_pages: false,
            tells_version: false,
            can_pause: false,
            notes: Vec::new(),
        }
    }

    /// The official description belongs to another version, so nothing is compared with it.
    fn api_path<'a>(&self, _: &'a Request) -> Option<&'a str> {
        None
    }

    fn answer(&self, request: &Request) -> Response {
        let segments = request.segments();
        if segments.last().is_some_and(|last| last == "subscriptionsquery") {
            return self.hooks(&Request { method: Method::GET, ..request.clone() }, &[]);
        }
        if let Some(place) = segments.iter().position(|segment| ["hooks", "webhooks", "subscriptions"].contains(&segment.as_str())) {
            // Azure DevOps has its subscriptions below `hooks`.
            let place = if segments.get(place + 1).is_some_and(|next| next == "subscriptions") { place + 1 } else { place };
            return self.hooks(request, &segments[place + 1..]);
        }
        let path = segments.join("/");
        let found = self.version.found.iter().find(|(end, _)| path.ends_with(end));
        found.map_or_else(|| Response::json(404, &json!({"message": "404 Not found"})), |(_, document)| Response::json(200, document))
    }

    fn refusal(&self, _: Refusal) -> Response {
        Response::empty(500)
    }

    fn act(&self, _: &UserAction) -> Result<Vec<ProviderEvent>, String> {
        Err("nothing happens here".to_owned())
    }

    fn deliveries(&self, _: &str, _: &ProviderEvent) -> Vec<Delivery> {
        Vec::new()
    }

    fn delivered(&self, _: &Delivery, _: &Outcome) -> Option<Retry> {
        None
    }
}

fn plain(hooks: &[Value]) -> Value {
    json!(hooks)
}

fn token() -> Vec<(&'static str, String)> {
    vec![("token", "canary-of-a-token".to_owned())]
}

/// The sent hook without the fields that no server shows, and with additional ones.
fn merged(sent: &Value, hidden: &[&str], more: Value) -> Value {
    let mut document = sent.clone();
    if let (Some(members), Value::Object(more)) = (document.as_object_mut(), more) {
        members.retain(|name, _| !hidden.contains(&name.as_str()));
        members.extend(more);
    }
    document
}

fn gitlab(name: &'static str, id: &Value, level: &Value, shown: fn(u64, &Value) -> Value, writes: [(u16, bool); 3]) -> Version {
    let project = json!({
        // GL17 and GL19: an integer; text where the generator of GL17 did not know the type.
        "id": id, "path_with_namespace": "acme/shop", "default_branch": "main", "visibility": "private", "archived": false,
        // GL17: described as text, but GitLab sends a number (GL).
        "permissions": {"project_access": {"access_level": level, "notification_level": 3}, "group_access": null},
        // GL19: new fields, which the product does not use.
        "marked_for_deletion_at": null, "organization_id": 1,
    });
    Version {
        name,
        kind: ProviderKind::GitLab,
        spec: json!({"gitlab": {}}),
        credential: token(),
        repository: ("acme/shop", "4711"),
        found: vec![("projects/acme/shop", project)],
        shown,
        listed: plain,
        writes,
    }
}

/// GL17: ids are texts; there is no flag for secrets and no organization.
fn gitlab_17(number: u64, sent: &Value) -> Value {
    let more =
        json!({"id": number.to_string(), "project_id": "4711", "created_at": "2026-01-02T08:00:00.000Z", "alert_status": "executable"});
    merged(sent, &["token", "signing_token"], more)
}

/// GL19: ids are numbers; flags, the organization and more events are shown, and fields that are not set are null.
fn gitlab_19(number: u64, sent: &Value) -> Value {
    let more = json!({
        "id": number, "project_id": 4711, "organization_id": 1, "token_present": sent["token"].is_string(),
        "signing_token_present": sent["signing_token"].is_string(), "milestone_events": false, "resource_deploy_token_events": false,
        "duo_flow_callback_enabled": false, "repository_update_events": false, "disabled_until": null, "name": null,
        "description": null, "url_variables": [], "custom_headers": [], "alert_status": "executable",
    });
    merged(sent, &["token", "signing_token"], more)
}

fn data_center(name: &'static str, id: &Value, shown: fn(u64, &Value) -> Value, writes: [(u16, bool); 3]) -> Version {
    // DC8: neither `archived` nor links; DC9 has both.
    let repository = json!({"id": id, "slug": "shop", "public": null, "project": {"key": "APP", "id": 1, "type": "NORMAL"}});
    let branch = json!({"id": "refs/heads/main", "displayId": "main", "type": "BRANCH"});
    Version {
        name,
        kind: ProviderKind::BitbucketDataCenter,
        spec: json!({"bitbucketDataCenter": {}}),
        credential: token(),
        repository: ("APP/shop", "4711"),
        found: vec![
            ("default-branch", branch.clone()),
            // DC8: the end of a list has no `nextPageStart`.
            ("branches", json!({"size": 1, "limit": 25, "isLastPage": true, "start": 0, "values": [branch]})),
            ("repos/shop", repository),
        ],
        shown,
        // DC9: `nextPageStart` is null on the last page.
        listed: |hooks| json!({"size": hooks.len(), "limit": 25, "isLastPage": true, "start": 0, "nextPageStart": null, "values": hooks}),
        writes,
    }
}

/// DC8: no scope and no certificates, and the secret in plain text.
fn data_center_8(number: u64, sent: &Value) -> Value {
    merged(
        sent,
        &["sslVerificationRequired"],
        json!({"id": number, "createdDate": 1_513_106_011_000_i64, "updatedDate": 1_513_106_011_000_i64}),
    )
}

/// DC9: scope, certificates, statistics, and credentials that are null.
fn data_center_9(number: u64, sent: &Value) -> Value {
    let statistics = json!({"counts": {"errors": 0, "failures": 0, "successes": 0}});
    let more = json!({"id": number, "scopeType": "repository", "credentials": null, "statistics": statistics, "configuration": null});
    merged(sent, &[], more)
}

fn gitea(name: &'static str, id: &Value, shown: fn(u64, &Value) -> Value, writes: [(u16, bool); 3]) -> Version {
    // GT: fields that Go has not set are null or left out.
    let repository = json!({
        "id": id, "full_name": "acme/shop", "default_branch": "main", "private": true, "empty": false, "archived": false,
        "internal": null, "permissions": {"admin": true, "push": true, "pull": true},
    });
    Version {
        name,
        kind: ProviderKind::Gitea,
        spec: json!({"gitea": {"organization": "acme"}}),
        credential: token(),
        repository: ("acme/shop", "4711"),
        found: vec![("repos/acme/shop", repository)],
        shown,
        listed: plain,
        writes,
    }
}

/// The event names that a server shows for the written ones: for a group, its single events.
fn read_back(sent: &Value) -> Vec<String> {
    let single = |name: &str| name.trim_end_matches("_only").to_owned();
    sent["events"].as_array().into_iter().flatten().filter_map(Value::as_str).map(single).collect()
}

/// GT23 and FJ: one switch for comments and review comments, so the server shows both.
fn tied(sent: &Value) -> Vec<String> {
    let mut events = read_back(sent);
    if events.iter().any(|event| event == "pull_request_comment") {
        events.push("pull_request_review_comment".to_owned());
    }
    // In any order: that of a Go map.
    events.reverse();
    events
}

/// GT23: no name, and `active` is shown as it was sent.
fn gitea_1_23(number: u64, sent: &Value) -> Value {
    let config = merged(&sent["config"], &["secret"], json!({}));
    let more = json!({"id": number, "type": "gitea", "events": tied(sent), "config": config, "active": true, "authorization_header": ""});
    merged(sent, &[], more)
}

/// FJ: a type of its own, and url, content type and metadata beside the configuration.
fn forgejo_16(number: u64, sent: &Value) -> Value {
    let more = json!({"type": "forgejo", "url": sent["config"]["url"], "content_type": "json", "metadata": null, "branch_filter": null});
    merged(&gitea_1_23(number, sent), &[], more)
}

fn github(name: &'static str, id: &Value, shown: fn(u64, &Value) -> Value, writes: [(u16, bool); 3]) -> Version {
    // GH: `permissions` may be missing, and so is `visibility` on older servers.
    let repository = json!({"id": id, "full_name": "acme/shop", "default_branch": "main", "private": true, "archived": null, "size": 7});
    Version {
        name,
        kind: ProviderKind::GitHub,
        spec: json!({"github": {"organization": "acme"}}),
        credential: token(),
        repository: ("acme/shop", "4711"),
        found: vec![("repos/acme/shop", repository)],
        shown,
        listed: plain,
        writes,
    }
}

/// GH: `insecure_ssl` is a text or a number.
fn github_hook(number: u64, sent: &Value) -> Value {
    let config = merged(&sent["config"], &["secret"], json!({"insecure_ssl": 0, "secret": "********"}));
    merged(sent, &[], json!({"id": number, "type": "Repository", "name": "web", "active": true, "config": config}))
}

fn github_hook_in_texts(number: u64, sent: &Value) -> Value {
    merged(&github_hook(number, sent), &[], json!({"id": number.to_string()}))
}

fn bitbucket_cloud(name: &'static str, writes: [(u16, bool); 3]) -> Version {
    // BC: only the uuid and the full name are guaranteed; the rest may be null.
    let repository = json!({
        "type": "repository", "uuid": "{4711}", "full_name": "acme/shop", "is_private": null, "mainbranch": null, "links": null,
    });
    Version {
        name,
        kind: ProviderKind::BitbucketCloud,
        spec: json!({"bitbucketCloud": {"workspace": "acme"}}),
        credential: vec![("email", "ada@acme.example".to_owned()), ("token", "canary-of-a-token".to_owned())],
        repository: ("acme/shop", "{4711}"),
        found: vec![("repositories/acme/shop", repository)],
        // BC: neither `secret_set` nor `skip_cert_verification` is required.
        shown: |number, sent| {
            merged(sent, &["secret", "skip_cert_verification"], json!({"uuid": format!("{{{number}}}"), "subject": null}))
        },
        listed: |hooks| json!({"values": hooks, "pagelen": 100}),
        writes,
    }
}

fn azure_devops(name: &'static str, writes: [(u16, bool); 3]) -> Version {
    const PROJECT: &str = "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c";
    const REPOSITORY: &str = "278d5cd2-584d-4b63-824a-2ba458937249";
    // AZ: a repository without commits, links and flags.
    let repository = json!({"id": REPOSITORY, "name": "web", "project": {"id": PROJECT, "name": "Shop"}, "isDisabled": null});
    Version {
        name,
        kind: ProviderKind::AzureDevOps,
        spec: json!({"azureDevOps": {"organization": "acme", "project": "Shop"}}),
        credential: token(),
        repository: ("Shop/web", REPOSITORY),
        found: vec![
            ("git/repositories/web", repository.clone()),
            (REPOSITORY, repository),
            // The permissions for service hooks, whichever bits the client asks for.
            ("cb594ebe-87dd-4fc9-ac2c-6a10a4c92046/1", json!({"count": 1, "value": [true]})),
            ("cb594ebe-87dd-4fc9-ac2c-6a10a4c92046/2", json!({"count": 1, "value": [true]})),
            ("cb594ebe-87dd-4fc9-ac2c-6a10a4c92046/4", json!({"count": 1, "value": [true]})),
            ("cb594ebe-87dd-4fc9-ac2c-6a10a4c92046/6", json!({"count": 1, "value": [true]})),
            ("cb594ebe-87dd-4fc9-ac2c-6a10a4c92046/7", json!({"count": 1, "value": [true]})),
        ],
        // AZ: inputs that are not set are null; the answer to a creation has no status.
        shown: |number, sent| {
            let mut document = merged(sent, &[], json!({"id": format!("a9d9d9d9-0000-4000-8000-{number:012}")}));
            document["publisherInputs"]["tfsSubscriptionId"] = Value::Null;
            document
        },
        listed: |hooks| json!({"results": hooks, "count": hooks.len(), "value": hooks}),
        writes,
    }
}

/// Every version whose answers differ from the others, with each way in which it may answer a write.
fn versions() -> Vec<Version> {
    // GL, DC9, GT, GH, BC: as documented.
    let documented = [(201, true), (200, true), (204, false)];
    // GL19: a deletion answers with the hook; DC9: a creation answers 200.
    let shown_at_the_end = [(200, true), (200, true), (200, true)];
    // A server may answer without showing the hook.
    let silent = [(201, false), (204, false), (204, false)];
    vec![
        gitlab("GitLab 17.10", &json!("4711"), &json!("40"), gitlab_17, documented),
        gitlab("GitLab 19.5", &json!(4711), &json!(40), gitlab_19, shown_at_the_end),
        gitlab("GitLab 19.5, silent", &json!(4711), &json!(40), gitlab_19, silent),
        data_center("Data Center 8.9", &json!(4711), data_center_8, documented),
        data_center("Data Center 9", &json!(4711), data_center_9, [(200, true), (200, true), (204, false)]),
        data_center("Data Center 9, silent", &json!("4711"), data_center_9, silent),
        gitea("Gitea 1.23", &json!(4711), gitea_1_23, documented),
        gitea("Forgejo 16", &json!(4711), forgejo_16, documented),
        gitea("Forgejo 16, silent", &json!("4711"), forgejo_16, silent),
        github("GitHub", &json!(4711), github_hook, documented),
        github("GitHub in texts, silent", &json!("4711"), github_hook_in_texts, silent),
        bitbucket_cloud("Bitbucket Cloud", documented),
        bitbucket_cloud("Bitbucket Cloud, silent", silent),
        azure_devops("Azure DevOps", [(200, true), (200, true), (200, true)]),
        azure_devops("Azure DevOps, silent", silent),
    ]
}

async fn answering(version: &Version) -> Result<Simulated> {
    let version = version.clone();
    let make = |Settings { url, .. }| -> Box<dyn SimulatedProvider> { Box::new(Answering { version, url, hooks: Mutex::default() }) };
    Simulated::with(Simulator::start(make).await?, Timings::default())
}

/// Creates, changes and removes a hook for these events.
async fn life_of_a_hook(version: &Version, events: &[EventKind]) -> Result<()> {
    let name = version.name;
    let simulated = answering(version).await?;
    let client = simulated.operator();
    let repository = client.repository(&simulated.path(version.repository.0)).await?;
    assert_eq!(repository.id, version.repository.1, "{name}");
    assert_ne!(repository.manage_webhooks.state, PermissionState::Missing, "{name}");
    assert_eq!(client.hooks(&repository).await?, Vec::<Hook>::new(), "{name}");
    let url = HookUrl::new("https://hooks.acme.example/in".to_owned());
    let shapes = |events: &[EventKind]| client.hook_shapes(&events.iter().copied().collect());
    let (shape, secret) = (shapes(events).first().cloned().context("a shape")?, secret(1));
    let made = client.create_hook(&repository, &HookRequest { url: &url, secret: &secret, shape: &shape }).await?;
    assert_eq!((&made.url, made.drift(&shape)), (&url, Vec::new()), "{name}: created");
    assert_eq!(client.hooks(&repository).await?, std::slice::from_ref(&made), "{name}: listed");
    let wider = shapes(&[events, &[EventKind::Push, EventKind::PullRequest]].concat());
    let wider = wider.into_iter().find(|other| other.variant == shape.variant).context("the same part")?;
    let request = HookRequest { url: &url, secret: &secret, shape: &wider };
    let changed = client.update_hook(&repository, &made.id, &request).await?;
    assert_eq!((&changed.id, changed.drift(&wider)), (&made.id, Vec::new()), "{name}: changed");
    assert_eq!(client.hooks(&repository).await?, [changed], "{name}: listed when changed");
    assert_eq!(client.delete_hook(&repository, &made.id).await?, Deletion::Deleted, "{name}");
    assert_eq!(client.delete_hook(&repository, &made.id).await?, Deletion::Absent, "{name}");
    Ok(())
}

#[tokio::test]
async fn ids_absent_fields_and_empty_answers_of_every_version_are_understood() -> Result<()> {
    for version in versions() {
        life_of_a_hook(&version, &[EventKind::Push]).await.context(version.name)?;
    }
    Ok(())
}

/// A server that ties events together shows both: that is no drift, and the controller repairs nothing.
#[tokio::test]
async fn events_that_a_server_ties_together_are_no_drift() -> Result<()> {
    for version in versions() {
        life_of_a_hook(&version, &EventKind::ALL).await.context(version.name)?;
    }
    Ok(())
}

#[tokio::test]
async fn access_levels_are_compared_as_numbers_so_that_new_levels_work() -> Result<()> {
    for (level, state) in [
        // GL19: 25 is new.
        (json!(25), PermissionState::Missing),
        (json!("25"), PermissionState::Missing),
        (json!("50"), PermissionState::Granted),
        (json!(45), PermissionState::Granted),
    ] {
        let mut version = gitlab("GitLab", &json!(4711), &level, gitlab_19, [(201, true), (200, true), (204, false)]);
        version.found.push(("members/all/7", json!({"id": 7, "access_level": level, "member_role": null})));
        version.found.push(("api/v4/user", json!({"id": "7", "username": "ada", "is_admin": null})));
        let simulated = answering(&version).await?;
        let found = simulated.operator().repository(&simulated.path("acme/shop")).await?;
        assert_eq!(found.manage_webhooks.state, state, "{level}: {:?}", found.manage_webhooks);
    }
    Ok(())
}

/// The expiry of a token: originally a date; by the description of 19.5 a time.
#[tokio::test]
async fn the_expiry_of_a_token_is_a_date_or_a_time() -> Result<()> {
    for (told, end) in [
        (json!("2099-03-01"), Some("2099-03-01T00:00:00Z")),
        (json!("2099-03-01T12:00:00.000Z"), Some("2099-03-01T12:00:00Z")),
        (Value::Null, None),
    ] {
        let mut version = gitlab("GitLab", &json!(4711), &json!(40), gitlab_19, [(201, true), (200, true), (204, false)]);
        let token = json!({"id": 1, "name": "forgebind", "scopes": ["api"], "user_id": "7", "expires_at": told, "revoked": false});
        version.found.push(("personal_access_tokens/self", token));
        version.found.push(("api/v4/user", json!({"id": "7", "username": "ada", "bot": null})));
        version.found.push(("version", json!({"version": "19.5.0-ee", "revision": "0123456789a"})));
        let inspection = answering(&version).await?.operator().inspect().await?;
        assert_eq!(inspection.expires_at, end.map(str::parse).transpose()?, "{told}");
        assert_eq!(inspection.identity.context("an identity")?.name.as_deref(), Some("ada"));
    }
    Ok(())
}
