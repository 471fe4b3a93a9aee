//! The checked-in fact tables and the official descriptions from which they are extracted.

use anyhow::{Context as _, Result, ensure};
use forgebind::api::v1alpha1::ProviderKind;
use serde_json::Value;

use testkit::components::repository_root;
use testkit::samples;
use testkit::sim::facts::corrections::{Change, Correction};
use testkit::sim::facts::extract::{Description, extract, originals};
use testkit::sim::facts::notation::{self, Evidence};
use testkit::sim::facts::table::Table;
use testkit::sim::facts::{self, Facts, additions};

/// Compares the tables with the descriptions. With `UPDATE=1` (`make generate`) it writes instead.
#[test]
fn checked_in_fact_tables_are_those_of_the_official_descriptions() -> Result<()> {
    let Some(folder) = originals() else { return Ok(()) };
    for kind in ProviderKind::ALL {
        let samples::Facts { title, from, files, base, rests } = samples::of(kind).facts;
        let documents = files.iter().map(|file| Ok(serde_json::from_slice(&std::fs::read(folder.join(file))?)?));
        let documents = documents.collect::<Result<Vec<Value>>>().with_context(|| format!("{files:?}"))?;
        let table = extract(&Description { base, rests }, &documents).with_context(|| format!("{kind}"))?;
        let text = format!(
            "# {title}: facts about its API, extracted by `make generate` from\n# {from}.\n\
             # The notation is described at the top of additions.facts. Change nothing here: what the description lacks goes there,\n\
             # what it has wrong into corrections.rs.\nprovider {}\n{}",
            kind.flag(),
            notation::write(&table)
        );
        let path = repository_root().join("tests/testkit/src/sim/facts").join(format!("{}.facts", kind.flag()));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text)?;
        }
        let present = std::fs::read_to_string(&path).with_context(|| format!("{} is missing; run `make generate`", path.display()))?;
        ensure!(present == text, "{} is out of date; run `make generate`", path.display());
    }
    Ok(())
}

/// Reading a table and writing it again does not change it.
#[test]
fn fact_tables_are_read_completely() {
    for kind in ProviderKind::ALL {
        let text = facts::extracted(kind);
        let tables = notation::read(&text, Evidence::OfTheDescription).unwrap_or_else(|errors| panic!("{kind}: {errors:#?}"));
        let (heading, _) = text.split_once("provider ").unwrap();
        let again = format!("{heading}provider {}\n{}", kind.flag(), notation::write(&tables[kind.flag()]));
        assert!(again == text, "{kind}: the table is not in its written form; run `make generate`");
    }
}

/// Every addition and every correction is still needed, applies to an existing place and has evidence.
#[test]
fn every_addition_and_correction_is_still_needed() {
    for kind in ProviderKind::ALL {
        if let Err(errors) = Facts::read(kind) {
            panic!("{kind}:\n{}", errors.join("\n"));
        }
    }
    for correction in facts::corrections::CORRECTIONS {
        assert!(correction.evidence.split_whitespace().count() > 2, "{} {}: the evidence is missing", correction.provider, correction.at);
    }
}

const TABLE: &str = "provider gitea
GET /hooks/{id}
  {id} integer
  ?page integer
  200 [@Hook]
  404
POST /hooks
  body object
    url! string
  201 any
object @Hook
  config object
    url! string
  state \"on\"|\"off\"
";

fn table(text: &str) -> Table {
    let tables = notation::read(text, Evidence::OfTheDescription).unwrap_or_else(|errors| panic!("{errors:#?}"));
    tables["gitea"].clone()
}

#[test]
fn additions_extend_open_places_and_repeat_nothing() {
    let mut described = table(TABLE);
    let addition = "provider gitea
POST /hooks
  ?dry boolean
  body object
    secret string
  201 @Hook
  202
object @Hook
  config object
    secret string
  * any
DELETE /hooks/{id}
  204
";
    assert_eq!(additions::add(&mut described, table(addition)), Vec::<String>::new());
    assert_eq!(additions::dangling(&described), Vec::<String>::new());
    let text = notation::write(&described);
    for line in ["  ?dry boolean", "    secret string", "  201 @Hook", "  202", "  * any", "DELETE /hooks/{id}"] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let errors = additions::add(&mut described, table(addition));
    for place in
        ["POST /hooks query.dry", "POST /hooks body.secret", "POST /hooks 201", "object @Hook.config.secret", "object @Hook:", "DELETE"]
    {
        assert!(errors.iter().any(|error| error.contains(place)), "{place} in {errors:#?}");
    }
}

#[test]
fn corrections_apply_where_the_mistake_is_and_only_while_it_exists() {
    let correct = |described: &mut Table, at, change| {
        additions::correct(described, &Correction { provider: ProviderKind::Gitea, at, change, evidence: "" })
    };
    let mut described = table(TABLE);
    let all = |described: &mut Table| {
        vec![
            correct(described, "object @Hook config.url", Change::Optional),
            correct(described, "object @Hook state", Change::Nullable),
            correct(described, "GET /hooks/{id} ?page", Change::Or("string")),
            correct(described, "GET /hooks/{id} {id}", Change::Is("uuid")),
            correct(described, "POST /hooks body", Change::Are(&[("url", "uuid")])),
            correct(described, "every list", Change::CountAndValue),
        ]
    };
    let first = all(&mut described);
    assert!(first.iter().all(Result::is_ok), "{first:?}");
    let text = notation::write(&described);
    for line in
        ["    url string", "  state \"on\"|\"off\"|null", "  ?page integer|string", "  {id} uuid", "    url! uuid", "    value! [@Hook]"]
    {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(all(&mut described).iter().all(Result::is_err), "there is nothing left to correct");
    for at in [
        "object @Nothing url",
        "object @Hook nothing",
        "PUT /hooks 200",
        "GET /hooks/{id} 500",
        "GET /hooks/{id} 404",
        "POST /hooks body nothing",
    ] {
        assert!(correct(&mut described, at, Change::Nullable).is_err(), "{at}");
    }
}

#[test]
fn facts_without_evidence_or_with_wrong_syntax_are_not_read() {
    let read = |text: &str, evidence| notation::read(text, evidence).err().unwrap_or_default();
    assert!(read(TABLE, Evidence::OfTheDescription).is_empty());
    assert_eq!(read(TABLE, Evidence::OfEachGroup).len(), 3, "two operations and an object");
    assert!(read(&TABLE.replace("GET", "evidence the page\nGET"), Evidence::OfEachGroup).is_empty());
    for (there, wrong, complaint) in [
        ("provider gitea", "provider sourceforge", "no such provider"),
        ("provider gitea\n", "", "before the provider"),
        ("GET /hooks/{id}", "GET hooks", "neither an operation nor an object"),
        ("  {id} integer", "  {key} integer", "no such parameter in the path"),
        ("?page integer", "?page whole", "not a type"),
        ("?page integer", "page integer", "neither a parameter nor"),
        ("200 [@Hook]", "200 [@Hook", "not a type"),
        ("  404", "  200", "a second answer"),
        ("  201 any", "  201 any\n    id integer", "only below `object`"),
        ("  201 any", "   201 any", "indented by 3"),
        ("  state", "  config", "a second field"),
    ] {
        let errors = read(&TABLE.replace(there, wrong), Evidence::OfTheDescription);
        assert!(errors.iter().any(|error| error.contains(complaint)), "{wrong}: {errors:?}, expected: {complaint}");
    }
    let missing = additions::dangling(&table(&TABLE.replace("object @Hook", "object @Hooks")));
    assert_eq!(missing, ["@Hook: there is no such object", "object @Hooks: nothing names it"]);
}
