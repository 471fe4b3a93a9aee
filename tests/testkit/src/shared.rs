//! One control plane and one Gitea for all tests of a program, started when the first test asks. Tests stay apart by
//! namespaces, organizations and ports of their own; a test that stops servers starts servers of its own.

use anyhow::Result;
use tokio::sync::OnceCell;

use super::control_plane::ControlPlane;
use super::gitea::Gitea;

// Statics are never dropped. The pipes to the children close when this process ends, and that ends them.
static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
static GITEA: OnceCell<Gitea> = OnceCell::const_new();

/// The control plane that all tests share.
///
/// # Errors
///
/// As [`ControlPlane::start`].
pub async fn control_plane() -> Result<&'static ControlPlane> {
    CONTROL_PLANE.get_or_try_init(ControlPlane::start).await
}

/// The Gitea that all tests share.
///
/// # Errors
///
/// As [`Gitea::start`].
pub async fn gitea() -> Result<&'static Gitea> {
    GITEA.get_or_try_init(Gitea::start).await
}
