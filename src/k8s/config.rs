//! Loads the client configuration for the cluster.

use kube::Config;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

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

/// Loads the configuration of a context of `KUBECONFIG`; without one, as [`infer`].
///
/// # Errors
/// There is neither a kubeconfig nor a service account, the context does not exist, or the configuration is inconsistent.
pub async fn of_context(context: Option<&str>) -> Result<Config, ConfigError> {
    let Some(context) = context else { return Ok(infer().await?) };
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    let mut config = Config::from_kubeconfig(&options).await?;
    if config.proxy_url.is_some() && Kubeconfig::read().ok().is_none_or(|kubeconfig| proxy_of(&kubeconfig, context).is_none()) {
        config.proxy_url = None;
    }
    Ok(config)
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither a kubeconfig nor a service account can be used.
    #[error(transparent)]
    Infer(#[from] InferConfigError),
    /// The context cannot be used.
    #[error(transparent)]
    Context(#[from] KubeconfigError),
}

/// The proxy of the current context's cluster.
fn named_proxy(kubeconfig: &Kubeconfig) -> Option<&str> {
    proxy_of(kubeconfig, kubeconfig.current_context.as_deref()?)
}

fn proxy_of<'a>(kubeconfig: &'a Kubeconfig, present: &str) -> Option<&'a str> {
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
