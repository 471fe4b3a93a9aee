//! The contract suite at every simulator: what every provider's client and webhook must do.

use anyhow::{Context as _, Result};
use forgebind::api::v1alpha1::ProviderKind;
use forgebind::api::v1alpha1::connection::ProviderSpec;
use forgebind::providers::registry;

use testkit::contract::run;
use testkit::contract::simulated::subject;
use testkit::samples;
use testkit::sim::Simulated;

async fn holds(kind: ProviderKind) -> Result<()> {
    run(&subject(&Simulated::new(kind).await?)).await;
    Ok(())
}

mod bb_01_dv_12_dv_20_pk_14_pk_15_the_contract_holds_at {
    testkit::at_each_simulated_provider!(super::holds);
}

#[test]
fn every_provider_is_in_the_list() -> Result<()> {
    // Serde names every variant when it is given none of them.
    let refusal = serde_json::from_str::<ProviderKind>("\"Nothing\"").unwrap_err().to_string();
    let (_, known) = refusal.split_once("expected one of ").with_context(|| refusal.clone())?;
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    assert_eq!(ProviderKind::ALL.map(|kind| kind.to_string()).to_vec(), known);
    Ok(())
}

#[test]
fn the_samples_of_every_provider_are_a_spec_of_it() -> Result<()> {
    for kind in ProviderKind::ALL {
        let samples = samples::of(kind);
        let provider = registry::provider(kind).with_context(|| format!("{kind} is not served"))?;
        assert_eq!(provider.kind(), kind);
        for spec in samples.full.iter().chain([&samples.minimal, &samples.offline.spec]) {
            let spec: ProviderSpec = serde_json::from_value(samples.provider(spec)).with_context(|| format!("{kind}: {spec}"))?;
            assert_eq!(spec.kind(), Some(kind));
            provider.endpoint(&spec).with_context(|| format!("{kind}: {spec:?}"))?;
        }
    }
    Ok(())
}
