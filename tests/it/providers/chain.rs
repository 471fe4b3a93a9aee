//! The whole chain at each provider, on the real API server with its simulator: connection, binding, hook, delivery,
//! rotation, repair, move, removal. Nothing here knows which provider it is.

use anyhow::Result;
use forgebind::api::v1alpha1::binding::RepoBindingStatus;
use forgebind::api::v1alpha1::connection::IdentityKind;
use forgebind::api::v1alpha1::{ProviderKind, ROTATE_REQUESTED_AT};
use forgebind::providers::{Hook, RepositoryPath};
use serde_json::json;

use testkit::objects::{CONNECTION, SINK, SOON, connection_condition};
use testkit::sim::Act;
use testkit::sim::github::seed::app_credential;
use testkit::story::{BINDING, Story};

/// Somebody else's hook, which is there from the beginning and must be there in the end.
const FOREIGN: &str = "https://ci.elsewhere.example/hook";
/// A binding for fewer events than the other one.
const NARROW: &str = "narrow";

impl Story {
    /// What is said of a new hook is what the next look finds, also where a hook cannot be as narrow as it is wished: a status
    /// that changes by itself would be written for every binding after every start.
    async fn rest(&self) -> Result<()> {
        let spec = json!({
            "connectionRef": {"name": CONNECTION}, "repository": self.repository(), "webhook": {"events": ["Push", "PullRequest"]},
            "sinks": [{"name": "ci", "service": {"name": SINK, "port": self.objects.sink.port(), "path": "/narrow"}}],
        });
        self.objects.create_binding(NARROW, spec).await?;
        let made = self.objects.binding_ready(NARROW).await?.status.unwrap_or_default();
        let seen = self.objects.look_again(NARROW).await?.status.unwrap_or_default();
        assert_eq!(RepoBindingStatus { last_handled: None, ..seen }, made);
        self.objects.delete_binding(NARROW).await?;
        self.objects.binding_gone(NARROW, SOON).await
    }

    /// What was asked for arrives, each once, and what was not does not.
    async fn deliver(&self) -> Result<()> {
        let repository = self.repository();
        self.push(&repository, "main").await?;
        self.push(&repository, "topic").await?;
        self.act(Act::Tag { repository: repository.clone(), name: "v1".into() }).await?;
        let (source, target, title) = ("topic".to_owned(), "main".to_owned(), "A change".to_owned());
        self.act(Act::OpenPullRequest { repository: repository.clone(), source, target, title }).await?;
        self.act(Act::EditPullRequest { repository: repository.clone(), number: 1, title: "Another title".into() }).await?;
        self.act(Act::CommentOnPullRequest { repository: repository.clone(), number: 1, text: "Fine".into() }).await?;
        self.push(&repository, "topic").await?;
        self.act(Act::ClosePullRequest { repository: repository.clone(), number: 1 }).await?;
        self.push(&repository, "main").await?;
        let expected = [
            ("dev.forgebind.push", "refs/heads/main"),
            ("dev.forgebind.push", "refs/heads/topic"),
            ("dev.forgebind.tag", "refs/tags/v1"),
            ("dev.forgebind.pull_request", "refs/heads/main"),
            ("dev.forgebind.push", "refs/heads/topic"),
            ("dev.forgebind.pull_request", "refs/heads/main"),
            ("dev.forgebind.push", "refs/heads/main"),
        ];
        self.objects.sink.wait_for(expected.len(), SOON).await?;
        self.objects.binding_says(BINDING, "Receiving", "True/Succeeded").await?;
        let events = self.objects.sink.deliveries();
        let told: Vec<_> = events.iter().map(|event| (event.header("ce-type"), event.header("ce-subject"))).collect();
        assert_eq!(told, expected);
        let web = self.objects.bindings.get(BINDING).await?.status.and_then(|status| status.repository?.web_url);
        // As the HTTP binding of CloudEvents wants it, the percent sign of an address is itself encoded.
        let source = percent_encoding::percent_decode_str(events[0].header("ce-source")).decode_utf8()?.into_owned();
        assert_eq!(Some(source), web);
        Ok(())
    }

    /// The secret changes; nothing that is sent meanwhile is refused or doubled.
    async fn rotate(&self) -> Result<()> {
        let repository = self.repository();
        let before: Vec<_> = self.hooks(&repository).await?.into_iter().map(|hook| hook.url).collect();
        let accepted = self.objects.sink.accepted().len();
        self.objects.annotate_binding(BINDING, ROTATE_REQUESTED_AT, "once").await?;
        self.push(&repository, "main").await?;
        let changed = |hooks: &[Hook]| hooks.len() == self.parts() && hooks.iter().all(|hook| !before.contains(&hook.url));
        self.hooks_until(&repository, "with a new address", changed).await?;
        self.push(&repository, "main").await?;
        self.objects.sink.wait_for(accepted + 2, SOON).await?;
        self.objects.binding_ready(BINDING).await?;
        assert_eq!(self.objects.sink.accepted().len(), accepted + 2);
        Ok(())
    }

    /// A hook that somebody bends or deletes is repaired.
    async fn repair(&self) -> Result<()> {
        let repository = self.repository();
        let hooks = self.hooks(&repository).await?;
        let (bent, removed) = (hooks[0].clone(), hooks[hooks.len() - 1].id.clone());
        self.act(Act::ChangeHook { repository: repository.clone(), hook: bent.id.clone() }).await?;
        assert_ne!(self.hooks(&repository).await?, hooks, "the change by hand is seen");
        self.objects.look_again(BINDING).await?;
        self.hooks_until(&repository, "bent back", |found| found.len() == hooks.len() && found.contains(&bent)).await?;
        self.act(Act::RemoveHook { repository: repository.clone(), hook: removed.clone() }).await?;
        self.objects.look_again(BINDING).await?;
        let whole = |found: &[Hook]| found.len() == self.parts() && found.iter().all(|hook| hook.id != removed);
        self.hooks_until(&repository, "made again", whole).await?;
        self.objects.binding_ready(BINDING).await?;
        Ok(())
    }

    /// A revoked credential is said, and a new one in its Secret is all it takes. The routes stay open meanwhile.
    async fn lose_the_credential(&self, credential: &[(&'static str, String)]) -> Result<()> {
        self.store(&self.simulated.welcome.rejected).await?;
        let connection = self.objects.connection_says("Authenticated", "False/CredentialRejected").await?;
        assert_eq!(connection_condition(&connection, "Ready"), "False/CredentialRejected");
        self.store(credential).await?;
        self.objects.connection_ready().await?;
        self.objects.binding_ready(BINDING).await?;
        Ok(())
    }

    async fn move_on(&self) -> Result<()> {
        let other = self.simulated.welcome.other.clone();
        self.objects.patch_binding(BINDING, json!({"spec": {"repository": other}})).await?;
        self.hooks_until(&other, "made at the new place", |hooks| hooks.len() == self.parts()).await?;
        self.hooks_until(&self.repository(), "gone from the former place", <[Hook]>::is_empty).await?;
        self.objects.binding_ready(BINDING).await?;
        let accepted = self.objects.sink.accepted().len();
        self.push(&other, "main").await?;
        self.objects.sink.wait_for(accepted + 1, SOON).await?;
        Ok(())
    }

    async fn part(&self) -> Result<()> {
        self.objects.delete_binding(BINDING).await?;
        self.objects.binding_gone(BINDING, SOON).await?;
        let client = self.simulated.operator();
        for repository in [self.repository(), self.simulated.welcome.other.clone()] {
            let path: RepositoryPath = self.simulated.path(&repository);
            let hooks = client.hooks(&client.repository(&path).await?).await?;
            let theirs = hooks.iter().filter(|hook| hook.url.expose() == FOREIGN).count();
            assert_eq!(hooks.len(), theirs, "nothing of ours is left in {repository}");
            assert_eq!(theirs > 0, repository == self.repository(), "and theirs is there");
        }
        Ok(())
    }
}

async fn tell(kind: ProviderKind) -> Result<()> {
    let story = Story::begin(kind).await?;
    let credential = story.simulated.welcome.credential.clone();
    tell_with(story, &credential).await
}

async fn tell_with(story: Story, credential: &[(&'static str, String)]) -> Result<()> {
    let foreign = Act::AddHook { repository: story.repository(), url: FOREIGN.to_owned() };
    story.act(foreign).await?;
    let identity = story.connect(credential).await?.status.and_then(|status| status.identity).and_then(|identity| identity.name);
    assert!(identity.is_some(), "the connection says who it is");
    story.bind().await?;
    story.rest().await?;
    story.deliver().await?;
    story.rotate().await?;
    story.repair().await?;
    story.lose_the_credential(credential).await?;
    story.move_on().await?;
    story.part().await
}

#[tokio::test]
async fn dv_01_bb_01_the_whole_chain_at_github() -> Result<()> {
    tell(ProviderKind::GitHub).await
}

#[tokio::test]
async fn df_01_dv_04_dv_10_the_whole_chain_at_github_with_an_app() -> Result<()> {
    let credential = app_credential();
    let story = Story::begin_as(ProviderKind::GitHub, "github-app").await?;
    assert!(credential.iter().all(|(key, _)| key.starts_with("githubApp")), "no token of a person");
    let (objects, simulated) = (story.objects.clone(), story.simulated.clone());
    tell_with(story, &credential).await?;
    let status = objects.connections.get(CONNECTION).await?.status.unwrap_or_default();
    assert_eq!(status.identity.map(|identity| identity.kind), Some(IdentityKind::App));
    // What changed a hook was sent with a token of the installation; this one is of a person.
    let person = simulated.welcome.credential[0].1.clone();
    let exchanges = simulated.simulator.exchanges();
    let writes: Vec<_> = exchanges.iter().filter(|exchange| exchange.is_write() && exchange.request.path.contains("/hooks")).collect();
    assert!(!writes.is_empty());
    assert!(writes.iter().all(|exchange| exchange.request.bearer() != Some(person.as_str())), "an App needs no token of a person");
    Ok(())
}

#[tokio::test]
async fn dv_01_df_01_bb_01_dv_15_the_whole_chain_at_gitlab() -> Result<()> {
    tell(ProviderKind::GitLab).await
}

#[tokio::test]
async fn dv_01_df_01_bb_01_the_whole_chain_at_bitbucket_cloud() -> Result<()> {
    tell(ProviderKind::BitbucketCloud).await
}

#[tokio::test]
async fn dv_12_the_whole_chain_at_bitbucket_data_center() -> Result<()> {
    tell(ProviderKind::BitbucketDataCenter).await
}

#[tokio::test]
async fn dv_01_df_01_pk_20_pk_25_the_whole_chain_at_azure_devops() -> Result<()> {
    tell(ProviderKind::AzureDevOps).await
}
