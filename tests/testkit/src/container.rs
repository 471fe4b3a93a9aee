//! The file system of the image, run as the kubelet would run it: a read-only root, the image's user, no capability and no way to
//! gain one, and only the given environment. Only the network is this machine's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::process::Program;
use super::scratch::Scratch;

/// The folder in which a pod finds its service account.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// `$1` becomes a read-only mount in a mount namespace of this process alone, and each folder up to `--` an empty writable one; then
/// the rest is run.
const READ_ONLY: &str = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro,nosuid,nodev "$1" && cd / && shift &&
while [ "$1" != -- ]; do mount -t tmpfs -o mode=0777,nosuid,nodev tmpfs "$1" || exit; shift; done &&
shift && exec /usr/bin/env -i "$@""#;

/// The folders of the programs that set up the container. Container engines set the same.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is needed to start an image.
#[derive(Clone, Debug)]
pub struct Image {
    pub root: PathBuf,
    pub entrypoint: Vec<String>,
    /// Its user and group, as numbers.
    pub user: (u32, u32),
}

/// How this process can create a separate root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// As root.
    Root,
    /// With a user namespace.
    UserNamespace,
}

/// A container that is not started yet. Its file system is deleted when it is dropped.
#[derive(Debug)]
pub struct Container {
    scratch: Scratch,
    image: Image,
    means: Means,
    writable: Vec<PathBuf>,
}

impl Container {
    /// A container of an image.
    ///
    /// # Errors
    ///
    /// When its file system cannot be copied, or this process can create neither mounts nor user namespaces.
    pub fn new(image: &Image) -> Result<Self> {
        let scratch = Scratch::new("container")?;
        let status = Command::new("cp").arg("-a").arg(image.root.join(".")).arg(scratch.path()).status()?;
        ensure!(status.success(), "{} cannot be copied", image.root.display());
        // Another user needs access.
        std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self { scratch, image: image.clone(), means: means()?, writable: Vec::new() })
    }

    /// Creates a folder in the container, for the files of a volume. Returns its path outside.
    pub fn folder(&self, path: &str) -> Result<PathBuf> {
        let folder = self.scratch.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(folder)
    }

    /// Creates a folder in the container that the program may write, for a volume such as an emptyDir.
    pub fn writable_folder(&mut self, path: &str) -> Result<()> {
        let folder = self.folder(path)?;
        self.writable.push(folder);
        Ok(())
    }

    /// The program in the container, with these arguments and only this environment.
    pub fn program(&self, environment: &[(String, String)], arguments: &[String], log: &Path) -> Program {
        let (program, own) = self.command(environment, arguments);
        Program::new("forgebind", program, log).arguments(own)
    }

    /// Runs the container to its end and returns its output.
    ///
    /// # Errors
    ///
    /// When it cannot be started or fails; the error contains its output.
    pub fn output(&self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (program, own) = self.command(&[], &arguments);
        let output = Command::new(program).args(own).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{arguments:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, environment: &[(String, String)], arguments: &[String]) -> (&'static str, Vec<OsString>) {
        let root = self.scratch.path().to_owned();
        let (user, group) = self.image.user;
        let mut own: Vec<OsString> = match self.means {
            Means::Root => ["--mount", "--propagation", "private"].map(OsString::from).into(),
            Means::UserNamespace => ["--user", "--map-root-user", "--mount", "--propagation", "private"].map(OsString::from).into(),
        };
        own.extend(["--", "sh", "-c", READ_ONLY, "sh"].map(OsString::from));
        own.push(root.clone().into());
        own.extend(self.writable.iter().map(OsString::from));
        own.extend(["--", PATH].map(OsString::from));
        own.extend(environment.iter().map(|(name, value)| OsString::from(format!("{name}={value}"))));
        own.extend(["setpriv", "--no-new-privs"].map(OsString::from));
        match self.means {
            Means::Root => {
                own.extend(["chroot", "--groups="].map(OsString::from));
                own.extend([format!("--userspec={user}:{group}").into(), root.into()]);
            }
            Means::UserNamespace => {
                own.extend(["unshare", "--user"].map(OsString::from));
                own.extend([format!("--map-user={user}").into(), format!("--map-group={group}").into()]);
                own.extend([OsString::from("--root"), root.into(), "--wd=/".into()]);
            }
        }
        own.extend(self.image.entrypoint.iter().chain(arguments).map(OsString::from));
        ("unshare", own)
    }
}

/// Why this machine cannot start a container; `None` if it can.
pub fn obstacle() -> Option<String> {
    means().err().map(|error| error.to_string())
}

fn means() -> Result<Means> {
    let may = |arguments: &[&str]| {
        let mut mount = Command::new("unshare");
        mount.args(arguments).args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    };
    if may(&[]) {
        return Ok(Means::Root);
    }
    if may(&["--user", "--map-root-user"]) {
        return Ok(Means::UserNamespace);
    }
    bail!(
        "the image cannot be started: this needs unshare (util-linux) and either root or user namespaces \
         (sysctl -w kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)"
    )
}
