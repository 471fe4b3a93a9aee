//! Parses repository paths: `Project/repository` and its usual clone and web URLs. `.git` is part of the name.

use url::Url;

use super::organization::{OLDER_COLLECTION, SERVICES, is_services, older_organization, path_segments};
use crate::providers::address::{authority, comparable};
use crate::providers::model::{Endpoint, PathError, RepositoryPath};
use crate::providers::repository_ref::{RepositoryRef, decoded, same_host, same_origin, segments};

const FORM: &str = "a repository of Azure DevOps is Project/repository, or one of its https or ssh clone URLs";
/// The path segment before a repository's name.
const GIT: &str = "_git";
/// The ssh hosts of Azure DevOps Services.
const SSH_HOSTS: [&str; 2] = ["ssh.dev.azure.com", "vs-ssh.visualstudio.com"];
/// First path segment at these hosts.
const SSH_VERSION: &str = "v3";
/// Pages of a repository in URLs that are copied from a browser.
const PAGES: [&str; 10] =
    ["branchCompare", "branches", "commit", "commits", "forks", "pullrequest", "pullrequestcreate", "pullrequests", "pushes", "tags"];

pub(super) fn parse(endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
    match RepositoryRef::read(text, FORM)? {
        RepositoryRef::Path(path) => in_words(&path),
        RepositoryRef::Web(url) => {
            let rest = if is_services(&endpoint.web) { at_services(endpoint, &url)? } else { at_server(endpoint, &url)? };
            in_address(&rest)
        }
        RepositoryRef::Ssh { host, path } => over_ssh(endpoint, &host, &path),
    }
}

/// Parses the name of a project, as typed or as copied from a URL. `None` if it is not a valid name.
pub(super) fn project(text: &str) -> Option<String> {
    decoded(text.trim()).filter(|name| is_name(name) && !name.starts_with('_'))
}

/// Parses `Project/repository`.
fn in_words(path: &str) -> Result<RepositoryPath, PathError> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [project, repository] | [project, GIT, repository] => from_names(project, repository),
        _ => Err(malformed()),
    }
}

/// Parses `Project/_git/repository`, or `_git/repository` if the project and the repository have the same name.
fn in_address(rest: &[&str]) -> Result<RepositoryPath, PathError> {
    let is_page = |page: &[&str]| page.first().is_none_or(|page| PAGES.iter().any(|known| known.eq_ignore_ascii_case(page)));
    match rest {
        [GIT, repository, page @ ..] if is_page(page) => from_names(repository, repository),
        [project, GIT, repository, page @ ..] if is_page(page) => from_names(project, repository),
        _ => Err(malformed()),
    }
}

/// Returns the path segments after the organization in a URL of Azure DevOps Services, at any of its hosts.
fn at_services<'a>(endpoint: &Endpoint, url: &'a Url) -> Result<Vec<&'a str>, PathError> {
    let host = url.host_str().unwrap_or_default();
    let segments = path_segments(url);
    let (organization, rest) = if comparable(host) == SERVICES && url.port().is_none() {
        let (organization, rest) = segments.split_first().ok_or_else(malformed)?;
        (decoded(organization).ok_or_else(malformed)?, rest)
    } else if let Some(organization) = older_organization(host).filter(|_| url.port().is_none()) {
        (organization, without_collection(&segments))
    } else {
        return Err(PathError::AnotherHost { found: authority(url), expected: shown(&organization_of(endpoint)) });
    };
    same_organization(endpoint, &organization)?;
    Ok(rest.to_vec())
}

/// Removes the default collection, which older URLs may contain.
fn without_collection<'a, 'b>(segments: &'b [&'a str]) -> &'b [&'a str] {
    match segments {
        [first, rest @ ..] if first.eq_ignore_ascii_case(OLDER_COLLECTION) => rest,
        all => all,
    }
}

/// Returns the path segments after the collection in a URL of a Server. The comparison ignores case, as the Server does.
fn at_server<'a>(endpoint: &Endpoint, url: &'a Url) -> Result<Vec<&'a str>, PathError> {
    same_origin(endpoint, url)?;
    let prefix = path_segments(&endpoint.web);
    let found = path_segments(url);
    after(&found, &prefix).map(<[&str]>::to_vec).ok_or_else(|| {
        let collection = found.iter().take(prefix.len()).copied().collect::<Vec<_>>().join("/");
        let expected = prefix.join("/");
        PathError::AnotherHost {
            found: format!("{}/{collection}", authority(url)),
            expected: format!("{}/{expected}", authority(&endpoint.web)),
        }
    })
}

/// Returns the segments after `prefix`. The comparison ignores case and percent-encoding.
fn after<'a, 'b>(found: &'b [&'a str], prefix: &[&str]) -> Option<&'b [&'a str]> {
    let (head, rest) = found.split_at_checked(prefix.len())?;
    let same = |one: &str, other: &str| decoded(one).zip(decoded(other)).is_some_and(|(one, other)| one.eq_ignore_ascii_case(&other));
    head.iter().zip(prefix).all(|(one, other)| same(one, other)).then_some(rest)
}

fn over_ssh(endpoint: &Endpoint, host: &str, path: &str) -> Result<RepositoryPath, PathError> {
    let found = segments(path);
    if !is_services(&endpoint.web) {
        same_host(endpoint, host)?;
        let prefix = path_segments(&endpoint.web);
        // Over ssh, the first part of a Server's path may be omitted, but its collection may not.
        let tails = (0..prefix.len()).filter_map(|skipped| after(&found, prefix.get(skipped..)?));
        let rest = tails.into_iter().next().ok_or_else(malformed)?;
        return in_address(rest);
    }
    if !SSH_HOSTS.contains(&comparable(host).as_str()) {
        return Err(PathError::AnotherHost { found: host.to_owned(), expected: shown(&organization_of(endpoint)) });
    }
    let [SSH_VERSION, organization, project, repository] = found.as_slice() else { return Err(malformed()) };
    same_organization(endpoint, &decoded(organization).ok_or_else(malformed)?)?;
    from_names(project, repository)
}

/// The organization of a connection to Azure DevOps Services.
fn organization_of(endpoint: &Endpoint) -> String {
    let by_host = endpoint.web.host_str().and_then(older_organization);
    by_host.or_else(|| path_segments(&endpoint.web).last().and_then(|last| decoded(last))).unwrap_or_default()
}

fn same_organization(endpoint: &Endpoint, found: &str) -> Result<(), PathError> {
    let expected = organization_of(endpoint);
    if found.eq_ignore_ascii_case(&expected) {
        return Ok(());
    }
    Err(PathError::AnotherHost { found: shown(found), expected: shown(&expected) })
}

fn shown(organization: &str) -> String {
    format!("{SERVICES}/{organization}")
}

fn from_names(project: &str, repository: &str) -> Result<RepositoryPath, PathError> {
    let (project, repository) = decoded(project).zip(decoded(repository)).ok_or_else(malformed)?;
    let fits = is_name(&project) && is_name(&repository) && !project.starts_with('_');
    if fits { Ok(RepositoryPath::new(format!("{project}/{repository}"))) } else { Err(malformed()) }
}

/// Whether a text can be the name of a project or a repository.
fn is_name(text: &str) -> bool {
    let refused = |character: char| character.is_control() || "/\\:*?\"<>|#;$".contains(character);
    // A name that could be decoded again would name another repository when it is read again.
    let is_decoded = decoded(text).is_some_and(|again| again == text);
    is_decoded && !text.is_empty() && text.trim() == text && text != "." && text != ".." && text.len() <= 256 && !text.contains(refused)
}

fn malformed() -> PathError {
    PathError::Malformed(FORM.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(web: &str) -> Endpoint {
        let web = Url::parse(web).unwrap();
        Endpoint { api: web.clone(), web, further_origins: Vec::new(), scope: None }
    }

    #[test]
    fn every_form_that_people_paste_is_read() {
        for web in ["https://dev.azure.com/acme", "https://acme.visualstudio.com/", "https://acme.visualstudio.com/DefaultCollection"] {
            let endpoint = endpoint(web);
            for text in [
                "Shop/web",
                "Shop/web/",
                "Shop/_git/web",
                "https://dev.azure.com/acme/Shop/_git/web",
                "https://dev.azure.com/ACME/Shop/_git/web/",
                "https://acme@dev.azure.com/acme/Shop/_git/web",
                "http://dev.azure.com/acme/Shop/_git/web",
                "https://dev.azure.com/acme/Shop/_git/web?path=/README.md&version=GBmain",
                "https://dev.azure.com/acme/Shop/_git/web/pullrequest/12",
                "https://dev.azure.com/acme/Shop/_git/web/branches?_a=all",
                "https://acme.visualstudio.com/Shop/_git/web",
                "https://acme.visualstudio.com/DefaultCollection/Shop/_git/web",
                "git@ssh.dev.azure.com:v3/acme/Shop/web",
                "ssh://git@ssh.dev.azure.com/v3/acme/Shop/web",
                "ssh://git@ssh.dev.azure.com:22/v3/acme/Shop/web",
                "acme@vs-ssh.visualstudio.com:v3/acme/Shop/web",
            ] {
                assert_eq!(parse(&endpoint, text).unwrap().as_str(), "Shop/web", "{text} at {web}");
            }
        }
    }

    #[test]
    fn spaces_are_read_in_both_spellings_and_git_is_part_of_the_name() {
        let endpoint = endpoint("https://dev.azure.com/acme");
        for text in [
            "My Shop/Web Site",
            "My%20Shop/Web%20Site",
            "https://dev.azure.com/acme/My%20Shop/_git/Web%20Site",
            "git@ssh.dev.azure.com:v3/acme/My%20Shop/Web%20Site",
        ] {
            assert_eq!(parse(&endpoint, text).unwrap().as_str(), "My Shop/Web Site", "{text}");
        }
        assert_eq!(parse(&endpoint, "https://dev.azure.com/acme/Shop/_git/web.git").unwrap().as_str(), "Shop/web.git");
        assert_eq!(parse(&endpoint, "Shop/web.git").unwrap().as_str(), "Shop/web.git");
        assert_eq!(parse(&endpoint, "https://dev.azure.com/acme/_git/Shop").unwrap().as_str(), "Shop/Shop");
        assert_eq!(parse(&endpoint, "https://acme.visualstudio.com/_git/Shop").unwrap().as_str(), "Shop/Shop");
    }

    #[test]
    fn a_server_has_its_collection_in_the_path() {
        let endpoint = endpoint("https://tfs.acme.io:8443/tfs/Main");
        for text in [
            "Shop/web",
            "https://tfs.acme.io:8443/tfs/Main/Shop/_git/web",
            "https://tfs.acme.io:8443/TFS/main/Shop/_git/web",
            "ssh://tfs.acme.io:22/tfs/Main/Shop/_git/web",
            "ssh://git@tfs.acme.io/Main/Shop/_git/web",
        ] {
            assert_eq!(parse(&endpoint, text).unwrap().as_str(), "Shop/web", "{text}");
        }
        let another = |text: &str| match parse(&endpoint, text).unwrap_err() {
            PathError::AnotherHost { found, expected } => (found, expected),
            other => panic!("{text}: {other}"),
        };
        let expected = "tfs.acme.io:8443/tfs/Main".to_owned();
        assert_eq!(another("https://tfs.acme.io:8443/tfs/Other/Shop/_git/web"), ("tfs.acme.io:8443/tfs/Other".into(), expected));
        assert_eq!(another("https://dev.azure.com/acme/Shop/_git/web"), ("dev.azure.com".into(), "tfs.acme.io".into()));
    }

    #[test]
    fn dt_13_pk_16_another_organization_is_named() {
        let endpoint = endpoint("https://dev.azure.com/acme");
        for text in [
            "https://dev.azure.com/other/Shop/_git/web",
            "https://other.visualstudio.com/Shop/_git/web",
            "git@ssh.dev.azure.com:v3/other/Shop/web",
        ] {
            let error = parse(&endpoint, text).unwrap_err();
            let expected = PathError::AnotherHost { found: "dev.azure.com/other".into(), expected: "dev.azure.com/acme".into() };
            assert_eq!(error, expected, "{text}");
        }
        for text in ["https://github.com/acme/shop", "git@github.com:acme/shop.git", "https://dev.azure.com:8443/acme/Shop/_git/web"] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::AnotherHost { .. })), "{text}");
        }
    }

    #[test]
    fn a_password_is_refused_and_never_shown() {
        let endpoint = endpoint("https://dev.azure.com/acme");
        for text in ["https://acme:canary@dev.azure.com/acme/Shop/_git/web", "git:canary@ssh.dev.azure.com:v3/acme/Shop/web"] {
            let error = parse(&endpoint, text).unwrap_err();
            assert_eq!(error, PathError::Password, "{text}");
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        let endpoint = endpoint("https://dev.azure.com/acme");
        for text in [
            "",
            "/",
            "web",
            "Shop/",
            "Shop/web/more",
            "Shop/..",
            "Shop/%2e%2e",
            "Shop/a%2Fb",
            "Shop/%ff",
            "Shop/ web",
            "_git/web",
            "https://dev.azure.com/",
            "https://dev.azure.com/acme",
            "https://dev.azure.com/acme/Shop",
            "https://dev.azure.com/acme/Shop/_git",
            "https://dev.azure.com/acme/Shop/_git/web/nonsense",
            "https://dev.azure.com/acme/Shop/_wiki/web",
            "git@ssh.dev.azure.com:v2/acme/Shop/web",
            "git@ssh.dev.azure.com:v3/acme/web",
            "ftp://dev.azure.com/acme/Shop/_git/web",
        ] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::Malformed(_))), "{text:?}: {:?}", parse(&endpoint, text));
        }
    }
}
