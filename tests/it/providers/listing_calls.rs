//! How many calls a list of the owner's repositories takes: pages of the list, of a second list where the role is in none, or one for
//! each project, and never one for a repository.

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::ProviderKind;
use futures::TryStreamExt as _;
use testkit::sim::Simulated;

/// The calls for so many repositories in these projects.
fn expected(kind: ProviderKind, repositories: usize, projects: usize) -> usize {
    let pages = |length: usize| repositories.div_ceil(length);
    match kind {
        ProviderKind::GitHub => pages(100),
        ProviderKind::GitLab | ProviderKind::BitbucketCloud => 2 * pages(100),
        // The administrator of the simulated server allows pages of 50. One more call tells the level of the token.
        ProviderKind::BitbucketDataCenter => 2 * pages(50) + 1,
        ProviderKind::AzureDevOps => 1 + projects,
        ProviderKind::Gitea => pages(50),
    }
}

async fn are_few(kind: ProviderKind) -> Result<()> {
    let simulated = Simulated::new(kind).await?;
    let client = simulated.operator();
    client.inspect().await?;
    let before = simulated.simulator.exchanges().len();
    let listed = client.repositories().try_collect::<Vec<_>>().await?.concat();
    let asked: Vec<_> = simulated.simulator.exchanges().split_off(before).into_iter().map(|exchange| exchange.request.path).collect();
    assert_eq!(listed.len(), simulated.seed_data.repositories);
    assert_eq!(asked.len(), expected(kind, listed.len(), 1), "{asked:#?}");
    // By the same rule, 10,000 repositories in ten projects.
    let most = match kind {
        ProviderKind::GitHub => 100,
        ProviderKind::GitLab | ProviderKind::BitbucketCloud | ProviderKind::Gitea => 200,
        ProviderKind::BitbucketDataCenter => 401,
        ProviderKind::AzureDevOps => 11,
    };
    assert_eq!(expected(kind, 10_000, 10), most);
    let name = simulated.seed_data.other.rsplit('/').next().context("a name")?;
    ensure!(asked.iter().all(|path| !path.ends_with(&format!("/{name}"))), "a repository was looked up: {asked:?}");
    Ok(())
}

mod pk_31_calls_of_a_listing_are_few_at {
    testkit::at_each_simulated_provider!(super::are_few);
}
