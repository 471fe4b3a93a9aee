//! The page of what each provider supports, generated from the code.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::connection::CredentialKind;
use forgebind::api::v1alpha1::{EventKind, ProviderKind};
use forgebind::providers::pull_request::PullRequestAction;
use forgebind::providers::{Capabilities, Provider, registry};

use testkit::components::repository_root;
use testkit::samples;

/// The fields of [`Capabilities`] as questions of a reader.
fn questions(capabilities: &Capabilities) -> [(&'static str, &'static str, bool); 10] {
    // Exhaustive on purpose: a new capability needs a question here.
    let Capabilities {
        api,
        one_event_per_hook,
        secret_readable,
        update_sets_secret,
        lookup_by_id,
        delivery_log,
        resend,
        signature,
        scope_introspection,
        expiry_introspection,
    } = *capabilities;
    [
        ("api", "Does the REST API answer the credential?", api),
        ("one_event_per_hook", "Does one hook carry one event only, so that a binding has several?", one_event_per_hook),
        ("secret_readable", "Can the secret of a hook be read back?", secret_readable),
        ("update_sets_secret", "Is the secret changed in place? Otherwise a second hook takes over.", update_sets_secret),
        ("lookup_by_id", "Is a renamed repository found by its id?", lookup_by_id),
        ("delivery_log", "Are past deliveries listed?", delivery_log),
        ("resend", "Can a past delivery be sent again?", resend),
        ("signature", "Are deliveries signed over their body?", signature),
        ("scope_introspection", "Does the credential tell what it may do?", scope_introspection),
        ("expiry_introspection", "Does the credential tell until when?", expiry_introspection),
    ]
}

/// The keys of the Secret that holds a credential of this kind.
const fn keys(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Anonymous => "none (public repositories only)",
        CredentialKind::Token => "`token`",
        CredentialKind::BasicAuth => "`username` and `password`",
        CredentialKind::EmailToken => "`email` and `token`",
        CredentialKind::GitHubApp => "`githubAppID` or `githubAppClientID`, and `githubAppPrivateKey`",
    }
}

fn served() -> Vec<&'static dyn Provider> {
    ProviderKind::ALL.into_iter().filter_map(registry::provider).collect()
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<_> = cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn heading(first: &str, providers: &[&dyn Provider]) -> String {
    let names = std::iter::once(first.to_owned()).chain(providers.iter().map(|provider| provider.kind().to_string()));
    let rule = format!("|{}\n", " --- |".repeat(providers.len() + 1));
    row(names) + &rule
}

fn code(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// What can happen to a pull request, which event reports it, and each provider's name for it.
fn pull_requests(providers: &[&dyn Provider]) -> String {
    let mut text = String::from(
        "\n## Pull requests\n\nWhat can happen to a pull request, the event that tells of it, and the provider's own name of it: the event \
         and its action, and in parentheses what tells it from others of that name. A dash in the second column means that nothing is \
         sent, at any provider; an empty cell that the provider does not tell it. A name that stands in several rows counts as the row \
         that comes first, if any of them is sent.\n\n",
    );
    let names = [String::new(), "event".to_owned()].into_iter().chain(providers.iter().map(|provider| provider.kind().to_string()));
    text += &(row(names) + &format!("|{}\n", " --- |".repeat(providers.len() + 2)));
    for action in PullRequestAction::ALL {
        let event = action.event().map_or_else(|| "-".to_owned(), |event| format!("`{event}`"));
        let names = providers.iter().map(|provider| {
            let actions = provider.webhook().pull_request_actions().iter().filter(|(_, listed)| *listed == action);
            code(&actions.map(|(name, _)| *name).collect::<Vec<_>>())
        });
        text += &row([action.words().to_owned(), event].into_iter().chain(names));
    }
    // What the table cannot say.
    let notes = providers.iter().flat_map(|provider| samples::of(provider.kind()).pull_request_notes);
    let notes: Vec<_> = notes.map(|note| format!("- {note}")).collect();
    format!("{text}\n{}\n", notes.join("\n"))
}

fn document() -> Result<String> {
    let providers = served();
    let mut text = String::from(
        "# What each provider can do\n\n<!-- Generated from the code: make generate -->\n\nAt best: with the newest server and the fullest \
         credential. What holds for a connection of yours is in its status.\n\n## Capabilities\n\n",
    );
    text += &heading("", &providers);
    let asked: Vec<_> = providers.iter().map(|provider| questions(&provider.capabilities())).collect();
    for (position, (name, question, _)) in questions(&Capabilities::default()).into_iter().enumerate() {
        let answers = asked.iter().map(|answers| if answers[position].2 { "yes".to_owned() } else { "no".to_owned() });
        text += &row(std::iter::once(format!("{question} (`{name}`)")).chain(answers));
    }
    text +=
        "\n## Permissions\n\nWhat a credential needs for each permission stands in [Permissions](permissions.md), provider by provider.\n";
    text += "\n## Events\n\nWhat the provider is asked for so that it tells of each event. The receiver hands on exactly the events that a \
             binding names, also where the provider's own are wider.\n\n";
    text += &heading("", &providers);
    for event in EventKind::ALL {
        let words = providers.iter().map(|provider| match provider.event_words(event) {
            [] => "not supported".to_owned(),
            words => code(words),
        });
        text += &row(std::iter::once(format!("`{event}`")).chain(words));
    }
    text += &pull_requests(&providers);
    text += "\n## Credentials\n\nThe keys of the Secret that each provider accepts.\n\n";
    for provider in &providers {
        let kinds: Vec<_> = provider.profile().credential_kinds.iter().map(|kind| keys(*kind).to_owned()).collect();
        writeln!(text, "- {}: {}", provider.kind(), kinds.join("; "))?;
    }
    Ok(text)
}

/// Compares the checked-in page with what the code generates. With `UPDATE=1` (`make generate`) it writes the page instead.
#[test]
fn bb_13_the_generated_table_of_providers_matches_the_code() -> Result<()> {
    let path = repository_root().join("src/docs/guide/reference/providers.md");
    let expected = document()?;
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected)?;
    }
    let present = std::fs::read_to_string(&path).context("src/docs/guide/reference/providers.md is missing; run `make generate`")?;
    ensure!(present == expected, "src/docs/guide/reference/providers.md is out of date; run `make generate`");
    Ok(())
}

#[test]
fn every_supported_event_has_a_description() {
    for provider in served() {
        for event in EventKind::ALL {
            let has_words = !provider.event_words(event).is_empty();
            assert_eq!(provider.profile().events.contains(&event), has_words, "{}: {event}", provider.kind());
        }
    }
}
