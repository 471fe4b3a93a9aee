use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream;

use super::*;
use crate::api::v1alpha1::ProviderKind;
use crate::api::v1alpha1::connection::{IdentityKind, PermissionState};
use crate::providers::model::{Capabilities, HookUrl, Project, Scope};
use crate::providers::transport::test_server::{Server, TOKEN, json as reply};
use crate::providers::{Credential, registry};

/// Clears a terminal, turns the order of what follows, and hides a tag.
const HOSTILE: &str = "x\u{1b}[2J\u{202e}y\r\nz\u{e0041}\u{9b}31m";

const TOPIC_OF_ANY_LENGTH: &str = "x";

/// A client whose every text is hostile, or what the change makes of it.
struct Hostile(fn(&mut Repository), fn(&mut Hook));

fn repository_of(change: fn(&mut Repository)) -> Repository {
    let mut repository = Repository {
        id: "1".into(),
        path: RepositoryPath::new("acme/shop".into()),
        web_url: Some("https://git.acme.io/acme/shop".into()),
        clone_url: Some("https://git.acme.io/acme/shop.git".into()),
        ssh_url: Some("git@git.acme.io:acme/shop.git".into()),
        default_branch: Some("main".into()),
        visibility: None,
        archived: false,
        empty: false,
        manage_webhooks: PermissionFinding::missing(HOSTILE.repeat(1000)),
        project: Some(Project { id: "2".into(), key: "APP".into() }),
    };
    change(&mut repository);
    repository
}

fn listed_of(repository: Repository) -> ListedRepository {
    let topics = Some([HOSTILE, "go", "", "\u{200b}"].into_iter().map(str::to_owned).chain([TOPIC_OF_ANY_LENGTH.repeat(65)]).collect());
    ListedRepository { topics, ..ListedRepository::of(repository) }
}

fn hook_of(change: fn(&mut Hook)) -> Hook {
    let fields = BTreeMap::from([("events", "push\u{200b}".to_owned()), ("type", HOSTILE.repeat(1000))]);
    let mut hook = Hook {
        id: "7".into(),
        url: HookUrl::new("https://in.acme.io/hooks/a/1".into()),
        shape: HookShape { variant: String::new(), fields, events: BTreeSet::new() },
        state: HookState::Disabled(HOSTILE.into()),
        has_secret: None,
    };
    change(&mut hook);
    hook
}

#[async_trait]
impl Client for Hostile {
    async fn inspect(&self) -> Result<Inspection, ProviderError> {
        Ok(Inspection {
            flavor: HOSTILE.into(),
            version: Some(HOSTILE.repeat(1000)),
            identity: Some(Identity { name: Some(HOSTILE.into()), kind: IdentityKind::User }),
            credential_name: Some("\u{202e}\u{200b}".into()),
            expires_at: None,
            grants: Grants::Known(vec!["repo".into(), "admin\u{200b}".into(), "x".repeat(1_000_000)]),
            capabilities: Capabilities::default(),
            scope: None,
            warnings: vec![HOSTILE.repeat(1000); 2000],
        })
    }

    fn permission(&self, _: &Inspection, _: Permission) -> PermissionFinding {
        PermissionFinding::unknown(HOSTILE)
    }

    async fn repository(&self, _: &RepositoryPath) -> Result<Repository, ProviderError> {
        Ok(repository_of(self.0))
    }

    async fn repository_by_id(&self, _: &str) -> Result<Option<Repository>, ProviderError> {
        Ok(Some(repository_of(self.0)))
    }

    async fn branch_exists(&self, _: &Repository, _: &str) -> Result<bool, ProviderError> {
        Err(ProviderError::new(ErrorKind::Rejected, "look up the branch", HOSTILE.repeat(1000)))
    }

    async fn probe_git(&self, _: &RepositoryPath) -> Result<GitProbe, ProviderError> {
        Ok(GitProbe { heads: BTreeMap::from([(format!("refs/heads/{HOSTILE}"), "1".repeat(40))]) })
    }

    fn repositories(&self) -> BoxStream<'_, Result<Vec<ListedRepository>, ProviderError>> {
        stream::iter([Ok(vec![listed_of(repository_of(|_| {})), listed_of(repository_of(self.0))])]).boxed()
    }

    fn hook_shapes(&self, _: &BTreeSet<EventKind>) -> Vec<HookShape> {
        Vec::new()
    }

    async fn hooks(&self, _: &Repository) -> Result<Vec<Hook>, ProviderError> {
        Ok(vec![hook_of(|_| {}), hook_of(self.1)])
    }

    async fn create_hook(&self, _: &Repository, _: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        Ok(hook_of(self.1))
    }

    async fn update_hook(&self, _: &Repository, _: &str, _: &HookRequest<'_>) -> Result<Hook, ProviderError> {
        Ok(hook_of(self.1))
    }

    async fn release_hook(&self, _: &Repository, _: &str, _: &HookRelease<'_>) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn delete_hook(&self, _: &Repository, _: &str) -> Result<Deletion, ProviderError> {
        Ok(Deletion::Absent)
    }
}

fn endpoint(web: &str) -> Endpoint {
    let web: Url = web.parse().unwrap();
    Endpoint { api: web.join("/api/v1").unwrap(), web, further_origins: Vec::new(), scope: None }
}

fn entrance(repository: fn(&mut Repository), hook: fn(&mut Hook)) -> Entrance {
    Entrance::new(Arc::new(Hostile(repository, hook)), endpoint("https://git.acme.io"))
}

fn assert_shown(text: &str) {
    assert!(is_plain(text) && text.chars().count() <= WORDS, "{}", text.escape_unicode());
}

#[tokio::test]
async fn nothing_that_a_provider_tells_holds_hidden_characters_or_is_of_any_length() {
    let client = entrance(|_| {}, |_| {});
    let inspection = client.inspect().await.unwrap();
    let identity = inspection.identity.clone().unwrap().name.unwrap();
    let texts = [&inspection.flavor, inspection.version.as_ref().unwrap(), &identity];
    texts.into_iter().chain(&inspection.warnings).for_each(|text| assert_shown(text));
    assert_eq!(inspection.credential_name, None, "nothing of it can be seen");
    assert_eq!(inspection.grants, Grants::Known(vec!["repo".into()]), "a right with a hidden character is not the documented one");
    assert!(inspection.warnings.len() <= MOST);
    assert_shown(&client.permission(&inspection, Permission::ManageWebhooks).message.unwrap());
    assert_shown(&client.hook_permission(&inspection, &BTreeSet::new()).message.unwrap());
    let path = RepositoryPath::new("acme/shop".into());
    let repository = client.repository(&path).await.unwrap();
    assert_eq!(repository.manage_webhooks.state, PermissionState::Missing);
    assert_shown(repository.manage_webhooks.message.as_ref().unwrap());
    for hook in client.hooks(&repository).await.unwrap() {
        assert!(hook.shape.fields.values().all(|value| is_plain(value) && value.len() <= 4 * ADDRESS));
        assert_ne!(hook.shape.fields["events"], "push", "it is still another value than the wanted one");
        let HookState::Disabled(cause) = hook.state else { panic!("disabled") };
        assert_shown(&cause);
    }
    let listed = client.repositories().next().await.unwrap().unwrap().remove(0);
    assert_eq!(listed.topics, Some(vec!["go".to_owned()]), "a topic with a hidden character is another topic");
    let error = client.branch_exists(&repository, "main").await.unwrap_err();
    assert_shown(&error.message);
    assert!(client.probe_git(&path).await.unwrap().heads.keys().all(|name| is_plain(name)));
}

#[tokio::test]
async fn a_name_with_hidden_characters_is_refused_and_not_made_into_another_name() {
    let of_lists_and_look_ups: [fn(&mut Repository); 4] = [
        |repository| repository.id = "1\u{200b}".into(),
        |repository| repository.path = RepositoryPath::new("acme/\u{202e}pohs".into()),
        |repository| repository.path = RepositoryPath::new("x".repeat(NAME + 1)),
        |repository| repository.project.as_mut().unwrap().key.push('\u{feff}'),
    ];
    let path = RepositoryPath::new("acme/shop".into());
    for change in of_lists_and_look_ups {
        let client = entrance(change, |_| {});
        let page = client.repositories().next().await.unwrap().map(|_| ());
        let by_id = client.repository_by_id("1").await.map(|_| ());
        for result in [client.repository(&path).await.map(|_| ()), by_id, page] {
            let error = result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::ResponseInvalid);
            assert_shown(&error.message);
        }
    }
    let client = entrance(|repository| repository.project.as_mut().unwrap().id.push('\u{1b}'), |_| {});
    assert_eq!(client.repository(&path).await.unwrap_err().kind, ErrorKind::ResponseInvalid, "lists do not have the project's id");
    let client = entrance(|_| {}, |hook| hook.id.push('\u{0}'));
    let error = client.hooks(&repository_of(|_| {})).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ResponseInvalid, "a list with such a hook is no list");
}

#[test]
fn urls_of_another_origin_or_scheme_are_dropped() {
    let entrance = entrance(|_| {}, |_| {});
    for (url, kept) in [
        ("https://git.acme.io/acme/shop", true),
        ("https://git.acme.io:443/acme/shop", true),
        ("https://GIT.acme.io/acme/My%20Shop", true),
        ("http://git.acme.io/acme/shop", false),
        ("https://git.acme.io:8443/acme/shop", false),
        ("https://evil.example/acme/shop", false),
        ("https://git.acme.io.evil.example/acme/shop", false),
        ("https://git.acme.io@evil.example/acme/shop", false),
        ("https://ada:pw@git.acme.io/acme/shop", false),
        ("javascript:alert(1)//git.acme.io", false),
        ("data:text/html,x", false),
        ("file:///etc/passwd", false),
        ("ext::sh -c true", false),
        ("https://git.acme.io/\u{202e}pohs", false),
        ("//git.acme.io/acme", false),
        ("", false),
    ] {
        assert_eq!(entrance.link(url).is_some(), kept, "{url}");
    }
}

#[test]
fn ssh_addresses_lead_to_the_provider_and_hold_no_options() {
    let entrance = |web: &str| Entrance::new(Arc::new(Hostile(|_| {}, |_| {})), endpoint(web));
    for (web, address, kept) in [
        ("https://git.acme.io", "git@git.acme.io:acme/shop.git", true),
        ("https://git.acme.io", "ssh://git@git.acme.io:7999/acme/shop.git", true),
        ("https://git.acme.io", "ssh://git@ssh.git.acme.io/acme/shop.git", true),
        ("https://dev.azure.com", "git@ssh.dev.azure.com:v3/acme/My%20Shop/web", true),
        ("https://acme.visualstudio.com", "acme@vs-ssh.visualstudio.com:v3/acme/Shop/web", true),
        ("https://git.acme.io", "ssh://-oProxyCommand=touch/x", false),
        ("https://git.acme.io", "ssh://-oProxyCommand=touch@git.acme.io/x", false),
        ("https://git.acme.io", "-oProxyCommand=touch:x", false),
        ("https://git.acme.io", "git@git.acme.io:-oProxyCommand", false),
        ("https://git.acme.io", "git@evil.example:acme/shop.git", false),
        ("https://git.acme.io", "ssh://git@git.acme.io.evil.example/acme", false),
        ("https://git.acme.io", "ssh://git@git.acme.io;touch x/acme", false),
        ("https://git.acme.io", "ext::sh -c touch", false),
        ("https://git.acme.io", "git@git.acme.io:acme/\u{1b}[2J", false),
        ("https://git.acme.io", "acme/shop", false),
    ] {
        assert_eq!(entrance(web).is_ssh_address(address), kept, "{address} at {web}");
    }
}

#[tokio::test]
async fn every_providers_client_drops_hostile_addresses_and_keeps_its_own() {
    for kind in ProviderKind::ALL {
        let provider = registry::provider(kind).unwrap();
        let server = Server::start([]).await;
        let own = server.url("/acme/shop").to_string();
        let host = server.endpoint().web.host_str().unwrap().to_owned();
        let ssh = format!("ssh://git@{host}/acme/shop.git");
        let cases = [
            ([own.as_str(), own.as_str(), ssh.as_str(), "main"], true),
            (["javascript:alert(1)", "https://evil.example/acme/shop.git", "ssh://-oProxyCommand=touch/x", "--upload-pack=x"], false),
        ];
        for (texts, kept) in cases {
            let samples = &provider.profile().samples;
            let answers = (samples.listing)((samples.repositories)(texts));
            server.answer(answers.iter().map(|answer| reply(200, &answer.to_string())));
            let scope = Some(Scope { word: "organization", path: "acme".into(), project: None });
            let endpoint = Endpoint { scope, ..server.endpoint() };
            let client = provider.connect(endpoint, Credential::Token(TOKEN.into()), server.transport()).unwrap();
            let found = client.repositories().next().await.unwrap().unwrap().remove(0);
            assert_eq!(found.web_url.is_some(), kept, "{kind}: {:?}", found.web_url);
            assert_eq!(found.default_branch.is_some(), kept && provider.profile().samples.lists_branches, "{kind}");
        }
    }
}
