//! What a fact table holds, as values.

use std::collections::BTreeMap;
use std::fmt;

use http::Method;
use serde_json::Value;

/// The facts about one provider's API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Whether a null in an answer stands for an absent field: the description's language has no word for null.
    pub null_is_absent: bool,
    /// Whether paths and the names of parameters mean the same in any case.
    pub ignores_case: bool,
    /// Whether parameters of a body may stand in the query or in a form too, where every value is a text.
    pub parameters_anywhere: bool,
    /// Prefixes of paths that mean the same as another: alias, original.
    pub aliases: Vec<(String, String)>,
    /// What every operation may answer, by status.
    pub common: BTreeMap<u16, Option<Type>>,
    /// What can be asked.
    pub operations: Vec<Operation>,
    /// Shared objects by name.
    pub objects: BTreeMap<String, Object>,
}

impl Table {
    /// The operation with this method and template.
    pub fn operation(&mut self, method: &Method, template: &str) -> Option<&mut Operation> {
        self.operations.iter_mut().find(|operation| operation.method == *method && operation.template == template)
    }
}

/// One method on one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The path below the API's base, with parameters in braces; `{name...}` stands for one or more segments.
    pub template: String,
    /// The template of the operation, with the same method, whose facts are also this one's.
    pub like: Option<String>,
    /// Parameters in the path that are more than a string.
    pub path: Vec<Field>,
    /// Parameters in the query.
    pub query: Vec<Field>,
    /// The body of the request.
    pub body: Option<Body>,
    /// What is answered by status; none: without a body, or, for an error, with a body that is not described.
    pub answers: BTreeMap<u16, Option<Type>>,
}

impl Operation {
    /// An operation of which nothing is known yet.
    pub fn new(method: Method, template: impl Into<String>) -> Self {
        let (path, query, answers) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { method, template: template.into(), like: None, path, query, body: None, answers }
    }

    /// Method and template.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Whether a request without it is refused.
    pub required: bool,
    /// What it holds.
    pub content: Type,
}

/// A field of an object, or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name, as on the wire.
    pub name: String,
    /// Whether it is always there.
    pub required: bool,
    /// Whether only answers have it.
    pub read_only: bool,
    /// What it holds.
    pub content: Type,
}

/// A JSON object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// Its fields.
    pub fields: Vec<Field>,
    /// What fields with other names hold; none: there are no other fields.
    pub others: Option<Box<Type>>,
}

impl Object {
    /// The field with this name.
    pub fn field(&mut self, name: &str) -> Option<&mut Field> {
        self.fields.iter_mut().find(|field| field.name == name)
    }
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Any JSON.
    Any,
    /// Something that is not JSON.
    Text,
    /// Null.
    Null,
    /// A string.
    String,
    /// A number without a fraction.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A string with a moment in time, as in RFC 3339.
    DateTime,
    /// A string with a date, as in RFC 3339.
    Date,
    /// A string with a UUID.
    Uuid,
    /// Exactly this value.
    Literal(Value),
    /// A list.
    Array(Box<Type>),
    /// An object with fields of any name.
    Map(Box<Type>),
    /// A shared object.
    Named(String),
    /// An object that is described in place.
    Object(Object),
    /// One of these.
    Union(Vec<Type>),
}

impl Type {
    /// One of these, without repetitions; not a union when only one is left.
    pub fn union(alternatives: impl IntoIterator<Item = Self>) -> Self {
        let mut different: Vec<Self> = Vec::new();
        for alternative in alternatives {
            let parts = if let Self::Union(parts) = alternative { parts } else { vec![alternative] };
            for part in parts {
                if !different.contains(&part) {
                    different.push(part);
                }
            }
        }
        if different.len() == 1 { different.remove(0) } else { Self::Union(different) }
    }

    /// Whether this says nothing about the value, so that more can be said of it.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Map(values) | Self::Array(values) => values.is_open(),
            _ => false,
        }
    }

    /// Whether null is among what it may be.
    pub fn takes_null(&self) -> bool {
        match self {
            Self::Any | Self::Null => true,
            Self::Union(parts) => parts.iter().any(Self::takes_null),
            _ => false,
        }
    }

    /// The object that is described in place inside of this, if there is one.
    pub fn object_in_place(&mut self) -> Option<&mut Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Array(values) | Self::Map(values) => values.object_in_place(),
            Self::Union(parts) => parts.iter_mut().find_map(Self::object_in_place),
            _ => None,
        }
    }
}

/// The notation of the tables; of an object that is described in place, only that it is one.
impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("any"),
            Self::Text => formatter.write_str("text"),
            Self::Null => formatter.write_str("null"),
            Self::String => formatter.write_str("string"),
            Self::Integer => formatter.write_str("integer"),
            Self::Number => formatter.write_str("number"),
            Self::Boolean => formatter.write_str("boolean"),
            Self::DateTime => formatter.write_str("date-time"),
            Self::Date => formatter.write_str("date"),
            Self::Uuid => formatter.write_str("uuid"),
            Self::Literal(value) => write!(formatter, "{value}"),
            Self::Array(items) => write!(formatter, "[{items}]"),
            Self::Map(values) => write!(formatter, "{{{values}}}"),
            Self::Named(name) => write!(formatter, "@{name}"),
            Self::Object(_) => formatter.write_str("object"),
            Self::Union(parts) => {
                for (position, part) in parts.iter().enumerate() {
                    let separator = if position == 0 { "" } else { "|" };
                    write!(formatter, "{separator}{part}")?;
                }
                Ok(())
            }
        }
    }
}
