//! Groups, projects and branches, as the API shows them.

use serde_json::{Value, json};
use url::Url;

use super::accounts::{Token, user_document};
use super::state::{Group, Project, State};

impl State {
    pub fn ssh_url(&self, project: &Project) -> String {
        let host = Url::parse(&self.web).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        format!("git@{host}:{}.git", project.path)
    }

    pub fn group_document(&self, group: &Group) -> Value {
        let name = group.path.rsplit('/').next();
        let parent = group.path.rsplit_once('/').and_then(|(parent, _)| self.group(parent)).map(|parent| parent.id);
        json!({
            "id": group.id, "web_url": format!("{}/groups/{}", self.web, group.path), "name": name, "path": name,
            "full_name": group.path.replace('/', " / "), "full_path": group.path, "description": "",
            "visibility": if group.private { "private" } else { "public" }, "parent_id": parent, "created_at": "2026-01-02T08:00:00.000Z",
        })
    }

    /// A project without the caller's role, as in lists of a group.
    pub fn project_document(&self, project: &Project) -> Value {
        let (namespace, name) = project.path.rsplit_once('/').unwrap_or_default();
        let group = self.group(namespace);
        let web = format!("{}/{}", self.web, project.path);
        let empty = project.contents.is_empty();
        json!({
            "id": project.id, "description": null, "name": name, "name_with_namespace": project.path.replace('/', " / "), "path": name,
            "path_with_namespace": project.path, "created_at": "2026-01-02T08:00:00.000Z", "default_branch": if empty { None } else { Some("main") },
            "ssh_url_to_repo": self.ssh_url(project), "http_url_to_repo": format!("{web}.git"), "web_url": web, "empty_repo": empty,
            "archived": project.archived, "visibility": project.visibility.word(), "marked_for_deletion_on": null,
            "topics": project.topics, "tag_list": project.topics,
            "namespace": {
                "id": group.map(|group| group.id), "name": namespace.rsplit('/').next(), "path": namespace.rsplit('/').next(),
                "kind": if group.is_some() { "group" } else { "user" }, "full_path": namespace, "web_url": format!("{}/{namespace}", self.web),
            },
        })
    }

    /// A project with the role by the caller's own memberships; invited groups are not counted.
    pub fn project_with_role(&self, project: &Project, token: Option<&Token>) -> Value {
        let mut document = self.project_document(project);
        if let Some(token) = token {
            let access = |level: Option<u64>| level.map(|level| json!({"access_level": level, "notification_level": 3}));
            document["permissions"] = json!({
                "project_access": access(Self::direct_role(project, token.user)),
                "group_access": access(self.group_role(&project.path, token.user)),
            });
        }
        document
    }

    pub fn branch_document(&self, project: &Project, name: &str, commit: &str) -> Value {
        json!({
            "name": name, "default": name == "main", "protected": name == "main", "merged": false, "can_push": true,
            "web_url": format!("{}/{}/-/tree/{name}", self.web, project.path), "commit": {"id": commit, "short_id": &commit[..8]},
        })
    }

    pub fn member_document(&self, user: u64, level: u64) -> Value {
        let user = user_document(self.user(user), &self.web);
        json!({
            "id": user["id"], "username": user["username"], "name": user["name"], "state": user["state"], "web_url": user["web_url"],
            "access_level": level, "membership_state": "active", "created_at": "2026-01-02T08:00:00.000Z",
        })
    }
}
