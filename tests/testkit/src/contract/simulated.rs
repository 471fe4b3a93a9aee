//! The subjects of the contract suite at each simulator.

use std::sync::Arc;

use async_trait::async_trait;
use forgebind::providers::RepositoryPath;

use crate::contract::{ByHand, Prepared, Subject};
use crate::sim::{Act, Simulated, Simulator};

/// What the contract suite is asked about.
pub fn subject(simulated: &Simulated) -> Subject {
    let welcome = simulated.welcome.clone();
    let unknown = format!("{}-of-nobody", welcome.repository);
    Subject {
        provider: simulated.provider,
        endpoint: simulated.endpoint.clone(),
        client: simulated.operator(),
        rejected: simulated.client(&welcome.rejected),
        anonymous: simulated.client(&[]),
        repository: welcome.repository,
        unknown,
        target: "https://hooks.acme.example".to_owned(),
        prepared: Some(Prepared {
            outsider: simulated.client(&welcome.outsider),
            account: welcome.account,
            clone_urls: welcome.spellings,
            branch: welcome.branch,
            empty: welcome.empty,
            archived: welcome.archived,
            renamed: welcome.renamed,
            crowded: welcome.crowded,
            repositories: welcome.repositories,
            has_pages: welcome.has_pages,
            tells_version: welcome.tells_version,
            can_pause: welcome.can_pause,
            by_hand: Box::new(AtSimulator(Arc::clone(&simulated.simulator))),
        }),
    }
}

struct AtSimulator(Arc<Simulator>);

#[async_trait]
impl ByHand for AtSimulator {
    async fn pause(&self, repository: &RepositoryPath, hook: &str) {
        let act = Act::PauseHook { repository: repository.as_str().to_owned(), hook: hook.to_owned() };
        self.0.act(&act).await.unwrap();
    }

    fn writes(&self) -> usize {
        self.0.writes()
    }
}
