//! GitHub's documents, with every member that its description requires.

use serde_json::{Map, Value, json};

use super::accounts::{Caller, Role};
use super::state::{Repository, State};
use super::with;
use crate::sim::contents::ZERO;
use crate::sim::message::Response;

const PAGE: &str = "https://docs.github.com/rest";

pub fn error(status: u16, message: &str) -> Response {
    error_at(status, message, PAGE)
}

/// A refusal with another page of the documentation.
pub fn error_at(status: u16, message: &str, page: &str) -> Response {
    Response::json(status, &json!({"message": message, "documentation_url": page, "status": status.to_string()}))
}

/// A refusal of invalid input.
pub fn invalid(message: &str, errors: Option<Value>) -> Response {
    let mut document = json!({"message": message, "documentation_url": PAGE, "status": "422"});
    if let Some(errors) = errors {
        document["errors"] = errors;
    }
    Response::json(422, &document)
}

/// The context of a repository's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Alone.
    Full,
    /// In a list.
    Minimal,
    /// In the list of everything that an account or an installation can access.
    Reached,
}

/// The members with URLs below a repository's address.
const BELOW_REPOSITORY: [(&str, &str); 37] = [
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    ("notifications_url", "/notifications{?since,all,participating}"),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
    ("url", ""),
];

const BELOW_USER: [(&str, &str); 10] = [
    ("events_url", "/events{/privacy}"),
    ("followers_url", "/followers"),
    ("following_url", "/following{/other_user}"),
    ("gists_url", "/gists{/gist_id}"),
    ("organizations_url", "/orgs"),
    ("received_events_url", "/received_events"),
    ("repos_url", "/repos"),
    ("starred_url", "/starred{/owner}{/repo}"),
    ("subscriptions_url", "/subscriptions"),
    ("url", ""),
];

fn below(address: &str, members: &[(&str, &str)]) -> Value {
    members.iter().map(|(name, rest)| ((*name).to_owned(), json!(format!("{address}{rest}")))).collect::<Map<_, _>>().into()
}

impl State {
    /// The short document of a user or an organization.
    pub fn owner_document(&self, login: &str) -> Value {
        let organization = self.organizations.iter().find(|found| found.login == login);
        let user = self.users.iter().find(|found| found.login == login);
        let id = organization.map(|found| found.id).or_else(|| user.map(|found| found.id)).unwrap_or_default();
        let document = json!({
            "login": login, "id": id, "node_id": format!("U_{id}"), "avatar_url": format!("{}/avatars/{id}", self.web), "gravatar_id": "",
            "html_url": format!("{}/{login}", self.web), "type": if organization.is_some() { "Organization" } else { "User" }, "site_admin": false,
        });
        with(document, below(&format!("{}/users/{login}", self.api_url()), &BELOW_USER))
    }

    /// The account of a token.
    pub fn account_document(&self, login: &str) -> Value {
        with(
            self.owner_document(login),
            json!({
                "name": login, "company": null, "blog": "", "location": null, "email": null, "hireable": null, "bio": null,
                "public_repos": 0, "public_gists": 0, "followers": 0, "following": 0, "created_at": "2025-01-01T00:00:00Z",
                "updated_at": "2026-01-01T00:00:00Z", "private_gists": 0, "total_private_repos": 1, "owned_private_repos": 1, "disk_usage": 1,
                "collaborators": 0, "two_factor_authentication": true,
            }),
        )
    }

    pub fn organization_document(&self, login: &str) -> Value {
        let owner = self.owner_document(login);
        let address = format!("{}/orgs/{login}", self.api_url());
        let mut document = json!({
            "description": null, "has_organization_projects": false, "has_repository_projects": false, "public_repos": 1, "public_gists": 0,
            "followers": 0, "following": 0, "created_at": "2025-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "archived_at": null,
            "url": address, "repos_url": format!("{address}/repos"), "events_url": format!("{address}/events"),
            "hooks_url": format!("{address}/hooks"), "issues_url": format!("{address}/issues"),
            "members_url": format!("{address}/members{{/member}}"), "public_members_url": format!("{address}/public_members{{/member}}"),
        });
        for name in ["login", "id", "node_id", "avatar_url", "html_url", "type"] {
            document[name] = owner[name].clone();
        }
        document
    }

    /// A repository as a caller sees it.
    pub fn repository_document(&self, repository: &Repository, caller: &Caller, form: Form) -> Value {
        let (path, id) = (repository.path(), repository.id);
        let web = format!("{}/{path}", self.web);
        let host = self.web.split("://").nth(1).unwrap_or_default();
        let size = repository.contents.references.len();
        let mut document = json!({
            "id": id, "node_id": format!("R_{id}"), "name": repository.name, "full_name": path, "private": !repository.public,
            "owner": self.owner_document(&repository.owner), "html_url": web, "description": null, "fork": false,
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-06-01T00:00:00Z", "pushed_at": "2026-06-01T00:00:00Z",
            "git_url": format!("git://{host}/{path}.git"), "ssh_url": format!("git@{}:{path}.git", host.split(':').next().unwrap_or_default()),
            "clone_url": format!("{web}.git"), "svn_url": web, "homepage": null, "size": size, "stargazers_count": 0, "watchers_count": 0,
            "language": null, "has_issues": true, "has_projects": false, "has_wiki": false, "has_pages": false, "has_discussions": false,
            "forks_count": 0, "mirror_url": null, "archived": repository.archived, "disabled": false, "open_issues_count": 0, "license": null,
            "allow_forking": false, "is_template": false, "topics": repository.topics, "visibility": if repository.public { "public" } else { "private" },
            "forks": 0, "open_issues": 0, "watchers": 0, "default_branch": "main",
        });
        if let Some(permissions) = self.permissions_document(repository, caller) {
            document["permissions"] = permissions;
        }
        match form {
            Form::Full => document = with(document, json!({"network_count": 0, "subscribers_count": 1})),
            Form::Minimal => {}
            Form::Reached => document["has_downloads"] = json!(false),
        }
        with(document, below(&format!("{}/repos/{path}", self.api_url()), &BELOW_REPOSITORY))
    }

    /// The permissions of an account. For an App they mean nothing: all are false although its token works.
    fn permissions_document(&self, repository: &Repository, caller: &Caller) -> Option<Value> {
        let role = match caller {
            Caller::Nobody | Caller::App => return None,
            Caller::Person(token) => self.role(token.user, repository).or(repository.public.then_some(Role::Read)),
            Caller::Installation(..) => Option::<Role>::None,
        };
        let at_least = |wanted: Role| role.is_some_and(|role| role >= wanted);
        let (admin, push, pull) = (at_least(Role::Admin), at_least(Role::Write), at_least(Role::Read));
        Some(json!({"admin": admin, "maintain": admin, "push": push, "triage": push, "pull": pull}))
    }

    /// A repository in the form of deliveries.
    pub fn delivered_repository(&self, repository: &Repository) -> Value {
        self.repository_document(repository, &Caller::Nobody, Form::Full)
    }

    fn branch_address(&self, repository: &Repository, name: &str) -> String {
        format!("{}/repos/{}/branches/{name}", self.api_url(), repository.path())
    }

    pub fn short_branch(&self, repository: &Repository, name: &str) -> Value {
        let commit = repository.contents.branch(name).unwrap_or(ZERO);
        let url = format!("{}/repos/{}/commits/{commit}", self.api_url(), repository.path());
        json!({"name": name, "commit": {"sha": commit, "url": url}, "protected": false})
    }

    pub fn branch_document(&self, repository: &Repository, name: &str) -> Value {
        let commit = repository.contents.branch(name).unwrap_or(ZERO);
        let (api, path) = (format!("{}/repos/{}", self.api_url(), repository.path()), repository.path());
        let url = format!("{api}/commits/{commit}");
        let person = json!({"name": "Ada", "email": "ada@acme.example", "date": "2026-06-01T00:00:00Z"});
        let tree = json!({"sha": commit, "url": format!("{api}/git/trees/{commit}")});
        let address = self.branch_address(repository, name);
        json!({
            "name": name, "protected": false, "protection": {"enabled": false}, "protection_url": format!("{address}/protection"),
            "_links": {"self": address, "html": format!("{}/{path}/tree/{name}", self.web)},
            "commit": {
                "sha": commit, "node_id": format!("C_{commit}"), "url": url, "html_url": format!("{}/{path}/commit/{commit}", self.web),
                "comments_url": format!("{url}/comments"), "author": null, "committer": null, "parents": [],
                "commit": {
                    "url": url, "author": person, "committer": person, "message": "A change", "tree": tree, "comment_count": 0,
                },
            },
        })
    }
}
