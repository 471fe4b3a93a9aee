//! The catalogue of a connection: which repositories its slices have after which listing, at every provider.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::catalog::{CatalogSpec, SliceEntry, SliceState};
use forgebind::api::v1alpha1::connection::PermissionState;
use forgebind::api::v1alpha1::{CATALOG_REQUESTED_AT, GitProviderConnection, ProviderKind, RepositorySlice};
use forgebind::protocol::catalog::{Selection, digest, hash};
use http::Method;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use testkit::operator::Operator;
use testkit::provider_env::ProviderEnv;
use testkit::sim::github::seed as github;
use testkit::sim::{Fault, Order, Simulated, UserAction};
use testkit::test_env::TestEnv;
use testkit::test_namespace::{CONNECTION, SOON, TestNamespace, connection_condition, connection_message};
use testkit::wait::{Seen, stays, wait_until};

/// A listing after which the next one of the same process may begin, with the time for it.
const NEXT_LISTING: Duration = Duration::from_secs(120);

fn slices_of(objects: &TestNamespace) -> Result<Api<RepositorySlice>> {
    Ok(Api::namespaced(objects.cluster().client()?, &objects.namespace))
}

/// The slices of the connection by name, selected as a user does.
async fn stored(objects: &TestNamespace) -> Result<BTreeMap<String, RepositorySlice>> {
    let selected = ListParams::default().fields(&format!("connectionName={CONNECTION}"));
    let list = slices_of(objects)?.list(&selected).await?;
    Ok(list.items.into_iter().map(|slice| (slice.name_any(), slice)).collect())
}

async fn versions(objects: &TestNamespace) -> Result<BTreeMap<String, Option<String>>> {
    Ok(stored(objects).await?.into_iter().map(|(name, slice)| (name, slice.resource_version())).collect())
}

/// The repositories by path.
async fn entries(objects: &TestNamespace) -> Result<BTreeMap<String, SliceEntry>> {
    let all = stored(objects).await?.into_values().flat_map(|slice| slice.content.repositories);
    Ok(all.map(|entry| (entry.path.clone(), entry)).collect())
}

fn with_catalog(mut spec: Value, catalog: Value) -> Value {
    spec["catalog"] = catalog;
    // Nothing but the catalogue calls the provider.
    spec["interval"] = json!("1h");
    spec
}

async fn cataloged(objects: &TestNamespace) -> Result<GitProviderConnection> {
    objects.connection_says("Cataloged", "True/Succeeded").await
}

/// Requests a listing of a process that has just started, and waits until it ended.
async fn list_again(objects: &TestNamespace, operator: &Operator, value: &str) -> Result<GitProviderConnection> {
    let annotation = json!({"metadata": {"annotations": {CATALOG_REQUESTED_AT: value}}});
    objects.patch_connection(annotation).await?;
    operator.kill();
    operator.restart().await?;
    let handled = |connection: &GitProviderConnection| {
        let handled = connection.status.as_ref().and_then(|status| status.last_handled.as_ref()?.catalog.clone());
        handled.as_deref() == Some(value)
    };
    objects.connection_until(&format!("listing {value}"), SOON, handled).await
}

/// The status describes the slices: their counts, and a digest that a reader can check.
async fn agree(objects: &TestNamespace) -> Result<()> {
    let connection = objects.connections.get(CONNECTION).await?;
    let status = connection.status.as_ref().and_then(|status| status.catalog.clone()).context("status.catalog")?;
    let spec: CatalogSpec = connection.spec.catalog.clone().context("spec.catalog")?;
    let stored = stored(objects).await?;
    for (name, slice) in &stored {
        let content = &slice.content;
        assert_eq!(content.hash, hash(&content.repositories), "{name}");
        assert_eq!(usize::try_from(content.count)?, content.repositories.len(), "{name}");
        assert!(content.repositories.is_sorted_by(|one, other| one.path <= other.path), "{name}");
        let owner = &slice.metadata.owner_references.as_ref().context("an owner")?[0];
        assert_eq!((Some(&owner.uid), owner.block_owner_deletion), (connection.uid().as_ref(), Some(false)));
    }
    let expected = digest(&Selection::of(&spec), stored.values().map(|slice| slice.content.hash.as_str()));
    assert_eq!(status.digest, expected);
    let entries = entries(objects).await?;
    assert_eq!(usize::try_from(status.repositories)?, entries.len());
    let projects: std::collections::BTreeSet<_> = entries.values().filter_map(|entry| entry.project.clone()).collect();
    assert_eq!(status.projects.map(usize::try_from).transpose()?, Some(projects.len()).filter(|count| *count > 0));
    Ok(())
}

/// A sibling of a path.
fn beside(path: &str, name: &str) -> String {
    path.rsplit_once('/').map_or_else(|| name.to_owned(), |(owner, _)| format!("{owner}/{name}"))
}

/// One catalogue from the first listing to the deletion of its connection.
async fn tell(kind: ProviderKind) -> Result<()> {
    let env = ProviderEnv::begin_as(kind, &format!("catalog-{}", kind.flag())).await?;
    let (objects, seed) = (&env.objects, &env.simulated.seed_data);
    env.store(&seed.credential).await?;
    objects.create_connection(with_catalog(env.connection_spec(), json!({"includeArchived": true}))).await?;
    let first = cataloged(objects).await?;
    assert_eq!(connection_condition(&first, "Ready"), "True/Succeeded");
    let known = entries(objects).await?;
    assert_eq!(known.len(), seed.repositories, "every page");
    let shop = &known[&env.simulated.operator().repository(&env.simulated.path(&seed.repository)).await?.path.to_string()];
    assert_eq!((shop.webhooks, shop.state), (PermissionState::Granted, SliceState::Visible), "the account administers it");
    agree(objects).await?;

    // A repository created after the last listing, and one deleted since.
    let (created, deleted) = (beside(&seed.repository, "created-later"), seed.other.clone());
    env.act(UserAction::CreateRepository { repository: created.clone() }).await?;
    env.act(UserAction::DeleteRepository { repository: deleted.clone() }).await?;
    list_again(objects, &env.operator, "second").await?;
    let known = entries(objects).await?;
    let gone = known.get(&deleted).context("one listing alone proves nothing")?;
    assert_eq!((gone.state, gone.missing_since.is_some()), (SliceState::NotVisible, true));
    assert!(known.contains_key(&created), "it appears on demand");
    agree(objects).await?;

    list_again(objects, &env.operator, "third").await?;
    let known = entries(objects).await?;
    assert!(!known.contains_key(&deleted), "two listings did not show it, and the provider finds it nowhere");
    assert_eq!(known.len(), seed.repositories);
    agree(objects).await?;

    let before = versions(objects).await?;
    list_again(objects, &env.operator, "fourth").await?;
    assert_eq!(versions(objects).await?, before, "an unchanged listing writes no slice");

    objects.connections.delete(CONNECTION, &DeleteParams::foreground()).await?;
    wait_until("the slices to go with their connection", SOON, async || {
        let left = stored(objects).await?.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} slices")) })
    })
    .await
}

mod pk_17_pk_31_pk_33_a_catalogue_follows_its_provider_at {
    testkit::at_each_simulated_provider!(super::tell);
}

#[tokio::test]
async fn pk_31_pk_33_the_catalogue_of_a_real_gitea() -> Result<()> {
    let env = TestEnv::new("catalog-gitea").await?;
    for name in ["cart", "old"] {
        env.gitea.create_repository(&env.organization, name, false).await?;
    }
    env.gitea.edit_repository(&format!("{}/old", env.organization), &json!({"archived": true})).await?;
    let operator = env.operator().await?;
    env.create_connection(with_catalog(env.connection_spec(), json!({"exclude": ["*/no-*"]}))).await?;
    cataloged(&env).await?;
    let paths = async || -> Result<Vec<String>> { Ok(entries(&env).await?.into_keys().collect()) };
    let path = |name: &str| format!("{}/{name}", env.organization);
    let mut expected = vec![path("cart"), env.repository.clone()];
    expected.sort();
    assert_eq!(paths().await?, expected, "an archived one is left out");
    let entry = entries(&env).await?.remove(&env.repository).context("the repository")?;
    assert_eq!((entry.webhooks, entry.default_branch.as_deref(), entry.empty), (PermissionState::Granted, Some("main"), Some(false)));
    assert_eq!(entry.web_url, Some(format!("{}/{}", env.gitea.url().trim_end_matches('/'), env.repository)));
    agree(&env).await?;

    env.gitea.create_repository(&env.organization, "till", true).await?;
    env.gitea.create_repository(&env.organization, "no-thanks", false).await?;
    let (status, _) = env.gitea.call(Method::DELETE, &format!("/repos/{}", path("cart")), None).await?;
    assert!(status.is_success(), "{status}");
    list_again(&env, &operator, "second").await?;
    let known = entries(&env).await?;
    assert_eq!((known[&path("till")].empty, known[&path("cart")].state), (Some(true), SliceState::NotVisible));
    assert!(!known.contains_key(&path("no-thanks")));
    list_again(&env, &operator, "third").await?;
    expected = vec![env.repository.clone(), path("till")];
    expected.sort();
    assert_eq!(paths().await?, expected);
    agree(&env).await
}

#[tokio::test]
async fn a_slice_that_somebody_deletes_or_changes_comes_back() -> Result<()> {
    let env = TestEnv::new("catalog-repair").await?;
    let _operator = env.operator().await?;
    env.create_connection(with_catalog(env.connection_spec(), json!({}))).await?;
    cataloged(&env).await?;
    let before = entries(&env).await?;
    let (api, name) = (slices_of(&env)?, stored(&env).await?.into_keys().next().context("a slice")?);
    let back = async |what: &str| {
        wait_until(&format!("{what} to come back"), NEXT_LISTING, async || {
            let now = entries(&env).await?;
            Ok(if now == before { Seen::Done(()) } else { Seen::NotYet(format!("{:?}", now.keys())) })
        })
        .await
    };
    api.delete(&name, &DeleteParams::default()).await?;
    back("the deleted slice").await?;
    let forged = json!({"repositories": [{"id": "1", "path": "acme/forged", "webhooks": "Granted", "state": "Visible"}]});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(forged)).await?;
    back("the content of the changed slice").await?;
    agree(&env).await?;

    env.patch_connection(json!({"spec": {"catalog": null}})).await?;
    wait_until("the slices to be deleted with spec.catalog", SOON, async || {
        let left = stored(&env).await?.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::NotYet(format!("{left} slices")) })
    })
    .await?;
    let connection =
        env.connection_until("no catalogue", SOON, |connection| connection_condition(connection, "Cataloged").is_empty()).await?;
    assert_eq!(connection.status.and_then(|status| status.catalog), None);
    Ok(())
}

/// The list of the organization, from its second page on.
fn second_page(fault: Fault, times: usize) -> Order {
    Order { method: Some(Method::GET), containing: "&page=2".to_owned(), skip: 0, times, fault }
}

#[tokio::test]
async fn a_listing_that_is_cut_short_or_partial_or_shifted_removes_nothing() -> Result<()> {
    let env = ProviderEnv::begin_as(ProviderKind::GitHub, "catalog-cut").await?;
    let (objects, simulator) = (&env.objects, &env.simulated.simulator);
    env.store(&env.simulated.seed_data.credential).await?;
    objects.create_connection(with_catalog(env.connection_spec(), json!({"includeArchived": true}))).await?;
    cataloged(objects).await?;
    let known = entries(objects).await?;
    // A page is cut by position: what is deleted from the first one hides an entry of the second.
    simulator.order(second_page(Fault::Meanwhile(UserAction::DeleteRepository { repository: "acme/site".into() }), 1));
    list_again(objects, &env.operator, "shifted").await?;
    let after = entries(objects).await?;
    assert!(known.keys().all(|path| after.contains_key(path)), "the hidden one is kept");
    let hidden: Vec<_> = after.values().filter(|entry| entry.state == SliceState::NotVisible).map(|entry| entry.path.clone()).collect();
    assert_eq!(hidden.len(), 1, "{hidden:?}");
    assert_ne!(hidden, ["acme/site"], "its page was read before it was deleted");

    simulator.order(second_page(Fault::WebPage(502), 20));
    let connection = list_again(objects, &env.operator, "cut").await?;
    assert_eq!(connection_condition(&connection, "Cataloged"), "False/ListingFailed");
    assert_eq!(connection_condition(&connection, "Ready"), "True/Succeeded", "it lowers nothing");
    let cut = entries(objects).await?;
    assert!(cut.keys().eq(after.keys()), "nothing is removed");
    assert!(cut.values().all(|entry| entry.state == SliceState::Visible), "nothing is marked, and what the first page shows is taken");
    agree(objects).await?;

    simulator.behave();
    simulator.order(second_page(Fault::Header("x-github-sso", "partial-results; organizations=21955855"), 20));
    let connection = list_again(objects, &env.operator, "partial").await?;
    assert_eq!(connection_condition(&connection, "Cataloged"), "False/PermissionMissing");
    assert!(connection_message(&connection, "Cataloged").contains("single sign-on"), "{}", connection_message(&connection, "Cataloged"));
    assert_eq!(entries(objects).await?, cut);

    simulator.behave();
    list_again(objects, &env.operator, "whole").await?;
    let whole = entries(objects).await?;
    assert_eq!(whole["acme/site"].state, SliceState::NotVisible, "the first complete listing without it");
    agree(objects).await
}

#[tokio::test]
async fn a_leader_that_stops_in_the_middle_of_a_listing_leaves_it_to_the_next_one() -> Result<()> {
    let env = ProviderEnv::begin_as(ProviderKind::GitHub, "catalog-killed").await?;
    let (objects, simulator) = (&env.objects, &env.simulated.simulator);
    simulator.order(second_page(Fault::Slow(Duration::from_secs(25)), 1));
    env.store(&env.simulated.seed_data.credential).await?;
    objects.create_connection(with_catalog(env.connection_spec(), json!({"includeArchived": true}))).await?;
    wait_until("the second page to be asked for", SOON, async || {
        let asked = simulator.strikes().first().copied().unwrap_or_default();
        Ok(if asked > 0 { Seen::Done(()) } else { Seen::NotYet("it was not".to_owned()) })
    })
    .await?;
    env.operator.kill();
    let connection = objects.connections.get(CONNECTION).await?;
    assert_eq!(connection_condition(&connection, "Cataloged"), "", "the first one did not finish");
    env.operator.restart().await?;
    cataloged(objects).await?;
    assert_eq!(entries(objects).await?.len(), env.simulated.seed_data.repositories);
    agree(objects).await
}

#[tokio::test]
async fn bb_15_dv_07_an_account_that_may_only_read_lists_and_manages_nothing() -> Result<()> {
    let env = ProviderEnv::begin_as(ProviderKind::GitHub, "catalog-reader").await?;
    env.store(&[("token", github::FINE_GRAINED_READER.to_owned())]).await?;
    env.objects.create_connection(with_catalog(env.connection_spec(), json!({}))).await?;
    cataloged(&env.objects).await?;
    assert!(!entries(&env.objects).await?.is_empty(), "reading metadata is enough to list");

    let reader = ProviderEnv::begin_as(ProviderKind::GitLab, "catalog-reporter").await?;
    reader.store(&reader.simulated.seed_data.reader).await?;
    reader.objects.create_connection(with_catalog(reader.connection_spec(), json!({}))).await?;
    let connection = cataloged(&reader.objects).await?;
    let entries = entries(&reader.objects).await?;
    assert!(!entries.is_empty() && entries.values().all(|entry| entry.webhooks == PermissionState::Missing));
    assert_eq!(connection.status.and_then(|status| status.catalog).context("status.catalog")?.webhooks_manageable, 0);
    Ok(())
}

#[tokio::test]
async fn pk_32_a_provider_that_is_switched_off_lists_nothing() -> Result<()> {
    let simulated = Simulated::new(ProviderKind::GitHub).await?;
    let objects = TestNamespace::new(testkit::shared::control_plane().await?, "catalog-off").await?;
    let _operator = Operator::start(objects.options().await?.with("providers", "gitlab")).await?;
    let data: Vec<_> = simulated.seed_data.credential.iter().map(|(key, value)| (*key, value.as_str())).collect();
    objects.cluster().apply_secret(&objects.namespace, "credential", &data).await?;
    let spec = json!({"provider": simulated.seed_data.provider, "credentials": {"secretRef": {"name": "credential"}}});
    objects.create_connection(with_catalog(spec, json!({"interval": "10m"}))).await?;
    objects.connection_says("Ready", "False/ProviderNotServed").await?;
    objects.patch_connection(json!({"metadata": {"annotations": {CATALOG_REQUESTED_AT: "now"}}})).await?;
    stays("nothing is listed", Duration::from_secs(6), async || {
        ensure!(simulated.simulator.exchanges().is_empty(), "the provider was called");
        ensure!(stored(&objects).await?.is_empty(), "there are slices");
        Ok(())
    })
    .await
}
