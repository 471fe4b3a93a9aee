//! Webhooks of projects: created, shown, changed, disabled after failures, and their log.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Release;
use crate::sim::message::Response;
use crate::sim::parameters::{self, NotAFlag};
use crate::sim::targets::{is_private, is_web_address};

/// Every event that a project's hook has.
const EVENTS: [&str; 17] = [
    "confidential_issues_events",
    "confidential_note_events",
    "deployment_events",
    "emoji_events",
    "feature_flag_events",
    "issues_events",
    "job_events",
    "merge_requests_events",
    "milestone_events",
    "note_events",
    "pipeline_events",
    "push_events",
    "releases_events",
    "resource_access_token_events",
    "tag_push_events",
    "vulnerability_events",
    "wiki_page_events",
];
/// Failures in a row that have no consequence. These numbers stand in GitLab's `app/models/concerns/web_hooks/auto_disabling.rb`, as
/// of 17.11; failures of every kind count alike since merge request 166329. Before, four answers 4xx in a row disabled a hook for
/// good. On a self-managed server all of it applies only if an administrator enables the feature flag `auto_disabling_web_hooks`;
/// this simulator has it enabled, as gitlab.com.
const BORNE: u32 = 3;
/// Failures in a row after which a hook is permanently disabled.
const FATAL: u32 = 40;
/// The pause after the first failure that has a consequence. It doubles with each further one.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(1);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(24);
/// Bytes of a signing token's key.
const KEY_LENGTH: usize = 32;

/// An attempt, as the log shows it.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub id: u64,
    pub url: String,
    pub trigger: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    pub status: String,
}

#[derive(Clone)]
pub struct Hook {
    pub id: u64,
    pub uuid: String,
    pub url: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub created_at: Timestamp,
    pub events: BTreeMap<String, bool>,
    pub branch_filter: Option<String>,
    pub branch_strategy: String,
    pub template: Option<String>,
    pub verifies_tls: bool,
    pub url_variables: BTreeMap<String, String>,
    pub custom_headers: BTreeMap<String, String>,
    pub token: Option<String>,
    pub signing_key: Option<Vec<u8>>,
    pub failures: u32,
    pub disabled_until: Option<Timestamp>,
    pub log: Vec<Attempt>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hook({})", self.id)
    }
}

impl Hook {
    /// A hook with GitLab's defaults.
    fn new(id: u64, uuid: String, now: Timestamp) -> Self {
        Self {
            id,
            uuid,
            url: String::new(),
            name: None,
            description: None,
            created_at: now,
            events: EVENTS.iter().map(|event| ((*event).to_owned(), *event == "push_events")).collect(),
            branch_filter: None,
            branch_strategy: "wildcard".to_owned(),
            template: None,
            verifies_tls: true,
            url_variables: BTreeMap::new(),
            custom_headers: BTreeMap::new(),
            token: None,
            signing_key: None,
            failures: 0,
            disabled_until: None,
            log: Vec::new(),
        }
    }

    pub fn of_somebody(id: u64, uuid: String, url: &str, now: Timestamp) -> Self {
        Self { url: url.to_owned(), ..Self::new(id, uuid, now) }
    }

    /// A new hook from the body of a request.
    pub fn create(id: u64, uuid: String, now: Timestamp, document: &Value, rules: &Rules<'_>) -> Result<Self, Response> {
        if document["url"].is_null() {
            return Err(Response::json(400, &json!({"error": "url is missing"})));
        }
        let mut hook = Self::new(id, uuid, now);
        hook.change(document, rules)?;
        Ok(hook)
    }

    /// Changes the target: secrets for the old target are not sent to the new one.
    pub fn redirect(&mut self, url: &str) {
        if self.url != url {
            url.clone_into(&mut self.url);
            self.token = None;
            self.url_variables.clear();
        }
    }

    /// Changes the fields in a request and keeps the others.
    pub fn change(&mut self, document: &Value, rules: &Rules<'_>) -> Result<(), Response> {
        let mut changed = self.clone();
        if let Some(url) = document["url"].as_str() {
            if !is_web_address(url) || (is_private(url) && !rules.allow_local_targets) {
                return Err(refused("Invalid url given"));
            }
            changed.redirect(url);
        }
        changed.take_secrets(document, rules.release)?;
        changed.take_filter(document)?;
        changed.take_rest(document)?;
        *self = changed;
        Ok(())
    }

    fn take_secrets(&mut self, document: &Value, release: &Release) -> Result<(), Response> {
        if let Some(token) = document["token"].as_str() {
            self.token = Some(token.to_owned()).filter(|token| !token.is_empty());
        }
        // Where signing tokens do not exist or are disabled, the field is silently ignored.
        if let Some(token) = document["signing_token"].as_str().filter(|_| release.takes_signing_tokens()) {
            let key = token.strip_prefix("whsec_").and_then(|encoded| STANDARD.decode(encoded).ok());
            let key = key.filter(|key| key.len() == KEY_LENGTH).ok_or_else(|| refused("Signing token is invalid"))?;
            self.signing_key = Some(key);
        }
        Ok(())
    }

    fn take_filter(&mut self, document: &Value) -> Result<(), Response> {
        if let Some(strategy) = document["branch_filter_strategy"].as_str() {
            if !["wildcard", "regex", "all_branches"].contains(&strategy) {
                return Err(Response::json(400, &json!({"error": "branch_filter_strategy does not have a valid value"})));
            }
            strategy.clone_into(&mut self.branch_strategy);
        }
        if let Some(filter) = document["push_events_branch_filter"].as_str() {
            let filter = filter.trim();
            if self.branch_strategy == "wildcard" && filter.contains([' ', '~', '^', ':']) {
                return Err(refused("Invalid branch filter given"));
            }
            self.branch_filter = Some(filter.to_owned());
        }
        if self.branch_strategy == "all_branches" {
            self.branch_filter = None;
        }
        Ok(())
    }

    fn take_rest(&mut self, document: &Value) -> Result<(), Response> {
        let flag = |name: &str| {
            let refusal = |NotAFlag| Response::json(400, &json!({"error": format!("{name} is invalid")}));
            parameters::flag(&document[name]).map_err(refusal)
        };
        for event in EVENTS {
            if let Some(on) = flag(event)? {
                self.events.insert(event.to_owned(), on);
            }
        }
        let text = |name: &str| document[name].as_str().map(str::to_owned);
        self.name = text("name").or_else(|| self.name.take());
        self.description = text("description").or_else(|| self.description.take());
        self.template = text("custom_webhook_template").or_else(|| self.template.take());
        self.verifies_tls = flag("enable_ssl_verification")?.unwrap_or(self.verifies_tls);
        for (name, entries) in [("url_variables", &mut self.url_variables), ("custom_headers", &mut self.custom_headers)] {
            // Entries are added; a separate call removes a single one.
            for entry in document[name].as_array().into_iter().flatten() {
                let value = |part: &str| entry[part].as_str().unwrap_or_default().to_owned();
                entries.insert(value("key"), value("value"));
            }
        }
        Ok(())
    }

    /// The hook as the API shows it, without its secrets and the values of headers and variables.
    pub fn document(&self, project: u64, release: &Release, now: Timestamp) -> Value {
        let mut document = json!({
            "id": self.id, "url": self.url, "name": self.name, "description": self.description,
            "created_at": time(self.created_at), "project_id": project, "repository_update_events": false,
            "enable_ssl_verification": self.verifies_tls, "push_events_branch_filter": self.branch_filter,
            "branch_filter_strategy": self.branch_strategy, "custom_webhook_template": self.template,
            "url_variables": keys(&self.url_variables), "custom_headers": masked(&self.custom_headers),
            "alert_status": self.alert_status(now), "disabled_until": self.disabled_until.map(time),
        });
        for (event, on) in &self.events {
            document[event] = json!(on);
        }
        if release.has_signing_tokens() {
            document["token_present"] = json!(self.token.is_some());
            document["signing_token_present"] = json!(self.signing_key.is_some());
        }
        document
    }

    pub fn alert_status(&self, now: Timestamp) -> &'static str {
        if self.failures >= FATAL {
            "disabled"
        } else if self.failures > BORNE && self.disabled_until.is_some_and(|until| until >= now) {
            "temporarily_disabled"
        } else {
            "executable"
        }
    }

    /// Records the result of a delivery.
    pub fn heard(&mut self, success: bool, now: Timestamp) {
        if success {
            (self.failures, self.disabled_until) = (0, None);
            return;
        }
        self.failures = (self.failures + 1).min(FATAL);
        if self.failures > BORNE {
            let pause = FIRST_PAUSE * 2_i32.pow((self.failures - BORNE - 1).min(16));
            self.disabled_until = Some(now + pause.min(LONGEST_PAUSE));
        }
    }
}

/// Settings that affect a hook.
pub struct Rules<'a> {
    pub allow_local_targets: bool,
    pub release: &'a Release,
}

/// A time in the API's form: always with milliseconds.
fn time(moment: Timestamp) -> String {
    format!("{moment:.3}")
}

pub fn refused(words: &str) -> Response {
    Response::json(422, &json!({"error": words}))
}

fn keys(entries: &BTreeMap<String, String>) -> Vec<Value> {
    entries.keys().map(|key| json!({"key": key})).collect()
}

fn masked(entries: &BTreeMap<String, String>) -> Vec<Value> {
    entries.keys().map(|key| json!({"key": key, "value": "************"})).collect()
}
