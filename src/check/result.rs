//! The result of a check, in the form of its output.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::inventory::{Key, Refused};
use super::manifests::Location;
use crate::api::v1alpha1::binding::PlannedAction;
use crate::api::v1alpha1::{ConditionType, Reason};
use crate::k8s::conditions;

/// Version of the JSON format. Fields may be added within a version; none is removed or changes its meaning.
const VERSION: u32 = 1;

/// The complete result of a check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Version of the JSON format.
    pub version: u32,
    /// Whether every object would become Ready and, with `--fail-on-plan`, no action would be taken at the providers.
    pub ok: bool,
    /// Counts of objects and actions.
    pub summary: Summary,
    /// One row for each object: connections first, then grants, then bindings, by namespace and name.
    pub objects: Vec<Row>,
    /// Notes on the check as a whole.
    pub notes: Vec<String>,
}

/// Counts of objects and actions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Number of connections.
    pub connections: usize,
    /// Number of grants.
    pub grants: usize,
    /// Number of bindings.
    pub bindings: usize,
    /// Number of objects that would become Ready.
    pub ready: usize,
    /// Number of objects that would fail the check.
    pub not_ready: usize,
    /// Number of planned actions, by name.
    pub actions: BTreeMap<String, usize>,
    /// Number of objects of other kinds, which are not checked, by kind and group.
    pub ignored: BTreeMap<String, usize>,
}

/// The expected state of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It would become Ready.
    Ready,
    /// It would not become Ready.
    NotReady,
    /// Unknown: its provider is unreachable, or information is missing.
    Unknown,
    /// It is suspended on request, so nothing would be done.
    Suspended,
    /// It is being deleted.
    Deleting,
    /// Its manifest is valid; no provider was contacted.
    NotAsked,
}

impl Outcome {
    /// Whether this outcome makes the check fail.
    #[must_use]
    pub const fn fails(self) -> bool {
        matches!(self, Self::NotReady | Self::Unknown)
    }
}

/// One connection or binding.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The file of its manifest; absent for an object of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line on which its manifest begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The expected state.
    pub outcome: Outcome,
    /// The reason that its Ready condition would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The message of that condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The conditions that its status would have.
    pub conditions: Vec<ConditionRow>,
    /// For a connection: what the provider reported about itself and the credential, in short phrases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<String>,
    /// The actions that would be taken at the provider.
    pub actions: Vec<PlannedAction>,
    /// Errors, warnings and notes.
    pub findings: Vec<Finding>,
}

/// A condition that the status would have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConditionRow {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The object would not become Ready.
    Error,
    /// The object could become Ready, but the problem needs attention.
    Warning,
    /// Information only.
    Note,
}

/// An error, a warning or a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Severity.
    pub level: Level,
    /// The condition that reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// The reason of that condition; `InvalidObject` for what admission would refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do: the documented remedy for the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What to do in this check, if that is different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The file that contains the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line of the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl Finding {
    /// A finding without a reason.
    pub(super) fn plain(level: Level, message: impl Into<String>) -> Self {
        Self { level, condition: None, reason: None, message: message.into(), remedy: None, hint: None, file: None, line: None }
    }

    /// A finding with a reason and its remedy.
    pub(super) fn of(level: Level, condition: Option<ConditionType>, reason: &str, message: &str) -> Self {
        let known = Reason::ALL.iter().find(|known| known.as_str() == reason);
        Self {
            condition: condition.map(|condition| condition.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            remedy: known.map(|reason| reason.remedy().to_owned()),
            ..Self::plain(level, message)
        }
    }

    pub(super) fn at(mut self, location: Option<&Location>) -> Self {
        self.file = location.map(|location| location.file.clone());
        self.line = location.map(|location| location.line);
        self
    }

    /// Whether it has this reason.
    pub(super) fn is(&self, reason: Reason) -> bool {
        self.reason.as_deref() == Some(reason.as_str())
    }
}

impl Row {
    /// A row without any results.
    pub(super) fn new(kind: &str, key: &Key, location: Option<&Location>, outcome: Outcome) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: key.0.clone(),
            name: key.1.clone(),
            file: location.map(|location| location.file.clone()),
            line: location.map(|location| location.line),
            outcome,
            reason: None,
            message: None,
            conditions: Vec::new(),
            found: Vec::new(),
            actions: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// A row for an object that admission would refuse.
    pub(super) fn refused(refused: &Refused) -> Self {
        let location = refused.violations.iter().find_map(|(location, _)| location.as_ref());
        let reason = Reason::InvalidObject.as_str();
        let findings = refused.violations.iter();
        let findings = findings.map(|(location, message)| Finding::of(Level::Error, None, reason, message).at(location.as_ref()));
        Self {
            reason: Some(reason.to_owned()),
            message: refused.violations.first().map(|(_, message)| message.clone()),
            findings: findings.collect(),
            ..Self::new(&refused.kind, &refused.key, location, Outcome::NotReady)
        }
    }

    /// Fills the row from the conditions that the controller would write.
    pub(super) fn tell(&mut self, written: &[Condition], location: Option<&Location>, offline: bool) {
        let ready = conditions::find(written, ConditionType::Ready);
        let reason = ready.map(|ready| ready.reason.as_str());
        self.outcome = match ready.map(|ready| ready.status.as_str()) {
            Some("True") if offline => Outcome::NotAsked,
            Some("True") => Outcome::Ready,
            Some("False") if reason == Some(Reason::Suspended.as_str()) => Outcome::Suspended,
            Some("False") => Outcome::NotReady,
            _ => Outcome::Unknown,
        };
        self.findings.extend(written.iter().filter_map(finding).map(|finding| finding.at(location)));
        let told = self.findings.iter().any(|finding| finding.level == Level::Error);
        if self.outcome.fails()
            && !told
            && let Some(ready) = ready
        {
            self.findings.push(Finding::of(Level::Error, Some(ConditionType::Ready), &ready.reason, &ready.message).at(location));
        }
        if self.outcome == Outcome::NotAsked {
            return;
        }
        self.reason = reason.map(str::to_owned);
        self.message = ready.map(|ready| ready.message.clone());
        let rows = written.iter().map(|condition| ConditionRow {
            kind: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        });
        self.conditions = rows.collect();
    }
}

/// The finding for a condition. Ready and its companions only repeat other conditions, so they have none.
fn finding(condition: &Condition) -> Option<Finding> {
    let kind = ConditionType::ALL.iter().copied().find(|kind| kind.as_str() == condition.type_)?;
    let spared = [Reason::SinkFailing, Reason::Observing].iter().any(|reason| condition.reason == reason.as_str());
    let lowers = kind.effect_on_ready().starts_with("lowers") && !spared;
    let level = match (kind, condition.status.as_str()) {
        // Requested by a person, or nothing that a person can change.
        (ConditionType::WebhookInSync, "False") if condition.reason == Reason::Observing.as_str() => Level::Note,
        (ConditionType::Authorized, "Unknown") => Level::Note,
        (ConditionType::CredentialExpiring | ConditionType::CleanupBlocked, "True") => Level::Warning,
        (ConditionType::Ready | ConditionType::Reconciling | ConditionType::Stalled, _)
        | (ConditionType::Receiving, "Unknown")
        | (_, "True") => return None,
        (_, "False") if lowers => Level::Error,
        _ => Level::Warning,
    };
    Some(Finding::of(level, Some(kind), &condition.reason, &condition.message))
}

impl CheckResult {
    /// Counts objects and actions.
    pub(super) fn of(objects: Vec<Row>, notes: Vec<String>, ignored: BTreeMap<String, usize>, fail_on_plan: bool) -> Self {
        let count = |matches: &dyn Fn(&Row) -> bool| objects.iter().filter(|row| matches(row)).count();
        let mut actions = BTreeMap::new();
        for action in objects.iter().flat_map(|row| &row.actions) {
            *actions.entry(action.action.clone()).or_default() += 1;
        }
        let summary = Summary {
            connections: count(&|row| row.kind == "GitProviderConnection"),
            grants: count(&|row| row.kind == "ConnectionGrant"),
            bindings: count(&|row| row.kind == "RepoBinding"),
            ready: count(&|row| row.outcome == Outcome::Ready),
            not_ready: count(&|row| row.outcome.fails()),
            actions,
            ignored,
        };
        let planned = fail_on_plan && !summary.actions.is_empty();
        Self { version: VERSION, ok: summary.not_ready == 0 && !planned, summary, objects, notes }
    }

    /// The result as JSON, described in `src/docs/guide/platform/ci-check.md`, with a trailing line break.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps with text keys and plain values always serialize.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        // JSON does not escape characters that reverse the order of text in a terminal.
        text.lines().map(crate::text::sanitize::escaped).flat_map(|line| [line, "\n".into()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn names(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| {
                found.insert(name.clone());
                names(value, found);
            }),
            Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_field_of_the_json_form_is_documented() {
        let location = Location { file: "a.yaml".to_owned(), line: 7 };
        let key = ("team".to_owned(), "shop".to_owned());
        let mut row = Row::new("RepoBinding", &key, Some(&location), Outcome::NotReady);
        let mut finding =
            Finding::of(Level::Error, Some(ConditionType::RepositoryFound), "BranchNotFound", "no branch").at(Some(&location));
        finding.hint = Some("here".to_owned());
        row.findings.push(finding);
        row.found.push("Gitea 1.27.0".to_owned());
        (row.reason, row.message) = (Some("BranchNotFound".to_owned()), Some("no branch".to_owned()));
        row.actions.push(PlannedAction { action: "CreateHook".to_owned(), target: "acme/shop".to_owned(), reason: "none".to_owned() });
        let text = "x".to_owned();
        row.conditions.push(ConditionRow { kind: text.clone(), status: text.clone(), reason: text.clone(), message: text });
        let result = CheckResult::of(vec![row], vec!["a note".to_owned()], BTreeMap::new(), false);
        let mut found = BTreeSet::new();
        names(&serde_json::from_str(&result.to_json()).unwrap(), &mut found);
        found.remove("CreateHook");
        assert!(found.len() > 20, "{found:?}");
        let guide = include_str!("../docs/guide/platform/ci-check.md");
        let told = |name: &String| [format!("`{name}"), format!("{name}`"), format!(".{name}[]")].iter().any(|told| guide.contains(told));
        let missing: Vec<_> = found.iter().filter(|name| !told(name)).collect();
        assert_eq!(missing, Vec::<&String>::new());
        for outcome in ["Ready", "NotReady", "Unknown", "Suspended", "Deleting", "NotAsked"] {
            assert!(guide.contains(&format!("`{outcome}`")), "{outcome}");
        }
    }
}
