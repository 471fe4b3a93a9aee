//! Seals a target: proves that this installation recorded it because a binding has hooks there or is about to create one.

use kube::ResourceExt as _;

use crate::api::v1alpha1::RepoBinding;
use crate::api::v1alpha1::binding::{ConnectionTarget, HookTarget, RepositoryStatus};
use crate::protocol::keys::ControllerKey;

/// Seals the targets of one binding. Whoever can write a status can copy a seal to the same target of the same binding, but
/// cannot make a seal for any other target.
#[derive(Clone)]
pub struct Seal {
    key: ControllerKey,
    namespace: String,
    name: String,
}

impl Seal {
    /// The seal of the binding that an object declares.
    #[must_use]
    pub fn of_binding(key: &ControllerKey, binding: &RepoBinding) -> Self {
        Self::new(key, &binding.namespace().unwrap_or_default(), &binding.name_any())
    }

    /// The seal of a binding.
    #[must_use]
    pub fn new(key: &ControllerKey, namespace: &str, name: &str) -> Self {
        Self { key: key.clone(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Returns the target with its seal. Callers must have a grant for the target.
    pub(super) fn put_on(&self, target: HookTarget) -> HookTarget {
        HookTarget { seal: Some(self.of(&target)), ..target }
    }

    /// Whether a target has a valid seal.
    #[must_use]
    pub fn is_on(&self, target: &HookTarget) -> bool {
        target.seal.as_ref().is_some_and(|seal| *seal == self.of(target))
    }

    /// The seal of a repository that a grant covers, which is also the seal of a target there.
    pub(super) fn of_repository(&self, connection: &ConnectionTarget, id: &str, path: &str) -> String {
        self.key.seal([&self.namespace, &self.name, &connection.namespace, &connection.name, id, path])
    }

    /// Whether the repository in a status was covered by a grant when it was recorded.
    #[must_use]
    pub fn is_on_repository(&self, known: &RepositoryStatus) -> bool {
        known.requested.as_ref().is_some_and(|requested| {
            requested.seal.as_ref().is_some_and(|seal| *seal == self.of_repository(&requested.connection, &known.id, &known.path))
        })
    }

    fn of(&self, target: &HookTarget) -> String {
        self.of_repository(&target.connection, &target.repository_id, &target.repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::binding::ConnectionTarget;
    use crate::controllers::binding::ownership::tests::keys;

    #[test]
    fn a_seal_holds_for_one_place_of_one_binding_of_one_installation() {
        let connection = |name: &str| ConnectionTarget { namespace: "platform".to_owned(), name: name.to_owned() };
        let target = |connection, id: &str, path: &str| HookTarget {
            connection,
            repository_id: id.to_owned(),
            repository: path.to_owned(),
            host: "hooks.acme.io".to_owned(),
            seal: None,
        };
        let seal = Seal::new(&keys(1).controller, "team", "shop");
        let sealed = seal.put_on(target(connection("acme"), "7", "acme/shop"));
        assert!(seal.is_on(&sealed));
        assert!(seal.is_on(&HookTarget { host: "other".to_owned(), ..sealed.clone() }), "the host is for people");
        let with = |target: HookTarget| HookTarget { seal: sealed.seal.clone(), ..target };
        for forged in [
            with(target(connection("other"), "7", "acme/shop")),
            with(target(connection("acme"), "8", "acme/shop")),
            with(target(connection("acme"), "7", "acme/secret")),
            HookTarget { seal: None, ..sealed.clone() },
            HookTarget { seal: Some(String::new()), ..sealed.clone() },
        ] {
            assert!(!seal.is_on(&forged), "{forged:?}");
        }
        assert!(!Seal::new(&keys(1).controller, "team", "other").is_on(&sealed), "another binding's");
        assert!(!Seal::new(&keys(2).controller, "team", "shop").is_on(&sealed), "another installation's");
    }
}
