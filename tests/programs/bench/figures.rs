//! Measured values beside their goals.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use testkit::components::output_of;
use testkit::container::Image;
use testkit::image;

const MIB: u64 = 1024 * 1024;

/// A measured value and its goal, in the same unit.
#[derive(Clone, Debug)]
struct Figure {
    what: String,
    value: String,
    goal: String,
    /// Whether the goal is reached; `None` without a goal.
    reached: Option<bool>,
}

/// All figures, printed as a table.
#[derive(Debug, Default)]
pub struct Figures {
    rows: Vec<Figure>,
}

impl Figures {
    fn add(&mut self, what: impl Into<String>, value: String, goal: impl Into<String>, reached: Option<bool>) {
        self.rows.push(Figure { what: what.into(), value, goal: goal.into(), reached });
    }

    /// Adds a figure without a goal.
    pub fn note(&mut self, what: impl Into<String>, value: impl fmt::Display) {
        self.add(what, value.to_string(), "", None);
    }

    /// Adds a time and its maximum.
    pub fn time(&mut self, what: impl Into<String>, time: Duration, goal: Duration) {
        let (value, goal_text) = (seconds(time), format!("<= {}", seconds(goal)));
        self.add(what, value, goal_text, Some(time <= goal));
    }

    /// Adds a number with a maximum.
    pub fn at_most(&mut self, what: impl Into<String>, value: f64, unit: &str, goal: f64) {
        self.add(what, format!("{value:.2}{unit}"), format!("<= {goal}{unit}"), Some(value <= goal));
    }

    /// Adds a number with a minimum.
    pub fn at_least(&mut self, what: impl Into<String>, value: f64, goal: f64) {
        self.add(what, format!("{value:.2}"), format!(">= {goal}"), Some(value >= goal));
    }

    /// Adds a number of bytes and its maximum.
    pub fn bytes(&mut self, what: impl Into<String>, bytes: u64, goal: u64) {
        self.add(what, mebibytes(bytes), format!("<= {}", mebibytes(goal)), Some(bytes <= goal));
    }

    /// Adds the sizes of the binary and the image: unpacked as on a node, and compressed as in a registry if a build engine
    /// exists.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or the build engine fails.
    pub async fn sizes(&mut self, laid_out: &Image) -> Result<()> {
        let binary = std::fs::metadata(laid_out.root.join("forgebind"))?.len();
        self.bytes("binary, static and stripped", binary, 16 * MIB);
        let mut command = Command::new("du");
        command.args(["--apparent-size", "--block-size=1", "--summarize"]).arg(&laid_out.root);
        let printed = output_of(command).await?;
        let whole = printed.split_whitespace().next().context("du printed nothing")?.parse()?;
        self.bytes("image, unpacked", whole, 20 * MIB);
        if image::has_engine() {
            self.bytes("image, compressed", image::build().await?.size, 20 * MIB);
        } else {
            self.note("image, compressed", "not built: no buildah");
        }
        Ok(())
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files are far below 2^52")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = Figure { what: "what".to_owned(), value: "measured".to_owned(), goal: "goal".to_owned(), reached: None };
        let rows: Vec<&Figure> = std::iter::once(&header).chain(&self.rows).collect();
        let width = |of: fn(&Figure) -> &String| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or_default();
        let (what, value, goal) = (width(|row| &row.what), width(|row| &row.value), width(|row| &row.goal));
        for row in rows {
            let verdict = match row.reached {
                Some(true) => "reached",
                Some(false) => "MISSED",
                None => "",
            };
            let line = format!("{:what$}  {:>value$}  {:>goal$}  {verdict}", row.what, row.value, row.goal);
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
