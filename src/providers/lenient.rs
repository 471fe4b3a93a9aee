//! Deserializes what server versions write differently: ids as numbers or strings, and null for empty or unknown values.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, de};

/// An id as text. Some versions write it as a number, others as a string; both mean the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(String);

impl Id {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl de::Visitor<'_> for IdVisitor {
    type Value = Id;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an id, as a number or a text")
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Id, E> {
        Ok(Id(id.to_string()))
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<Id, E> {
        Ok(Id(id.to_string()))
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<Id, E> {
        // An empty id cannot address anything.
        if id.is_empty() { Err(E::invalid_length(0, &self)) } else { Ok(Id(id.to_owned())) }
    }
}

/// Reads an integer, also from a string.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let id = Id::deserialize(deserializer)?;
    id.as_str().parse().map_err(|_| de::Error::custom("not a whole number"))
}

/// Reads a whole number that is not negative, also from a string; anything else counts as absent.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Found {
        Number(u64),
        Text(String),
        Other(IgnoredAny),
    }
    Ok(match Found::deserialize(deserializer)? {
        Found::Number(number) => Some(number),
        Found::Text(text) => text.parse().ok(),
        Found::Other(IgnoredAny) => None,
    })
}

/// Reads a value; null becomes the default: `None`, false, or empty.
pub(super) fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a value; what does not fit counts as absent. For fields that no description promises.
pub(super) fn if_it_fits<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Found<T> {
        Fits(T),
        Other(IgnoredAny),
    }
    Ok(match Found::deserialize(deserializer)? {
        Found::Fits(value) => value,
        Found::Other(IgnoredAny) => T::default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Document {
        id: Id,
        #[serde(deserialize_with = "integer")]
        level: i64,
        #[serde(default, deserialize_with = "or_default")]
        events: Vec<String>,
    }

    #[test]
    fn what_does_not_fit_counts_as_absent() {
        #[derive(Deserialize)]
        struct Described {
            #[serde(default, deserialize_with = "if_it_fits")]
            events: Vec<String>,
        }
        let read = |document| serde_json::from_value::<Described>(document).unwrap().events;
        assert_eq!(read(json!({"events": ["push"]})), ["push"]);
        for other in [json!({}), json!({"events": null}), json!({"events": 7}), json!({"events": [{"a": 1}]})] {
            assert_eq!(read(other), [""; 0]);
        }
    }

    #[test]
    fn what_is_no_number_counts_as_absent() {
        #[derive(Deserialize)]
        struct Numbered {
            #[serde(default, deserialize_with = "number")]
            number: Option<u64>,
        }
        let read = |document| serde_json::from_value::<Numbered>(document).unwrap().number;
        assert_eq!((read(json!({"number": 7})), read(json!({"number": "7"}))), (Some(7), Some(7)));
        for other in [json!(null), json!(""), json!(1.5), json!(-1), json!("x"), json!({"a": 1}), json!([1])] {
            assert_eq!(read(json!({"number": other})), None);
        }
        assert_eq!(read(json!({})), None);
    }

    #[test]
    fn numbers_texts_and_nulls_of_all_versions_mean_the_same() {
        let read = |document| serde_json::from_value::<Document>(document);
        for document in [
            json!({"id": 17, "level": 40, "events": []}),
            json!({"id": "17", "level": "40", "events": null}),
            json!({"id": 17, "level": 40}),
        ] {
            let found = read(document.clone()).unwrap_or_else(|error| panic!("{document}: {error}"));
            assert_eq!((found.id.as_str(), found.level, found.events), ("17", 40, Vec::<String>::new()), "{document}");
        }
        let wide = read(json!({"id": 9_007_199_254_740_993_u64, "level": -1})).unwrap();
        assert_eq!(wide.id.to_string(), "9007199254740993", "wider than a float");
        for document in
            [json!({"id": null, "level": 1}), json!({"id": "", "level": 1}), json!({"id": 1.5, "level": 1}), json!({"id": 1, "level": "x"})]
        {
            assert!(read(document.clone()).is_err(), "{document}");
        }
    }
}
