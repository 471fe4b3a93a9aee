//! A real Gitea on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::components::{Components, output_of};
use super::plain_http;
use super::port::free_port;
use super::process::{Process, Program};
use super::scratch::Scratch;
use super::wait::{Seen, wait_until};

/// The administrator's name.
pub const ADMIN: &str = "keeper";
/// The administrator's password; the Gitea of a test is reachable only from this machine.
pub const ADMIN_PASSWORD: &str = "keeper-of-a-test";
/// The scopes that Forgebind needs for everything.
pub const OPERATOR_SCOPES: &[&str] = &["write:repository", "read:user", "read:organization"];

/// A Gitea. It ends when it is dropped, or when this process ends.
#[derive(Debug)]
pub struct Gitea {
    program: Program,
    process: Mutex<Option<Process>>,
    executable: PathBuf,
    url: String,
    folder: PathBuf,
    token: String,
    _scratch: Scratch,
}

/// A user with a token.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    pub password: String,
    /// A token with the requested scopes.
    pub token: String,
}

/// A webhook as Gitea's API shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Hook {
    pub id: i64,
    pub active: bool,
    /// Its events, by Gitea's names.
    pub events: Vec<String>,
    /// Never contains the secret.
    pub config: HookConfig,
    /// The branches that it covers, as a glob.
    #[serde(default)]
    pub branch_filter: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct HookConfig {
    pub url: String,
    /// `json` or `form`.
    pub content_type: String,
}

impl Gitea {
    /// Starts an empty Gitea with an administrator.
    ///
    /// # Errors
    ///
    /// When the program is missing or does not become healthy within a minute; the error contains its last log lines.
    pub async fn start() -> Result<Self> {
        super::install_crypto();
        let components = Components::find()?;
        let scratch = Scratch::new("gitea")?;
        let folder = scratch.path().to_owned();
        let port = free_port()?;
        let configuration = folder.join("app.ini");
        std::fs::create_dir_all(folder.join("data"))?;
        std::fs::write(&configuration, app_ini(&folder, &components.gitea_static_root, port))?;
        let mut gitea = Self {
            program: server(&components.gitea, &configuration, &folder),
            process: Mutex::new(None),
            executable: components.gitea,
            url: format!("http://127.0.0.1:{port}"),
            folder,
            token: String::new(),
            _scratch: scratch,
        };
        gitea.command(&["migrate"]).await?;
        gitea.create_admin().await?;
        gitea.token = gitea.generate_token(ADMIN, "test", &["all"]).await?;
        gitea.run().await?;
        Ok(gitea)
    }

    /// The address without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Starts the server again with its data and port.
    ///
    /// # Errors
    ///
    /// When it is not healthy within a minute.
    pub async fn run(&self) -> Result<()> {
        *self.process() = Some(self.program.start()?);
        let client = client()?;
        wait_until("Gitea to be healthy", Duration::from_secs(60), async || {
            if let Some(obituary) = self.process().as_mut().context("it was stopped")?.obituary()? {
                return Ok(Seen::Never(obituary));
            }
            let answer = client.get(format!("{}/api/healthz", self.url)).send().await?;
            Ok(if answer.status().is_success() { Seen::Done(()) } else { Seen::NotYet(answer.status().to_string()) })
        })
        .await
    }

    /// Kills the server (SIGKILL); its data stays.
    pub fn kill(&self) {
        *self.process() = None;
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process().as_ref().map(|process| process.log_tail(lines)).unwrap_or_default()
    }

    async fn command(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.executable);
        command.arg("--config").arg(self.folder.join("app.ini")).args(arguments).envs(environment(&self.folder));
        output_of(command).await
    }

    async fn create_admin(&self) -> Result<()> {
        let email = format!("{ADMIN}@example.com");
        let arguments = ["admin", "user", "create", "--username", ADMIN, "--password", ADMIN_PASSWORD, "--email", &email, "--admin"];
        self.command(&[&arguments[..], &["--must-change-password=false"]].concat()).await.map(drop)
    }

    async fn generate_token(&self, user: &str, name: &str, scopes: &[&str]) -> Result<String> {
        let scopes = scopes.join(",");
        let arguments = ["admin", "user", "generate-access-token", "--username", user, "--token-name", name, "--scopes", &scopes, "--raw"];
        let printed = self.command(&arguments).await?;
        // On a slow machine, warnings appear on the same stream.
        let is_token = |line: &&str| line.len() == 40 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(printed.lines().map(str::trim).find(is_token).with_context(|| format!("no token in: {printed}"))?.to_owned())
    }

    /// Calls the API as the administrator and returns the answer, whatever its status.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        let mut request =
            client()?.request(method, format!("{}/api/v1{path}", self.url)).header("Authorization", format!("token {}", self.token));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok((status, value))
    }

    async fn expect(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, value) = self.call(method.clone(), path, body).await?;
        ensure!(status.is_success(), "Gitea answers {method} {path} with {status}: {value}");
        Ok(value)
    }

    /// A name that this process has not used yet.
    pub fn unique_name(prefix: &str) -> String {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        format!("{prefix}-{}", COUNTER.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a user with a token of these scopes.
    pub async fn create_user(&self, name: &str, scopes: &[&str]) -> Result<Account> {
        let password = format!("password-of-{name}");
        let body = json!({ "username": name, "email": format!("{name}@example.com"), "password": password, "must_change_password": false });
        self.expect(Method::POST, "/admin/users", Some(&body)).await?;
        let mut account = Account { name: name.to_owned(), password, token: String::new() };
        account.token = self.create_token(&account, "operator", scopes).await?;
        Ok(account)
    }

    /// Creates another token of a user.
    pub async fn create_token(&self, account: &Account, name: &str, scopes: &[&str]) -> Result<String> {
        let path = format!("{}/api/v1/users/{}/tokens", self.url, account.name);
        let body = json!({ "name": name, "scopes": scopes });
        let answer = client()?.post(path).basic_auth(&account.name, Some(&account.password)).json(&body).send().await?;
        let status = answer.status();
        let value: Value = answer.json().await?;
        ensure!(status.is_success(), "Gitea creates no token: {status} {value}");
        Ok(value.get("sha1").and_then(Value::as_str).context("Gitea's answer has no token")?.to_owned())
    }

    /// Deletes a token.
    pub async fn delete_token(&self, account: &Account, name: &str) -> Result<()> {
        let path = format!("{}/api/v1/users/{}/tokens/{name}", self.url, account.name);
        let answer = client()?.delete(path).basic_auth(&account.name, Some(&account.password)).send().await?;
        ensure!(answer.status().is_success(), "Gitea does not delete the token: {}", answer.status());
        Ok(())
    }

    /// Creates an organization that a user owns.
    pub async fn create_organization(&self, owner: &Account, name: &str) -> Result<()> {
        self.expect(Method::POST, &format!("/admin/users/{}/orgs", owner.name), Some(&json!({ "username": name }))).await.map(drop)
    }

    /// Creates a private repository of an organization, with a first commit on `main` or empty. Returns its id.
    pub async fn create_repository(&self, organization: &str, name: &str, empty: bool) -> Result<i64> {
        let body = json!({ "name": name, "private": true, "auto_init": !empty, "default_branch": "main" });
        let value = self.expect(Method::POST, &format!("/orgs/{organization}/repos"), Some(&body)).await?;
        value.get("id").and_then(Value::as_i64).context("Gitea's answer has no repository id")
    }

    /// Changes settings of a repository, such as `{"archived": true}` or `{"name": "new"}`.
    pub async fn edit_repository(&self, path: &str, changes: &Value) -> Result<()> {
        self.expect(Method::PATCH, &format!("/repos/{path}"), Some(changes)).await.map(drop)
    }

    /// All webhooks of a repository.
    pub async fn hooks(&self, path: &str) -> Result<Vec<Hook>> {
        let mut hooks = Vec::new();
        for page in 1.. {
            let value = self.expect(Method::GET, &format!("/repos/{path}/hooks?limit=50&page={page}"), None).await?;
            let part: Vec<Hook> = serde_json::from_value(value)?;
            let last = part.is_empty();
            hooks.extend(part);
            if last {
                break;
            }
        }
        Ok(hooks)
    }

    /// Creates a webhook, as somebody else would, and returns its id.
    pub async fn create_hook(&self, path: &str, url: &str, events: &[&str]) -> Result<i64> {
        let body = json!({ "type": "gitea", "active": true, "events": events, "config": { "url": url, "content_type": "json" } });
        let value = self.expect(Method::POST, &format!("/repos/{path}/hooks"), Some(&body)).await?;
        value.get("id").and_then(Value::as_i64).context("Gitea's answer has no hook id")
    }

    /// Changes a webhook, such as `{"active": false}`.
    pub async fn edit_hook(&self, path: &str, id: i64, changes: &Value) -> Result<()> {
        self.expect(Method::PATCH, &format!("/repos/{path}/hooks/{id}"), Some(changes)).await.map(drop)
    }

    /// Deletes a webhook.
    pub async fn delete_hook(&self, path: &str, id: i64) -> Result<()> {
        self.expect(Method::DELETE, &format!("/repos/{path}/hooks/{id}"), None).await.map(drop)
    }

    /// Pushes a new commit to a branch with git, as this user, and returns the commit's id. Works on an empty repository too.
    ///
    /// # Errors
    ///
    /// When git fails; the error contains its output.
    pub async fn push_commit(&self, account: &Account, path: &str, branch: &str, message: &str) -> Result<String> {
        let clone = WorkingCopy::of(&self.url, account, path).await?;
        // Fails if the branch does not exist; then a new one starts at the cloned commit.
        if clone.git(&["checkout", "--quiet", branch]).await.is_err() {
            clone.git(&["checkout", "--quiet", "-b", branch]).await?;
        }
        clone.git(&["commit", "--quiet", "--allow-empty", "--message", message]).await?;
        clone.git(&["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]).await?;
        Ok(clone.git(&["rev-parse", "HEAD"]).await?.trim().to_owned())
    }

    /// Pushes a tag on the head of the default branch.
    ///
    /// # Errors
    ///
    /// When git fails; the error contains its output.
    pub async fn push_tag(&self, account: &Account, path: &str, tag: &str) -> Result<()> {
        let clone = WorkingCopy::of(&self.url, account, path).await?;
        clone.git(&["tag", tag]).await?;
        clone.git(&["push", "--quiet", "origin", &format!("refs/tags/{tag}")]).await.map(drop)
    }
}

/// A clone in a temporary folder.
struct WorkingCopy {
    folder: tempfile::TempDir,
}

impl WorkingCopy {
    async fn of(url: &str, account: &Account, path: &str) -> Result<Self> {
        let clone = Self { folder: tempfile::Builder::new().prefix("forgebind-clone-").tempdir()? };
        let address = url.strip_prefix("http://").context("Gitea's address is http")?;
        std::fs::create_dir(clone.folder.path().join("work"))?;
        clone.git(&["clone", "--quiet", &format!("http://{}:{}@{address}/{path}.git", account.name, account.password), "."]).await?;
        Ok(clone)
    }

    /// Runs git without the settings of the person who runs the tests.
    async fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        command.current_dir(self.folder.path().join("work")).args(arguments).env("GIT_CONFIG_GLOBAL", self.folder.path().join("gitconfig"));
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_AUTHOR_NAME", "Ada"),
            ("GIT_AUTHOR_EMAIL", "ada@example.com"),
            ("GIT_COMMITTER_NAME", "Ada"),
            ("GIT_COMMITTER_EMAIL", "ada@example.com"),
        ] {
            command.env(name, value);
        }
        output_of(command).await
    }
}

fn client() -> Result<reqwest::Client> {
    Ok(plain_http::builder().timeout(Duration::from_secs(30)).build()?)
}

/// Gitea writes git's global settings when it starts. They must be a regular file in its own folder: not the settings of the
/// person who runs the tests, and never a device, which git would replace by a file.
fn environment(folder: &Path) -> [(&'static str, OsString); 2] {
    [("GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT", "true".into()), ("GIT_CONFIG_GLOBAL", folder.join("gitconfig").into())]
}

fn server(executable: &Path, configuration: &Path, folder: &Path) -> Program {
    let program = Program::new("gitea", executable, folder.join("gitea.log")).argument("--config").argument(configuration).argument("web");
    environment(folder).into_iter().fold(program, |program, (name, value)| program.variable(name, value))
}

fn app_ini(folder: &Path, static_root: &Path, port: u16) -> String {
    let folder = folder.display();
    let static_root = static_root.display();
    format!(
        "\
WORK_PATH = {folder}
RUN_MODE = prod
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {static_root}
DISABLE_SSH = true
[database]
DB_TYPE = sqlite3
PATH = {folder}/data/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = of-a-test
PASSWORD_HASH_ALGO = pbkdf2$1$10
ALLOWED_HOST_LIST = loopback,private
[webhook]
ALLOWED_HOST_LIST = loopback,private
[queue]
TYPE = immediate
[indexer]
ISSUE_INDEXER_TYPE = db
[cron]
ENABLED = false
[service]
DISABLE_REGISTRATION = true
[mailer]
ENABLED = false
[log]
MODE = console
LEVEL = Warn
"
    )
}
