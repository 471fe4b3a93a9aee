//! What a check found, in the form in which it is told.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::inventory::{Key, Refused};
use super::manifests::Location;
use crate::api::v1alpha1::binding::PlannedAction;
use crate::api::v1alpha1::{ConditionType, Reason};
use crate::k8s::conditions;

/// The version of the JSON form. Fields may be added within a version; none is removed or changes its meaning.
const VERSION: u32 = 1;

/// Everything that a check found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Version of this form.
    pub version: u32,
    /// Whether every object would become Ready, and, where that was asked for, nothing would be done at the providers.
    pub ok: bool,
    /// How many of what.
    pub summary: Summary,
    /// One row for each connection and binding: connections first, then by namespace and name.
    pub objects: Vec<Row>,
    /// What else is to be known about this check.
    pub notes: Vec<String>,
}

/// How many of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Connections.
    pub connections: usize,
    /// Bindings.
    pub bindings: usize,
    /// Objects that would become Ready.
    pub ready: usize,
    /// Objects that would not.
    pub not_ready: usize,
    /// Planned actions by name.
    pub actions: BTreeMap<String, usize>,
    /// Objects of other kinds, which are not checked, by kind and group.
    pub ignored: BTreeMap<String, usize>,
}

/// What would become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It would become Ready.
    Ready,
    /// It would not.
    NotReady,
    /// It cannot be told: its provider is out of reach, or something is not known.
    Unknown,
    /// Nothing is done about it, because somebody wants that.
    Suspended,
    /// It is being deleted.
    Deleting,
    /// Its manifest is as it should be; the provider was not asked.
    NotAsked,
}

impl Outcome {
    /// Whether it is a reason to fail.
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
    /// The line on which it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What would become of it.
    pub outcome: Outcome,
    /// The reason that its condition Ready would carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The message of that condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The conditions that its status would hold.
    pub conditions: Vec<ConditionRow>,
    /// Of a connection: what the provider told of it and its credential, in short phrases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<String>,
    /// What would be done at the provider.
    pub actions: Vec<PlannedAction>,
    /// What is to be noticed.
    pub findings: Vec<Finding>,
}

/// A condition.
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

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It keeps the object from becoming Ready.
    Error,
    /// It does not, and somebody should look at it.
    Warning,
    /// Good to know.
    Note,
}

/// Something to be noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The condition that tells of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// The reason there; `InvalidObject` for what admission would refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do: the documented remedy of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What to do about it in this check, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The file in which it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line on which it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl Finding {
    /// A finding without a reason.
    pub(super) fn plain(level: Level, message: impl Into<String>) -> Self {
        Self { level, condition: None, reason: None, message: message.into(), remedy: None, hint: None, file: None, line: None }
    }

    /// A finding with a reason, and its remedy.
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
    /// A row that says nothing yet.
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

    /// A row for what admission would refuse.
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

    /// Takes over the conditions that the controller would write.
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

/// What a condition gives to notice. Ready and what goes with it repeat the others.
fn finding(condition: &Condition) -> Option<Finding> {
    let kind = ConditionType::ALL.iter().copied().find(|kind| kind.as_str() == condition.type_)?;
    let spared = [Reason::SinkFailing, Reason::Observing].iter().any(|reason| condition.reason == reason.as_str());
    let lowers = kind.effect_on_ready().starts_with("lowers") && !spared;
    let level = match (kind, condition.status.as_str()) {
        // What a person asked for, and what no person can do anything about.
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
    /// Counts what the rows hold.
    pub(super) fn of(objects: Vec<Row>, notes: Vec<String>, ignored: BTreeMap<String, usize>, fail_on_plan: bool) -> Self {
        let count = |matches: &dyn Fn(&Row) -> bool| objects.iter().filter(|row| matches(row)).count();
        let mut actions = BTreeMap::new();
        for action in objects.iter().flat_map(|row| &row.actions) {
            *actions.entry(action.action.clone()).or_default() += 1;
        }
        let summary = Summary {
            connections: count(&|row| row.kind == "GitProviderConnection"),
            bindings: count(&|row| row.kind == "RepoBinding"),
            ready: count(&|row| row.outcome == Outcome::Ready),
            not_ready: count(&|row| row.outcome.fails()),
            actions,
            ignored,
        };
        let planned = fail_on_plan && !summary.actions.is_empty();
        Self { version: VERSION, ok: summary.not_ready == 0 && !planned, summary, objects, notes }
    }

    /// The JSON form, described in `src/docs/guide/platform/ci-check.md`, with a line break at its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps with text keys and plain values: nothing in it can fail to be written.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        // JSON leaves in a text what reverses its order in a terminal.
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
