//! Lost answers, lists that lag behind, and hidden hooks, with the real operator: it never creates a second hook and never loses
//! one.

use anyhow::Result;
use forgebind::api::v1alpha1::ProviderKind;
use http::Method;

use testkit::provider_env::{BINDING, ProviderEnv};
use testkit::sim::requests::requests;
use testkit::sim::{Fault, Order, Refusal};
use testkit::test_namespace::{OVERLAPPED, SOON};
use testkit::wait::{Seen, wait_until};

fn order(request: (Method, &str), skip: usize, times: usize, fault: Fault) -> Order {
    Order { method: Some(request.0), containing: request.1.to_owned(), skip, times, fault }
}

/// The provider performs the first creation but its answer is lost, and for a while the list does not show the hook.
async fn a_lost_creation_is_found_again(kind: ProviderKind) -> Result<ProviderEnv> {
    let env = ProviderEnv::begin(kind).await?;
    let simulator = &env.simulated.simulator;
    let requests = requests(kind);
    simulator.order(order(requests.create, 0, 1, Fault::LostAnswer));
    // The second read of the list, the first one after the creation, still shows the earlier state.
    simulator.order(order(requests.list, 1, 1, Fault::Stale));
    env.connect(&env.simulated.seed_data.credential).await?;
    env.bind().await?;
    assert_eq!(simulator.strikes(), [1, 1], "{kind}: both faults applied");
    // A later probe finds and removes a second hook that was created too early.
    env.hooks_until(&env.repository(), "one for each variant", |hooks| hooks.len() == env.variants()).await?;
    Ok(env)
}

/// The provider refuses the deletion, then its answer is lost; in the end no hook is left.
async fn a_deletion_comes_to_its_end(env: ProviderEnv) -> Result<()> {
    let simulator = &env.simulated.simulator;
    let requests = requests(simulator.product().kind());
    simulator.behave();
    simulator.order(order(requests.delete.clone(), 0, 1, Fault::Refuse(Refusal::Failed(502))));
    simulator.order(order(requests.delete, 1, 1, Fault::LostAnswer));
    let repository = env.repository();
    env.objects.delete_binding(BINDING).await?;
    env.objects.binding_gone(BINDING, OVERLAPPED).await?;
    assert!(env.hooks(&repository).await?.is_empty());
    assert_eq!(simulator.strikes(), [1, 1], "both faults applied");
    Ok(())
}

/// While every answer is 404, the binding keeps its hook ids; it removes the hook once the provider shows it again.
async fn what_is_hidden_is_not_forgotten(kind: ProviderKind) -> Result<()> {
    let env = ProviderEnv::begin(kind).await?;
    env.connect(&env.simulated.seed_data.credential).await?;
    env.bind().await?;
    let simulator = &env.simulated.simulator;
    simulator.order(Order::always(Fault::Refuse(Refusal::NotFound)));
    env.objects.delete_binding(BINDING).await?;
    wait_until("the deletion to be tried", SOON, async || {
        let blocked = env.objects.bindings.get(BINDING).await?.status.unwrap_or_default().conditions;
        let blocked = blocked.iter().find(|condition| condition.type_ == "CleanupBlocked").map(|condition| condition.message.clone());
        Ok(blocked.map_or(Seen::NotYet("not blocked".to_owned()), Seen::Done))
    })
    .await?;
    simulator.behave();
    assert_eq!(env.hooks(&env.repository()).await?.len(), env.variants(), "{kind}: still there");
    env.objects.annotate_binding(BINDING, forgebind::api::v1alpha1::RECONCILE_REQUESTED_AT, "now").await?;
    env.objects.binding_gone(BINDING, OVERLAPPED).await?;
    assert!(env.hooks(&env.repository()).await?.is_empty(), "{kind}: removed in the end");
    Ok(())
}

async fn all(kind: ProviderKind) -> Result<()> {
    let env = a_lost_creation_is_found_again(kind).await?;
    a_deletion_comes_to_its_end(env).await?;
    what_is_hidden_is_not_forgotten(kind).await
}

mod pk_25_answers_are_lost_and_no_hook_is_doubled_or_lost_at {
    testkit::at_each_simulated_provider!(super::all);
}
