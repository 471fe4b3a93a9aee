//! Repositories, branches, and git.

use serde_json::Value;

use super::accounts::Caller;
use super::documents::{Form, error};
use super::state::{Repository, State};
use crate::sim::git;
use crate::sim::message::{Request, Response};

type Answer = Result<Response, Response>;

/// Whether a repository is of the type that a list request names.
fn is_of_kind(repository: &Repository, kind: Option<&str>) -> bool {
    match kind {
        Some("public") => repository.public,
        Some("private") => !repository.public,
        _ => true,
    }
}

impl State {
    fn seen(&self, caller: &Caller, form: Form, fits: impl Fn(&Repository) -> bool) -> Vec<Value> {
        let shown = |found: &&Repository| fits(found) && self.shows(caller, found).unwrap_or_default();
        self.repositories.iter().filter(shown).map(|found| self.repository_document(found, caller, form)).collect()
    }

    /// The repositories of an organization.
    pub fn organization_repositories(&self, request: &Request, caller: &Caller, login: &str) -> Answer {
        let found = self.organizations.iter().find(|found| found.login.eq_ignore_ascii_case(login) || found.id.to_string() == login);
        let organization = found.ok_or_else(|| error(404, "Not Found"))?;
        if let Caller::Person(token) = caller {
            self.signed_on(token, &organization.login)?;
        }
        let entries =
            self.seen(caller, Form::Minimal, |found| found.owner == organization.login && is_of_kind(found, request.parameter("type")));
        Ok(self.page(request, &entries, &format!("{}/organizations/{}/repos", self.release.prefix(), organization.id)))
    }

    /// The public repositories of a user.
    pub fn user_repositories(&self, request: &Request, caller: &Caller, login: &str) -> Answer {
        let found = self.users.iter().find(|found| found.login.eq_ignore_ascii_case(login) || found.id.to_string() == login);
        let user = found.ok_or_else(|| error(404, "Not Found"))?;
        let entries = self.seen(caller, Form::Minimal, |found| found.owner == user.login && found.public);
        Ok(self.page(request, &entries, &format!("{}/user/{}/repos", self.release.prefix(), user.id)))
    }

    /// The repositories that the account can access.
    pub fn own_repositories(&self, request: &Request, caller: &Caller) -> Answer {
        let Caller::Person(token) = caller else { return Err(error(401, "Requires authentication")) };
        let wanted = request.parameter("affiliation").unwrap_or("owner,collaborator,organization_member");
        let affiliated = |found: &Repository| {
            let owner = found.owner == token.user;
            let collaborator = found.collaborators.contains_key(token.user);
            let member = self
                .organizations
                .iter()
                .any(|organization| organization.login == found.owner && organization.members.contains_key(token.user));
            (owner && wanted.contains("owner"))
                || (collaborator && wanted.contains("collaborator"))
                || (member && wanted.contains("organization_member"))
        };
        let entries = self.seen(caller, Form::Reached, |found| affiliated(found) && is_of_kind(found, request.parameter("visibility")));
        Ok(self.page(request, &entries, &request.path))
    }

    /// Resources below a repository, which is given by its position.
    pub fn below_repository(&mut self, request: &Request, caller: &Caller, position: usize, rest: &[&str]) -> Answer {
        let repository = &self.repositories[position];
        match (request.method.as_str(), rest) {
            ("GET", []) => Ok(Response::json(200, &self.repository_document(repository, caller, Form::Full))),
            ("GET", ["branches"]) => {
                Self::may_read_contents(caller, repository)?;
                let entries: Vec<_> = repository.contents.branches().into_iter().map(|name| self.short_branch(repository, name)).collect();
                Ok(self.page(request, &entries, &format!("{}/repositories/{}/branches", self.release.prefix(), repository.id)))
            }
            ("GET", ["branches", name @ ..]) => {
                Self::may_read_contents(caller, repository)?;
                let name = name.join("/");
                if repository.contents.branch(&name).is_none() {
                    return Err(error(404, "Branch not found"));
                }
                Ok(Response::json(200, &self.branch_document(repository, &name)))
            }
            (_, ["hooks", rest @ ..]) => self.hooks(request, caller, position, rest),
            _ => Err(error(404, "Not Found")),
        }
    }

    /// Git's own endpoint. Its refusals are plain text.
    pub fn git(&self, segments: &[String], request: &Request) -> Response {
        let plain = |status: u16, text: &str| Response::text(status, "text/plain; charset=utf-8", text);
        let path = segments.join("/");
        let path = path.strip_suffix(".git").unwrap_or(&path);
        let Ok(caller) = self.caller(request) else {
            let words = "Invalid username or token. Password authentication is not supported for Git operations.\n";
            return plain(401, words).with("www-authenticate", r#"Basic realm="GitHub""#);
        };
        let found = self.repository_position(path).map(|position| &self.repositories[position]);
        let shown = found.filter(|found| self.shows(&caller, found).unwrap_or_default());
        let Some(found) = shown else {
            return match caller {
                Caller::Nobody => plain(401, "Repository not found.\n").with("www-authenticate", r#"Basic realm="GitHub""#),
                _ => plain(404, "Repository not found.\n"),
            };
        };
        if Self::may_read_contents(&caller, found).is_err() {
            return plain(403, "Permission to this repository denied.\n");
        }
        if !found.path().eq_ignore_ascii_case(path) {
            let location = format!("{}/{}.git/info/refs?service=git-upload-pack", self.web, found.path());
            return Response::empty(301).with("location", &location);
        }
        git::advertisement(&found.contents)
    }

    /// The scopes in the header that tells which scopes a path needs.
    pub fn accepted_scopes(path: &[&str]) -> &'static str {
        match path {
            ["repos" | "repositories", .., "hooks"] | ["repos" | "repositories", .., "hooks", _] => {
                "admin:repo_hook, public_repo, read:repo_hook, repo, write:repo_hook"
            }
            ["repos" | "repositories", ..] => "repo",
            _ => "",
        }
    }
}
