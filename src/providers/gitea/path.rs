//! Parses repository paths: `owner/name` and its usual clone and web URLs.

use crate::providers::ProviderError;
use crate::providers::model::{Endpoint, PathError, RepositoryPath};
use crate::providers::repository_ref::OwnerRepoSyntax;

/// Scope kind of an organization.
pub(super) const ORGANIZATION: &str = "organization";

const SYNTAX: OwnerRepoSyntax = OwnerRepoSyntax {
    form: "a repository of Gitea or Forgejo is owner/name, or one of its https or ssh clone URLs",
    pages: &[
        "actions", "activity", "branches", "commit", "commits", "compare", "issues", "packages", "projects", "pulls", "raw", "releases",
        "settings", "src", "tags", "wiki",
    ],
    longest: 100,
    host_aliases: &[],
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
        Endpoint { api: web.join("api/v1").unwrap(), web, further_origins: Vec::new(), scope: None }
    }

    #[test]
    fn every_form_that_people_paste_is_read() {
        let endpoint = endpoint("https://gitea.acme.io");
        for text in [
            "acme/shop",
            "acme/shop.git",
            " acme/shop/ ",
            "https://gitea.acme.io/acme/shop",
            "https://gitea.acme.io/acme/shop/",
            "https://gitea.acme.io:443/acme/shop.git",
            "http://gitea.acme.io/acme/shop.git",
            "https://GITEA.acme.io./acme/shop.git",
            "https://ada@gitea.acme.io/acme/shop.git",
            "https://gitea.acme.io/acme/shop/src/branch/main/README.md",
            "https://gitea.acme.io/acme/shop/pulls?state=open#top",
            "git@gitea.acme.io:acme/shop.git",
            "git@gitea.acme.io:/acme/shop.git",
            "gitea.acme.io:acme/shop",
            "ssh://git@gitea.acme.io/acme/shop.git",
            "ssh://git@gitea.acme.io:2222/acme/shop.git",
        ] {
            assert_eq!(parse(&endpoint, text).unwrap().as_str(), "acme/shop", "{text}");
        }
    }

    #[test]
    fn a_path_prefix_is_the_connections() {
        let endpoint = endpoint("https://acme.io/git/");
        for text in
            ["https://acme.io/git/acme/shop", "git@acme.io:acme/shop.git", "ssh://git@acme.io/acme/shop", "git@acme.io:git/acme/shop"]
        {
            assert_eq!(parse(&endpoint, text).unwrap().as_str(), "acme/shop", "{text}");
        }
        assert!(matches!(parse(&endpoint, "https://acme.io/acme/shop"), Err(PathError::Malformed(_))));
        assert_eq!(parse(&endpoint, "https://acme.io/git/git/shop").unwrap().as_str(), "git/shop");
    }

    #[test]
    fn international_hosts_compare_in_punycode() {
        let endpoint = endpoint("https://bücher.example");
        for text in ["https://xn--bcher-kva.example/acme/shop", "git@bücher.example:acme/shop", "ssh://git@BÜCHER.example/acme/shop"] {
            assert!(parse(&endpoint, text).is_ok(), "{text}");
        }
    }

    #[test]
    fn another_host_is_named() {
        let endpoint = endpoint("https://gitea.acme.io");
        let found = |text: &str| match parse(&endpoint, text).unwrap_err() {
            PathError::AnotherHost { found, expected } => (found, expected),
            other => panic!("{text}: {other}"),
        };
        let plain = |found: &str| (found.to_owned(), "gitea.acme.io".to_owned());
        assert_eq!(found("https://github.com/acme/shop"), plain("github.com"));
        assert_eq!(found("git@github.com:acme/shop.git"), plain("github.com"));
        assert_eq!(found("ssh://git@github.com/acme/shop.git"), plain("github.com"));
        assert_eq!(found("https://gitea.acme.io:3000/acme/shop"), ("gitea.acme.io:3000".to_owned(), "gitea.acme.io:443".to_owned()));
    }

    #[test]
    fn a_password_is_refused_and_never_shown() {
        let endpoint = endpoint("https://gitea.acme.io");
        for text in
            ["https://ada:canary@gitea.acme.io/acme/shop", "https://:canary@gitea.acme.io/acme/shop", "ada:canary@gitea.acme.io:acme/shop"]
        {
            let error = parse(&endpoint, text).unwrap_err();
            assert_eq!(error, PathError::Password, "{text}");
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        let endpoint = endpoint("https://gitea.acme.io");
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
            "https://gitea.acme.io/acme",
            "https://gitea.acme.io/acme/shop/nonsense",
            "https://",
            "ftp://gitea.acme.io/acme/shop",
            "file:///acme/shop",
            ":acme/shop",
        ] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::Malformed(_))), "{text:?}: {:?}", parse(&endpoint, text));
        }
    }
}
