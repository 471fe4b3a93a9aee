//! Parses repository paths: `owner/name` and its usual clone and web URLs.

use crate::providers::ProviderError;
use crate::providers::model::{Endpoint, PathError, RepositoryPath};
use crate::providers::repository_ref::OwnerRepoSyntax;

/// Scope kind of an organization.
pub(super) const ORGANIZATION: &str = "organization";

const SYNTAX: OwnerRepoSyntax = OwnerRepoSyntax {
    form: "a repository of GitHub is owner/name, or one of its https or ssh clone URLs",
    pages: &[
        "actions",
        "activity",
        "blame",
        "blob",
        "branches",
        "commit",
        "commits",
        "compare",
        "deployments",
        "discussions",
        "forks",
        "graphs",
        "issues",
        "network",
        "packages",
        "projects",
        "pull",
        "pulls",
        "releases",
        "security",
        "settings",
        "tags",
        "tree",
        "wiki",
    ],
    longest: 100,
    host_aliases: &[
        ("github.com", "www.github.com"),
        ("www.github.com", "github.com"),
        // Accepts ssh for networks that block port 22.
        ("github.com", "ssh.github.com"),
        ("www.github.com", "ssh.github.com"),
    ],
};

pub(super) fn parse(endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
    SYNTAX.read(endpoint, text)
}

/// Parses the owner's name in a field of the spec.
pub(super) fn owner(field: &str, text: &str) -> Result<String, ProviderError> {
    SYNTAX.owner(field, text)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn endpoint(web: &str) -> Endpoint {
        let web = Url::parse(web).unwrap();
        Endpoint { api: web.clone(), web, further_origins: Vec::new(), scope: None }
    }

    #[test]
    fn every_form_that_people_paste_is_read() {
        let endpoint = endpoint("https://github.com");
        for text in [
            "acme/shop",
            "acme/shop.git",
            " acme/shop/ ",
            "https://github.com/acme/shop",
            "https://github.com/acme/shop/",
            "https://www.github.com/acme/shop",
            "http://github.com/acme/shop.git",
            "https://GitHub.com./acme/shop.git",
            "https://x-access-token@github.com/acme/shop.git",
            "https://github.com/acme/shop/tree/main/src",
            "https://github.com/acme/shop/pull/7/files#diff",
            "https://github.com/acme/shop/settings/hooks",
            "git@github.com:acme/shop.git",
            "org-4711@github.com:acme/shop.git",
            "github.com:acme/shop",
            "ssh://git@github.com/acme/shop.git",
            "ssh://git@ssh.github.com:443/acme/shop.git",
            "git+ssh://git@github.com/acme/shop",
        ] {
            assert_eq!(parse(&endpoint, text).unwrap().as_str(), "acme/shop", "{text}");
        }
        assert_eq!(parse(&endpoint, "acme-io_emu/.github").unwrap().as_str(), "acme-io_emu/.github");
    }

    #[test]
    fn servers_and_data_residency_have_hosts_of_their_own() {
        for (web, text) in [
            ("https://git.acme.io:8443", "https://git.acme.io:8443/acme/shop.git"),
            ("https://git.acme.io:8443", "git@git.acme.io:acme/shop.git"),
            ("https://acme.io/hub", "https://acme.io/hub/acme/shop"),
            ("https://acme.io/hub", "git@acme.io:acme/shop"),
            ("https://acme.ghe.com", "git@acme.ghe.com:acme/shop.git"),
        ] {
            assert_eq!(parse(&endpoint(web), text).unwrap().as_str(), "acme/shop", "{text}");
        }
    }

    #[test]
    fn another_host_is_named() {
        for (web, text) in [
            ("https://github.com", "https://gitlab.com/acme/shop"),
            ("https://github.com", "git@git.acme.io:acme/shop.git"),
            ("https://git.acme.io", "https://github.com/acme/shop"),
            ("https://git.acme.io", "https://www.github.com/acme/shop"),
            ("https://git.acme.io", "ssh://git@ssh.github.com/acme/shop"),
            ("https://git.acme.io", "https://git.acme.io:8443/acme/shop"),
        ] {
            assert!(matches!(parse(&endpoint(web), text), Err(PathError::AnotherHost { .. })), "{text} at {web}");
        }
    }

    #[test]
    fn a_password_is_refused_and_never_shown() {
        for text in ["https://ada:canary@github.com/acme/shop", "ada:canary@github.com:acme/shop"] {
            let error = parse(&endpoint("https://github.com"), text).unwrap_err();
            assert_eq!(error, PathError::Password, "{text}");
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        let endpoint = endpoint("https://github.com");
        for text in [
            "",
            "/",
            "acme",
            "acme/",
            "/acme/shop/x",
            "acme/shop/more",
            "acme/..",
            "acme/sh op",
            "acme/shöp",
            "acme/%2e%2e",
            "acme/.git",
            "https://github.com/acme",
            "https://github.com/acme/shop/nonsense",
            "https://github.com/orgs/acme/repositories",
            "git://github.com/acme/shop",
            "file:///acme/shop",
        ] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::Malformed(_))), "{text:?}: {:?}", parse(&endpoint, text));
        }
    }
}
