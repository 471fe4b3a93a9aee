//! The reference pages of the guide: flags, permissions, rights. Generated from the code and compared.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use clap::{Arg, ArgAction, CommandFactory as _};
use forgebind::api::v1alpha1::{Permission, ProviderKind};
use forgebind::cli::Cli;
use forgebind::providers::{Provider, registry};
use serde_json::{Value, json};

use testkit::chart::{self, objects, render};
use testkit::components::repository_root;
use testkit::samples;

/// The folder of the reference pages.
const REFERENCE: &str = "src/docs/guide/reference";

/// Compares a page, or a part of it between two comments, with what the code generates. With `UPDATE=1` it writes the page
/// instead.
fn compare(guide: &str, expected: &str) -> Result<()> {
    let path = repository_root().join(REFERENCE).join(guide);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, expected)?;
    }
    let present = std::fs::read_to_string(&path).with_context(|| format!("{guide} is missing; run `make generate`"))?;
    ensure!(present == expected, "{REFERENCE}/{guide} is out of date; run `make generate`");
    Ok(())
}

fn row(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn table(heading: &[&str]) -> String {
    row(heading) + "|" + &" --- |".repeat(heading.len()) + "\n"
}

/// The text with a full stop at its end.
fn sentence(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// A flag as a row of the table: its form, variable, default and meaning.
fn flag_row(argument: &Arg) -> Option<String> {
    let long = argument.get_long()?;
    let takes_value = !matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::Help | ArgAction::Version);
    let value = argument.get_value_names().filter(|_| takes_value).map(|names| format!(" {}", names.join(" "))).unwrap_or_default();
    let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    // The help text contains a default that depends on something else.
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
        // Both servers accept the same flags; list them once.
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
fn the_generated_reference_of_flags_matches_the_command_line() -> Result<()> {
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

Give each side the least that does. The section of each provider links the page that says where to click.

## What Forgebind itself needs of a credential

| what you use | permission |
| --- | --- |
| a binding without `webhook`: is the repository there, is the branch | `ReadContents` |
| a binding with `webhook` | `ReadContents` and `ManageWebhooks` |
| anything else | none: Forgebind does not do it |

The other permissions are for what *you* do with the same credential. Name them in `requiredPermissions` of the
connection, and Forgebind watches over them:

```yaml
apiVersion: forgebind.dev/v1alpha1
kind: GitProviderConnection
metadata:
  name: acme-github
  namespace: team-shop
spec:
  provider: {github: {organization: acme}}
  credentials:
    secretRef: {name: acme-github}
  requiredPermissions: [WriteCommitStatus, CommentOnPullRequests]
```

```sh
kubectl -n team-shop get gpc acme-github -o jsonpath='{.status.permissions}'
```

A row in `status.permissions` says `Granted`, `Missing` with what is missing, or `Unknown` with the reason why the provider
does not tell. `Missing` makes Authorized of the connection False and blocks only the bindings that use that permission;
`Unknown` blocks nothing. Nothing is ever created, sent or deleted to find out.
";

fn of_provider(provider: &dyn Provider) -> String {
    let capabilities = provider.capabilities();
    let (title, flag) = (samples::of(provider.kind()).title, provider.kind().flag());
    let mut text = format!("\n### {title}\n\n[Where to click](../connect/{flag}.md). ");
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

/// The rights that a rendered chart grants to a process: scope, resource, verbs.
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
`rbac.scope: Namespaced` there is no ClusterRole; see [Install](../install.md#one-namespace-without-a-clusterrole). A patch of
connections and bindings is for their finalizers: a ValidatingAdmissionPolicy refuses these accounts every other change of
them; see [Security](../platform/security.md#rights-in-the-cluster).
";

const USER_RIGHTS: &str = "
### People

With `rbac.userRoles`, the roles that clusters have anyway get their share:

| who has the role | may |
| --- | --- |
| `view` of a namespace | read connections, grants and bindings; no secret stands in them |
| `edit` of a namespace | also write bindings |
| `admin` of a namespace | also write connections and grants |

A connection hands an account of the company to a namespace, and a `ConnectionGrant` decides which namespaces and repositories
may use it, so both are for administrators. Nothing here needs an identity provider: whoever the API server knows can work.
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
        ("forgebind-uninstall", "The Job of `helm uninstall` lets go of the objects. It exists only while that runs."),
    ] {
        write!(text, "\n### {account}\n\n{about}\n\n{}", table(&["where", "what", "verbs"]))?;
        for [place, what, verbs] in rights(&rendered, account)? {
            text += &row(&[&place, &what, &verbs]);
        }
    }
    Ok(text + USER_RIGHTS)
}

#[tokio::test]
async fn bb_13_the_generated_tables_of_permissions_match_the_code() -> Result<()> {
    compare("permissions.md", &permissions_document().await?)
}

/// The scopes, permission keys and roles in a provider's text.
fn scopes(words: &str) -> impl Iterator<Item = &str> {
    const CONNECTING: [&str; 12] =
        ["App", "or", "and", "fine-grained", "API", "token", "the", "role", "permission", "permissions", "no", "scope"];
    let words = words.split([' ', ',', ';', '(', ')']).map(|word| word.trim_end_matches(':'));
    words.filter(|word| !word.is_empty() && !CONNECTING.contains(word))
}

/// The page of a provider lists exactly the scopes that the code requires. All pages have the same sections, so that a reader who
/// knows one knows all.
#[test]
fn dv_05_pk_02_pk_09_pk_11_pk_18_the_page_of_a_provider_names_every_required_scope() -> Result<()> {
    for provider in served() {
        let kind = provider.kind();
        let path = format!("src/docs/guide/connect/{}.md", kind.flag());
        let page = std::fs::read_to_string(repository_root().join(&path)).with_context(|| path.clone())?;
        let parts = page.split([' ', '\n', '`', '*', ',', ';', '(', ')']);
        let named: BTreeSet<&str> = parts.map(|word| word.trim_end_matches(['.', ':'])).collect();
        for permission in [Permission::ReadContents, Permission::ManageWebhooks] {
            let needed = provider.permission_words(permission).context("words")?;
            for scope in scopes(&needed) {
                ensure!(named.contains(scope), "{path}: {permission} needs {scope} ({needed}), which the page does not name");
            }
        }
        let title = samples::of(kind).title.replace(" and ", " or ");
        ensure!(page.starts_with(&format!("# Connect {title}\n")), "{path} is not called Connect {title}");
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        for needed in ["Create ", "Check that it works", "Errors at ", "Limits of "] {
            ensure!(sections.iter().any(|section| section.starts_with(needed)), "{path} has no section {needed}: {sections:?}");
        }
        for needed in ["kind: RepoBinding", "create secret generic", "wait --for=condition=Ready", "The usual mistake", "https://"] {
            ensure!(page.contains(needed), "{path} does not mention {needed}");
        }
    }
    Ok(())
}

/// A field and the fields below it, as rows: path, type, default and limits, meaning.
fn fields(path: &str, schema: &Value, rows: &mut String) {
    // The schemas of Kubernetes itself, which every kind has.
    const OF_KUBERNETES: [&str; 3] = ["conditions", "selector", "connectionSelector"];
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let is_list = field["type"] == "array";
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{name}{}", if is_list { "[]" } else { "" });
        let of_item = if is_list { &field["items"] } else { field };
        let kind = if is_list { format!("list of {}", kind_of(of_item)) } else { kind_of(field) };
        let limit = |key: &str, words: &str| field.get(key).map(|value| format!("{words} {value}"));
        let needed = required.contains(&name.as_str()).then(|| "required".to_owned());
        let default = field.get("default").filter(|default| !default.is_object()).map(|default| format!("default `{default}`"));
        let limits = [needed, default, limit("minItems", "at least"), limit("maxItems", "at most")];
        let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
        *rows += &row(&[&format!("`{path}`"), &kind, &limits, &angles(field["description"].as_str().unwrap_or_default())]);
        if !OF_KUBERNETES.contains(&name.as_str()) {
            fields(&path, of_item, rows);
        }
    }
}

/// The text with angle brackets escaped, so that none is read as HTML.
fn angles(text: &str) -> String {
    text.replace('<', "&lt;")
}

/// The type of a field, or its possible values.
fn kind_of(field: &Value) -> String {
    if let Some(words) = field["enum"].as_array() {
        return words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    let kind = field["type"].as_str().unwrap_or("any");
    field["format"].as_str().filter(|format| format.contains("time")).map_or_else(|| kind.to_owned(), |format| format!("{kind} ({format})"))
}

fn api_document() -> Result<String> {
    let mut text = String::from(
        "# API reference: GitProviderConnection, RepoBinding, RepositorySlice\n\n<!-- Generated from src/api/v1alpha1 by `make generate`. Change it \
         there. -->\n\n```sh\nkubectl explain gpc.spec\nkubectl explain repob.spec.webhook\n```\n\nEvery field of \
         `forgebind.dev/v1alpha1`. A list has `[]` at the end of its name. What admission checks beyond the types, such as fields that \
         exclude each other, is said in the meaning of the fields.\n",
    );
    for definition in forgebind::api::crd::custom_resource_definitions() {
        let definition = serde_json::to_value(definition)?;
        let names = &definition["spec"]["names"];
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let kind = names["kind"].as_str().context("a kind")?;
        let short = names["shortNames"][0].as_str().context("a short name")?;
        write!(text, "\n## {kind}\n\nShort name `{short}`.\n")?;
        if schema["spec"].is_null() {
            let mut rows = table(&["field", "type", "", "meaning"]);
            let own =
                schema.as_object().into_iter().flatten().filter(|(name, _)| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
            let own: serde_json::Map<_, _> = own.map(|(name, field)| (name.clone(), field.clone())).collect();
            let required = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["required"];
            fields("", &serde_json::json!({"properties": own, "required": required}), &mut rows);
            write!(text, "\nA record without spec and status, written only by Forgebind.\n\n{rows}")?;
            continue;
        }
        for part in ["spec", "status"] {
            let mut rows = table(&["field", "type", "", "meaning"]);
            fields(part, &schema[part], &mut rows);
            write!(text, "\n### {part} of {kind}\n\n{}\n\n{rows}", angles(schema[part]["description"].as_str().context("a description")?))?;
        }
    }
    Ok(text)
}

#[test]
fn the_generated_reference_of_the_api_matches_the_definitions() -> Result<()> {
    let document = api_document()?;
    for field in ["`spec.destinationHosts[]`", "`repositories[].missingSince`", "`spec.webhook.adopt`", "`status.recentDeliveries[].time`"]
    {
        ensure!(document.contains(field), "{field} is missing");
    }
    compare("api.md", &document)
}
