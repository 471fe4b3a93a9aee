//! Parses repository paths: `workspace/repository` and its usual clone and web URLs.

use crate::providers::model::{Endpoint, PathError, RepositoryPath};
use crate::providers::repository_ref::{self, OwnerRepoSyntax};

/// The host of the web address.
pub(super) const WEB_HOST: &str = "bitbucket.org";
/// Maximum length of a name in characters.
const MAX_LENGTH: usize = 128;

const SYNTAX: OwnerRepoSyntax = OwnerRepoSyntax {
    form: "a repository of Bitbucket Cloud is workspace/repository, or one of its https or ssh clone URLs",
    pages: &[
        "admin",
        "annotate",
        "branch",
        "branches",
        "commits",
        "compare",
        "deployments",
        "diff",
        "downloads",
        "forks",
        "history-node",
        "overview",
        "pipelines",
        "pull-requests",
        "raw",
        "src",
        "tag",
    ],
    longest: MAX_LENGTH,
    host_aliases: &[
        // Accepts ssh on port 443, for networks that block port 22.
        (WEB_HOST, "altssh.bitbucket.org"),
    ],
};

pub(super) fn parse(endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
    SYNTAX.read(endpoint, text)
}

/// Whether a text can be the ID of a workspace or the slug of a repository.
pub(super) fn is_name(text: &str) -> bool {
    repository_ref::is_name(text, MAX_LENGTH)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn endpoint(web: &str) -> Endpoint {
        let web = Url::parse(web).unwrap();
        Endpoint { api: web.join("2.0").unwrap(), web, further_origins: Vec::new(), scope: None }
    }

    #[test]
    fn every_form_that_people_paste_is_read() {
        let endpoint = endpoint("https://bitbucket.org");
        for text in [
            "acme/shop",
            "acme/shop.git",
            " acme/shop/ ",
            "https://bitbucket.org/acme/shop",
            "https://bitbucket.org/acme/shop.git",
            "https://ada@bitbucket.org/acme/shop.git",
            "https://x-token-auth@bitbucket.org/acme/shop.git",
            "https://bitbucket.org/acme/shop/src/main/README.md",
            "https://bitbucket.org/acme/shop/pull-requests/7?w=1#top",
            "https://bitbucket.org/acme/shop/branch/release/1.0",
            "git@bitbucket.org:acme/shop.git",
            "git@bitbucket.org:acme/shop",
            "ssh://git@bitbucket.org/acme/shop.git",
            "ssh://git@bitbucket.org:22/acme/shop.git",
            "ssh://git@altssh.bitbucket.org:443/acme/shop.git",
        ] {
            assert_eq!(parse(&endpoint, text).unwrap().as_str(), "acme/shop", "{text}");
        }
        assert_eq!(parse(&endpoint, "acme_2/shop.api-1").unwrap().as_str(), "acme_2/shop.api-1");
    }

    #[test]
    fn another_host_is_named() {
        let cloud = endpoint("https://bitbucket.org");
        for text in ["https://github.com/acme/shop", "git@github.com:acme/shop.git", "https://api.bitbucket.org/acme/shop"] {
            assert!(matches!(parse(&cloud, text), Err(PathError::AnotherHost { .. })), "{text}");
        }
        let proxy = endpoint("https://proxy.acme.io/bitbucket");
        assert!(matches!(parse(&proxy, "ssh://git@altssh.bitbucket.org:443/acme/shop"), Err(PathError::AnotherHost { .. })));
        assert_eq!(parse(&proxy, "https://proxy.acme.io/bitbucket/acme/shop.git").unwrap().as_str(), "acme/shop");
    }

    #[test]
    fn a_password_is_refused_and_never_shown() {
        let endpoint = endpoint("https://bitbucket.org");
        for text in ["https://x-token-auth:canary@bitbucket.org/acme/shop.git", "ada:canary@bitbucket.org:acme/shop"] {
            let error = parse(&endpoint, text).unwrap_err();
            assert_eq!(error, PathError::Password, "{text}");
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        let endpoint = endpoint("https://bitbucket.org");
        for text in [
            "",
            "/",
            "acme",
            "acme/",
            "acme/shop/more",
            "acme/..",
            "acme/sh op",
            "acme/%2e%2e",
            "acme/.git",
            "acme/{3f0f8e6c-0000-4000-8000-000000000001}",
            "https://bitbucket.org/acme",
            "https://bitbucket.org/acme/workspace/projects/APP",
            "https://bitbucket.org/acme/shop/nonsense",
            "ftp://bitbucket.org/acme/shop",
            ":acme/shop",
        ] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::Malformed(_))), "{text:?}: {:?}", parse(&endpoint, text));
        }
    }
}
