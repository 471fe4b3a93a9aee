//! The references among the guides: flags, permissions, rights. Generated from the code and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use clap::{Arg, ArgAction, CommandFactory as _};
use forgebind::api::v1alpha1::{EventKind, Permission, ProviderKind};
use forgebind::cli::Cli;
use forgebind::providers::{Provider, registry};
use serde_json::{Value, json};

use testkit::chart::{self, objects, render};
use testkit::components::repository_root;

/// Compares a guide, or a part of it between two comments, with what the code says. With `UPDATE=1` it writes instead.
fn compare(guide: &str, expected: &str) -> Result<()> {
    let path = repository_root().join("src/docs").join(guide);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, expected)?;
    }
    let present = std::fs::read_to_string(&path).with_context(|| format!("{guide} is missing; run `make generate`"))?;
    ensure!(present == expected, "src/docs/{guide} is out of date; run `make generate`");
    Ok(())
}

fn row(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn table(heading: &[&str]) -> String {
    row(heading) + "|" + &" --- |".repeat(heading.len()) + "\n"
}

/// A sentence with its full stop.
fn sentence(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// One flag as a row: how it is written, its variable, its default and its meaning.
fn flag_row(argument: &Arg) -> Option<String> {
    let long = argument.get_long()?;
    let takes_value = !matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::Help | ArgAction::Version);
    let value = argument.get_value_names().filter(|_| takes_value).map(|names| format!(" {}", names.join(" "))).unwrap_or_default();
    let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    // A default that depends on something stands in the text.
    let (meaning, told) = match help.split_once(" [default: ") {
        Some((meaning, default)) => (meaning.to_owned(), Some(default.trim_end_matches(']').to_owned())),
        None => (help, None),
    };
    let fixed = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",");
    let default = match told {
        Some(default) => default,
        None if !takes_value => "off".to_owned(),
        None if fixed.is_empty() => "none".to_owned(),
        None => format!("`{fixed}`"),
    };
    Some(row(&[&format!("{short}`--{long}{value}`"), &variable, &default, &sentence(&meaning)]))
}

fn flags_document() -> Result<String> {
    let mut text = String::from(
        "# Flags\n\n<!-- Generated from src/cli.rs by `make generate`. Change it there. -->\n\nWhat `forgebind COMMAND --help` prints. A flag \
         goes before its environment variable. Lists are separated by commas; lists of hosts take `host`, `host:port` and `*.suffix`; \
         durations are written like `90s`, `30m` or `1h30m`. A value that cannot be used ends the start with one line that names the \
         flag. The cluster is that of `KUBECONFIG` or of the pod.\n",
    );
    let mut commands = Cli::command();
    commands.build();
    let mut sections: Vec<(Vec<String>, String, Vec<String>)> = Vec::new();
    for command in commands.get_subcommands().filter(|command| command.get_name() != "help") {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set() && argument.get_id() != "help");
        let rows: Vec<String> = shown.filter_map(flag_row).collect();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let about = format!("- `forgebind {}`: {}", command.get_name(), sentence(&about));
        // The servers take the same ones.
        match sections.iter_mut().find(|(_, _, known)| *known == rows && !rows.is_empty()) {
            Some((names, abouts, _)) => {
                names.push(command.get_name().to_owned());
                abouts.extend(["\n", &about]);
            }
            None => sections.push((vec![command.get_name().to_owned()], about, rows)),
        }
    }
    for (names, about, rows) in sections {
        write!(text, "\n## {}\n\n{about}\n", names.join(", "))?;
        if rows.is_empty() {
            text += "\nIt has no flags.\n";
        } else {
            write!(text, "\n{}{}", table(&["flag", "environment variable", "default", "meaning"]), rows.concat())?;
        }
    }
    Ok(text)
}

#[test]
fn the_generated_reference_of_flags_is_that_of_the_command_line() -> Result<()> {
    let document = flags_document()?;
    for command in Cli::command().get_subcommands() {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(long) = argument.get_long() else { continue };
            ensure!(document.contains(&format!("`--{long}")), "--{long} of {} is missing", command.get_name());
        }
    }
    compare("flags.md", &document)
}

fn served() -> Vec<&'static dyn Provider> {
    ProviderKind::ALL.into_iter().filter_map(registry::provider).collect()
}

/// How a person calls the provider.
const fn title(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::GitHub => "GitHub",
        ProviderKind::GitLab => "GitLab",
        ProviderKind::BitbucketCloud => "Bitbucket Cloud",
        ProviderKind::BitbucketDataCenter => "Bitbucket Data Center",
        ProviderKind::AzureDevOps => "Azure DevOps",
        ProviderKind::Gitea => "Gitea and Forgejo",
    }
}

/// What a permission is good for, in plain words.
const fn purpose(permission: Permission) -> &'static str {
    match permission {
        Permission::ReadContents => "read branches and files, clone",
        Permission::ListRepositories => "see which repositories there are",
        Permission::WriteContents => "push",
        Permission::ReadIssues => "read issues and their labels",
        Permission::OpenPullRequests => "open pull requests",
        Permission::CommentOnPullRequests => "comment on pull requests",
        Permission::WriteCommitStatus => "set the status of a commit",
        Permission::WriteChecks => "write check runs",
        Permission::WriteDeployments => "write deployments",
        Permission::ManageWebhooks => "list, create, change and delete webhooks",
        Permission::CreateRepositories => "create repositories",
        Permission::DeleteRepositories => "delete repositories",
        Permission::AdministerRepositories => "change the settings of repositories",
        Permission::ReadOrganization => "read the organization and its members",
        Permission::ListProjects => "list projects that hold repositories",
        Permission::ReadAccount => "read the account behind the credential",
    }
}

const PERMISSIONS: &str = "# Permissions

<!-- Generated from the code by `make generate`: tests/it/docs/reference.rs. -->

Give each side the least that does. Where to click is told in [A first connection](first-connection.md).

## What Forgebind itself needs of a credential

| what you use | permission |
| --- | --- |
| a binding without `webhook`: is the repository there, is the branch | `ReadContents` |
| a binding with `webhook` | `ReadContents` and `ManageWebhooks` |
| anything else | none: Forgebind does not do it |

The other permissions are for what *you* do with the same credential. Name them in `requiredPermissions` of the connection, and
Forgebind watches over them: a row in `status.permissions` says `Granted`, `Missing` with what is missing, or `Unknown` with
the reason why the provider does not tell. `Missing` makes the connection's Authorized false and holds back only the bindings
that use that permission; `Unknown` holds back nothing. Nothing is ever created, sent or deleted to find out.
";

fn of_provider(provider: &dyn Provider) -> String {
    let capabilities = provider.capabilities();
    let mut text = format!("\n### {}\n\n", title(provider.kind()));
    text += if capabilities.scope_introspection {
        "The credential tells what it may do, at least some kinds of it. "
    } else {
        "A credential does not tell what it may do: most rows are `Unknown` until something is refused. "
    };
    text += if capabilities.expiry_introspection {
        "Where it has an end, that is told too.\n\n"
    } else {
        "It does not tell until when: declare `expiresAt` in the Secret or the spec.\n\n"
    };
    text += &table(&["permission", "good for", "what it takes"]);
    for permission in Permission::ALL {
        let words = provider.permission_words(permission).unwrap_or_else(|| "does not exist".to_owned());
        text += &row(&[&format!("`{permission}`"), purpose(permission), &words]);
    }
    text
}

/// The rights that a rendered chart grants to a process: where, to what, which verbs.
fn rights(objects: &[Value], account: &str) -> Result<Vec<[String; 3]>> {
    let of_account = |object: &&Value| {
        object["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding"))
            && object["subjects"].as_array().into_iter().flatten().any(|subject| subject["name"] == account)
    };
    let mut rights = Vec::new();
    for binding in objects.iter().filter(of_account) {
        let reference = &binding["roleRef"];
        let place = binding["metadata"]["namespace"].as_str().unwrap_or("every namespace");
        let role = objects.iter().find(|object| {
            object["kind"] == reference["kind"]
                && object["metadata"]["name"] == reference["name"]
                && object["metadata"]["namespace"] == binding["metadata"]["namespace"]
        });
        for rule in role.context("a role")?["rules"].as_array().context("rules")? {
            let words = |name: &str| rule[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
            let group = words("apiGroups").concat();
            let group = if group.is_empty() { String::new() } else { format!(".{group}") };
            let names = words("resourceNames");
            let limit = match names.as_slice() {
                [] => String::new(),
                [one] => format!(", only `{one}`"),
                [first, .., last] => format!(", only `{first}` to `{last}`"),
            };
            let resources = words("resources").iter().map(|name| format!("`{name}{group}`")).collect::<Vec<_>>().join(", ");
            rights.push([place.to_owned(), resources + &limit, words("verbs").join(", ")]);
        }
    }
    ensure!(!rights.is_empty(), "{account} has no rights");
    Ok(rights)
}

const CLUSTER_RIGHTS: &str = "
## What Forgebind may do in the cluster

What the chart grants by default, here with the release `forgebind` in `forgebind-system` and `secretNamespaces={team-shop}`. A
test compares these rights with what the API server saw: one too many fails it, and so does one too few. With
`rbac.scope: Namespaced` there is no ClusterRole; see [Installing](install.md#one-namespace-without-a-clusterrole). A patch of
connections and bindings is for their finalizers: a ValidatingAdmissionPolicy refuses these accounts every other change of
them; see [Security](security.md#rights-in-the-cluster).
";

const USER_RIGHTS: &str = "
### People

With `rbac.userRoles`, the roles that clusters have anyway get their share:

| who has the role | may |
| --- | --- |
| `view` of a namespace | read connections and bindings; no secret stands in them |
| `edit` of a namespace | also write bindings |
| `admin` of a namespace | also write connections |

A connection hands an account of the company to a namespace, so it is for administrators; which namespaces and repositories may
use it is decided by its `allowedBindings`. Nothing here needs an identity provider: whoever the API server knows can work.
";

async fn permissions_document() -> Result<String> {
    let mut text = PERMISSIONS.to_owned();
    text += "\n## What each permission is called at the provider\n";
    for provider in served() {
        text += &of_provider(provider);
    }
    text += CLUSTER_RIGHTS;
    let values = json!({"secretNamespaces": ["team-shop"]});
    let rendered = objects(&render(&chart::folder(), "forgebind", "forgebind-system", &values, &[]).await?)?;
    for (account, about) in [
        ("forgebind-controller", "The controller holds the credentials, talks to providers and writes status."),
        ("forgebind-receiver", "The receiver takes deliveries in. It reads no credential and writes nothing."),
        ("forgebind-release", "The Job of `helm uninstall` lets go of the objects. It exists only while that runs."),
    ] {
        write!(text, "\n### {account}\n\n{about}\n\n{}", table(&["where", "what", "verbs"]))?;
        for [place, what, verbs] in rights(&rendered, account)? {
            text += &row(&[&place, &what, &verbs]);
        }
    }
    Ok(text + USER_RIGHTS)
}

#[tokio::test]
async fn bb_13_the_generated_tables_of_permissions_are_true() -> Result<()> {
    compare("permissions.md", &permissions_document().await?)
}

/// The sections of a guide by the headings of a level.
fn sections<'a>(text: &'a str, mark: &str) -> BTreeMap<&'a str, &'a str> {
    let mut found = BTreeMap::new();
    for part in text.split(&format!("\n{mark} ")).skip(1) {
        let (title, body) = part.split_once('\n').unwrap_or((part, ""));
        found.insert(title.trim(), body);
    }
    found
}

/// The scopes, permission keys and roles among a provider's words.
fn scopes(words: &str) -> impl Iterator<Item = &str> {
    const CONNECTING: [&str; 14] =
        ["App", "or", "and", "fine-grained", "API", "token", "the", "role", "permission", "access", "no", "scope", "Edit", "subscriptions"];
    let words = words.split([' ', ',', ';', '(', ')']).map(|word| word.trim_end_matches(':'));
    words.filter(|word| !word.is_empty() && !CONNECTING.contains(word))
}

/// What the guide to a first connection says to tick is what the code asks for.
#[test]
fn dv_05_pk_02_pk_09_pk_11_pk_18_the_first_connection_names_every_scope_that_is_needed() -> Result<()> {
    let guide = std::fs::read_to_string(repository_root().join("src/docs/first-connection.md"))?;
    let sections = sections(&guide, "##");
    for provider in served() {
        let section = sections.get(title(provider.kind())).with_context(|| format!("no section {}", title(provider.kind())))?;
        let parts = section.split([' ', '\n', '`', '*', ',', ';', '(', ')']);
        let named: BTreeSet<&str> = parts.map(|word| word.trim_end_matches(['.', ':'])).collect();
        for permission in [Permission::ReadContents, Permission::ManageWebhooks] {
            let needed = provider.permission_words(permission).context("words")?;
            for scope in scopes(&needed) {
                ensure!(named.contains(scope), "{}: {permission} takes {scope} ({needed}), which the guide does not name", provider.kind());
            }
        }
        for key in ["kubectl", "The usual mistake"] {
            ensure!(section.contains(key), "{}: nothing about {key}", provider.kind());
        }
    }
    ensure!(EventKind::ALL.iter().any(|event| guide.contains(&event.to_string())));
    Ok(())
}
