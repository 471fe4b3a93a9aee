//! Parses repository paths: two or more segments, and their usual clone and web URLs.

use crate::providers::model::{Endpoint, PathError, RepositoryPath};
use crate::providers::repository_ref::{RepositoryRef, after_prefix, decoded, same_host, same_origin, segments, without_git};

const FORM: &str = "a repository of GitLab is group/name with any number of subgroups, or one of its https or ssh clone URLs";
/// Accepted forms of a group in the spec.
pub(super) const GROUP_FORM: &str = "the number of a group or its full path, such as platform/apps";

/// Host where gitlab.com accepts ssh on port 443.
const CLOUD: &str = "gitlab.com";
const CLOUD_SSH: &str = "altssh.gitlab.com";
/// Separates the path of a project from its pages.
const PAGE_MARK: &str = "-";
/// Maximum length of a path in characters, from GitLab's table of namespaces.
const LONGEST_NAME: usize = 255;

pub(super) fn parse(endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
    match RepositoryRef::read(text, FORM)? {
        // A plain path, or the path as it is encoded in API URLs, with `%2F`.
        RepositoryRef::Path(path) => from_segments(&decoded(&path).ok_or_else(malformed)?.split('/').collect::<Vec<_>>()),
        RepositoryRef::Web(url) => {
            same_origin(endpoint, &url)?;
            let path = after_prefix(endpoint, url.path()).ok_or_else(malformed)?;
            let project = path.split(|segment| *segment == PAGE_MARK).next().unwrap_or_default();
            from_segments(project)
        }
        // An ssh path never includes the path prefix of the web address.
        RepositoryRef::Ssh { host, path } => {
            let is_cloud = endpoint.web.host_str() == Some(CLOUD) && host.eq_ignore_ascii_case(CLOUD_SSH);
            same_host(endpoint, if is_cloud { CLOUD } else { &host })?;
            from_segments(&segments(&path))
        }
    }
}

/// Parses the path or the number of a group. `None` if it is neither.
pub(super) fn group(text: &str) -> Option<String> {
    let text = decoded(text.trim())?;
    let segments = text.trim_matches('/').split('/').collect::<Vec<_>>();
    segments.iter().all(|segment| is_name(segment)).then(|| segments.join("/"))
}

fn from_segments(segments: &[&str]) -> Result<RepositoryPath, PathError> {
    let [groups @ .., name] = segments else { return Err(malformed()) };
    let name = without_git(name).ok_or_else(malformed)?;
    let fits = !groups.is_empty() && groups.iter().all(|group| is_name(group)) && is_name(name);
    if fits { Ok(RepositoryPath::new(format!("{}/{name}", groups.join("/")))) } else { Err(malformed()) }
}

/// Whether GitLab accepts the text as a path segment of a group or project.
fn is_name(text: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let begins = text.starts_with(|character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.'));
    begins && text != "." && text != ".." && text.len() <= LONGEST_NAME && text.chars().all(fits)
}

fn malformed() -> PathError {
    PathError::Malformed(FORM.to_owned())
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn endpoint(web: &str) -> Endpoint {
        let web = Url::parse(web).unwrap();
        Endpoint { api: web.join("api/v4").unwrap(), web, further_origins: Vec::new(), scope: None }
    }

    #[test]
    fn every_form_that_people_paste_is_read() {
        let endpoint = endpoint("https://gitlab.com");
        for text in [
            "acme/apps/shop",
            "acme/apps/shop.git",
            " acme/apps/shop/ ",
            "https://gitlab.com/acme/apps/shop",
            "https://gitlab.com:443/acme/apps/shop.git",
            "https://oauth2@gitlab.com/acme/apps/shop.git",
            "https://gitlab.com/acme/apps/shop/-/tree/main/src",
            "https://gitlab.com/acme/apps/shop/-/merge_requests?state=opened#top",
            "git@gitlab.com:acme/apps/shop.git",
            "git@GITLAB.com:/acme/apps/shop",
            "ssh://git@gitlab.com/acme/apps/shop.git",
            "ssh://git@altssh.gitlab.com:443/acme/apps/shop.git",
        ] {
            assert_eq!(parse(&endpoint, text).unwrap().as_str(), "acme/apps/shop", "{text}");
        }
        assert_eq!(parse(&endpoint, "ada/shop.js").unwrap().as_str(), "ada/shop.js");
        assert_eq!(parse(&endpoint, "a/b/c/d/e/f").unwrap().as_str(), "a/b/c/d/e/f");
    }

    #[test]
    fn dv_16_a_path_prefix_is_the_connections() {
        let endpoint = endpoint("https://acme.io:8443/git");
        for text in [
            "https://acme.io:8443/git/acme/shop",
            "https://acme.io:8443/git/acme/shop/-/blob/main/a",
            "git@acme.io:acme/shop.git",
            "ssh://git@acme.io:2222/acme/shop",
        ] {
            assert_eq!(parse(&endpoint, text).unwrap().as_str(), "acme/shop", "{text}");
        }
        assert!(matches!(parse(&endpoint, "https://acme.io:8443/acme/shop"), Err(PathError::Malformed(_))));
        assert!(matches!(parse(&endpoint, "https://acme.io/git/acme/shop"), Err(PathError::AnotherHost { .. })));
        assert_eq!(parse(&endpoint, "git@acme.io:git/acme/shop").unwrap().as_str(), "git/acme/shop", "a group may be called so");
    }

    #[test]
    fn another_host_and_a_password_are_refused() {
        let endpoint = endpoint("https://gitlab.acme.io");
        for text in ["https://gitlab.com/acme/shop", "git@altssh.gitlab.com:acme/shop", "ssh://git@github.com/acme/shop.git"] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::AnotherHost { .. })), "{text}");
        }
        let error = parse(&endpoint, "https://oauth2:canary@gitlab.acme.io/acme/shop").unwrap_err();
        assert_eq!(error, PathError::Password);
        assert!(!error.to_string().contains("canary"));
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        let endpoint = endpoint("https://gitlab.com");
        for text in [
            "",
            "acme",
            "acme/",
            "/acme/shop",
            "acme//shop",
            "acme/..",
            "acme/./shop",
            "acme/sh op",
            "acme/.git",
            "acme/%2e%2e",
            "-/shop",
            "acme/-shop",
            "https://gitlab.com/acme",
            "https://gitlab.com/-/profile",
            "https://gitlab.com/acme/-/shop",
            "ftp://gitlab.com/acme/shop",
        ] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::Malformed(_))), "{text:?}: {:?}", parse(&endpoint, text));
        }
    }
}
