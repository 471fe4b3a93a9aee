//! The harness itself: that its parts do what the other tests rely on.

use anyhow::Result;
use forgebind::api::v1alpha1::RepoBinding;
use kube::Api;

use crate::support::control_plane::ControlPlane;
use crate::support::gitea::{Gitea, OPERATOR_SCOPES};
use crate::support::shared;

#[tokio::test]
async fn control_plane_survives_kill_of_etcd_and_of_the_api_server() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let namespace = plane.cluster().create_namespace("survives").await?;
    plane.kill_etcd();
    plane.start_etcd().await?;
    plane.kill_api_server();
    plane.start_api_server().await?;
    let bindings: Api<RepoBinding> = Api::namespaced(plane.cluster().client()?, &namespace);
    assert_eq!(bindings.list(&kube::api::ListParams::default()).await?.items.len(), 0);
    Ok(())
}

#[tokio::test]
async fn gitea_takes_pushes_into_an_empty_repository() -> Result<()> {
    let gitea = shared::gitea().await?;
    let organization = Gitea::unique_name("org");
    let account = gitea.create_user(&Gitea::unique_name("ada"), OPERATOR_SCOPES).await?;
    gitea.create_organization(&account, &organization).await?;
    gitea.create_repository(&organization, "shop", true).await?;
    let path = format!("{organization}/shop");
    let commit = gitea.push_commit(&account, &path, "main", "Open the shop").await?;
    assert_eq!(commit.len(), 40);
    let id = gitea.create_hook(&path, "http://127.0.0.1:1/x", &["push"]).await?;
    assert_eq!(gitea.hooks(&path).await?.first().map(|hook| hook.id), Some(id));
    gitea.delete_hook(&path, id).await?;
    assert!(gitea.hooks(&path).await?.is_empty());
    Ok(())
}
