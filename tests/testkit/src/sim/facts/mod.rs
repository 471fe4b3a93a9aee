//! The providers' own descriptions of their APIs, as compact tables of facts, and checks of requests and answers against them.
//!
//! `PROVIDER.facts` is extracted from the description (`make generate`). `additions.facts` adds what a description lacks, and
//! [`corrections`] corrects its mistakes, each with its evidence. The notation is described at the top of `additions.facts`.

pub mod additions;
pub mod check;
pub mod corrections;
pub mod extract;
pub mod notation;
pub mod route;
pub mod table;

use std::sync::OnceLock;

use forgebind::api::v1alpha1::ProviderKind;
use http::Method;
use serde_json::Value;

use self::check::{Checker, Direction};
use self::notation::Evidence;
use self::route::Fit;
use self::table::{Operation, Table, Type};
use super::parameters;
use crate::components::repository_root;

/// The facts about one provider.
#[derive(Debug)]
pub struct Facts {
    table: Table,
}

/// A provider's table as it is checked in.
pub fn extracted(kind: ProviderKind) -> String {
    let path = format!("tests/testkit/src/sim/facts/{}.facts", kind.flag());
    std::fs::read_to_string(repository_root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Facts that the descriptions lack.
pub const ADDITIONS: &str = include_str!("additions.facts");

impl Facts {
    /// The facts about a provider, parsed once.
    ///
    /// # Panics
    ///
    /// When the checked-in tables do not fit together; a test reports that first.
    pub fn of(kind: ProviderKind) -> &'static Self {
        static READ: [OnceLock<Facts>; ProviderKind::ALL.len()] = [const { OnceLock::new() }; ProviderKind::ALL.len()];
        let place = ProviderKind::ALL.iter().position(|other| *other == kind).and_then(|position| READ.get(position));
        place.expect("ALL contains every kind").get_or_init(|| match Self::read(kind) {
            Ok(facts) => facts,
            Err(errors) => panic!("the facts about {kind}:\n{}", errors.join("\n")),
        })
    }

    /// Parses a provider's table, adds the additions and applies the corrections.
    ///
    /// # Errors
    ///
    /// Every line that is not valid, and every addition and correction that is unnecessary or has no place.
    pub fn read(kind: ProviderKind) -> Result<Self, Vec<String>> {
        let mut table = notation::read(&extracted(kind), Evidence::OfTheDescription)?.remove(kind.flag()).unwrap_or_default();
        let additions = notation::read(ADDITIONS, Evidence::OfEachGroup)?.remove(kind.flag()).unwrap_or_default();
        let corrections = corrections::CORRECTIONS.iter().filter(|correction| correction.provider == kind);
        let mut errors: Vec<String> = corrections.filter_map(|correction| additions::correct(&mut table, correction).err()).collect();
        errors.extend(additions::add(&mut table, additions));
        errors.extend(additions::dangling(&table));
        if errors.is_empty() { Ok(Self { table }) } else { Err(errors) }
    }

    /// Checks a request. `path` is relative to the API's base and undecoded, as on the wire, without the query; `query` is
    /// decoded.
    ///
    /// Returns the deviations: an unknown path or method, unknown, missing or wrong parameters, unknown, missing, wrong or
    /// read-only fields of the body. Findings contain no values except names of enumeration members and parameters.
    pub fn request(&self, method: &Method, path: &str, query: &[(String, String)], body: Option<&Value>) -> Vec<String> {
        let (operation, fit) = match self.find(method, path) {
            Ok(found) => found,
            Err(finding) => return vec![finding],
        };
        let checker = self.checker(Direction::Request);
        let (query, body) = self.put_in_place(operation, query, body);
        let mut findings = Vec::new();
        for parameter in &operation.path {
            let values = fit.parameters.iter().filter(|(name, _)| *name == parameter.name);
            findings.extend(values.flat_map(|(name, value)| checker.parameter(value, &parameter.content, &format!("{{{name}}}"))));
        }
        let same = |one: &str, other: &str| one == other || (self.table.ignores_case && one.eq_ignore_ascii_case(other));
        let wire_name = |name: &str, known: &table::Field| {
            same(&known.name, name) || (matches!(known.content, Type::Array(_)) && name.strip_suffix("[]") == Some(&known.name))
        };
        for (name, value) in &query {
            match operation.query.iter().find(|known| wire_name(name, known)) {
                Some(known) => findings.extend(checker.parameter(value, &known.content, &format!("?{name}"))),
                None => findings.push(format!("?{name}: unknown parameter")),
            }
        }
        for known in operation.query.iter().filter(|known| known.required) {
            if !query.iter().any(|(name, _)| wire_name(name, known)) {
                findings.push(format!("?{}: missing", known.name));
            }
        }
        match (&operation.body, &body) {
            (Some(expected), None) if expected.required && expected.content != Type::Text => findings.push("body: missing".to_owned()),
            (None, Some(_)) => findings.push("body: none is described".to_owned()),
            (Some(expected), Some(value)) => findings.extend(checker.value(value, &expected.content, "body")),
            (_, None) => {}
        }
        named(operation, findings)
    }

    /// Checks an answer; `path` as for [`Self::request`], `body` when it is JSON.
    ///
    /// Returns the deviations: an unknown path or method, a 2xx that is not described, a body where there must be none or none
    /// where there must be one, unknown, missing or wrong fields. A redirect or an error need not be described; its JSON must
    /// then be an object. A described error may still be a web page or plain text.
    pub fn answer(&self, method: &Method, path: &str, status: u16, body: Option<&Value>) -> Vec<String> {
        let operation = match self.find(method, path) {
            Ok((operation, _)) => operation,
            // A request that no operation matches gets an error, in whatever form.
            Err(finding) => return if (200..300).contains(&status) { vec![finding] } else { Vec::new() },
        };
        let succeeded = (200..300).contains(&status);
        let findings = match (operation.answers.get(&status).or_else(|| self.table.common.get(&status)), body) {
            (None, _) if succeeded => vec![format!("{status}: not described")],
            (Some(Some(Type::Text)), None) => Vec::new(),
            (Some(Some(_)), None) if succeeded => vec![format!("{status}: no JSON, expected some")],
            (Some(None), Some(_)) if succeeded => vec![format!("{status}: a body, expected none")],
            (Some(Some(expected)), Some(value)) => self.checker(Direction::Answer).value(value, expected, &status.to_string()),
            (None | Some(None), Some(value)) if !value.is_object() => vec![format!("{status}: JSON that is not an object")],
            _ => Vec::new(),
        };
        named(operation, findings)
    }

    /// Whether a body may be a form.
    pub const fn takes_forms(&self) -> bool {
        self.table.parameters_anywhere
    }

    fn checker(&self, direction: Direction) -> Checker<'_> {
        let texts_are_values = self.table.parameters_anywhere && direction == Direction::Request;
        Checker { objects: &self.table.objects, null_is_absent: self.table.null_is_absent, texts_are_values, direction }
    }

    /// Query and body of a request. Where the provider accepts it, body fields that are in the query are moved into the body.
    fn put_in_place(
        &self,
        operation: &Operation,
        query: &[(String, String)],
        body: Option<&Value>,
    ) -> (Vec<(String, String)>, Option<Value>) {
        let fields = match operation.body.as_ref().map(|body| &body.content) {
            Some(Type::Named(name)) => self.table.objects.get(name).map(|object| object.fields.as_slice()),
            Some(Type::Object(object)) => Some(object.fields.as_slice()),
            _ => None,
        };
        let of_body = |(name, _): &&(String, String)| {
            let name = name.split('[').next().unwrap_or_default();
            let is = |fields: &[table::Field]| fields.iter().any(|field| field.name == name);
            self.table.parameters_anywhere && fields.is_some_and(is) && !is(&operation.query)
        };
        let (moved, kept): (Vec<_>, Vec<_>) = query.iter().partition(of_body);
        let kept = kept.into_iter().cloned().collect();
        if moved.is_empty() {
            return (kept, body.cloned());
        }
        let mut whole = parameters::nested(&moved.into_iter().cloned().collect::<Vec<_>>());
        if let (Some(members), Some(Value::Object(body))) = (whole.as_object_mut(), body) {
            members.extend(body.clone());
        }
        (kept, Some(whole))
    }

    /// The operation whose template matches the path most closely, among those whose parameters accept the values if there are
    /// any.
    fn find(&self, method: &Method, path: &str) -> Result<(&Operation, Fit), String> {
        let aliased = self.table.aliases.iter().find_map(|(alias, original)| Some(format!("{original}{}", below(path, alias)?)));
        self.find_original(method, aliased.as_deref().unwrap_or(path))
    }

    fn find_original(&self, method: &Method, path: &str) -> Result<(&Operation, Fit), String> {
        let fit = |known: &'_ Operation| route::fit(&known.template, path, self.table.ignores_case);
        let fits: Vec<_> = self.table.operations.iter().filter_map(|known| Some((known, fit(known)?))).collect();
        let checker = self.checker(Direction::Request);
        let takes = |(operation, fit): &(&Operation, Fit)| {
            operation.path.iter().all(|field| {
                let mut values = fit.parameters.iter().filter(|(name, _)| *name == field.name);
                values.all(|(_, value)| checker.parameter(value, &field.content, "").is_empty())
            })
        };
        let of_method = fits.iter().filter(|(operation, _)| operation.method == *method);
        let found = of_method.min_by_key(|candidate| (!takes(candidate), candidate.1.closeness.clone()));
        match (found, fits.first()) {
            (Some((operation, fit)), _) => {
                let described = operation
                    .like
                    .as_ref()
                    .and_then(|like| self.table.operations.iter().find(|other| other.method == *method && other.template == *like));
                Ok((described.unwrap_or(operation), fit.clone()))
            }
            (None, Some((other, _))) => Err(format!("{method} {}: no such method", other.template)),
            (None, None) => Err(format!("{method} {path}: unknown path")),
        }
    }
}

/// A body as JSON; `None` without a body or with another kind of body. A byte order mark is removed.
pub fn json(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).ok()
}

fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.starts_with('/'))
}

fn named(operation: &Operation, findings: Vec<String>) -> Vec<String> {
    findings.into_iter().map(|finding| format!("{}: {finding}", operation.name())).collect()
}
