//! Child processes that never outlive this one.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Runs its arguments as a child and sends it the signals named on its standard input. When standard input closes, at the latest
/// when this process ends for any reason, it kills its whole process group.
const SUPERVISOR: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
(
  while read -r signal; do kill -s "$signal" "$child"; done <&3
  kill -s KILL 0
) &
guard=$!
exec 3<&-
wait "$child"
status=$?
kill -s KILL "$guard"
exit "$status"
"#;

/// How long to wait for the end of a killed process; normally milliseconds.
const LONGEST_END: Duration = Duration::from_secs(10);
/// The pause between two checks.
const PAUSE: Duration = Duration::from_millis(2);

/// A program to run.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    log: PathBuf,
}

impl Program {
    /// A program whose output is appended to `log`.
    pub fn new(name: &str, path: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { name: name.to_owned(), path: path.into(), arguments: Vec::new(), environment: Vec::new(), log: log.into() }
    }

    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    #[must_use]
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// # Errors
    ///
    /// When the log cannot be written or `sh` cannot be started.
    pub fn start(&self) -> Result<Process> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("the log cannot be opened")?;
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, &self.name])
            .arg(&self.path)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // In its own process group: Ctrl-C in a terminal reaches only this process, which stops the others in order.
            .process_group(0)
            .spawn()
            .context("sh cannot be started")?;
        let orders = supervisor.stdin.take();
        Ok(Process { name: self.name.clone(), supervisor, orders, log: self.log.clone() })
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    supervisor: Child,
    orders: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// The file of its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output.
    pub fn log_tail(&self, lines: usize) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all.iter().skip(all.len().saturating_sub(lines)).copied().collect::<Vec<_>>().join("\n")
    }

    /// How it ended and its last lines; `None` while it runs.
    ///
    /// # Errors
    ///
    /// When the system does not report the status.
    pub fn obituary(&mut self) -> Result<Option<String>> {
        let ended = self.exited()?;
        Ok(ended.map(|status| format!("{} ended by itself with {status}; its last lines:\n{}", self.name, self.log_tail(25))))
    }

    /// Its exit status once it has ended. A kill by signal n is exit code 128 + n.
    ///
    /// # Errors
    ///
    /// When the system does not report the status.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.supervisor.try_wait()?)
    }

    /// Sends it a signal by name, such as `TERM`.
    pub fn signal(&mut self, signal: &str) -> Result<()> {
        let orders = self.orders.as_mut().context("it was stopped before")?;
        writeln!(orders, "{signal}").with_context(|| format!("{} is not running", self.name))
    }

    /// Kills it (SIGKILL), and waits until it has ended.
    pub fn kill(&mut self) {
        // Closing the pipe makes the supervisor kill the whole group.
        self.orders = None;
        let _ = self.supervisor.wait();
        // The supervisor is killed with the others and may end first. The others keep resources, such as a port, until they end.
        let until = Instant::now() + LONGEST_END;
        while is_alive(self.supervisor.id()) && Instant::now() < until {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Whether a process of a group is running. False where the system does not report it.
fn is_alive(group: u32) -> bool {
    let runs = |folder: &Path| {
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        // After the name, which may contain any character: state, parent, group.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, of) = (fields.next()?, fields.nth(1)?);
        // An ended process stays until its parent reads its status; its other threads may end later than its first.
        let threads = || std::fs::read_dir(folder.join("task")).map_or(0, Iterator::count);
        Some(of.parse() == Ok(group) && (state != "Z" || threads() > 1))
    };
    let mut processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.any(|process| runs(&process.path()).unwrap_or(false))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
