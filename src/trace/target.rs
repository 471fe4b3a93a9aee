//! What the argument of a command names: a repository, or a binding. Pure.

use kube::ResourceExt as _;

use super::answer::TraceError;
use crate::api::v1alpha1::RepoBinding;
use crate::text::wording::{enumerated, quoted};

/// Least number of digits of a commit.
const LEAST_DIGITS: usize = 7;

/// What the argument of a command may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The name of a binding, if the argument may be one.
    pub(super) name: Option<String>,
    /// The namespace of that binding, if the argument has one.
    pub(super) namespace: Option<String>,
    /// The path of a repository, if the argument may be one.
    pub(super) repository: Option<String>,
}

impl Target {
    pub(super) fn parse(argument: &str) -> Result<Self, TraceError> {
        let argument = argument.trim().trim_matches('/');
        if argument.is_empty() {
            return Err(TraceError("REPOSITORY|BINDING is empty; name a repository such as acme/shop, or a binding".to_owned()));
        }
        let is_url = argument.contains(':');
        let segments: Vec<&str> = argument.split('/').collect();
        let (namespace, name) = match segments.as_slice() {
            [name] if !is_url => (None, Some((*name).to_owned())),
            [namespace, name] if !is_url => (Some((*namespace).to_owned()), Some((*name).to_owned())),
            _ => (None, None),
        };
        let repository = (segments.len() > 1).then(|| path(argument));
        if name.is_none() && repository.is_none() {
            return Err(TraceError(format!("{} names neither a repository nor a binding", quoted(argument))));
        }
        Ok(Self { name, namespace, repository })
    }

    /// Whether a binding may be meant. `namespace` is that of a name without one; `None` means any.
    pub(super) fn is(&self, binding: &RepoBinding, namespace: Option<&str>) -> bool {
        self.is_name_of(binding, namespace) || self.repository.as_ref().is_some_and(|repository| is_about(binding, repository))
    }

    fn is_name_of(&self, binding: &RepoBinding, namespace: Option<&str>) -> bool {
        let wanted = self.namespace.as_deref().or(namespace);
        self.name.as_ref().is_some_and(|name| *name == binding.name_any())
            && wanted.is_none_or(|wanted| binding.metadata.namespace.as_deref() == Some(wanted))
    }

    /// The bindings that are meant, of those that may be: the one with this namespace and name, or those of the repository with this
    /// path.
    ///
    /// # Errors
    /// There are both, so that nobody knows what is meant.
    pub(super) fn choose(&self, found: Vec<RepoBinding>) -> Result<Vec<RepoBinding>, TraceError> {
        let (Some(namespace), Some(name), Some(repository)) = (&self.namespace, &self.name, &self.repository) else { return Ok(found) };
        let (by_name, by_repository): (Vec<_>, Vec<_>) = found.into_iter().partition(|binding| self.is_name_of(binding, None));
        if by_name.is_empty() {
            return Ok(by_repository);
        }
        // The binding of that name may itself be one of the repository.
        let all_of_one = by_name.iter().all(|binding| is_about(binding, repository));
        if by_repository.is_empty() || all_of_one {
            return Ok(by_name.into_iter().chain(by_repository).collect());
        }
        let others: Vec<String> = by_repository.iter().map(name_of).collect();
        Err(TraceError(format!(
            "{} names the binding {name} in namespace {namespace}, and also the repository of {}; for the binding, give {name} -n \
             {namespace}; for the repository, give its URL",
            quoted(&format!("{namespace}/{name}")),
            enumerated(&others)
        )))
    }
}

/// Namespace and name of a binding, as an argument of a command.
pub(super) fn name_of(binding: &RepoBinding) -> String {
    format!("{}/{}", binding.namespace().unwrap_or_default(), binding.name_any())
}

/// Whether a binding is about a repository: by what its spec names, or by the path that the provider reports.
fn is_about(binding: &RepoBinding, repository: &str) -> bool {
    let known = binding.known_repository();
    let requested = known.and_then(|known| known.requested.as_ref()).map(|requested| requested.path.as_str());
    let names = [Some(binding.spec.repository.as_str()), known.map(|known| known.path.as_str()), requested];
    names.into_iter().flatten().any(|name| path(name).eq_ignore_ascii_case(repository))
}

/// The path of a repository that is given as a path or as a URL.
fn path(text: &str) -> String {
    let text = text.trim_end_matches('/');
    let text = text.strip_suffix(".git").unwrap_or(text);
    let path = match text.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        // git@host:path
        None => match text.split_once(':') {
            Some((host, path)) if host.contains('@') => path,
            _ => text,
        },
    };
    path.trim_matches('/').to_owned()
}

/// The commit of `--sha`, in lower case.
pub(super) fn commit(sha: &str) -> Result<String, TraceError> {
    let is_commit = (LEAST_DIGITS..=64).contains(&sha.len()) && sha.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit {
        return Ok(sha.to_ascii_lowercase());
    }
    Err(TraceError(format!("--sha: {} is no commit; give at least its first {LEAST_DIGITS} hexadecimal digits", quoted(sha))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(repository: &str) -> RepoBinding {
        serde_json::from_value(json!({
            "apiVersion": "forgebind.dev/v1alpha1", "kind": "RepoBinding", "metadata": {"name": "cart", "namespace": "team-shop"},
            "spec": {"connectionRef": {"name": "acme"}, "repository": repository},
            "status": {"repository": {"id": "7", "path": "acme/shop-cart"}},
        }))
        .unwrap()
    }

    #[test]
    fn a_repository_is_found_by_its_path_and_by_every_form_of_its_url() {
        let texts = [
            "acme/shop",
            "ACME/Shop",
            "https://git.acme.io/acme/shop",
            "https://git.acme.io/acme/shop.git",
            "ssh://git@git.acme.io:22/acme/shop.git",
            "git@git.acme.io:acme/shop.git",
            "/acme/shop/",
        ];
        for text in texts {
            for spec in ["acme/shop", "https://git.acme.io/acme/shop.git"] {
                assert!(Target::parse(text).unwrap().is(&binding(spec), None), "{text} {spec}");
            }
        }
        assert!(Target::parse("acme/shop-cart").unwrap().is(&binding("acme/other"), None), "the path that the provider reports");
        assert!(!Target::parse("acme/shop").unwrap().is(&binding("acme/shop-web"), None));
    }

    #[test]
    fn a_binding_is_found_by_its_name_and_namespace() {
        let found = |text: &str, namespace| Target::parse(text).unwrap().is(&binding("acme/shop"), namespace);
        assert!(found("team-shop/cart", None) && found("cart", Some("team-shop")) && found("cart", None));
        assert!(!found("team-till/cart", None) && !found("cart", Some("team-till")) && !found("shop", None));
        assert!(Target::parse(" / ").is_err() && Target::parse("https:").is_err());
    }

    #[test]
    fn an_argument_that_names_a_binding_and_a_repository_of_others_is_refused_with_both_ways_out() {
        let of = |namespace: &str, name: &str, repository: &str| {
            let mut binding = binding(repository);
            binding.metadata.namespace = Some(namespace.to_owned());
            binding.metadata.name = Some(name.to_owned());
            binding.status = None;
            binding
        };
        let chosen = |argument: &str, found: &[RepoBinding]| {
            let names = |bindings: Vec<RepoBinding>| bindings.iter().map(name_of).collect::<Vec<_>>();
            Target::parse(argument).unwrap().choose(found.to_vec()).map(names).map_err(|error| error.to_string())
        };
        let (named, other) = (of("acme", "shop", "acme/till"), of("team", "cart", "acme/shop"));
        assert_eq!(chosen("acme/shop", std::slice::from_ref(&named)), Ok(vec!["acme/shop".to_owned()]));
        assert_eq!(chosen("acme/shop", std::slice::from_ref(&other)), Ok(vec!["team/cart".to_owned()]));
        let refused = chosen("acme/shop", &[named.clone(), other.clone()]).unwrap_err();
        for says in ["the binding shop in namespace acme", "the repository of team/cart", "shop -n acme", "its URL"] {
            assert!(refused.contains(says), "{refused}");
        }
        let all = [of("acme", "shop", "acme/shop"), other.clone()];
        assert_eq!(chosen("acme/shop", &all).map(|names| names.len()), Ok(2), "both are of the repository");
        assert!(!Target::parse("https://git.acme.io/acme/shop").unwrap().is(&named, None), "a URL is never a name");
        assert!(!Target::parse("shop").unwrap().is(&other, Some("acme")) && Target::parse("shop").unwrap().is(&named, Some("acme")));
    }

    #[test]
    fn a_commit_has_at_least_seven_digits() {
        assert_eq!(commit("9F1C2AB").unwrap(), "9f1c2ab");
        for text in ["", "9f1c2a", "main", "9f1c2ab\u{1b}[2J"] {
            let error = commit(text).unwrap_err().to_string();
            assert!(error.starts_with("--sha: ") && !error.contains('\u{1b}'), "{error}");
        }
    }
}
