//! Parameters of a request in the query, in a form or in JSON. GitLab's API accepts all three: Rack reads them, and Grape
//! converts text to the declared types.

use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use super::message::Request;

/// All parameters as one object; the body overrides the query.
pub fn gathered(request: &Request) -> Value {
    let mut whole = nested(&request.query);
    if let (Some(members), Some(Value::Object(body))) = (whole.as_object_mut(), of_body(request)) {
        members.extend(body);
    }
    whole
}

/// The body: JSON, or a form as an object of texts; `None` for anything else.
pub fn of_body(request: &Request) -> Option<Value> {
    let content_type = request.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let (kind, options) = content_type.split_once(';').unwrap_or((content_type, ""));
    match kind.trim() {
        "application/x-www-form-urlencoded" => {
            let pairs: Vec<_> = url::form_urlencoded::parse(&request.body).into_owned().collect();
            Some(nested(&pairs))
        }
        "multipart/form-data" => {
            let boundary = options.trim().strip_prefix("boundary=")?.trim_matches('"');
            Some(nested(&parts(&String::from_utf8_lossy(&request.body), boundary)))
        }
        _ => Some(request.json()).filter(|document| !document.is_null()),
    }
}

/// The parts of a form with a boundary: name and text.
fn parts(body: &str, boundary: &str) -> Vec<(String, String)> {
    let part = |text: &str| {
        let (head, content) = text.split_once("\r\n\r\n")?;
        let (_, name) = head.split_once("name=\"")?;
        let (name, _) = name.split_once('"')?;
        Some((name.to_owned(), content.strip_suffix("\r\n").unwrap_or(content).to_owned()))
    };
    body.split(&format!("--{boundary}")).filter_map(part).collect()
}

/// Names with brackets become objects and lists, as in Rack: `headers[][key]`, `variables[0]`, `a[b]`.
pub fn nested(pairs: &[(String, String)]) -> Value {
    let mut whole = Value::Object(Map::new());
    for (name, value) in pairs {
        let (first, rest) = name.split_once('[').unwrap_or((name, ""));
        let rest = rest.strip_suffix(']').map(|rest| rest.split("][").collect::<Vec<_>>()).unwrap_or_default();
        place(&mut whole[first], &rest, value);
    }
    whole
}

fn place(slot: &mut Value, keys: &[&str], value: &str) {
    match keys {
        [] => *slot = json!(value),
        ["", rest @ ..] => {
            if !slot.is_array() {
                *slot = json!([]);
            }
            let Some(list) = slot.as_array_mut() else { return };
            // A key that the last entry already has begins a new entry.
            let goes_on = matches!(rest, [key, ..] if list.last().is_some_and(|last| last.is_object() && last.get(*key).is_none()));
            if !goes_on {
                list.push(Value::Null);
            }
            if let Some(last) = list.last_mut() {
                place(last, rest, value);
            }
        }
        [key, rest @ ..] => {
            if !slot.is_object() {
                *slot = json!({});
            }
            place(&mut slot[*key], rest, value);
        }
    }
}

/// The value is not a boolean.
#[derive(Clone, Copy, Debug)]
pub struct NotAFlag;

/// A boolean as Grape reads it: true, false, or one of the words for them; `None` if it is missing. Everything else is an error.
pub fn flag(value: &Value) -> Result<Option<bool>, NotAFlag> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        other => match other.as_str().map_or_else(|| other.to_string(), str::to_owned).to_lowercase().as_str() {
            "" => Ok(None),
            "true" | "t" | "1" | "on" => Ok(Some(true)),
            "false" | "f" | "0" | "off" => Ok(Some(false)),
            _ => Err(NotAFlag),
        },
    }
}
