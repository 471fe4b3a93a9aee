//! Parses repository paths: `KEY/slug`, `~user/slug` and their usual clone and web URLs.

use percent_encoding::percent_decode_str;

use crate::providers::model::{Endpoint, PathError, RepositoryPath};
use crate::providers::repository_ref::{RepositoryRef, after_prefix, same_host, same_origin, segments};

const FORM: &str = "a repository of Bitbucket Data Center is PROJECT/slug or ~user/slug, one of its https or ssh clone URLs, or the \
                    address of its page";
/// Maximum length of a key or slug in characters, as in the product.
const MAX_LENGTH: usize = 128;

pub(super) fn parse(endpoint: &Endpoint, text: &str) -> Result<RepositoryPath, PathError> {
    match RepositoryRef::read(text, FORM)? {
        RepositoryRef::Path(path) => from_segments(&segments(&path)),
        RepositoryRef::Web(url) => {
            same_origin(endpoint, &url)?;
            let rest = after_prefix(endpoint, url.path()).ok_or_else(malformed)?;
            // The product has no pages at `/KEY/slug`.
            if rest.len() == 2 { Err(malformed()) } else { from_segments(&rest) }
        }
        RepositoryRef::Ssh { host, path } => {
            same_host(endpoint, &host)?;
            let rest = after_prefix(endpoint, &path).filter(|rest| rest.len() == 2);
            from_segments(&rest.unwrap_or_else(|| segments(&path)))
        }
    }
}

fn from_segments(segments: &[&str]) -> Result<RepositoryPath, PathError> {
    match segments {
        [project, slug] | ["scm", project, slug] | ["projects", project, "repos", slug, ..] => of(project, slug),
        ["users", user, "repos", slug, ..] => of(&format!("~{user}"), slug),
        _ => Err(malformed()),
    }
}

fn of(project: &str, slug: &str) -> Result<RepositoryPath, PathError> {
    let (project, slug) = (decoded(project)?, slug_of(&decoded(slug)?).ok_or_else(malformed)?);
    if is_project(&project) && is_slug(&slug) { Ok(RepositoryPath::new(format!("{project}/{slug}"))) } else { Err(malformed()) }
}

fn decoded(segment: &str) -> Result<String, PathError> {
    percent_decode_str(segment).decode_utf8().map(|text| text.trim().to_owned()).map_err(|_| malformed())
}

/// Converts a displayed name to its slug: the product replaces white space with hyphens. `None` if the slug ends with `.git`.
fn slug_of(name: &str) -> Option<String> {
    let name = name.strip_suffix(".git").unwrap_or(name);
    let slug = name.split_whitespace().collect::<Vec<_>>().join("-");
    // When the result is read again, it would lose the suffix and name another repository.
    slug.strip_suffix(".git").is_none().then_some(slug)
}

/// Parses the key of a project, or `~` and the slug of a user, as typed or as copied from a URL. `None` if it is neither.
pub(super) fn project(text: &str) -> Option<String> {
    decoded(text).ok().filter(|text| is_project(text))
}

/// Whether a text is the key of a project, or `~` and the slug of a user. The characters allowed in a key depend on the
/// version and on how the project was created, so every character that can be part of a URL path is accepted.
fn is_project(text: &str) -> bool {
    let fits = |character: char| !character.is_whitespace() && !character.is_control() && !"/\\?#%:~".contains(character);
    match text.strip_prefix('~') {
        Some(user) => is_slug(user),
        None => !text.is_empty() && text != "." && text != ".." && text.chars().count() <= MAX_LENGTH && text.chars().all(fits),
    }
}

fn is_slug(text: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '@' | '+');
    !text.is_empty() && text != "." && text != ".." && text.len() <= MAX_LENGTH && text.chars().all(fits)
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
        Endpoint { api: web.join("rest/api/latest").unwrap(), web, further_origins: Vec::new(), scope: None }
    }

    #[track_caller]
    fn reads(endpoint: &Endpoint, texts: &[&str], expected: &str) {
        for text in texts {
            assert_eq!(parse(endpoint, text).unwrap_or_else(|error| panic!("{text}: {error}")).as_str(), expected, "{text}");
        }
    }

    #[test]
    fn every_form_that_people_paste_is_read() {
        let endpoint = endpoint("https://git.acme.io");
        let texts = [
            "APP/shop",
            "APP/shop.git",
            " APP/shop/ ",
            "/scm/APP/shop",
            "scm/APP/shop.git",
            "/projects/APP/repos/shop",
            "https://git.acme.io/scm/APP/shop.git",
            "https://git.acme.io:443/scm/APP/shop.git",
            "https://ada@git.acme.io/scm/APP/shop.git",
            "https://GIT.acme.io./projects/APP/repos/shop",
            "https://git.acme.io/projects/APP/repos/shop/browse",
            "https://git.acme.io/projects/APP/repos/shop/browse/src/main.rs?at=refs%2Fheads%2Fmain#7",
            "https://git.acme.io/projects/APP/repos/shop/pull-requests/7/overview",
            "ssh://git@git.acme.io:7999/APP/shop.git",
            "ssh://git@git.acme.io/APP/shop.git",
            "git@git.acme.io:APP/shop.git",
            "git@git.acme.io:/APP/shop.git",
        ];
        reads(&endpoint, &texts, "APP/shop");
    }

    #[test]
    fn personal_projects_are_read_in_every_form() {
        let endpoint = endpoint("https://git.acme.io");
        let texts = [
            "~ada/shop",
            "https://git.acme.io/scm/~ada/shop.git",
            "https://git.acme.io/scm/%7Eada/shop.git",
            "https://git.acme.io/users/ada/repos/shop/browse",
            "https://git.acme.io/projects/~ada/repos/shop",
            "ssh://git@git.acme.io:7999/~ada/shop.git",
            "git@git.acme.io:~ada/shop.git",
        ];
        reads(&endpoint, &texts, "~ada/shop");
        reads(&endpoint, &["~ada.lovelace@acme.io/shop"], "~ada.lovelace@acme.io/shop");
    }

    #[test]
    fn a_hyphen_in_a_key_is_read_in_every_form() {
        let endpoint = endpoint("https://git.acme.io");
        let texts = [
            "MY-APP/shop",
            "https://git.acme.io/scm/MY-APP/shop.git",
            "https://git.acme.io/projects/MY-APP/repos/shop/browse",
            "ssh://git@git.acme.io:7999/MY-APP/shop.git",
        ];
        reads(&endpoint, &texts, "MY-APP/shop");
    }

    #[test]
    fn a_context_path_is_the_connections() {
        let endpoint = endpoint("https://acme.io/bitbucket/");
        let texts = [
            "https://acme.io/bitbucket/scm/APP/shop.git",
            "https://acme.io/bitbucket/projects/APP/repos/shop/browse",
            "ssh://git@acme.io:7999/APP/shop.git",
            "git@acme.io:bitbucket/APP/shop.git",
        ];
        reads(&endpoint, &texts, "APP/shop");
        assert!(matches!(parse(&endpoint, "https://acme.io/scm/APP/shop"), Err(PathError::Malformed(_))));
    }

    #[test]
    fn a_name_with_spaces_is_its_slug() {
        let endpoint = endpoint("https://git.acme.io");
        let texts = ["APP/My  Shop", "APP/My%20Shop", "https://git.acme.io/projects/APP/repos/My%20Shop"];
        reads(&endpoint, &texts, "APP/My-Shop");
    }

    #[test]
    fn a_password_and_another_host_are_refused() {
        let endpoint = endpoint("https://git.acme.io");
        for text in ["https://ada:canary@git.acme.io/scm/APP/shop.git", "ada:canary@git.acme.io:APP/shop.git"] {
            let error = parse(&endpoint, text).unwrap_err();
            assert_eq!(error, PathError::Password, "{text}");
            assert!(!error.to_string().contains("canary"));
        }
        for text in ["https://bitbucket.org/acme/shop", "git@bitbucket.org:acme/shop.git", "https://git.acme.io:8443/scm/APP/shop"] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::AnotherHost { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        let endpoint = endpoint("https://git.acme.io");
        for text in [
            "",
            "/",
            "APP",
            "APP/",
            "APP/shop/more",
            "APP/..",
            "APP/%2e%2e",
            "APP/a%2Fb",
            "APP/.git",
            "A B/shop",
            "A?B/shop",
            "~/shop",
            "https://git.acme.io/APP/shop",
            "https://git.acme.io/projects/APP",
            "https://git.acme.io/projects/APP/shop",
            "https://git.acme.io/dashboard",
            "ftp://git.acme.io/scm/APP/shop",
            "file:///APP/shop",
        ] {
            assert!(matches!(parse(&endpoint, text), Err(PathError::Malformed(_))), "{text:?}: {:?}", parse(&endpoint, text));
        }
    }
}
