//! Validates the arguments of a check and turns them into settings.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use super::inventory::Key;
use crate::cli::{CheckArguments, OutputFormat, secret_of_environment};
use crate::config::{self, ConfigError, Installation};
use crate::controllers::install::KEY;
use crate::protocol::keys::{INSTALL_KEY_LENGTH, InstallKey};

/// The settings of a check.
pub struct CheckSettings {
    /// Files, directories or `-` to read.
    pub paths: Vec<PathBuf>,
    /// Whether to read a cluster.
    pub from_cluster: bool,
    /// Whether to contact no provider.
    pub offline: bool,
    /// Whether a planned action at a provider makes the check fail.
    pub fail_on_plan: bool,
    /// The namespace of manifests without one.
    pub default_namespace: String,
    /// The install key, if one was given.
    pub install_key: Option<InstallKey>,
    /// Output format.
    pub output: OutputFormat,
    /// The settings of the installation.
    pub installation: Installation,
    pub(super) token: Option<SecretString>,
    pub(super) tokens: Vec<NamedToken>,
}

/// A token for a named connection.
pub(super) struct NamedToken {
    /// Namespace, if given, and name.
    pub(super) connection: (Option<String>, String),
    pub(super) token: SecretString,
}

impl NamedToken {
    pub(super) fn is_for(&self, connection: &Key) -> bool {
        self.connection.1 == connection.1 && self.connection.0.as_ref().is_none_or(|namespace| *namespace == connection.0)
    }

    pub(super) fn name(&self) -> String {
        match &self.connection {
            (Some(namespace), name) => format!("{namespace}/{name}"),
            (None, name) => name.clone(),
        }
    }
}

impl TryFrom<CheckArguments> for CheckSettings {
    type Error = ConfigError;

    fn try_from(arguments: CheckArguments) -> Result<Self, ConfigError> {
        let (mut token, mut tokens) = (None, Vec::new());
        for argument in config::items("token-env", &arguments.token_env)? {
            let (connection, variable) = argument.rsplit_once('=').map_or((None, argument), |(name, variable)| (Some(name), variable));
            let value = secret_of_environment(variable)
                .ok_or_else(|| ConfigError::new("token-env", format!("the environment variable {variable} is not set or empty")))?;
            match connection.map(|name| name.split_once('/').map_or((None, name), |(namespace, name)| (Some(namespace.to_owned()), name))) {
                None if token.is_some() => {
                    return Err(ConfigError::new(
                        "token-env",
                        "is given twice for every connection; name the connections, as in NAMESPACE/CONNECTION=NAME",
                    ));
                }
                None => token = Some(value),
                Some((namespace, name)) => tokens.push(NamedToken { connection: (namespace, name.to_owned()), token: value }),
            }
        }
        Ok(Self {
            paths: arguments.filename,
            from_cluster: arguments.from_cluster,
            offline: arguments.offline,
            fail_on_plan: arguments.fail_on_plan,
            default_namespace: arguments.default_namespace,
            install_key: arguments.install_key_file.map(|path| install_key(&path)).transpose()?,
            output: arguments.output,
            installation: arguments.installation.try_into()?,
            token,
            tokens,
        })
    }
}

fn install_key(path: &std::path::Path) -> Result<InstallKey, ConfigError> {
    let refused = |problem: String| ConfigError::new("install-key-file", format!("{}: {problem}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    let none =
        || refused(format!("is not an install key; it must be {INSTALL_KEY_LENGTH} bytes, their base64, or a Secret with the key {KEY}"));
    let key = key_in(&bytes).ok_or_else(none)?;
    InstallKey::new(&key).map_err(|error| refused(error.to_string()))
}

/// Reads the key in any of the accepted formats. Raw bytes are tried first, because they may have any value.
fn key_in(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() == INSTALL_KEY_LENGTH {
        return Some(bytes.to_vec());
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if let Some(key) = STANDARD.decode(text).ok().or_else(|| URL_SAFE_NO_PAD.decode(text).ok()) {
        return Some(key);
    }
    let secret: Secret = serde_saphyr::from_str(text).ok()?;
    secret.data?.remove(KEY).map(|value| value.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config::{Config, UninstallConfig};

    /// A list flag, a value of it with two items, and the expected result.
    type Row = (&'static str, &'static str, &'static str, fn(&[&str]) -> Result<String, String>);

    fn of_server(flags: &[&str], told: fn(Config) -> String) -> Result<String, String> {
        let arguments = ["forgebind", "run"].iter().chain(flags);
        let Command::Run(arguments) = Cli::try_parse_from(arguments).unwrap().command else { panic!("run") };
        Config::try_from(arguments).map(told).map_err(|error| error.to_string())
    }

    fn of_check(flags: &[&str]) -> Result<String, String> {
        let arguments = ["forgebind", "check", "-f", "-"].iter().chain(flags);
        let Command::Check(arguments) = Cli::try_parse_from(arguments).unwrap().command else { panic!("check") };
        // These variables are not set, which the error for each states.
        CheckSettings::try_from(arguments).map(|_| String::new()).map_err(|error| error.to_string())
    }

    fn of_uninstall(flags: &[&str]) -> Result<String, String> {
        let arguments = ["forgebind", "uninstall"].iter().chain(flags);
        let Command::Uninstall(arguments) = Cli::try_parse_from(arguments).unwrap().command else { panic!("uninstall") };
        UninstallConfig::try_from(arguments).map(|config| format!("{:?}", config.watch_namespaces)).map_err(|error| error.to_string())
    }

    /// Every list flag of every command: ignores white space around items, and refuses an empty item with the flag's name.
    #[test]
    fn all_list_flags_are_parsed_alike() {
        let rows: &[Row] = &[
            ("public-url", "https://a.acme.io", "b=https://b.acme.io", |flags| of_server(flags, |config| config.public_urls.to_string())),
            ("former-public-urls", "https://a.acme.io", "https://b.acme.io", |flags| {
                of_server(flags, |config| format!("{:?}", config.public_urls.former))
            }),
            ("watch-namespaces", "team-a", "team-b", |flags| of_server(flags, |config| format!("{:?}", config.watch_namespaces))),
            ("secret-namespaces", "team-a", "team-b", |flags| of_server(flags, |config| format!("{:?}", config.secret_namespaces))),
            ("providers", "gitea", "github", |flags| of_server(flags, |config| format!("{:?}", config.providers))),
            ("allow-provider-hosts", "git.acme.io", "*.acme.corp:8443", |flags| {
                of_server(flags, |config| format!("{:?}", config.network.provider_hosts))
            }),
            ("allow-proxy-hosts", "proxy.acme.io:3128", "*.acme.corp", |flags| {
                of_server(flags, |config| format!("{:?}", config.network.proxy_hosts))
            }),
            ("allow-sink-hosts", "ci.acme.io", "*.acme.corp", |flags| {
                of_server(flags, |config| format!("{:?}", config.network.sink_hosts))
            }),
            ("allow-cidrs", "10.0.0.0/8", "192.168.0.1", |flags| of_server(flags, |config| format!("{:?}", config.network.allow_cidrs))),
            ("resolve", "a.acme.io:443=10.0.0.1", "b.acme.io:443=[::1]", |flags| {
                of_server(flags, |config| format!("{:?}", config.network.resolve))
            }),
            ("receivers", "http://10.0.0.1:9090", "http://10.0.0.2:9090", |flags| {
                of_server(flags, |config| format!("{:?}", config.receivers))
            }),
            ("pod-ips", "10.0.0.1", "10.0.0.2", |flags| of_server(flags, |config| format!("{:?}", config.pod_ips))),
            ("token-env", "a=FORGEBIND_NOT_SET", "b=FORGEBIND_NOT_SET", of_check),
            ("watch-namespaces", "team-a", "team-b", of_uninstall),
        ];
        for (flag, one, other, read) in rows {
            let with = |value: &str| read(&[&format!("--{flag}={value}")]);
            let plain = with(&format!("{one},{other}"));
            for spaced in [format!("{one}, {other}"), format!(" {one} ,\t{other} "), format!("{one},{other}\n")] {
                assert_eq!(with(&spaced), plain, "--{flag}={spaced:?}");
            }
            let repeated = read(&[&format!("--{flag}"), &format!("{one} "), &format!("--{flag}"), &format!(" {other}")]);
            assert_eq!(repeated, plain, "--{flag}");
            for slip in [format!("{one},,{other}"), format!("{one},"), format!(",{one}"), format!("{one}, ,{other}"), ",".to_owned()] {
                let error = with(&slip).unwrap_err();
                assert!(error.starts_with(&format!("--{flag}: ")) && error.contains("has an empty item"), "--{flag}={slip:?}: {error}");
            }
            if *flag != "receivers" {
                assert_eq!(with(""), with("   "), "--{flag}: a list without items is refused");
                assert!(!with("").err().unwrap_or_default().contains("empty item"), "--{flag}");
            }
        }
        let command = <Cli as clap::CommandFactory>::command();
        let lists = command
            .get_subcommands()
            .flat_map(|command| command.get_arguments().filter(|argument| argument.get_value_delimiter().is_some()));
        let missing: BTreeSet<_> = lists.filter_map(|list| list.get_long()).filter(|flag| !rows.iter().any(|row| row.0 == *flag)).collect();
        assert_eq!(missing, BTreeSet::new(), "every list flag has a row");
    }

    #[test]
    fn an_install_key_is_read_as_bytes_base64_or_a_secret() {
        let key = [7_u8; 32];
        let base64 = STANDARD.encode(key);
        let secret = format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: forgebind-install-key\ndata:\n  key: {base64}\n");
        for text in
            [&key[..], base64.as_bytes(), format!("{base64}\n").as_bytes(), URL_SAFE_NO_PAD.encode(key).as_bytes(), secret.as_bytes()]
        {
            assert_eq!(key_in(text).as_deref(), Some(&key[..]), "{:?}", String::from_utf8_lossy(text));
        }
        assert_eq!(key_in(b"no key at all"), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "AAAA").unwrap();
        let error = install_key(&path).err().unwrap().to_string();
        assert!(error.starts_with("--install-key-file: ") && !error.contains("AAAA"), "{error}");
    }
}
