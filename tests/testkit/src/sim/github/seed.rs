//! The initial data: people, organizations, tokens, the App and repositories.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::accounts::{Grant, Installation, Organization, Permissions, SimulatedApp, Token, User};
use super::hooks::Hook;
use super::state::State;
use crate::sim::contents::UserAction;
use crate::sim::simulated_provider::SeedData;

/// A classic token with the scope `repo` of an account that may do everything.
pub const OPERATOR: &str = "ghp_operator3f9a2c71simulated00000000000";
/// A token of a member who may read.
pub const READER: &str = "ghp_reader81d0b5e4simulated0000000000000";
/// A token of a user in another organization.
pub const OUTSIDER: &str = "ghp_outsiderc42e9a07simulated00000000000";
/// Never issued.
pub const UNKNOWN: &str = "ghp_unknown00000000simulated000000000000";
/// A token without scopes.
pub const NO_SCOPES: &str = "ghp_noscopes5be7d210simulated00000000000";
/// A token that may list and write hooks, but not delete them.
pub const WRITE_HOOKS_ONLY: &str = "ghp_writehooks9c01f3aasimulated00000000";
/// A token that may manage hooks, and can see only public repositories.
pub const PUBLIC_ONLY: &str = "ghp_public77e2aa31simulated0000000000000";
/// A fine-grained token with the permissions for hooks.
pub const FINE_GRAINED: &str = "github_pat_11SIMULATED_hooks64f8b0c2";
/// A fine-grained token that may only read.
pub const FINE_GRAINED_READER: &str = "github_pat_11SIMULATED_readera90d4e6f";
/// A token that its owner authorized for single sign-on.
pub const SIGNED_ON: &str = "ghp_signedon2d6c0b18simulated00000000000";

/// The private key of the App, made up for the simulator.
pub const APP_KEY: &str = include_str!("../../../../fixtures/github/app-private-key.pkcs1.pem");
pub const APP_ID: u64 = 4711;
pub const APP_CLIENT_ID: &str = "Iv23liSimulated0000";
pub const APP_SLUG: &str = "acme-forgebind";
/// The repositories of acme on which the App is installed.
pub const CHOSEN: [&str; 4] = ["shop", "site", "empty", "present"];

const HOOKS_OF_SOMEBODY: usize = 220;
/// For each event, as many foreign hooks as GitHub allows.
const CROWDING: [&str; 11] =
    ["check_run", "commit_comment", "deployment", "fork", "label", "member", "milestone", "page_build", "public", "release", "star"];
const FILLERS: usize = 103;

pub fn fill(state: &mut State) {
    for login in ["ada", "grace", "mallory"] {
        let id = state.next_id();
        state.users.push(User { id, login: login.to_owned() });
    }
    for (login, members) in [("acme", vec![("ada", true), ("grace", false)]), ("globex", vec![("mallory", true), ("ada", true)])] {
        let id = state.next_id();
        let members: BTreeMap<_, _> = members.into_iter().map(|(login, owns)| (login.to_owned(), owns)).collect();
        state.organizations.push(Organization { id, login: login.to_owned(), members, single_sign_on: false });
    }
    state.add_repository("acme/shop", &["main", "release/1.0", "topic"]).topics = vec!["go".to_owned(), "shop".to_owned()];
    state.add_repository("acme/site", &["main"]);
    state.add_repository("acme/empty", &[]);
    state.add_repository("acme/handbook", &["main"]).public = true;
    state.add_repository("acme/old", &["main"]).archived = true;
    state.add_repository("acme/former", &["main"]);
    state.add_repository("acme/crowded", &["main"]);
    state.add_repository("globex/rocket", &["main"]);
    state.add_repository("ada/notes", &["main"]);
    state.add_repository("ada/blog", &["main"]).public = true;
    for number in 0..FILLERS {
        state.add_repository(&format!("acme/filler-{number}"), &[]);
    }
    state.act(&UserAction::RenameRepository { repository: "acme/former".into(), to: "acme/present".into() }).unwrap();
    for number in 0..HOOKS_OF_SOMEBODY {
        let (id, now, event) = (state.next_id(), state.now(), CROWDING[number % CROWDING.len()]);
        let hook = Hook::of_somebody(id, &format!("https://elsewhere.example/{number}"), event, now);
        state.repository_at("acme/crowded").unwrap().hooks.push(hook);
    }
    state.tokens = tokens();
    fill_app(state);
}

fn tokens() -> Vec<Token> {
    let classic = |value, user, scopes: &[&'static str]| {
        let grant = Grant::Classic(scopes.iter().copied().collect());
        Token { value, user, grant, expires_at: None, authorized_for: BTreeSet::new() }
    };
    let fine_grained = |value, permissions: &[(&'static str, &'static str)]| {
        let grant = Grant::FineGrained { owner: "acme", permissions: permissions.iter().copied().collect() };
        Token { value, user: "ada", grant, expires_at: Some("2099-04-26 20:23:26 +0200"), authorized_for: BTreeSet::new() }
    };
    vec![
        Token {
            expires_at: Some("2099-02-25 04:28:56 UTC"),
            ..classic(OPERATOR, "ada", &["admin:repo_hook", "delete_repo", "read:org", "read:user", "repo"])
        },
        classic(READER, "grace", &["repo"]),
        classic(OUTSIDER, "mallory", &["admin:repo_hook", "repo"]),
        classic(NO_SCOPES, "ada", &[]),
        classic(WRITE_HOOKS_ONLY, "ada", &["write:repo_hook"]),
        classic(PUBLIC_ONLY, "ada", &["public_repo"]),
        Token { authorized_for: ["acme".to_owned()].into(), ..classic(SIGNED_ON, "ada", &["repo"]) },
        fine_grained(FINE_GRAINED, &[("contents", "read"), ("metadata", "read"), ("repository_hooks", "write")]),
        fine_grained(FINE_GRAINED_READER, &[("contents", "read"), ("metadata", "read")]),
    ]
}

fn fill_app(state: &mut State) {
    let permissions: Permissions = [
        ("checks", "write"),
        ("contents", "write"),
        ("issues", "read"),
        ("metadata", "read"),
        ("pull_requests", "write"),
        ("repository_hooks", "write"),
    ]
    .into();
    let events =
        vec!["create", "issue_comment", "pull_request", "pull_request_review", "pull_request_review_comment", "push", "repository"];
    state.app = SimulatedApp { id: APP_ID, client_id: APP_CLIENT_ID.to_owned(), permissions: permissions.clone(), events, webhook: None };
    for (account, selection) in [("acme", Some(CHOSEN.to_vec())), ("ada", None)] {
        let id = 25_000 + state.next_id();
        let installation =
            Installation { id, account: account.to_owned(), selection, permissions: permissions.clone(), suspended_at: None };
        state.installations.push(installation);
    }
}

/// The Secret of the App.
pub fn app_credential() -> Vec<(&'static str, String)> {
    vec![("githubAppID", APP_ID.to_string()), ("githubAppPrivateKey", APP_KEY.to_owned())]
}

pub fn seed_data(state: &State) -> SeedData {
    let web = &state.web;
    let authority = web.split("://").nth(1).unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    let token = |value: &str| vec![("token", value.to_owned())];
    let mut provider = json!({"github": {"url": web, "organization": "acme"}});
    if state.release == super::Release::Cloud {
        provider["github"]["apiURL"] = json!(web);
    }
    SeedData {
        account: "ada".into(),
        provider,
        credential: token(OPERATOR),
        rejected: token(UNKNOWN),
        reader: token(FINE_GRAINED_READER),
        repository: "acme/shop".into(),
        other: "acme/site".into(),
        empty: "acme/empty".into(),
        public: Some("acme/handbook".into()),
        outside: "globex/rocket".into(),
        outsider: token(OUTSIDER),
        spellings: vec![
            format!("{web}/acme/shop.git"),
            format!("http://x-access-token@{authority}/acme/shop"),
            format!("{web}/acme/shop/tree/main"),
            format!("git@{host}:acme/shop.git"),
            format!("ssh://git@{host}:2222/acme/shop.git"),
        ],
        branch: "release/1.0".into(),
        archived: Some("acme/old".into()),
        renamed: ("acme/former".into(), "acme/present".into()),
        crowded: ("acme/crowded".into(), HOOKS_OF_SOMEBODY),
        repositories: FILLERS + 7,
        has_pages: true,
        tells_version: state.release != super::Release::Cloud,
        can_pause: true,
        notes: vec![
            format!("API: {}", state.api_url()),
            format!("Without a scope: {NO_SCOPES}"),
            format!("Lists and writes hooks of public repositories, and does not delete them: {WRITE_HOOKS_ONLY}"),
            format!("Public repositories only: {PUBLIC_ONLY}"),
            format!("Fine-grained, with webhooks: {FINE_GRAINED}; for reading: {FINE_GRAINED_READER}"),
            format!("App {APP_SLUG}: id {APP_ID}, client id {APP_CLIENT_ID}, key tests/fixtures/github/app-private-key.pkcs1.pem"),
            format!("The App is installed at ada, and at acme on {}", CHOSEN.join(", ")),
        ],
    }
}
