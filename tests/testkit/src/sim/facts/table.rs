//! The content of a fact table, as values.

use std::collections::BTreeMap;
use std::fmt;

use http::Method;
use serde_json::Value;

/// The facts about one provider's API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Whether null in an answer means an absent field: the description's language cannot express null.
    pub null_is_absent: bool,
    /// Whether paths and parameter names are compared without regard to case.
    pub ignores_case: bool,
    /// Whether parameters of a body may also be sent in the query or in a form, where every value is text.
    pub parameters_anywhere: bool,
    /// Path prefixes that are equivalent to another: alias, original.
    pub aliases: Vec<(String, String)>,
    /// Answers that every operation may give, by status.
    pub common: BTreeMap<u16, Option<Type>>,
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
    pub method: Method,
    /// The path below the API's base, with parameters in braces; `{name...}` matches one or more segments.
    pub template: String,
    /// The template of another operation with the same method, whose facts apply here too.
    pub like: Option<String>,
    /// Path parameters that are not plain strings.
    pub path: Vec<Field>,
    pub query: Vec<Field>,
    pub body: Option<Body>,
    /// The answers by status; `None` has no body or, for an error, a body that is not described.
    pub answers: BTreeMap<u16, Option<Type>>,
}

impl Operation {
    /// An operation without facts.
    pub fn new(method: Method, template: impl Into<String>) -> Self {
        let (path, query, answers) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { method, template: template.into(), like: None, path, query, body: None, answers }
    }

    /// Method and template.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Whether a request without a body is refused.
    pub required: bool,
    pub content: Type,
}

/// A field of an object, or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    /// Whether it is always present.
    pub required: bool,
    /// Whether only answers contain it.
    pub read_only: bool,
    pub content: Type,
}

/// A JSON object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    pub fields: Vec<Field>,
    /// The type of fields with other names; `None`: there are no other fields.
    pub others: Option<Box<Type>>,
}

impl Object {
    /// The field with this name.
    pub fn field(&mut self, name: &str) -> Option<&mut Field> {
        self.fields.iter_mut().find(|field| field.name == name)
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Any,
    /// Something that is not JSON.
    Text,
    Null,
    String,
    /// A number without a fraction.
    Integer,
    Number,
    /// True or false.
    Boolean,
    /// A time in a string, as in RFC 3339.
    DateTime,
    /// A date in a string, as in RFC 3339.
    Date,
    /// A UUID in a string.
    Uuid,
    /// Exactly this value.
    Literal(Value),
    Array(Box<Type>),
    /// An object with arbitrary field names.
    Map(Box<Type>),
    /// A shared object.
    Named(String),
    /// An object that is described inline.
    Object(Object),
    /// One of these.
    Union(Vec<Type>),
}

impl Type {
    /// A union without repetitions; not a union when only one alternative is left.
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

    /// Whether the type allows anything, so that an addition may describe it.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Map(values) | Self::Array(values) => values.is_open(),
            _ => false,
        }
    }

    /// Whether the type allows null.
    pub fn takes_null(&self) -> bool {
        match self {
            Self::Any | Self::Null => true,
            Self::Union(parts) => parts.iter().any(Self::takes_null),
            _ => false,
        }
    }

    /// The object described inside this type, if there is one.
    pub fn object_in_place(&mut self) -> Option<&mut Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Array(values) | Self::Map(values) => values.object_in_place(),
            Self::Union(parts) => parts.iter_mut().find_map(Self::object_in_place),
            _ => None,
        }
    }
}

/// The notation of the tables; an inline object is written without its fields.
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
