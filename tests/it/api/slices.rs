//! Slices at the real API server: their limits, their columns and their selection.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::catalog::{SLICE_ENTRIES, SliceContent, SliceEntry, SliceState};
use forgebind::api::v1alpha1::connection::PermissionState;
use forgebind::api::v1alpha1::{RepositorySlice, binding::Visibility};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use testkit::shared;

/// An entry in which every text has the maximum length.
fn largest(number: usize) -> SliceEntry {
    let text = |length: usize| "x".repeat(length);
    SliceEntry {
        id: format!("{number:0>128}"),
        path: format!("{number:0>1024}"),
        project: Some(text(512)),
        default_branch: Some(text(255)),
        visibility: Some(Visibility::Internal),
        archived: Some(true),
        empty: Some(false),
        topics: Some(vec![text(64); 20]),
        webhooks: PermissionState::Unknown,
        web_url: Some(text(1536)),
        missing_since: None,
        state: SliceState::NotVisible,
    }
}

fn slice(name: &str, connection: &str, entries: usize) -> RepositorySlice {
    let repositories: Vec<_> = (0..entries).map(largest).collect();
    let content =
        SliceContent { connection_name: connection.to_owned(), count: i64::try_from(entries).unwrap(), hash: "0".repeat(64), repositories };
    RepositorySlice::new(ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, content)
}

#[tokio::test]
async fn the_largest_slice_is_stored_and_a_larger_one_is_refused() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    let namespace = cluster.create_namespace("slices").await?;
    let api: Api<RepositorySlice> = Api::namespaced(cluster.client()?, &namespace);
    let parameters = PostParams::default();
    let mut stored = api.create(&parameters, &slice("largest", &"c".repeat(253), SLICE_ENTRIES)).await?;
    assert_eq!(stored.content.repositories.len(), SLICE_ENTRIES);
    // A second manager of the field adds to the object's size.
    stored.content.repositories.swap(0, 1);
    api.replace("largest", &PostParams { field_manager: Some("another".to_owned()), ..PostParams::default() }, &stored).await?;
    let refused = async |what: &str, slice: RepositorySlice, words: &str| -> Result<()> {
        let error = api.create(&parameters, &slice).await.err().with_context(|| format!("{what} is accepted"))?.to_string();
        assert!(error.contains(words), "{what}: {error}");
        Ok(())
    };
    refused("one entry more", slice("more", "acme", SLICE_ENTRIES + 1), "must have at most 250 items").await?;
    let mut longer = slice("longer", "acme", 1);
    longer.content.repositories[0].path.push('x');
    refused("a longer path", longer, "may not be more than 1024").await?;
    refused("no connection", slice("nobody", "", 1), "connectionName").await
}

#[tokio::test]
async fn kubectl_shows_slices_by_their_short_name_and_selects_them_by_connection() -> Result<()> {
    let cluster = shared::control_plane().await?.cluster();
    let namespace = cluster.create_namespace("reposlice").await?;
    let api: Api<RepositorySlice> = Api::namespaced(cluster.client()?, &namespace);
    for (name, connection) in [("one", "acme"), ("two", "umbrella")] {
        api.create(&PostParams::default(), &slice(name, connection, 2)).await?;
    }
    let get = async |arguments: &[&str]| cluster.kubectl(&[&["--namespace", &namespace, "get"], arguments].concat()).await;
    let table = get(&["reposlice"]).await?;
    let columns: Vec<_> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "CONNECTION", "REPOSITORIES", "AGE"]);
    assert!(table.lines().nth(1).is_some_and(|row| row.split_whitespace().take(3).eq(["one", "acme", "2"])), "{table}");
    let selected = get(&["reposlice", "--field-selector", "connectionName=umbrella", "-o", "name"]).await?;
    assert_eq!(selected, "repositoryslice.forgebind.dev/two\n");
    assert_eq!(get(&["forgebind", "-o", "name"]).await?, "", "a viewer who lists the category is not refused because of slices");
    Ok(())
}
