//! `forgebind why`, `deliveries` and `redeliver`: what became of a push, for whoever may read the objects. And `repositories`: which
//! ones a connection reaches.
//!
//! Everything is read with the rights of the kubeconfig. What it does not show is "not visible to you", which is data and no
//! error: the binding's own status says enough to judge the chain. Only `redeliver` writes, and only an annotation.

mod answer;
mod chain;
mod conditions;
mod deliveries;
mod gather;
mod judge;
mod print;
mod redeliver;
mod repositories;
mod slices;
mod target;
#[cfg(test)]
mod tests;

use crate::cli::{DeliveriesArguments, OutputFormat, RedeliverArguments, RepositoriesArguments, TargetArguments, WhyArguments};
pub use answer::{Answer, TraceError};
use chain::Chain;
use gather::{Cluster, Gathered};
pub use print::Style;

/// Judges the chain from the connection to each sink of every binding that the target names.
///
/// # Errors
/// There is no cluster, or no binding of the target is visible.
pub async fn why(arguments: WhyArguments, style: Style) -> Result<Answer, TraceError> {
    let sha = arguments.sha.as_deref().map(target::commit).transpose()?;
    let Gathered { subjects, notes } = gather(&arguments.target).await?;
    let chains: Vec<Chain> = subjects.iter().map(|subject| judge::chain(subject, sha.as_deref())).collect();
    let text = match arguments.output {
        OutputFormat::Table => print::chains(&chains, &notes, style),
        OutputFormat::Json => print::json(&serde_json::json!({"bindings": chains, "notes": notes})),
    };
    Ok(Answer { text, ok: chains.iter().all(Chain::is_whole) })
}

/// Lists the last deliveries of every binding that the target names.
///
/// # Errors
/// There is no cluster, or no binding of the target is visible.
pub async fn deliveries(arguments: DeliveriesArguments, style: Style) -> Result<Answer, TraceError> {
    let Gathered { subjects, notes } = gather(&arguments.target).await?;
    let lists: Vec<_> = subjects.iter().map(|subject| deliveries::listed(&subject.binding)).collect();
    let text = match arguments.output {
        OutputFormat::Table => print::deliveries(&lists, &notes, style),
        OutputFormat::Json => print::json(&serde_json::json!({"bindings": lists, "notes": notes})),
    };
    Ok(Answer { text, ok: lists.iter().all(deliveries::Listed::is_fine) })
}

/// Requests that parked events and dead letters are sent again.
///
/// # Errors
/// There is no cluster, no binding of the target is visible, or the caller may not change it.
pub async fn redeliver(arguments: RedeliverArguments) -> Result<Answer, TraceError> {
    redeliver::run(arguments).await
}

/// Lists the repositories that the credentials of connections reach.
///
/// # Errors
/// There is no cluster, or the connection or its slices are not visible.
pub async fn repositories(arguments: RepositoriesArguments) -> Result<Answer, TraceError> {
    let cluster = Cluster::connect(arguments.context.as_deref()).await?;
    let (catalogs, notes) = slices::catalogs(&cluster, &arguments).await?;
    let text = match arguments.output {
        OutputFormat::Table => repositories::table(&catalogs, arguments.unbound) + &print::noted(&notes),
        OutputFormat::Json => print::json(&serde_json::json!({"connections": catalogs, "notes": notes})),
    };
    Ok(Answer { text, ok: catalogs.iter().all(|catalog| catalog.problem.is_none()) })
}

async fn gather(target: &TargetArguments) -> Result<Gathered, TraceError> {
    Cluster::connect(target.context.as_deref()).await?.gather(target).await
}
