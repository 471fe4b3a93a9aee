//! Derives everything that depends on the install key: hook ids, webhook secrets and the installation's fingerprint. The
//! controller has the install key; a separate receiver has only the [`ReceiverKey`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};

use crate::api::v1alpha1::binding::ConnectionTarget;

/// Length of an install key in bytes.
pub const INSTALL_KEY_LENGTH: usize = 32;
/// Length of a hook id in characters.
pub const HOOK_ID_LENGTH: usize = 22;
/// Prefix of the version of a secret that a user provides. The version of a derived secret consists of digits only.
const BROUGHT: &str = "own";

/// The root secret of an installation. Without it, no existing hook is recognised as this installation's.
#[derive(Clone)]
pub struct InstallKey {
    key: hmac::Key,
    bytes: [u8; INSTALL_KEY_LENGTH],
}

/// The part that a receiver needs: derives hook ids, webhook secrets and the tokens for evidence and hand-over.
#[derive(Clone)]
pub struct ReceiverKey {
    key: hmac::Key,
    bytes: [u8; 32],
}

/// The part that only the controller needs: derives marks on hooks that deliver elsewhere, and seals of recorded locations.
#[derive(Clone)]
pub struct ControllerKey(hmac::Key);

/// The error for a key of the wrong length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an install key must have {INSTALL_KEY_LENGTH} bytes, but this one has {0}")]
pub struct KeyLengthError(usize);

fn derive(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            context.update(&[0]);
        }
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.sign().as_ref());
    bytes
}

fn first_half(bytes: [u8; 32]) -> String {
    let [half, _] = bytes.as_chunks::<16>().0 else { unreachable!("32 bytes are two halves") };
    URL_SAFE_NO_PAD.encode(half)
}

impl InstallKey {
    /// Creates a key from its bytes.
    ///
    /// # Errors
    /// The slice does not have exactly [`INSTALL_KEY_LENGTH`] bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyLengthError> {
        let bytes = <[u8; INSTALL_KEY_LENGTH]>::try_from(bytes).map_err(|_| KeyLengthError(bytes.len()))?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes })
    }

    /// The bytes, for the Secret that stores them.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; INSTALL_KEY_LENGTH] {
        &self.bytes
    }

    /// Random bytes for a new key; `None` if the system's random generator fails.
    #[must_use]
    pub fn random_bytes() -> Option<[u8; INSTALL_KEY_LENGTH]> {
        let mut bytes = [0; INSTALL_KEY_LENGTH];
        SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
    }

    /// Derives the receiver's part.
    #[must_use]
    pub fn receiver(&self) -> ReceiverKey {
        ReceiverKey::from_array(derive(&self.key, &[b"receiver/v1"]))
    }

    /// Derives the controller's part.
    #[must_use]
    pub fn controller(&self) -> ControllerKey {
        ControllerKey(hmac::Key::new(hmac::HMAC_SHA256, &derive(&self.key, &[b"controller/v1"])))
    }

    /// Identifies the installation: eight hex digits, public.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut digits = hex::encode(derive(&self.key, &[b"installation/v1"]));
        digits.truncate(8);
        digits
    }
}

/// The owner of hooks: a binding together with its connection. The same binding has another identity through another connection,
/// so that a hook created through one connection proves nothing once the binding names another one.
#[derive(Clone, Copy, Debug)]
pub struct ConnectedBinding<'a> {
    /// Namespace of the binding.
    pub namespace: &'a str,
    /// Name of the binding.
    pub name: &'a str,
    /// Namespace and name of the connection.
    pub connection: (&'a str, &'a str),
}

impl<'a> ConnectedBinding<'a> {
    /// The binding through a connection.
    #[must_use]
    pub fn new(namespace: &'a str, name: &'a str, connection: &'a ConnectionTarget) -> Self {
        Self { namespace, name, connection: (&connection.namespace, &connection.name) }
    }

    const fn parts(self) -> [&'a [u8]; 4] {
        [self.namespace.as_bytes(), self.name.as_bytes(), self.connection.0.as_bytes(), self.connection.1.as_bytes()]
    }
}

impl ReceiverKey {
    /// Creates a key from its bytes.
    ///
    /// # Errors
    /// The slice does not have exactly 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyLengthError> {
        <[u8; 32]>::try_from(bytes).map(Self::from_array).map_err(|_| KeyLengthError(bytes.len()))
    }

    fn from_array(bytes: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes }
    }

    /// The bytes, for the Secret that a separate receiver reads.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The unguessable part of the delivery URL of a binding's hooks: 22 characters.
    #[must_use]
    pub fn hook_id(&self, owner: ConnectedBinding<'_>) -> String {
        first_half(derive(&self.key, &[&[b"hook/v1".as_slice()], owner.parts().as_slice()].concat()))
    }

    /// The derived webhook secret for one secret version: 32 bytes. Each provider encodes them in its own form.
    #[must_use]
    pub fn webhook_secret(&self, owner: ConnectedBinding<'_>, secret_version: &str) -> [u8; 32] {
        derive(&self.key, &[&[b"secret/v1".as_slice()], owner.parts().as_slice(), &[secret_version.as_bytes()]].concat())
    }

    /// A fingerprint of a secret that consists of parts: 16 hex digits, public. Includes the length of each part, so that
    /// different lists of parts never produce the same input.
    #[must_use]
    pub fn fingerprint(&self, parts: &[SecretString]) -> String {
        let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.expose_secret().len() as u64).to_be_bytes()).collect();
        let mut all: Vec<&[u8]> = vec![b"fingerprint/v1"];
        all.extend(parts.iter().zip(&lengths).flat_map(|(part, length)| [length.as_slice(), part.expose_secret().as_bytes()]));
        let mut digits = hex::encode(derive(&self.key, &all));
        digits.truncate(16);
        digits
    }

    /// The version of a webhook secret that a user provides, from all of its parts. [`derived_second`] never accepts such a
    /// version.
    #[must_use]
    pub fn user_secret_version(&self, parts: &[SecretString]) -> String {
        format!("{BROUGHT}{}", self.fingerprint(parts))
    }

    /// The bearer token with which the controller requests a receiver's evidence.
    #[must_use]
    pub fn evidence_token(&self) -> SecretString {
        SecretString::from(URL_SAFE_NO_PAD.encode(derive(&self.key, &[b"evidence/v1"])))
    }

    /// The bearer token with which a receiver hands its outbox to another one. Not the token of the evidence: whoever may read
    /// must not be able to send events to sinks.
    #[must_use]
    pub fn outbox_token(&self) -> SecretString {
        SecretString::from(URL_SAFE_NO_PAD.encode(derive(&self.key, &[b"outbox/v1"])))
    }
}

impl ControllerKey {
    /// The mark of a binding on a hook that delivers elsewhere: 22 characters.
    #[must_use]
    pub fn mark(&self, namespace: &str, name: &str) -> String {
        first_half(derive(&self.0, &[b"mark/v1", namespace.as_bytes(), name.as_bytes()]))
    }

    /// A seal over a recorded location of a binding's hooks, which proves that this installation wrote the record: 22 characters,
    /// public. Others can write a status, but cannot create a seal.
    #[must_use]
    pub fn seal(&self, place: [&str; 6]) -> String {
        let [namespace, name, connection_namespace, connection, id, path] = place.map(str::as_bytes);
        first_half(derive(&self.0, &[b"seal/v1", namespace, name, connection_namespace, connection, id, path]))
    }

    /// Distinguishes marks that were made under different public URLs: eight characters, public. A copy of a cluster has the same
    /// key but another public URL. `public_url` is empty if there is none.
    #[must_use]
    pub fn origin(&self, public_url: &str) -> String {
        let bytes = derive(&self.0, &[b"origin/v1", public_url.as_bytes()]);
        let [first, ..] = bytes.as_chunks::<6>().0 else { unreachable!("32 bytes begin with six") };
        URL_SAFE_NO_PAD.encode(first)
    }
}

/// The second that the version of a derived secret denotes; `None` for the version of a user's secret and for any other text.
/// Only the canonical form is accepted, so that no secret version has two spellings.
#[must_use]
pub fn derived_second(secret_version: &str) -> Option<i64> {
    let second: i64 = secret_version.parse().ok()?;
    (second >= 0 && second.to_string() == secret_version).then_some(second)
}

/// A derived webhook secret as text: base64url without padding.
#[must_use]
pub fn secret_text(bytes: &[u8; 32]) -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> InstallKey {
        InstallKey::new(&[7; 32]).unwrap()
    }

    fn owner<'a>(namespace: &'a str, name: &'a str) -> ConnectedBinding<'a> {
        ConnectedBinding { namespace, name, connection: ("platform", "acme") }
    }

    #[test]
    fn names_that_concatenate_to_the_same_text_have_different_ids() {
        let receiver = key().receiver();
        assert_ne!(receiver.hook_id(owner("team", "a-b")), receiver.hook_id(owner("team-a", "b")));
        assert_ne!(receiver.hook_id(owner("ab", "c")), receiver.hook_id(owner("a", "bc")));
        assert_eq!(receiver.hook_id(owner("ab", "c")).len(), HOOK_ID_LENGTH);
    }

    #[test]
    fn the_identity_of_a_binding_depends_on_its_connection() {
        let receiver = key().receiver();
        let through = |connection| ConnectedBinding { connection, ..owner("team", "shop") };
        for other in [("team", "acme"), ("platform", "other"), ("platformacme", "")] {
            assert_ne!(receiver.hook_id(owner("team", "shop")), receiver.hook_id(through(other)), "{other:?}");
            let secret = |owner| receiver.webhook_secret(owner, "1");
            assert_ne!(secret(owner("team", "shop")), secret(through(other)), "{other:?}");
        }
    }

    #[test]
    fn a_receiver_derives_the_same_secrets_from_its_own_key() {
        let receiver = key().receiver();
        let restored = ReceiverKey::new(receiver.bytes()).unwrap();
        assert_eq!(receiver.hook_id(owner("a", "b")), restored.hook_id(owner("a", "b")));
        assert_eq!(receiver.webhook_secret(owner("a", "b"), "1"), restored.webhook_secret(owner("a", "b"), "1"));
    }

    #[test]
    fn bb_20_every_binding_and_secret_version_has_its_own_secret() {
        let receiver = key().receiver();
        let secrets = [("a", "b", "1"), ("a", "b", "2"), ("a", "c", "1"), ("c", "b", "1")]
            .map(|(namespace, name, secret_version)| receiver.webhook_secret(owner(namespace, name), secret_version));
        assert!(secrets.iter().enumerate().all(|(at, one)| secrets.iter().skip(at + 1).all(|other| one != other)));
    }

    fn parts(texts: &[String]) -> Vec<SecretString> {
        texts.iter().map(|text| SecretString::from(text.clone())).collect()
    }

    proptest! {
        #[test]
        fn the_secret_version_of_a_users_secret_is_never_mistaken_for_that_of_a_derived_one(bytes: [u8; 32], text in ".{0,40}", second in 0_i64..) {
            let brought = ReceiverKey::new(&bytes).unwrap().user_secret_version(&parts(&[text]));
            prop_assert_eq!(derived_second(&brought), None);
            prop_assert_eq!(derived_second(&second.to_string()), Some(second));
            prop_assert_eq!(derived_second(&format!("0{second}")), None, "a second spelling");
        }

        #[test]
        fn every_part_of_a_secret_changes_its_fingerprint(one in proptest::collection::vec(".{0,3}", 0..4), other in proptest::collection::vec(".{0,3}", 0..4)) {
            let fingerprint = |texts: &[String]| key().receiver().fingerprint(&parts(texts));
            prop_assert_eq!(fingerprint(&one) == fingerprint(&other), one == other);
        }
    }

    #[test]
    fn a_fingerprint_of_digits_only_is_not_mistaken_for_a_derived_version() {
        // About one in two thousand fingerprints consists of digits only.
        let receiver = key().receiver();
        let of = |number: u32| parts(&[format!("secret-{number}")]);
        let digits = (0..100_000).map(of).find(|parts| receiver.fingerprint(parts).bytes().all(|byte| byte.is_ascii_digit())).unwrap();
        assert_eq!(derived_second(&receiver.user_secret_version(&digits)), None);
    }

    #[test]
    fn each_purpose_has_a_token_of_its_own() {
        let receiver = key().receiver();
        assert_ne!(receiver.evidence_token().expose_secret(), receiver.outbox_token().expose_secret());
        let other = InstallKey::new(&[8; 32]).unwrap().receiver();
        assert_ne!(other.outbox_token().expose_secret(), receiver.outbox_token().expose_secret());
    }

    #[test]
    fn the_lengths_of_keys_are_checked() {
        assert!(InstallKey::new(&[0; 31]).is_err());
        assert!(ReceiverKey::new(&[0; 33]).is_err());
    }
}
