//! The data of the organization: people, tokens, projects, repositories, subscriptions and their notifications.

use ring::digest;
use serde_json::{Map, Value, json};

use crate::sim::{Contents, ProviderClock};

/// The organization; on a Server, the collection.
pub const ORGANIZATION: &str = "acme";
/// The project of the connections.
pub const PROJECT: &str = "My Shop";
/// Another project, which everybody can see.
pub const OTHER_PROJECT: &str = "Tools";
/// Additional repositories of the project.
const FURTHER: usize = 130;
/// Foreign subscriptions for one repository.
pub const CROWD: usize = 60;

/// May do everything in both projects.
pub const ADMINISTRATOR: &str = "ada@acme.example";
/// May read both projects and change no subscriptions.
pub const READER: &str = "rob@acme.example";
/// May read both projects, and view and edit their subscriptions, but not delete any.
pub const EDITOR: &str = "max@acme.example";
/// Can see only the other project.
pub const STRANGER: &str = "eve@acme.example";

/// May view subscriptions.
pub const VIEW: u8 = 1;
/// May create and change subscriptions.
pub const EDIT: u8 = 2;
/// May delete subscriptions: a separate permission.
pub const DELETE: u8 = 4;

/// May read code.
pub const CODE: &str = "vso.code";
/// May read projects and teams.
pub const PROJECTS: &str = "vso.project";
/// May read the profile.
pub const PROFILE: &str = "vso.profile";
/// May read work items.
pub const WORK: &str = "vso.work";

/// An id derived from a name.
pub fn guid(name: &str) -> String {
    let text = hex::encode(digest::digest(&digest::SHA256, name.as_bytes()));
    format!("{}-{}-4{}-8{}-{}", &text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..32])
}

/// A token or password.
#[derive(Clone, Debug)]
pub struct Token {
    pub secret: &'static str,
    /// The owner.
    pub user: &'static str,
    /// Its scopes; none for a login that only git accepts.
    pub scopes: &'static [&'static str],
    /// Whether it is valid for every organization of its owner.
    pub everywhere: bool,
    pub expired: bool,
    /// If only git accepts it: the user name that was generated with it.
    pub git_only: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Project {
    pub id: String,
    pub name: String,
    /// Who can see it.
    pub members: Vec<&'static str>,
    /// Everybody's permissions for its subscriptions: bits of the security namespace of service hooks.
    pub subscriptions: Vec<(&'static str, u8)>,
}

#[derive(Clone, Debug)]
pub struct Repository {
    pub id: String,
    pub name: String,
    pub project: String,
    pub disabled: bool,
    pub contents: Contents,
}

#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: String,
    /// The document as sent: publisher, event, consumer, inputs; the password included.
    pub document: Map<String, Value>,
    pub status: &'static str,
    pub creator: String,
    pub created: String,
    pub modified: String,
    /// The notification that put it on probation.
    pub on_probation_for: Option<u64>,
    pub probation_retries: u32,
}

/// A notification of a subscription, and its result.
#[derive(Clone, Debug)]
pub struct Notification {
    pub id: u64,
    pub subscription: String,
    pub event: Value,
    pub status: &'static str,
    pub result: &'static str,
    pub attempts: u32,
    pub response: String,
    pub created: String,
}

/// The state of the simulator.
pub struct State {
    pub tokens: Vec<Token>,
    pub projects: Vec<Project>,
    pub repositories: Vec<Repository>,
    /// In order of creation.
    pub subscriptions: Vec<Subscription>,
    pub notifications: Vec<Notification>,
    /// The source of new numbers and ids.
    pub counter: u64,
    /// Whether deliveries may go to local addresses.
    pub allow_local_targets: bool,
    /// The newest accepted version of the REST API.
    pub newest: &'static str,
    /// Whether it is an organization of Services; otherwise a collection of a Server.
    pub is_hosted: bool,
    pub clock: ProviderClock,
}

impl Subscription {
    /// A text field of the document.
    pub fn text(&self, name: &str) -> &str {
        self.document.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// An input of the publisher; empty if not set.
    pub fn publisher(&self, name: &str) -> &str {
        self.input("publisherInputs", name)
    }

    /// An input of the consumer; empty if not set.
    pub fn consumer(&self, name: &str) -> &str {
        self.input("consumerInputs", name)
    }

    fn input(&self, group: &str, name: &str) -> &str {
        self.document.get(group).and_then(|inputs| inputs[name].as_str()).unwrap_or_default()
    }

    /// Sets an input.
    pub fn set(&mut self, group: &str, name: &str, value: &str) {
        self.document.entry(group).or_insert_with(|| json!({}))[name] = json!(value);
    }
}

impl Project {
    pub fn is_seen_by(&self, user: &str) -> bool {
        self.members.contains(&user)
    }

    /// Whether a user has all of these permissions for the subscriptions.
    pub fn lets(&self, user: &str, bits: u8) -> bool {
        self.subscriptions.iter().any(|(name, granted)| *name == user && granted & bits == bits)
    }
}

impl State {
    /// The initial state.
    pub fn new(newest: &'static str, allow_local_targets: bool, clock: ProviderClock) -> Self {
        let project = |name: &str, members: &[&'static str]| Project {
            id: guid(&format!("project {name}")),
            name: name.to_owned(),
            members: members.to_vec(),
            subscriptions: vec![(ADMINISTRATOR, VIEW | EDIT | DELETE), (EDITOR, VIEW | EDIT)],
        };
        let mut state = Self {
            tokens: tokens(),
            projects: vec![
                project(PROJECT, &[ADMINISTRATOR, READER, EDITOR]),
                project(OTHER_PROJECT, &[ADMINISTRATOR, READER, EDITOR, STRANGER]),
            ],
            repositories: Vec::new(),
            subscriptions: Vec::new(),
            notifications: Vec::new(),
            counter: 0,
            allow_local_targets,
            newest,
            is_hosted: true,
            clock,
        };
        state.add(PROJECT, "web", &["main", "main-old", "release/1.0", "topic"]);
        state.add(PROJECT, "web.git", &["main"]);
        state.add(PROJECT, "worker", &["main", "topic"]);
        state.add(PROJECT, "empty", &[]);
        state.add(PROJECT, "attic", &["main"]);
        state.add(PROJECT, "busy", &["main"]);
        state.add(PROJECT, "new name", &["main"]);
        state.add(OTHER_PROJECT, "scripts", &["main"]);
        for number in 0..FURTHER {
            state.add(PROJECT, &format!("part-{number:03}"), &["main"]);
        }
        for repository in state.repositories.iter_mut().filter(|repository| repository.name == "attic") {
            repository.disabled = true;
        }
        let (project, busy) = (guid(&format!("project {PROJECT}")), guid(&format!("repository {PROJECT}/busy")));
        for number in 0..CROWD {
            state.add_foreign_to(&project, &busy, &format!("https://hooks.example/{number}"));
        }
        state
    }

    pub fn add(&mut self, project: &str, name: &str, branches: &[&str]) {
        let seed = format!("{project}/{name}");
        let contents = if branches.is_empty() { Contents::empty(&seed) } else { Contents::with_branches(&seed, branches) };
        let id = guid(&format!("repository {seed}"));
        let project = guid(&format!("project {project}"));
        self.repositories.push(Repository { id, name: name.to_owned(), project, disabled: false, contents });
    }

    /// The present time, in the form of the documents.
    pub fn now(&self) -> String {
        super::documents::time(self.clock.now())
    }

    /// A number that was not used before.
    pub fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The number of repositories of the project.
    pub fn length(&self) -> usize {
        let project = guid(&format!("project {PROJECT}"));
        self.repositories.iter().filter(|repository| repository.project == project).count()
    }

    /// A project by its name, without regard to case, or by its id.
    pub fn project(&self, text: &str) -> Option<&Project> {
        self.projects.iter().find(|project| project.id == text || project.name.eq_ignore_ascii_case(text))
    }

    /// A repository by the names of its project and its own.
    pub fn by_name(&mut self, project: &str, name: &str) -> Option<&mut Repository> {
        let project = self.project(project)?.id.clone();
        self.repositories.iter_mut().find(|found| found.project == project && found.name.eq_ignore_ascii_case(name))
    }

    /// A repository by its path.
    pub fn by_path(&mut self, path: &str) -> Option<&mut Repository> {
        let (project, name) = path.split_once('/')?;
        self.by_name(project, name)
    }

    /// Adds a foreign subscription for pushes of one repository.
    pub fn add_foreign_to(&mut self, project: &str, repository: &str, url: &str) {
        let document = json!({
            "publisherId": "tfs", "eventType": "git.push", "resourceVersion": "1.0",
            "consumerId": "webHooks", "consumerActionId": "httpRequest",
            "publisherInputs": {"projectId": project, "repository": repository, "branch": "", "pushedBy": ""},
            "consumerInputs": {"url": url},
        });
        self.subscribe(document.as_object().cloned().unwrap_or_default(), ADMINISTRATOR);
    }

    /// Changes a subscription by hand.
    pub fn change(&mut self, id: &str, edit: impl FnOnce(&mut Subscription)) -> Result<(), String> {
        let found = self.subscriptions.iter_mut().find(|found| found.id == id);
        found.map(edit).ok_or_else(|| format!("there is no subscription {id}"))
    }

    /// Stores a subscription.
    pub fn subscribe(&mut self, document: Map<String, Value>, creator: &str) -> Subscription {
        let id = guid(&format!("subscription {}", self.next_number()));
        let now = self.now();
        let subscription = Subscription {
            id,
            document,
            status: "enabled",
            creator: creator.to_owned(),
            created: now.clone(),
            modified: now,
            on_probation_for: None,
            probation_retries: 0,
        };
        self.subscriptions.push(subscription.clone());
        subscription
    }

    /// Revokes a token.
    pub fn revoke(&mut self, secret: &str) {
        self.tokens.retain(|token| token.secret != secret);
    }
}

/// The token with every permission.
pub const TOKEN: &str = "simulated-token-of-ada-for-acme-aaaaaaaaaaaaaaaaaaaa";
pub const READERS_TOKEN: &str = "simulated-token-of-rob-for-acme-bbbbbbbbbbbbbbbbbbbb";
pub const EDITORS_TOKEN: &str = "simulated-token-of-max-for-acme-iiiiiiiiiiiiiiiiiiii";
pub const STRANGERS_TOKEN: &str = "simulated-token-of-eve-for-acme-cccccccccccccccccccc";
pub const TOKEN_FOR_ALL: &str = "simulated-token-of-ada-for-all-dddddddddddddddddddddd";
pub const TOKEN_WITHOUT_CODE: &str = "simulated-token-of-ada-for-work-eeeeeeeeeeeeeeeeeeeee";
pub const CODE_TOKEN: &str = "simulated-token-of-ada-for-code-fffffffffffffffffffff";
pub const EXPIRED_TOKEN: &str = "simulated-token-of-ada-that-ended-ggggggggggggggggggg";
pub const GIT_USER: &str = "ada-for-git";
pub const GIT_PASSWORD: &str = "simulated-password-for-git-hhhhhhhhhhhhhhhhhhhhhhhhhh";

fn tokens() -> Vec<Token> {
    let token = |secret, user, scopes| Token { secret, user, scopes, everywhere: false, expired: false, git_only: None };
    vec![
        token(TOKEN, ADMINISTRATOR, &[CODE, PROJECTS]),
        token(READERS_TOKEN, READER, &[CODE, PROJECTS]),
        token(EDITORS_TOKEN, EDITOR, &[CODE, PROJECTS]),
        token(STRANGERS_TOKEN, STRANGER, &[CODE, PROJECTS]),
        token(TOKEN_WITHOUT_CODE, ADMINISTRATOR, &[WORK]),
        token(CODE_TOKEN, ADMINISTRATOR, &[CODE]),
        Token { everywhere: true, ..token(TOKEN_FOR_ALL, ADMINISTRATOR, &[CODE, PROJECTS, PROFILE]) },
        Token { expired: true, ..token(EXPIRED_TOKEN, ADMINISTRATOR, &[CODE]) },
        Token { git_only: Some(GIT_USER), ..token(GIT_PASSWORD, ADMINISTRATOR, &[CODE]) },
    ]
}
