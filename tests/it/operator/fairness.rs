//! A tenant whose provider does not answer delays no other tenant.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tokio::net::TcpListener;

use testkit::test_env::TestEnv;
use testkit::test_namespace::TestNamespace;
use testkit::wait::{Seen, wait_until};

/// Several times the number of workers for connections.
const HANGING: usize = 30;
/// Far below the deadline of one inspection without an answer.
const PROMPTLY: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_tenant_whose_servers_hang_blocks_no_worker_that_another_tenant_needs() -> Result<()> {
    let env = TestEnv::new("prompt").await?;
    let hostile = TestNamespace::within(env.plane, &env.cluster().create_namespace("hanging").await?, env.sink.clone())?;
    hostile.cluster().apply_secret(&hostile.namespace, "credential", &[("token", "a-token-that-nobody-knows")]).await?;
    // Accepts every connection and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (asked, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
            let _ = asked.send(());
        }
    });
    for number in 0..HANGING {
        let spec = json!({"provider": {"gitea": {"url": url, "organization": format!("acme-{number}")}},
            "credentials": {"secretRef": {"name": "credential"}}});
        hostile.create_connection_named(&format!("hanging-{number}"), spec).await?;
    }
    let _operator = env.operator_for(&[&hostile.namespace]).await?;
    // Now all workers that this tenant can get are busy.
    wait_until("the servers to be requested", Duration::from_secs(30), async || {
        Ok(if answers.len() >= 6 { Seen::Done(()) } else { Seen::NotYet(format!("{} calls", answers.len())) })
    })
    .await?;
    let began = Instant::now();
    env.create_connection(env.connection_spec()).await?;
    env.connection_ready().await?;
    env.create_binding("shop", env.binding_spec()).await?;
    env.binding_ready("shop").await?;
    let taken = began.elapsed();
    assert!(taken < PROMPTLY, "{taken:?} while another tenant's servers hang");
    answers.close();
    server.abort();
    Ok(())
}
