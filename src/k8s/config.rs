//! How the cluster is reached.

use kube::Config;
use kube::config::{InferConfigError, Kubeconfig};

/// The cluster of `KUBECONFIG` or of the pod.
///
/// A proxy counts only where the kubeconfig's own cluster names it. The library would take `HTTPS_PROXY` as well, which is
/// for providers, and which this build, that reaches the API server directly, could not obey.
///
/// # Errors
/// When there is neither a kubeconfig nor a pod, or what is there does not hold together.
pub async fn infer() -> Result<Config, InferConfigError> {
    let mut config = Config::infer().await?;
    if config.proxy_url.is_some() && Kubeconfig::read().ok().as_ref().and_then(named_proxy).is_none() {
        config.proxy_url = None;
    }
    Ok(config)
}

/// The proxy that the present context's cluster names.
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
    fn only_the_present_cluster_names_a_proxy() {
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
