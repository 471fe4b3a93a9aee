//! One control plane and one Gitea for all tests of a program, started when the first test needs them. Tests are separated by
//! namespaces, organizations and ports; a test that stops servers starts its own.

use anyhow::Result;
use tokio::sync::OnceCell;

use super::control_plane::ControlPlane;
use super::gitea::Gitea;

// Statics are never dropped. When this process ends, the pipes to the children close, which ends the children.
static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
static GITEA: OnceCell<Gitea> = OnceCell::const_new();

/// The control plane that all tests share.
pub async fn control_plane() -> Result<&'static ControlPlane> {
    CONTROL_PLANE.get_or_try_init(ControlPlane::start).await
}

/// The Gitea that all tests share.
pub async fn gitea() -> Result<&'static Gitea> {
    GITEA.get_or_try_init(Gitea::start).await
}
