//! The initial data: people, tokens, groups and projects.

use serde_json::json;

use super::accounts::{DEVELOPER, GUEST, MAINTAINER, OWNER, REPORTER};
use super::state::{State, Visibility};
use crate::sim::contents::UserAction;
use crate::sim::simulated_provider::SeedData;

/// The token of the account that may do everything.
pub const OPERATOR: &str = "glpat-operator-3f9a2c71";
/// A token of a user with the role Reporter.
pub const READER: &str = "glpat-reader-81d0b5e4";
/// A token of a user who can see none of the projects.
pub const OUTSIDER: &str = "glpat-outsider-c42e9a07";
/// Never issued.
pub const UNKNOWN: &str = "glpat-unknown-00000000";
/// A token for git only.
pub const CLONE_ONLY: &str = "glpat-clone-5be7d210";
/// A token of a project with the role Maintainer.
pub const PROJECT: &str = "glpat-project-9c01f3aa";
/// A token of the same project with the role Developer.
pub const PROJECT_DEVELOPER: &str = "glpat-project-dev-77e2";
/// A token of a group with the role Maintainer.
pub const GROUP: &str = "glpat-group-2d6c0b18";
/// An expired token.
pub const EXPIRED: &str = "glpat-expired-e1a4c9d3";
/// A fine-grained token: projects and their hooks, without its own data.
pub const FINE_GRAINED: &str = "glpat-granular-64f8b0c2";
/// A token of a member of a group that was invited to one project.
pub const INVITED: &str = "glpat-invited-a90d4e6f";

const HOOKS_OF_SOMEBODY: usize = 120;
const FILLERS: usize = 103;

pub fn fill(state: &mut State) {
    let ada = state.add_user("ada");
    let [grace, mallory, lin] = ["grace", "mallory", "lin"].map(|name| state.add_user(name));
    state.add_group("acme", true, &[(ada, OWNER), (grace, REPORTER)]);
    let apps = state.add_group("acme/apps", true, &[]);
    state.add_group("globex", true, &[(mallory, OWNER), (ada, MAINTAINER)]);
    state.add_group("partners", true, &[(lin, MAINTAINER)]);
    state.add_project("acme/apps/shop", &["main", "release/1.0", "topic"]).topics = vec!["go".to_owned(), "shop".to_owned()];
    let shop = state.projects[0].id;
    state.add_project("acme/site", &["main"]).invited.push(("partners".to_owned(), MAINTAINER));
    state.add_project("acme/empty", &[]);
    state.add_project("acme/handbook", &["main"]).visibility = Visibility::Public;
    state.add_project("acme/old", &["main"]).archived = true;
    state.add_project("acme/former", &["main"]);
    state.add_project("acme/crowded", &["main"]).hook_limit = 300;
    state.add_project("globex/rocket", &["main"]);
    for number in 0..FILLERS {
        state.add_project(&format!("acme/filler-{number}"), &[]);
    }
    let act = |state: &mut State, act: UserAction| state.act(&act).unwrap();
    act(state, UserAction::RenameRepository { repository: "acme/former".into(), to: "acme/apps/present".into() });
    for number in 0..HOOKS_OF_SOMEBODY {
        act(state, UserAction::AddHook { repository: "acme/crowded".into(), url: format!("https://elsewhere.example/{number}") });
    }
    fill_tokens(state, [ada, grace, mallory, lin], (shop, apps));
}

fn fill_tokens(state: &mut State, [ada, grace, mallory, lin]: [u64; 4], (shop, apps): (u64, u64)) {
    state.add_token(OPERATOR, "operator", ada, &["api", "read_user", "write_repository"]);
    state.add_token(READER, "reader", grace, &["read_api", "read_repository"]);
    state.add_token(OUTSIDER, "outsider", mallory, &["api"]);
    state.add_token(CLONE_ONLY, "clone", ada, &["read_repository"]);
    state.add_token(INVITED, "invited", lin, &["api"]);
    state.add_token(EXPIRED, "expired", ada, &["api"]).expires_at = Some("2026-01-31".parse().unwrap());
    state.add_token(FINE_GRAINED, "granular", ada, &["granular"]).permissions =
        vec!["read_project", "read_group", "read_webhook", "write_webhook"];
    for (value, name, level) in [(PROJECT, "project", MAINTAINER), (PROJECT_DEVELOPER, "project-developer", DEVELOPER)] {
        let bot = state.add_bot("project", shop);
        state.projects[0].members.insert(bot, level);
        state.add_token(value, name, bot, &["api"]);
    }
    let bot = state.add_bot("group", apps);
    state.groups.iter_mut().find(|group| group.id == apps).unwrap().members.insert(bot, MAINTAINER);
    state.add_token(GROUP, "group", bot, &["api"]);
    let guest = state.add_user("guest");
    state.groups[0].members.insert(guest, GUEST);
}

pub fn seed_data(state: &State) -> SeedData {
    let web = &state.web;
    let host = web.trim_start_matches("http://").split(['/', ':']).next().unwrap_or_default().to_owned();
    let authority = web.trim_start_matches("http://");
    let token = |value: &str| vec![("token", value.to_owned())];
    let shop = "acme/apps/shop";
    SeedData {
        account: "ada".into(),
        provider: json!({"gitlab": {"url": web, "group": "acme"}}),
        credential: token(OPERATOR),
        rejected: token(UNKNOWN),
        reader: token(READER),
        repository: shop.into(),
        other: "acme/site".into(),
        empty: "acme/empty".into(),
        public: Some("acme/handbook".into()),
        outside: "globex/rocket".into(),
        outsider: token(OUTSIDER),
        spellings: vec![
            format!("{web}/{shop}.git"),
            format!("http://oauth2@{authority}/{shop}"),
            format!("{web}/{shop}/-/tree/main"),
            format!("git@{host}:{shop}.git"),
            format!("ssh://git@{host}:2222/{shop}.git"),
        ],
        branch: "release/1.0".into(),
        archived: Some("acme/old".into()),
        renamed: ("acme/former".into(), "acme/apps/present".into()),
        crowded: ("acme/crowded".into(), HOOKS_OF_SOMEBODY),
        repositories: FILLERS + 7,
        has_pages: true,
        tells_version: true,
        can_pause: false,
        notes: vec![
            format!("Group acme is number {}.", state.group("acme").map(|group| group.id).unwrap_or_default()),
            format!("Clone only (read_repository): {CLONE_ONLY}"),
            format!("Project access token of {shop}, Maintainer: {PROJECT}; Developer: {PROJECT_DEVELOPER}"),
            format!("Group access token of acme/apps, Maintainer: {GROUP}"),
            format!("Fine-grained, projects and hooks only: {FINE_GRAINED}"),
            format!("Member of a group that was invited to acme/site: {INVITED}"),
            format!("Expired: {EXPIRED}"),
        ],
    }
}
