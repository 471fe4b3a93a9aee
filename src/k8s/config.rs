//! Loads the client configuration for the cluster.

use kube::Config;
use kube::config::{InferConfigError, Kubeconfig};

/// Loads the configuration from `KUBECONFIG` or from the pod's service account.
///
/// A proxy is used only if the kubeconfig's own cluster sets it. kube would also use `HTTPS_PROXY`, which is meant for providers;
/// this build connects to the API server directly and could not use it.
///
/// # Errors
/// There is neither a kubeconfig nor a service account, or the configuration is inconsistent.
pub async fn infer() -> Result<Config, InferConfigError> {
    let mut config = Config::infer().await?;
    if config.proxy_url.is_some() && Kubeconfig::read().ok().as_ref().and_then(named_proxy).is_none() {
        config.proxy_url = None;
    }
    Ok(config)
}

/// The proxy of the current context's cluster.
fn named_proxy(kubeconfig: &Kubeconfig) -> Option<&str> {
    let present = kubeconfig.current_context.as_deref()?;
    let context = kubeconfig.contexts.iter().find(|context| context.name == present)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.as_deref().filter(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proxy_of_the_current_cluster_counts() {
        let read = |present: &str| {
            let text = format!(
                "current-context: {present}\n\
                 contexts: [{{name: direct, context: {{cluster: one}}}}, {{name: proxied, context: {{cluster: two}}}}]\n\
                 clusters:\n\
                 - {{name: one, cluster: {{server: 'https://one'}}}}\n\
                 - {{name: two, cluster: {{server: 'https://two', proxy-url: 'http://proxy:3128'}}}}\n"
            );
            Kubeconfig::from_yaml(&text).unwrap()
        };
        assert_eq!(named_proxy(&read("direct")), None);
        assert_eq!(named_proxy(&read("proxied")), Some("http://proxy:3128"));
        assert_eq!(named_proxy(&read("missing")), None);
    }
}
