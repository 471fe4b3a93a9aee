//! The whole chain at each provider, on the real API server with its simulator: connection, binding, hook, delivery,
//! rotation, repair, move, removal. Nothing here knows which provider it is.

use anyhow::Result;
use forgebind::api::v1alpha1::{EventKind, ProviderKind, ROTATE_REQUESTED_AT};
use forgebind::providers::{Hook, RepositoryPath};
use serde_json::json;

use crate::objects::{CONNECTION, Objects, SINK, SOON, binding_condition, connection_condition};
use crate::sim::{Act, Happening, Simulated};
use crate::support::operator::Operator;
use crate::support::shared;
use crate::support::wait::{Seen, wait_until};

const BINDING: &str = "shop";
/// Somebody else's hook, which is there from the beginning and must be there in the end.
const FOREIGN: &str = "https://ci.elsewhere.example/hook";

/// One provider's simulator and the objects that are about it.
struct Story {
    objects: Objects,
    simulated: Simulated,
    operator: Operator,
}

impl Story {
    async fn begin(kind: ProviderKind) -> Result<Self> {
        let plane = shared::control_plane().await?;
        let objects = Objects::new(plane, kind.flag()).await?;
        let simulated = Simulated::new(kind).await?;
        let credential: Vec<_> = simulated.welcome.credential.iter().map(|(key, value)| (*key, value.as_str())).collect();
        plane.cluster().apply_secret(&objects.namespace, "credential", &credential).await?;
        let foreign = Act::AddHook { repository: simulated.welcome.repository.clone(), url: FOREIGN.to_owned() };
        simulated.simulator.act(&foreign).await?;
        let operator = objects.operator().await?;
        Ok(Self { objects, simulated, operator })
    }

    /// The hooks of a repository that deliver to the operator.
    async fn hooks(&self, repository: &str) -> Result<Vec<Hook>> {
        let client = self.simulated.operator();
        let found = client.repository(&self.simulated.path(repository)).await?;
        let hooks = client.hooks(&found).await?;
        Ok(hooks.into_iter().filter(|hook| hook.url.expose().starts_with(&self.operator.url())).collect())
    }

    /// Waits until these hooks fit.
    async fn hooks_until(&self, repository: &str, what: &str, fits: impl Fn(&[Hook]) -> bool) -> Result<Vec<Hook>> {
        wait_until(&format!("the hooks of {repository}: {what}"), SOON, async || {
            let hooks = self.hooks(repository).await?;
            Ok(if fits(&hooks) { Seen::Done(hooks) } else { Seen::NotYet(format!("{hooks:?}")) })
        })
        .await
    }

    async fn act(&self, act: Act) -> Result<Vec<Happening>> {
        self.simulated.simulator.act(&act).await
    }

    async fn push(&self, repository: &str, branch: &str) -> Result<()> {
        let (repository, branch) = (repository.to_owned(), branch.to_owned());
        self.act(Act::Push { repository, branch, message: "A commit".to_owned() }).await.map(drop)
    }

    /// How many hooks stand for the wanted events.
    fn parts(&self) -> usize {
        let events = [EventKind::Push, EventKind::Tag, EventKind::PullRequest].into();
        self.simulated.operator().hook_shapes(&events).len()
    }

    fn repository(&self) -> String {
        self.simulated.welcome.repository.clone()
    }

    async fn connect(&self) -> Result<()> {
        let spec = json!({"provider": self.simulated.welcome.provider, "credentials": {"secretRef": {"name": "credential"}}});
        self.objects.create_connection(spec).await?;
        let connection = self.objects.connection_ready().await?;
        let status = connection.status.unwrap_or_default();
        assert_eq!(status.identity.and_then(|identity| identity.name), Some(self.simulated.welcome.account.clone()));
        Ok(())
    }

    async fn bind(&self) -> Result<()> {
        let spec = json!({
            "connectionRef": {"name": CONNECTION},
            "repository": self.repository(),
            "branch": "main",
            "webhook": {"events": ["Push", "Tag", "PullRequest"]},
            "sinks": [{"name": "ci", "service": {"name": SINK, "port": self.objects.sink.port(), "path": "/events"},
                "branches": ["main", "topic", "v1"]}],
        });
        self.objects.create_binding(BINDING, spec).await?;
        let binding = self.objects.binding_ready(BINDING).await?;
        assert_eq!(binding_condition(&binding, "WebhookInSync"), "True/Succeeded");
        assert_eq!(self.hooks(&self.repository()).await?.len(), self.parts());
        Ok(())
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
    async fn lose_the_credential(&self) -> Result<()> {
        let (namespace, welcome) = (&self.objects.namespace, &self.simulated.welcome);
        let data = |pairs: &[(&'static str, String)]| pairs.iter().map(|(key, value)| (*key, value.clone())).collect::<Vec<_>>();
        let apply = async |pairs: Vec<(&'static str, String)>| {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
            self.objects.cluster().apply_secret(namespace, "credential", &pairs).await
        };
        apply(data(&welcome.rejected)).await?;
        let connection = self.objects.connection_says("Authenticated", "False/CredentialRejected").await?;
        assert_eq!(connection_condition(&connection, "Ready"), "False/CredentialRejected");
        apply(data(&welcome.credential)).await?;
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
    story.connect().await?;
    story.bind().await?;
    story.deliver().await?;
    story.rotate().await?;
    story.repair().await?;
    story.lose_the_credential().await?;
    story.move_on().await?;
    story.part().await
}

#[tokio::test]
async fn bb_01_the_whole_chain_at_github() -> Result<()> {
    tell(ProviderKind::GitHub).await
}

#[tokio::test]
async fn bb_01_dv_15_the_whole_chain_at_gitlab() -> Result<()> {
    tell(ProviderKind::GitLab).await
}

#[tokio::test]
async fn bb_01_the_whole_chain_at_bitbucket_cloud() -> Result<()> {
    tell(ProviderKind::BitbucketCloud).await
}

#[tokio::test]
async fn dv_12_the_whole_chain_at_bitbucket_data_center() -> Result<()> {
    tell(ProviderKind::BitbucketDataCenter).await
}

#[tokio::test]
async fn pk_20_pk_25_the_whole_chain_at_azure_devops() -> Result<()> {
    tell(ProviderKind::AzureDevOps).await
}
