//! The subjects of the contract suite at each simulator.

use std::sync::Arc;

use async_trait::async_trait;
use forgebind::providers::RepositoryPath;

use crate::contract::{ByHand, Prepared, Subject};
use crate::sim::{Simulated, Simulator, UserAction};

/// What the contract suite is asked about.
pub fn subject(simulated: &Simulated) -> Subject {
    let seed_data = simulated.seed_data.clone();
    let unknown = format!("{}-of-nobody", seed_data.repository);
    Subject {
        provider: simulated.provider,
        endpoint: simulated.endpoint.clone(),
        client: simulated.operator(),
        rejected: simulated.client(&seed_data.rejected),
        anonymous: simulated.client(&[]),
        repository: seed_data.repository,
        unknown,
        target: "https://hooks.acme.example".to_owned(),
        prepared: Some(Prepared {
            outsider: simulated.client(&seed_data.outsider),
            reader: Some(simulated.client(&seed_data.reader)),
            account: seed_data.account,
            clone_urls: seed_data.spellings,
            branch: seed_data.branch,
            empty: seed_data.empty,
            archived: seed_data.archived,
            renamed: seed_data.renamed,
            crowded: seed_data.crowded,
            repositories: seed_data.repositories,
            has_pages: seed_data.has_pages,
            tells_version: seed_data.tells_version,
            can_pause: seed_data.can_pause,
            by_hand: Box::new(AtSimulator(Arc::clone(&simulated.simulator))),
        }),
    }
}

struct AtSimulator(Arc<Simulator>);

#[async_trait]
impl ByHand for AtSimulator {
    async fn pause(&self, repository: &RepositoryPath, hook: &str) {
        let act = UserAction::PauseHook { repository: repository.as_str().to_owned(), hook: hook.to_owned() };
        self.0.act(&act).await.unwrap();
    }

    fn writes(&self) -> usize {
        self.0.writes()
    }
}
