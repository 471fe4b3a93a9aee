//! The latency of a namespace beside another one that does its worst.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::join_all;
use testkit::sink::{Behavior, SinkServer};

use crate::Progress;
use crate::deliveries::{Deliveries, Load, Shape, Target};
use crate::figures::Figures;
use crate::receiver::{Servers, Signer, Subject, milliseconds};

/// Bindings of each namespace that get deliveries.
const BINDINGS: usize = 16;
/// Deliveries of the namespace that is measured, and how many a second.
const COUNT: usize = 2_000;
const PACE: f64 = 250.0;
/// How long the other one is at work before.
const LEAD: Duration = Duration::from_secs(1);
/// The first commit, far from those of the other measurements.
const FIRST: usize = 1 << 40;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Two namespaces with a sink each.
pub struct Tenants<'a> {
    pub targets: [Vec<Target>; 2],
    pub sinks: [&'a SinkServer; 2],
}

/// Measures the first namespace alone, then beside the second.
///
/// # Errors
///
/// When a delivery of the first namespace is not accepted, or does not reach its sink.
pub async fn measure(subject: &Subject<'_>, tenants: &Tenants<'_>, figures: &mut Figures, progress: &Progress) -> Result<()> {
    progress.say("delivering for one namespace alone");
    let [measured, worst] = tenants.targets.each_ref().map(|targets| targets.get(..BINDINGS).unwrap_or(targets));
    tenants.sinks[0].behave(Behavior::Accept);
    tenants.sinks[1].behave(Behavior::Hang);
    let servers = Servers::start(subject, subject.options.beside()?).await?;
    let load = Load { connections: 8, pace: Some(PACE), expected: &[200, 202] };
    let mut signer = Signer::new(measured, FIRST);
    let shape = Shape { length: 8 * KIB, branch: "main", branches: 1 };
    let (first, second) = (signer.sign(COUNT, shape)?, signer.sign(COUNT, shape)?);
    let alone = servers.receiver.round(&first, load).await?;

    progress.say("delivering for it beside a namespace that does its worst");
    let worst = worst_of(worst)?;
    let disturbing = join_all(worst.iter().map(|(deliveries, load)| deliveries.send(servers.receiver.address, *load)));
    let delivering = async {
        tokio::time::sleep(LEAD).await;
        let round = servers.receiver.round(&second, load).await;
        for (deliveries, _) in &worst {
            deliveries.stop();
        }
        round
    };
    let (beside, answers) = tokio::join!(delivering, disturbing);
    let beside = beside?;
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    let arrived = tenants.sinks[0].wait_for(2 * COUNT, Duration::from_secs(30)).await?;
    ensure!(arrived.len() == 2 * COUNT, "{} deliveries reached the sink", arrived.len());
    servers.stop(subject, true).await?;

    let (alone, beside) = (milliseconds(alone.answers.p99()), milliseconds(beside.answers.p99()));
    figures.note("p99 of a namespace alone", format!("{alone:.2} ms"));
    figures.at_most("p99 beside a namespace that does its worst", beside, " ms", (2.0 * alone + 5.0).round());
    let counts: Vec<String> = answers.iter().map(|answers| format!("{} of {}", answers.latencies.len(), answers.count)).collect();
    figures.note("accepted of its bursts, large bodies, many branches and forgeries", counts.join(", "));
    Ok(())
}

/// What the other namespace sends: bursts that its sink never answers, bodies as long as the provider's may be, pushes to 3,000
/// branches, and forgeries.
fn worst_of(targets: &[Target]) -> Result<Vec<(Arc<Deliveries>, Load)>> {
    let mut signer = Signer::new(targets, FIRST);
    let refusable = |connections| Load { connections, pace: None, expected: &[200, 202, 401, 503] };
    let shape = |length, branches| Shape { length, branch: "main", branches };
    let forged: Vec<Target> = targets.iter().map(|target| Target { secret: "wrong".to_owned(), ..target.clone() }).collect();
    Ok(vec![
        (signer.sign(60_000, shape(20 * KIB, 1))?, refusable(64)),
        (signer.sign(400, shape(9 * MIB, 1))?, refusable(4)),
        (signer.sign(2_000, shape(MIB, 3_000))?, refusable(4)),
        (Signer::new(&forged, FIRST).sign(100_000, shape(KIB, 1))?, refusable(16)),
    ])
}
