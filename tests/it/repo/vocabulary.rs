//! Words that this repository no longer uses, each with its replacement. Checked in the text of the product, its tests, its chart
//! and its guides.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use regex::Regex;

/// An old word: where it is forbidden (part of the path; empty means everywhere), its pattern, and its replacement.
type Rule = (&'static str, &'static str, &'static str);

/// Identifiers and fixed names, as patterns.
const IDENTIFIERS: &[Rule] = &[
    // Pending events of a sink.
    ("", r"(?:\b|_)owed(?:\b|_)", "pending"),
    ("", r"\bOwed[A-Z]\w*|(?:Sink|Deliveries|::)Owed\b", "Pending…"),
    ("", r"\bowing\b", "pending"),
    ("src/receiver/", r"\bnudged?\b|\bNUDGED\b|\bhopeful\b", "wake, waitable"),
    // The version of a webhook secret. `generation` is Kubernetes' word.
    ("", r"\bsecretGenerations?\b|\bsecret_generations?\b", "secretVersion, secret_version"),
    (
        "",
        r"ANY_EARLIER_GENERATION|\bbrought_generation\b|\bgeneration_in_path\b|\bseveral_generations\b|\baccepted_generations\b",
        "…version",
    ),
    ("src/receiver/", r"\bgeneration: (?:Option<String>|String|&)|\bgenerations\b|_generations\b", "secret_version"),
    ("", r"\bgeneration of (?:the|its|a) secret\b", "version of the secret"),
    // The binding controller.
    (
        "",
        r"\bplaces_to_clear\b|\bplace_of_spec\b|\bplace_by_grant\b|\bsame_place\b|\bheld_places\b|\badopted_at_places\b",
        "cleanup_targets, …target",
    ),
    ("src/controllers/binding/", r"\b(?:enum|struct) Place\b|::Place\b", "CleanupTarget"),
    ("", r"\bstrays\b", "orphaned_hooks"),
    ("", r"\brivals?\b|\btell_rivals\b|\banother_goes_first\b", "conflicts, requeue_conflicting, loses_conflict"),
    (
        "",
        r"\blook_due\b|\bnext_look\b|\blook_failed\b|\bwithout_look\b|\bLookAgain\b|\bSECOND_LOOK\b",
        "probe_due, next_probe, probe_failed, …",
    ),
    (
        "src/controllers/",
        r"\bstruct Look\b|\bCircumstances\b|\bObservation\b|\bstruct Found\b|\bview\.looks\b",
        "ProbeRecord, ProbeInputs, Facts, Probe",
    ),
    ("src/controllers/", r"\bBelonging\b|\bstruct Ownership\b", "HookOwner, BindingOwner, HookIdentity"),
    ("", r"\bleave_foreign\b|\bleft_to_another\b|\bhas_nothing\b", "skip_if_foreign, foreign_owner_message, holds_no_hooks"),
    ("src/controllers/", r"\bTrouble\b|\btrouble(?:_of|_\w+)?\b", "ConditionFailure, failure"),
    ("src/controllers/", r"\bstruct Working\b|\.working\b", "ActiveClient, active_client"),
    ("", r"\bsuspect(?:ed)?\b", "request_inspection, inspection_requested"),
    ("src/controllers/", r"\bTold\b|\btold_end\b|\bdeclared_end\b", "ReportedUsage, LeaseEvents, reported_expiry, declared_expiry"),
    ("src/controllers/", r"\bMaterial\b|\bmaterial::", "ConnectionInputs"),
    ("src/controllers/", r"\bHold::|\benum Hold\b|\bFinalizerAction\b|\bfinalizer_action\b", "FinalizerStep, finalizer_step"),
    (
        "src/controllers/binding/",
        r"\bKept\b|\bRevival\b|\brevivals?\b|\bRevived\b|\brevived?\b|\bSeat\b|\bStanding\b",
        "ExistingHook, Recreation, recreate_disabled, HookSlot",
    ),
    ("src/controllers/binding/", r"\bunanswered\b|\bawaits\b|\bLAG\b", "ambiguous_creates, pending_create, LIST_LAG"),
    ("", r"\bshape\.part\b|\bHookShape \{ part\b", "shape.variant"),
    ("src/controllers/", r"\bNotice\b|\bnotices\b|\bVerdict\b", "EventRecord, events, ConditionStatus"),
    (
        "src/controllers/gate/",
        r"\bSight\b|\bDeparture\b|\bAdmitted\b|\bstruct Use\b|\bstruct Cleanup\b|\bstruct Ours\b",
        "RepositoryLookup, OutOfReach, GrantedRepository, UsePermit, CleanupPermit, OwnedHooks",
    ),
    ("", r"\bmay_be_told\b", "may_be_reported"),
    // The other controllers' parts.
    ("", r"\b[Cc]ensus\b", "object_metrics, ObjectCounts"),
    ("src/controllers/", r"\bseen_by\b|\bCACHE_BEHIND\b|\bstruct Writes\b|\bWrites::", "is_observed, STALE_CACHE_RETRY, WriteTracker"),
    ("src/controllers/", r"\bwork_off\b|\bspared\b|\bGivenUp\b", "retry_leftovers, hooks_in_use, Expired"),
    ("", r"\bNotBrought\b", "ExternalKeyMissing"),
    ("", r"\bCampaign\b|\bCandidate\b|\bcampaign\b", "LeaderElection, LeaseConfig, start_election"),
    ("src/controllers/", r"\bRHYTHM\b|\bPATIENCE\b|\bLONGEST\b", "INTERVAL, TIMEOUT, MAX_…"),
    ("", r"\bOfProviders\b|\bOfCluster\b", "ProviderClients, ClusterObjects"),
    ("src/controllers/", r"\btrait Clients\b|\btrait References\b", "ClientFactory, ObjectReader"),
    // The receiver.
    (
        "src/receiver/",
        r"\bAdmission\b|\bAdmitted\b|::Doubt\b|\bPatient\b|\bstruct Recent\b|\bget_or_note\b|\bTwins\b|\bLasting\b|\bOpening\b",
        "Verifier, VerifiedDelivery, SecretRecentlyRotated, TimeoutStream, TtlCache, ContentDuplicates, RouteState, RouteAccess",
    ),
    ("", r"\b(?:Binding|Secret|Connection)Awaited\b|\b(?:binding|secret|connection)_awaited\b", "…Unknown, …_unknown"),
    ("src/receiver/", r"\bstruct Facts\b|\benum Ownership\b|\benum Answer\b", "RouteConfig, RepositoryMatch, DeliveryResult"),
    // Providers and their transport.
    ("", r"\bOwnerAndName\b|\bKeptCache\b", "OwnerRepoSyntax, AccountCache"),
    ("src/providers/", r"\bSpelling\b|\bstruct Holder\b|\bstruct Walk\b", "RepositoryRef, Project, Pagination"),
    (
        "src/providers/transport/",
        r"\bGate\b|\bKept\b|\bRaw\b|\bpark\b|\bStanding\b",
        "RateLimiter, AccountCache, RawResponse, max_wait, RateLimitStatus",
    ),
    // Check, run and small modules.
    (
        "src/check/",
        r"\bLookout\b|\bpeculiarities\b|\bfill_in\b|\bpromised\b|\bstand_in\b|\bGathered\b|\bAssuming\b",
        "Checker, lints, apply_defaults, externally_managed, placeholder, LayeredSecrets, OfflineClients",
    ),
    ("", r"\bNoPublicUrl\b|\bwording::counted\b", "PublicUrlError, wording::pluralize"),
    ("src/run", r"\bstruct Parts\b", "App"),
    // The uninstall command. A `release` is a published version.
    (
        "",
        r"\bforgebind release\b|\bforgebind-release\b|\bHooksOnRelease\b|\bReleaseConfig\b|\bReleaseArguments\b|\bCommand::Release\b",
        "forgebind uninstall, …Uninstall…",
    ),
    ("", r"deploy/base/release\b|overlays/namespaced/release\b|component: release\b", "uninstall"),
    // Simulators and tests.
    (
        "tests/",
        r"\bMisbehaviour\b|\bmisbehaviour\b|\btrait Product\b|\bWelcome\b|\bAct::|\bHappening\b|\bSLIPS\b|\bdistil\b",
        "Fault, SimulatedProvider, SeedData, UserAction, ProviderEvent, CORRECTIONS, extract",
    ),
    (
        "tests/",
        r"\bWorld::|\bstruct World\b|\bstruct Story\b|\bStory::|\bstruct Objects\b|\bObjects::(?:new|within)\b",
        "TestEnv, ProviderEnv, TestNamespace",
    ),
];

/// Words of texts: comments, messages and guides.
const PROSE: &[Rule] = &[
    ("", r"(?i)\b(?:is|are|was|were|be|what is) owed\b", "pending"),
    ("", r"(?i)\bways in\b|\bthe way in (?:for|to)\b", "public endpoint"),
    ("", r"(?i)\bstray hooks?\b", "orphaned hook"),
    ("", r"(?i)\brival (?:bindings?|hooks?)\b", "conflict"),
    (
        "src/controllers/",
        r"\b(?:the|a|each|every|last|next|first) looks? at (?:the|a) repository\b|\brepository (?:is|was) looked at\b",
        "probe",
    ),
    ("src/controllers/", r"\b[Tt]rouble with\b", "failure at"),
];

/// Files with foreign words: recordings and descriptions of providers, and names of other projects.
const FOREIGN: &[&str] = &["tests/fixtures/", "tests/controlplane/", "/facts/additions.facts", ".facts"];
/// The parts of them that are our own recordings.
const OWN_FIXTURES: &[&str] = &["tests/fixtures/alerts/", "tests/fixtures/statuses/"];

/// The old words in a text, one line each.
fn old_words(path: &str, text: &str, rules: &[(Rule, Regex)]) -> Vec<String> {
    let is_foreign = FOREIGN.iter().any(|part| path.contains(part)) && !OWN_FIXTURES.iter().any(|own| path.starts_with(own));
    if is_foreign || path.ends_with("/vocabulary.rs") {
        return Vec::new();
    }
    let mine = rules.iter().filter(|((within, ..), _)| within.is_empty() || path.contains(within));
    let found = mine.flat_map(|((_, _, instead), pattern)| {
        pattern.find_iter(text).map(move |word| {
            let line = text[..word.start()].matches('\n').count() + 1;
            format!("{path}:{line}: `{}` is an old word; write {instead}", word.as_str())
        })
    });
    found.collect()
}

fn rules() -> Result<Vec<(Rule, Regex)>> {
    let all = IDENTIFIERS.iter().chain(PROSE);
    all.map(|rule| Ok((*rule, Regex::new(rule.1).with_context(|| rule.1)?))).collect()
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<()> {
    const ENDINGS: [&str; 9] = ["rs", "md", "yaml", "yml", "json", "tpl", "txt", "toml", "lua"];
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
            files.push(path.strip_prefix(root)?.to_str().context("a path is not UTF-8")?.to_owned());
        }
    }
    Ok(())
}

#[test]
fn no_old_word_is_used() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = rules()?;
    let mut files = vec!["README.md".to_owned(), "Makefile".to_owned()];
    for folder in ["src", "tests", "charts", "deploy", "docs"].map(|folder| root.join(folder)) {
        if folder.is_dir() {
            collect(root, &folder, &mut files)?;
        }
    }
    ensure!(files.len() > 100, "the files were not found");
    let mut found = Vec::new();
    for file in files {
        found.extend(old_words(&file, &std::fs::read_to_string(root.join(&file)).with_context(|| file.clone())?, &rules));
    }
    ensure!(found.is_empty(), "{} old words:\n{}", found.len(), found.join("\n"));
    Ok(())
}

#[test]
fn finds_an_old_word_where_it_is_forbidden_and_nowhere_else() -> Result<()> {
    let rules = rules()?;
    let found = |path: &str, text: &str| old_words(path, text, &rules);
    for (path, text) in [
        ("src/receiver/sinks/job.rs", "pub(super) fn is_owed(&self) -> bool {"),
        ("charts/forgebind/files/alerts.yaml", "  - alert: ForgebindDeliveriesOwed"),
        ("src/docs/metrics.md", "| `forgebind_receiver_owed_bytes` | gauge |"),
        ("src/docs/faq.md", "What is owed\nfollows."),
        ("tests/fixtures/statuses/binding-ready.yaml", "    secretGeneration: \"1\""),
        ("src/receiver/route.rs", "generation: Option<String>,"),
        ("src/controllers/binding/mod.rs", "struct Look {"),
        ("README.md", "Run `forgebind release` first."),
        ("tests/it/deletion.rs", "let env = World::new(\"deletion\").await?;"),
    ] {
        assert!(!found(path, text).is_empty(), "{path}: {text}");
    }
    let hit = found("src/docs/faq.md", "One.\nTwo ways in.");
    assert!(hit.iter().any(|complaint| complaint.starts_with("src/docs/faq.md:2: `ways in`")), "{hit:?}");
    for (path, text) in [
        ("src/k8s/conditions.rs", "observed_generation: object.metadata.generation,"),
        ("charts/forgebind/values.yaml", "missingGrantTimeout: what is followed and borrowed"),
        ("src/docs/releasing.md", "A release is published by a tag; the release notes follow."),
        ("tests/fixtures/github/push.json", "\"owed\": true, \"secretGeneration\": 1"),
        ("src/receiver/sinks/pending.rs", "/// Pending events wait for the sink that follows."),
        ("tests/it/vocabulary.rs", "World::new, owed, rivals"),
    ] {
        assert_eq!(found(path, text), Vec::<String>::new(), "{path}: {text}");
    }
    Ok(())
}
