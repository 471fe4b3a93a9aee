//! Determines the owner of a hook from its URL alone. The status never makes a hook ours.

use url::Url;

use crate::api::v1alpha1::binding::ConnectionTarget;
use crate::controllers::{Keys, Settings};
use crate::protocol::keys::{ConnectedBinding, HOOK_ID_LENGTH};
use crate::providers::HookUrl;

/// Query parameter that marks our hooks with a custom URL.
const MARK: &str = "forgebind";
const HOOKS: &str = "hooks";
/// Placeholder for the unguessable part of a displayed URL.
const MASKED: &str = "/…";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookIdentity {
    id: String,
    mark: String,
    /// Origin in the marks that we set.
    origin: String,
    /// Origins in marks that count as ours: those of every present and former public URL, and the origin for no public URL.
    origins: Vec<String>,
    wanted: Option<Url>,
    /// Present and former public URLs at which our hooks may deliver.
    bases: Vec<Url>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookOwner {
    /// Ours, with delivery to our receiver.
    Receiver { secret_version: String },
    /// Ours, with delivery to a custom URL.
    Custom {
        secret_version: String,
        /// The URL without our mark.
        url: Url,
    },
    /// Carries our id under a foreign host: this is a copy of a cluster, or the public URL was not declared as former.
    AnotherHost { host: String },
    /// Carries our mark with an origin that is not ours: the same two cases, for a hook with a custom URL.
    AnotherOrigin,
    Foreign {
        /// The URL; `None` if it cannot be parsed.
        url: Option<Url>,
    },
}

impl HookIdentity {
    /// Identity of a binding (`namespace`, `name`) through a connection. It is the same at every public URL; `wanted` is the one
    /// to which its hooks deliver.
    pub fn new(keys: &Keys, settings: &Settings, wanted: Option<&Url>, binding: (&str, &str), connection: &ConnectionTarget) -> Self {
        let (namespace, name) = binding;
        let owner = ConnectedBinding::new(namespace, name, connection);
        let bases: Vec<Url> = settings.public_urls.all().cloned().collect();
        let origin_of = |url: Option<&Url>| keys.controller.origin(&url.map(base_text).unwrap_or_default());
        Self {
            id: keys.receiver.hook_id(owner),
            mark: keys.controller.mark(namespace, name),
            // The origin distinguishes an installation from its copy, so it must not depend on the public URL that a connection
            // chooses.
            origin: origin_of(bases.first()),
            origins: bases.iter().map(Some).chain([None]).map(origin_of).collect(),
            wanted: wanted.cloned(),
            bases,
        }
    }

    /// The URL at which our receiver takes deliveries; `None` without a public URL.
    pub fn receiver_url(&self, secret_version: &str) -> Option<HookUrl> {
        let mut url = self.wanted.clone()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend([HOOKS, &self.id, secret_version]);
        Some(HookUrl::new(url.into()))
    }

    /// The receiver URL without its unguessable part, for display.
    pub fn masked_receiver_url(&self) -> Option<String> {
        masked(self.wanted.as_ref()?)
    }

    /// The displayable URL of a hook of ours; empty for any other hook.
    pub fn masked_url(&self, url: &HookUrl) -> String {
        let Ok(url) = Url::parse(url.expose()) else { return String::new() };
        if self.marked(&url).is_some() {
            return without_mark(&url).into();
        }
        self.secret_version_in_path(&url).and_then(|(base, _)| masked(&base)).unwrap_or_default()
    }

    /// Whether a hook delivers to a receiver at one of our public URLs, with any identity.
    pub fn is_at_our_receiver(&self, url: &HookUrl) -> bool {
        let at = |base: &Url| masked(base).is_some_and(|masked| url.expose().starts_with(masked.trim_end_matches('…')));
        self.bases.iter().any(at)
    }

    pub fn custom_url(&self, custom: &Url, secret_version: &str) -> HookUrl {
        let mut url = custom.clone();
        url.query_pairs_mut().append_pair(MARK, &format!("{}.{}.{secret_version}", self.mark, self.origin));
        HookUrl::new(url.into())
    }

    pub fn classify(&self, url: &HookUrl) -> HookOwner {
        let Ok(url) = Url::parse(url.expose()) else { return HookOwner::Foreign { url: None } };
        match self.marked(&url) {
            Some((origin, secret_version)) if self.origins.contains(&origin) => {
                return HookOwner::Custom { secret_version, url: without_mark(&url) };
            }
            Some(_) => return HookOwner::AnotherOrigin,
            None => {}
        }
        match self.secret_version_in_path(&url) {
            Some((base, secret_version)) if self.bases.iter().any(|ours| same_base(ours, &base)) => HookOwner::Receiver { secret_version },
            Some((base, _)) => HookOwner::AnotherHost { host: host_of(&base) },
            None => HookOwner::Foreign { url: Some(url) },
        }
    }

    /// Whether a hook is ours. For a custom URL only the mark counts.
    pub fn is_ours(&self, url: &HookUrl) -> bool {
        matches!(self.classify(url), HookOwner::Receiver { .. } | HookOwner::Custom { .. })
    }

    fn marked(&self, url: &Url) -> Option<(String, String)> {
        url.query().unwrap_or_default().split('&').filter_map(read_mark).find_map(|(mark, origin, secret_version)| {
            let ours = mark == self.mark;
            ours.then_some((origin, secret_version))
        })
    }

    /// Whether a hook with a custom URL was made by this installation for another of its bindings.
    pub fn is_of_another_binding(&self, url: &HookUrl) -> bool {
        let Ok(url) = Url::parse(url.expose()) else { return false };
        let mut marks = url.query().unwrap_or_default().split('&').filter_map(read_mark);
        marks.any(|(mark, origin, _)| mark != self.mark && self.origins.contains(&origin))
    }

    /// The URL before `/hooks`, and the secret version after our id.
    fn secret_version_in_path(&self, url: &Url) -> Option<(Url, String)> {
        let (base, id, secret_version) = delivery_path(url)?;
        (id == self.id).then_some((base, secret_version))
    }

    /// Id of a hook that delivers to our receiver and is not this binding's: it belongs to another binding or to none.
    pub fn other_id(&self, url: &HookUrl) -> Option<String> {
        let (base, id, _) = delivery_path(&Url::parse(url.expose()).ok()?)?;
        (id != self.id && self.bases.iter().any(|ours| same_base(ours, &base))).then_some(id)
    }
}

/// The URL before `/hooks`, the id and the secret version of a Forgebind receiver URL; `None` for any other URL.
fn delivery_path(url: &Url) -> Option<(Url, String, String)> {
    let segments: Vec<&str> = url.path_segments()?.collect();
    let [before @ .., hooks, id, secret_version] = segments.as_slice() else { return None };
    if *hooks != HOOKS || id.len() != HOOK_ID_LENGTH {
        return None;
    }
    let mut base = url.clone();
    base.set_query(None);
    base.set_path(&before.join("/"));
    Some((base, (*id).to_owned(), (*secret_version).to_owned()))
}

/// Whether a hook was made by Forgebind, by this installation or any other, as far as its URL shows.
pub fn is_alike(url: &HookUrl) -> bool {
    is_marked(url) || Url::parse(url.expose()).is_ok_and(|url| delivery_path(&url).is_some())
}

/// Whether a hook carries a mark of Forgebind, of this installation or any other.
pub fn is_marked(url: &HookUrl) -> bool {
    Url::parse(url.expose()).is_ok_and(|url| url.query().unwrap_or_default().split('&').any(|part| read_mark(part).is_some()))
}

/// Identity, origin and version if this part of a query is a mark of Forgebind. A parameter of the same name in another form
/// belongs to the endpoint.
fn read_mark(part: &str) -> Option<(String, String, String)> {
    let (_, value) = url::form_urlencoded::parse(part.as_bytes()).next().filter(|(name, _)| name == MARK)?;
    let mut parts = value.splitn(3, '.').map(str::to_owned);
    let (mark, origin, secret_version) = (parts.next()?, parts.next()?, parts.next()?);
    (mark.len() == HOOK_ID_LENGTH).then_some((mark, origin, secret_version))
}

/// Receiver URL below a public URL, without the unguessable part.
fn masked(base: &Url) -> Option<String> {
    let mut url = base.clone();
    url.path_segments_mut().ok()?.pop_if_empty().push(HOOKS);
    Some(format!("{url}{MASKED}"))
}

/// The custom URL in a URL displayed in a status; `None` for a Forgebind receiver.
pub fn endpoint_of_another(told: &str) -> Option<Url> {
    Url::parse(told).ok().filter(|_| !told.ends_with(MASKED))
}

/// Host, with the port if the URL has one.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn same_base(one: &Url, other: &Url) -> bool {
    base_text(one) == base_text(other)
}

fn base_text(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}://{}:{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path().trim_end_matches('/'))
}

/// A URL without any mark of ours in its query. The rest of the query stays unchanged.
pub fn without_mark(url: &Url) -> Url {
    let existing = url.query().unwrap_or_default().split('&').filter(|part| read_mark(part).is_none()).collect::<Vec<_>>().join("&");
    let mut bare = url.clone();
    bare.set_query(Some(existing.as_str()).filter(|existing| !existing.is_empty()));
    bare
}

/// Normal form of a URL: without our mark, host in lower case and without its last dot, with the port, without a slash at the
/// end, with one form of percent-encoding, and with sorted query parameters.
pub fn normal_form(url: &Url) -> String {
    let bare = without_mark(url);
    let host = bare.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let path = one_encoding(bare.path());
    let mut query: Vec<String> = bare.query().unwrap_or_default().split('&').map(one_encoding).collect();
    query.sort_unstable();
    let port = bare.port_or_known_default().unwrap_or_default();
    format!("{}://{host}:{port}{}?{}", bare.scheme(), path.trim_end_matches('/'), query.join("&"))
}

/// Whether two URLs have the same host; ports are ignored.
pub fn same_host(one: &Url, other: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
    host(one) == host(other)
}

/// Decodes characters that need no percent-encoding and capitalises hexadecimal digits (RFC 3986, section 6.2.2).
fn one_encoding(text: &str) -> String {
    let mut parts = text.split('%');
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte.map(char::from), part.get(2..)) {
            (Some(plain), Some(rest)) if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => {
                normal.push(plain);
                normal.push_str(rest);
            }
            (Some(_), Some(rest)) => {
                normal.push('%');
                normal.extend(part.chars().take(2).map(|digit| digit.to_ascii_uppercase()));
                normal.push_str(rest);
            }
            _ => {
                normal.push('%');
                normal.push_str(part);
            }
        }
    }
    normal
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::network::public_urls::PublicUrls;
    use crate::protocol::keys::InstallKey;

    /// Public URL with the name `internal`.
    pub(crate) const INTERNAL: &str = "https://hooks.acme.corp:8443/git";

    /// The connection in the tests.
    pub(crate) fn connection() -> ConnectionTarget {
        ConnectionTarget { namespace: "platform".to_owned(), name: "acme".to_owned() }
    }

    /// The owner of a hook through that connection.
    pub(crate) fn owner<'a>(namespace: &'a str, name: &'a str) -> ConnectedBinding<'a> {
        ConnectedBinding { namespace, name, connection: ("platform", "acme") }
    }

    pub(crate) fn keys(byte: u8) -> Keys {
        let install = InstallKey::new(&[byte; 32]).unwrap();
        Keys { fingerprint: install.fingerprint(), receiver: install.receiver(), controller: install.controller() }
    }

    pub(crate) fn settings(public: &str, former: &[&str]) -> Settings {
        Settings {
            public_urls: PublicUrls {
                default: Some(Url::parse(public).unwrap()),
                named: BTreeMap::from([("internal".to_owned(), Url::parse(INTERNAL).unwrap())]),
                former: former.iter().map(|url| Url::parse(url).unwrap()).collect(),
            },
            namespace: "forgebind-system".to_owned(),
            providers: crate::api::v1alpha1::ProviderKind::ALL.into_iter().collect(),
            read_only: false,
            cleanup_timeout: None,
            missing_grant_timeout: std::time::Duration::from_secs(3600),
        }
    }

    /// The identity of team/shop through a connection that chooses the public URL of this name.
    pub(crate) fn identity(byte: u8, settings: &Settings, name: Option<&str>) -> HookIdentity {
        HookIdentity::new(&keys(byte), settings, settings.public_urls.choose(name).ok(), ("team", "shop"), &connection())
    }

    fn ours() -> HookIdentity {
        identity(1, &settings("https://hooks.acme.io/git/", &["https://old.acme.io"]), None)
    }

    #[test]
    fn our_own_urls_are_recognised() {
        let url = ours().receiver_url("17").unwrap();
        assert!(url.expose().starts_with("https://hooks.acme.io/git/hooks/"), "{}", url.expose());
        assert_eq!(ours().classify(&url), HookOwner::Receiver { secret_version: "17".to_owned() });
        let custom = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        let marked = ours().custom_url(&custom, "ab");
        assert_eq!(ours().classify(&marked), HookOwner::Custom { secret_version: "ab".to_owned(), url: custom });
    }

    #[test]
    fn a_former_public_url_is_ours_and_an_undeclared_one_is_left_alone() {
        let id = ours().receiver_url("1").unwrap().expose().to_owned();
        let moved = HookUrl::new(id.replace("https://hooks.acme.io/git", "https://old.acme.io"));
        assert_eq!(ours().classify(&moved), HookOwner::Receiver { secret_version: "1".to_owned() });
        let copied = HookUrl::new(id.replace("hooks.acme.io", "staging.acme.io:8443"));
        assert_eq!(ours().classify(&copied), HookOwner::AnotherHost { host: "staging.acme.io:8443".to_owned() });
    }

    #[test]
    fn every_public_url_is_ours_whichever_the_connection_chooses() {
        let settings = settings("https://hooks.acme.io", &[]);
        let unknown = identity(1, &settings, Some("intern"));
        assert_eq!(unknown.receiver_url("1"), None);
        for name in [None, Some("internal")] {
            let there = identity(1, &settings, name);
            let url = there.receiver_url("1").unwrap();
            for anywhere in [None, Some("internal"), Some("intern")].map(|name| identity(1, &settings, name)) {
                assert_eq!(anywhere.classify(&url), HookOwner::Receiver { secret_version: "1".to_owned() });
                assert_eq!(Some(anywhere.masked_url(&url)), there.masked_receiver_url(), "shown is where it delivers");
            }
        }
        assert_eq!(identity(1, &settings, Some("internal")).masked_receiver_url(), Some(format!("{INTERNAL}/hooks/…")));
    }

    #[test]
    fn a_mark_is_ours_under_our_public_urls_and_left_alone_under_any_other() {
        let custom = Url::parse("https://argocd.acme.io/api/webhook?team=shop").unwrap();
        let under = |public: &str, former: &[&str]| identity(1, &settings(public, former), None);
        let made = ours().custom_url(&custom, "ab");
        for (here, known) in [
            (under("https://hooks.acme.io:443/git", &[]), true),
            (under("https://new.acme.io", &["https://hooks.acme.io/git"]), true),
            (under("https://staging.acme.io", &[]), false),
        ] {
            let expected =
                if known { HookOwner::Custom { secret_version: "ab".to_owned(), url: custom.clone() } } else { HookOwner::AnotherOrigin };
            assert_eq!(here.classify(&made), expected, "{here:?}");
            assert_eq!(here.is_ours(&made), known);
        }
        // An installation that got its first public URL keeps the hooks that it made before.
        let without = Settings { public_urls: PublicUrls::default(), ..settings("https://hooks.acme.io", &[]) };
        let before = identity(1, &without, None).custom_url(&custom, "ab");
        assert!(ours().is_ours(&before));
    }

    #[test]
    fn hooks_at_our_receiver_are_told_from_those_elsewhere() {
        let other = identity(2, &settings("https://hooks.acme.io/git", &[]), None).receiver_url("1").unwrap();
        assert_eq!(ours().other_id(&other), Some(keys(2).receiver.hook_id(owner("team", "shop"))));
        assert_eq!(ours().other_id(&ours().receiver_url("1").unwrap()), None, "this binding's own");
        let elsewhere = HookUrl::new(other.expose().replace("hooks.acme.io", "hooks.other.io"));
        assert_eq!(ours().other_id(&elsewhere), None);
        assert!(is_alike(&elsewhere) && !is_alike(&HookUrl::new("https://argocd.acme.io/api/webhook".to_owned())));
    }

    #[test]
    fn a_mark_is_merged_into_a_query_and_taken_out_again_letter_by_letter() {
        for endpoint in [
            "https://ci.acme.io/hooks?job=shop",
            "https://ci.acme.io/generic-webhook-trigger/invoke?token=a%20b&empty=&flag&x=%2f",
            "https://acme.webhook.office.com/webhookb2/1@2/IncomingWebhook/3?a=1+2&a=1",
            "https://ci.acme.io/hooks?forgebind=their-own&forgebind=a.b.c",
            "https://ci.acme.io/hooks",
        ] {
            let custom = Url::parse(endpoint).unwrap();
            let marked = ours().custom_url(&custom, "17");
            assert_ne!(marked.expose(), endpoint);
            assert_eq!(ours().classify(&marked), HookOwner::Custom { secret_version: "17".to_owned(), url: custom.clone() }, "{endpoint}");
            assert_eq!(without_mark(&Url::parse(marked.expose()).unwrap()).as_str(), endpoint);
            assert_eq!(ours().masked_url(&marked), endpoint, "what the status tells");
            assert!(!is_marked(&HookUrl::new(endpoint.to_owned())), "{endpoint}");
        }
    }

    #[test]
    fn an_address_has_one_normal_form_in_every_spelling() {
        let normal = |text: &str| normal_form(&Url::parse(text).unwrap());
        let same = [
            "https://ci.acme.io/hooks/a%2Fb?x=%7E1&y=2",
            "https://ci.acme.io:443/hooks/a%2fb?x=~1&y=2",
            "HTTPS://CI.Acme.IO/hooks/a%2Fb/?y=2&x=%7e1",
            "https://ci.acme.io./%68ooks/a%2Fb?x=~1&y=2",
        ];
        for spelling in same {
            assert_eq!(normal(spelling), normal(same[0]), "{spelling}");
            let marked = ours().custom_url(&Url::parse(spelling).unwrap(), "1");
            assert_eq!(normal(marked.expose()), normal(same[0]), "with our mark: {spelling}");
        }
        for other in [
            "http://ci.acme.io/hooks/a%2Fb?x=~1&y=2",
            "https://ci.acme.io:8443/hooks/a%2Fb?x=~1&y=2",
            "https://ci.acme.io/hooks/a/b?x=~1&y=2",
            "https://ci.acme.io/Hooks/a%2Fb?x=~1&y=2",
            "https://ci.acme.io/hooks/a%2Fb?x=~1&y=3",
            "https://ci.acme.io/hooks/a%2Fb?x=~1",
        ] {
            assert_ne!(normal(other), normal(same[0]), "{other}");
        }
        assert_eq!(normal("https://ci.acme.io"), normal("https://ci.acme.io/"));
        assert_eq!(one_encoding("%"), "%");
        assert_eq!(one_encoding("%4"), "%4");
        assert_eq!(one_encoding("%zz%41"), "%zzA");
    }

    #[test]
    fn hooks_of_others_are_foreign() {
        let other = identity(2, &settings("https://hooks.acme.io/git", &[]), None);
        assert!(matches!(ours().classify(&other.receiver_url("1").unwrap()), HookOwner::Foreign { .. }));
        let custom = Url::parse("https://argocd.acme.io/api/webhook").unwrap();
        assert!(matches!(ours().classify(&other.custom_url(&custom, "1")), HookOwner::Foreign { .. }));
        assert!(matches!(ours().classify(&HookUrl::new("no url".to_owned())), HookOwner::Foreign { url: None }));
    }
}
