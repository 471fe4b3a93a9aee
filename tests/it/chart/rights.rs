//! The rights that the chart grants: exactly those that are used, according to the API server's audit log, and the rights of
//! every user role.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use forgebind::api::v1alpha1::{CATALOG_REQUESTED_AT, FINALIZER, GitProviderConnection};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use testkit::chart;
use testkit::control_plane::{AuditEvent, ControlPlane, client_of};
use testkit::gitea::OPERATOR_SCOPES;
use testkit::installation::Installation;
use testkit::operator::Operator;
use testkit::port::free_port;
use testkit::shared;
use testkit::test_env::{SINK, SOON, TestEnv};
use testkit::wait::{Seen, wait_until};

/// Time in which a process that has listed a connection's repositories lists them again on request.
const NEXT_LISTING: std::time::Duration = std::time::Duration::from_secs(150);

/// One right that is granted or was used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// The namespace; empty for everywhere.
    place: String,
    group: String,
    resource: String,
    verb: String,
    /// The object names; empty for all.
    names: Vec<String>,
}

impl Right {
    /// Whether this right covers one that was used.
    fn covers(&self, done: &Self) -> bool {
        let same = (&self.group, &self.resource, &self.verb) == (&done.group, &done.resource, &done.verb);
        let there = self.place.is_empty() || self.place == done.place;
        same && there && (self.names.is_empty() || done.names.iter().all(|name| self.names.contains(name)))
    }
}

fn rights_of(namespace: &str, rules: Option<Vec<PolicyRule>>) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in rules.unwrap_or_default() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                rights.extend(rule.verbs.iter().map(|verb| Right {
                    place: namespace.to_owned(),
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                    names: rule.resource_names.clone().unwrap_or_default(),
                }));
            }
        }
    }
    rights
}

fn is_of(subjects: Option<&Vec<Subject>>, namespace: &str, account: &str) -> bool {
    subjects
        .into_iter()
        .flatten()
        .any(|subject| subject.kind == "ServiceAccount" && subject.name == account && subject.namespace.as_deref() == Some(namespace))
}

/// Every right of a service account, as the API server reports it.
async fn granted(plane: &ControlPlane, namespace: &str, account: &str) -> Result<BTreeSet<Right>> {
    let client = plane.cluster().client()?;
    let mut rights = BTreeSet::new();
    let everywhere: Api<ClusterRoleBinding> = Api::all(client.clone());
    for binding in everywhere.list(&ListParams::default()).await? {
        if is_of(binding.subjects.as_ref(), namespace, account) {
            let role = Api::<ClusterRole>::all(client.clone()).get(&binding.role_ref.name).await?;
            rights.extend(rights_of("", role.rules));
        }
    }
    let somewhere: Api<RoleBinding> = Api::all(client.clone());
    for binding in somewhere.list(&ListParams::default()).await? {
        if is_of(binding.subjects.as_ref(), namespace, account) {
            let at = binding.namespace().unwrap_or_default();
            let role = Api::<Role>::namespaced(client.clone(), &at).get(&binding.role_ref.name).await?;
            rights.extend(rights_of(&at, role.rules));
        }
    }
    ensure!(!rights.is_empty(), "nothing is granted to {namespace}/{account}");
    ensure!(rights.iter().all(|right| ![&right.group, &right.resource, &right.verb].iter().any(|part| *part == "*")), "{rights:?}");
    Ok(rights)
}

/// The rights that a service account used; an error when the API server refused a request for lack of a right.
fn used(events: &[AuditEvent], namespace: &str, account: &str) -> Result<BTreeSet<Right>> {
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let mut rights = BTreeSet::new();
    for event in events.iter().filter(|event| event.user.username == user) {
        let Some(object) = &event.object_ref else { continue };
        let refused = event.response_status.as_ref().is_some_and(|status| status.code == 403);
        ensure!(
            !refused,
            "a verb is missing: {account} may not {} {} in {:?} {}",
            event.verb,
            event.resource(),
            object.namespace,
            object.name
        );
        rights.insert(Right {
            place: object.namespace.clone(),
            group: object.api_group.clone(),
            resource: event.resource(),
            verb: event.verb.clone(),
            names: vec![object.name.clone()],
        });
    }
    Ok(rights)
}

/// The granted rights that were never used.
fn idle<'a>(granted: &'a BTreeSet<Right>, used: &BTreeSet<Right>) -> Vec<&'a Right> {
    granted.iter().filter(|right| !used.iter().any(|done| right.covers(done))).collect()
}

/// Waits until every right of a service account was used. A use without a right was refused and is an error.
async fn exactly(plane: &ControlPlane, namespace: &str, account: &str, granted: &BTreeSet<Right>) -> Result<()> {
    wait_until(&format!("every right of {account} to be used; an unused right must not be granted"), SOON, async || {
        let used = match used(&plane.audit_events()?, namespace, account) {
            Ok(used) => used,
            Err(refused) => return Ok(Seen::Never(refused.to_string())),
        };
        let idle = idle(granted, &used);
        Ok(if idle.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("never used: {idle:?}")) })
    })
    .await
}

fn values(mode: &str, port: u16, env: &TestEnv, hooks: &str) -> Value {
    json!({
        "mode": mode,
        "publicURL": format!("http://127.0.0.1:{port}"),
        "watchNamespaces": [env.namespace],
        "secretNamespaces": [env.namespace],
        "cleanupTimeout": "5s",
        "allow": {"insecureHTTP": true, "cidrs": ["127.0.0.0/8"]},
        "log": {"format": "text"},
        "uninstall": {"hooks": hooks},
        // This control plane already has them.
        "crds": {"install": false},
        "rbac": {"userRoles": false},
    })
}

/// Causes every request that Forgebind ever sends to the API server, once.
async fn story(env: &TestEnv, installation: &Installation, controller: &Operator) -> Result<()> {
    let cluster = env.cluster();
    // A connection with a certificate authority from a `ConfigMap`, and a binding with the user's own secret.
    let authority = std::fs::read_to_string(env.plane.authority())?;
    let map = json!({"metadata": {"name": "ca"}, "data": {"ca.crt": authority}});
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client()?, &env.namespace);
    maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    cluster.apply_secret(&env.namespace, "own", &[("secret", "a-good-secret-of-the-user-00001")]).await?;
    let mut spec = env.connection_spec();
    spec["tls"] = json!({"caRef": {"kind": "ConfigMap", "name": "ca", "key": "ca.crt"}});
    spec["catalog"] = json!({});
    env.create_connection(spec).await?;
    env.apply_grant("own", json!({})).await?;
    let mut spec = env.binding_spec();
    spec["webhook"]["secretRef"] = json!({"name": "own"});
    env.create_binding("shop", spec).await?;
    env.binding_ready("shop").await?;
    env.push("with the chart's rights").await?;
    env.sink.wait_for(1, SOON).await?;

    // The same event twice.
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", "0123456789012345678901234567890123456789")]).await?;
    env.connection_says("Authenticated", "False/CredentialRejected").await?;
    env.cluster().apply_secret(&env.namespace, "credential", &[("token", &env.account.token)]).await?;
    env.connection_ready().await?;

    // A leftover hook that is removed later.
    env.gitea.delete_token(&env.account, "operator").await?;
    env.delete_binding("shop").await?;
    env.binding_gone("shop", SOON).await?;
    let token = env.gitea.create_token(&env.account, "second", OPERATOR_SCOPES).await?;
    cluster.apply_secret(&env.namespace, "credential", &[("token", &token)]).await?;
    env.connection_ready().await?;
    wait_until("the leftover hook to be removed", SOON, async || {
        let left = env.gitea.hooks(&env.repository).await?;
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::NotYet(format!("{left:?}")) })
    })
    .await?;

    // The controller repairs the receivers' key when it starts.
    let secrets: Api<Secret> = Api::namespaced(cluster.client()?, &installation.namespace);
    let other = json!({"stringData": {"key": "0123456789abcdef0123456789abcdef"}});
    secrets.patch("forgebind-receiver-key", &PatchParams::default(), &Patch::Merge(other)).await?;
    controller.kill();
    controller.restart().await?;
    change_the_catalogue(env).await
}

/// A slice was created with the connection. Now it is updated with a new repository, and deleted with the catalogue.
async fn change_the_catalogue(env: &TestEnv) -> Result<()> {
    env.connection_says("Cataloged", "True/Succeeded").await?;
    env.gitea.create_repository(&env.organization, "later", true).await?;
    env.patch_connection(json!({"metadata": {"annotations": {CATALOG_REQUESTED_AT: "later"}}})).await?;
    let counts = |count: i64| {
        move |connection: &GitProviderConnection| {
            let catalog = connection.status.as_ref().and_then(|status| status.catalog.as_ref());
            catalog.map_or(0, |catalog| catalog.repositories) == count
        }
    };
    env.connection_until("two repositories in its catalogue", NEXT_LISTING, counts(2)).await?;
    env.patch_connection(json!({"spec": {"catalog": null}})).await?;
    env.connection_until("no catalogue", SOON, counts(0)).await.map(drop)
}

#[tokio::test]
async fn pk_37_controller_and_receiver_have_exactly_the_rights_that_they_use() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (env, installation, port) = (TestEnv::new("exact").await?, Installation::new(plane).await?, free_port()?);
    installation.install(&chart::folder(), &values("Separate", port, &env, "Delete")).await?;
    let name = |component: &str| format!("{}-{component}", installation.release);
    let (own, release) = (installation.namespace.as_str(), name("uninstall"));
    let of_controller = granted(plane, own, &name("controller")).await?;
    let of_receiver = granted(plane, own, &name("receiver")).await?;
    // The receiver is publicly reachable, so it writes nothing and may read only its own two kinds of Secret.
    for right in &of_receiver {
        ensure!(["get", "list", "watch"].contains(&right.verb.as_str()), "the receiver may {right:?}");
        let prepared = |name: &String| name == "forgebind-receiver-key" || name.starts_with("forgebind-receiver-secrets-");
        let own_secret = right.place == own && !right.names.is_empty() && right.names.iter().all(prepared);
        ensure!(right.resource != "secrets" || own_secret, "the receiver may {right:?}");
        ensure!(right.resource != "configmaps", "the receiver may {right:?}");
    }
    let resolve = format!("--resolve={}", env.sink.resolve(SINK, &env.namespace));
    // As in a cluster, the controller looks for the receivers behind their Service; it finds none because no pod runs.
    let controller = Operator::start(installation.options("controller", 0, std::slice::from_ref(&resolve)).await?).await?;
    let receiver = Operator::start(installation.options("receiver", port, &[resolve]).await?).await?;
    story(&env, &installation, &controller).await?;
    exactly(plane, own, &name("controller"), &of_controller).await?;
    exactly(plane, own, &name("receiver"), &of_receiver).await?;
    let secrets_read = |rights: &BTreeSet<Right>| {
        let reads = rights.iter().filter(|right| right.resource == "secrets" && right.verb == "get");
        reads.map(|right| right.place.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(secrets_read(&of_controller), BTreeSet::from([own.to_owned(), env.namespace.clone()]));
    assert_eq!(secrets_read(&of_receiver), BTreeSet::from([own.to_owned()]));

    let mut running = Some((controller, receiver));
    let mut of_release = BTreeSet::new();
    let mut jobs = 0;
    env.create_binding("late", env.binding_spec()).await?;
    env.binding_ready("late").await?;
    installation
        .uninstall(async |_| {
            jobs += 1;
            of_release.extend(granted(plane, own, &release).await?);
            if jobs == 2 {
                running = None;
                // A finalizer holds it, and no operator runs to remove it.
                env.create_binding("held", env.binding_spec()).await?;
                env.patch_binding("held", json!({"metadata": {"finalizers": [FINALIZER]}})).await?;
            }
            Ok(())
        })
        .await?;
    assert_eq!(jobs, 2);
    exactly(plane, own, &release, &of_release).await
}

#[tokio::test]
async fn an_unneeded_verb_and_a_missing_verb_are_noticed() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (env, installation, port) = (TestEnv::new("mutated").await?, Installation::new(plane).await?, free_port()?);
    installation.install(&chart::folder(), &values("Separate", port, &env, "Keep")).await?;
    let (own, account) = (installation.namespace.as_str(), format!("{}-receiver", installation.release));
    let roles: Api<ClusterRole> = Api::all(plane.cluster().client()?);
    let changed = async |change: &dyn Fn(&mut Vec<PolicyRule>)| -> Result<()> {
        let mut role = roles.get(&account).await?;
        change(role.rules.get_or_insert_default());
        roles.replace(&account, &PostParams::default(), &role).await?;
        Ok(())
    };
    let is_about = |rule: &PolicyRule, resource: &str| rule.resources.iter().flatten().any(|of_rule| of_rule == resource);
    changed(&|rules| {
        rules.iter_mut().filter(|rule| is_about(rule, "repobindings")).for_each(|rule| rule.verbs.push("get".to_owned()));
    })
    .await?;
    let granted = granted(plane, own, &account).await?;
    // The controller creates the key that the receiver reads.
    let _controller = Operator::start(installation.options("controller", 0, &[]).await?).await?;
    let receiver = Operator::start(installation.options("receiver", port, &[]).await?).await?;
    wait_until("every right but the added ones to be used", SOON, async || {
        let used = used(&plane.audit_events()?, own, &account)?;
        let mut idle = idle(&granted, &used);
        // No user secret exists in this test, so the receiver never uses its rights to Secrets.
        idle.retain(|right| right.resource != "secrets");
        let added = idle.len() == 3 && idle.iter().all(|right| right.verb == "get" && right.group == "forgebind.dev");
        Ok(if added { Seen::Done(()) } else { Seen::NotYet(format!("never used: {idle:?}")) })
    })
    .await?;

    receiver.kill();
    changed(&|rules| rules.retain(|rule| !is_about(rule, "servicecidrs"))).await?;
    let user = format!("--as=system:serviceaccount:{own}:{account}");
    wait_until("the right to be withdrawn", SOON, async || {
        let may = plane.cluster().kubectl(&["auth", "can-i", "list", "servicecidrs.networking.k8s.io", &user]).await.is_ok();
        Ok(if may { Seen::NotYet("it is there".to_owned()) } else { Seen::Done(()) })
    })
    .await?;
    receiver.restart().await?;
    wait_until("the missing verb to be noticed", SOON, async || {
        Ok(match used(&plane.audit_events()?, own, &account) {
            Ok(_) => Seen::NotYet("nothing was refused".to_owned()),
            Err(noticed) => {
                let noticed = noticed.to_string();
                ensure!(noticed.contains("a verb is missing") && noticed.contains("list servicecidrs"), "{noticed}");
                Seen::Done(())
            }
        })
    })
    .await
}

#[tokio::test]
async fn a_single_pod_for_both_has_exactly_the_rights_that_it_uses() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (env, installation, port) = (TestEnv::new("single").await?, Installation::new(plane).await?, free_port()?);
    installation.install(&chart::folder(), &values("Single", port, &env, "Keep")).await?;
    let (own, release) = (installation.namespace.as_str(), format!("{}-uninstall", installation.release));
    let rights = granted(plane, own, &installation.release).await?;
    let resolve = format!("--resolve={}", env.sink.resolve(SINK, &env.namespace));
    let operator = Operator::start(installation.options("operator", port, &[resolve]).await?).await?;
    story(&env, &installation, &operator).await?;
    exactly(plane, own, &installation.release, &rights).await?;

    env.create_binding("late", env.binding_spec()).await?;
    env.binding_ready("late").await?;
    let mut running = Some(operator);
    let mut of_release = BTreeSet::new();
    installation
        .uninstall(async |_| {
            running = None;
            of_release = granted(plane, own, &release).await?;
            Ok(())
        })
        .await?;
    exactly(plane, own, &release, &of_release).await
}

/// A client for a service account with one of the cluster's own roles in a namespace.
async fn member(plane: &ControlPlane, namespace: &str, role: &str) -> Result<Client> {
    let cluster = plane.cluster();
    let binding = RoleBinding {
        metadata: kube::api::ObjectMeta { name: Some(role.to_owned()), ..Default::default() },
        role_ref: RoleRef { api_group: "rbac.authorization.k8s.io".to_owned(), kind: "ClusterRole".to_owned(), name: role.to_owned() },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: role.to_owned(),
            namespace: Some(namespace.to_owned()),
            ..Subject::default()
        }]),
    };
    Api::<RoleBinding>::namespaced(cluster.client()?, namespace).create(&PostParams::default(), &binding).await?;
    client_of(plane, namespace, role).await
}

#[tokio::test]
async fn bb_02_dv_23_administrators_manage_connections_and_teams_manage_bindings() -> Result<()> {
    let plane = shared::control_plane().await?;
    let (env, installation) = (TestEnv::new("roles").await?, Installation::new(plane).await?);
    let values = json!({"crds": {"install": false}, "networkPolicy": {"enabled": false}});
    installation.install(&chart::folder(), &values).await?;
    let may = async |client: &Client, verb: &str, resource: &str| -> Result<bool> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": env.namespace, "group": "forgebind.dev", "resource": resource, "verb": verb}},
        });
        let api: Api<k8s_openapi::api::authorization::v1::SelfSubjectAccessReview> = Api::all(client.clone());
        let answer = api.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    };
    let all = ["create", "update", "patch", "delete", "deletecollection"];
    let expected: [(&str, &[&str]); 3] =
        [("view", &[]), ("edit", &["repobindings"]), ("admin", &["repobindings", "connectiongrants", "gitproviderconnections"])];
    for (role, written) in expected {
        let client = member(plane, &env.namespace, role).await?;
        // The cluster aggregates its roles a little after ours exist.
        wait_until(&format!("the role {role}"), SOON, async || {
            Ok(if may(&client, "watch", "gitproviderconnections").await? { Seen::Done(()) } else { Seen::NotYet("not yet".to_owned()) })
        })
        .await?;
        for resource in ["repobindings", "connectiongrants", "gitproviderconnections"] {
            for verb in ["get", "list", "watch"] {
                ensure!(may(&client, verb, resource).await?, "{role}: {verb} {resource} is not granted");
            }
            for verb in all {
                let wanted = written.contains(&resource);
                wait_until(&format!("{role}: {verb} {resource}: {wanted}"), SOON, async || {
                    Ok(if may(&client, verb, resource).await? == wanted { Seen::Done(()) } else { Seen::NotYet(format!("{}", !wanted)) })
                })
                .await?;
            }
            ensure!(!may(&client, "patch", &format!("{resource}/status")).await?, "{role} may write the status of {resource}");
        }
        // Slices name every repository that the account reaches.
        for (verb, wanted) in ["get", "list", "watch"].map(|verb| (verb, role == "admin")).into_iter().chain(all.map(|verb| (verb, false)))
        {
            wait_until(&format!("{role}: {verb} repositoryslices: {wanted}"), SOON, async || {
                let may = may(&client, verb, "repositoryslices").await?;
                Ok(if may == wanted { Seen::Done(()) } else { Seen::NotYet(format!("{may}")) })
            })
            .await?;
        }
    }
    Ok(())
}

#[test]
fn a_right_covers_what_it_names_in_its_scope() {
    let right = |place: &str, verb: &str, names: &[&str]| Right {
        place: place.to_owned(),
        group: String::new(),
        resource: "secrets".to_owned(),
        verb: verb.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let done = right("own", "get", &["key"]);
    assert!(right("own", "get", &["key", "other"]).covers(&done) && right("", "get", &[]).covers(&done));
    for other in [right("own", "get", &["other"]), right("own", "list", &[]), right("elsewhere", "get", &[])] {
        assert!(!other.covers(&done), "{other:?}");
    }
}
