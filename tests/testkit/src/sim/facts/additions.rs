//! Adds to the tables what the descriptions lack, and corrects their mistakes. An addition or a correction that is no longer
//! needed is an error.

use std::collections::BTreeSet;

use http::Method;

use super::corrections::{Change, Correction};
use super::notation::read_type;
use super::table::{Body, Field, Object, Operation, Table, Type};

/// Adds facts to a table: operations and objects, and parameters, answers and fields of existing ones. A body or an answer may be
/// described if the description leaves it open, but not otherwise.
///
/// Returns the additions that already exist or have no place.
pub fn add(table: &mut Table, additions: Table) -> Vec<String> {
    let mut errors = Vec::new();
    table.ignores_case |= additions.ignores_case;
    table.parameters_anywhere |= additions.parameters_anywhere;
    table.aliases.extend(additions.aliases);
    table.common.extend(additions.common);
    for (name, object) in additions.objects {
        match table.objects.get_mut(&name) {
            Some(present) => add_fields(present, object, &format!("object @{name}"), &mut errors),
            None => drop(table.objects.insert(name, object)),
        }
    }
    for operation in additions.operations {
        match table.operation(&operation.method, &operation.template) {
            Some(present) => add_to_operation(present, operation, &mut errors),
            None => table.operations.push(operation),
        }
    }
    errors
}

fn already(position: &str) -> String {
    format!("{position}: the description has it; remove the addition")
}

fn add_to_operation(present: &mut Operation, addition: Operation, errors: &mut Vec<String>) {
    let position = addition.name();
    if addition.like.is_some() || present.like.is_some() {
        errors.push(format!("{position}: add to the operation that this one is like"));
        return;
    }
    add_each(&mut present.path, addition.path, &format!("{position} path"), errors);
    add_each(&mut present.query, addition.query, &format!("{position} query"), errors);
    if let Some(Body { required, content }) = addition.body {
        let position = format!("{position} body");
        match &mut present.body {
            Some(body) => describe(&mut body.content, content, &position, errors),
            None => present.body = Some(Body { required, content }),
        }
    }
    for (status, content) in addition.answers {
        let position = format!("{position} {status}");
        match (present.answers.get_mut(&status), content) {
            (None, content) => drop(present.answers.insert(status, content)),
            (Some(described @ None), Some(content)) => *described = Some(content),
            (Some(Some(described)), Some(content)) => describe(described, content, &position, errors),
            (Some(_), None) => errors.push(already(&position)),
        }
    }
}

fn add_each(present: &mut Vec<Field>, additions: Vec<Field>, position: &str, errors: &mut Vec<String>) {
    for addition in additions {
        let position = format!("{position}.{}", addition.name);
        match present.iter_mut().find(|field| field.name == addition.name) {
            Some(field) if field.required == addition.required => describe(&mut field.content, addition.content, &position, errors),
            Some(_) => errors.push(already(&position)),
            None => present.push(addition),
        }
    }
}

fn add_fields(present: &mut Object, addition: Object, position: &str, errors: &mut Vec<String>) {
    add_each(&mut present.fields, addition.fields, position, errors);
    match (&mut present.others, addition.others) {
        (_, None) => {}
        (Some(_), Some(_)) => errors.push(already(position)),
        (others @ None, addition) => *others = addition,
    }
}

/// Describes an open type, or adds fields to an inline object.
fn describe(present: &mut Type, mut addition: Type, position: &str, errors: &mut Vec<String>) {
    if present.is_open() && !addition.is_open() {
        *present = addition;
        return;
    }
    match (present.object_in_place(), addition.object_in_place()) {
        (Some(present), Some(addition)) if !addition.fields.is_empty() => add_fields(present, std::mem::take(addition), position, errors),
        _ => errors.push(already(position)),
    }
}

enum Position<'a> {
    Field(&'a mut Field),
    Content(&'a mut Type),
}

/// Applies one correction.
///
/// # Errors
///
/// When the place does not exist or is not wrong.
pub fn correct(table: &mut Table, correction: &Correction) -> Result<(), String> {
    match correction.change {
        Change::Are(fields) => {
            let position = if correction.at.starts_with("object ") { 2 } else { 3 };
            let separator = if correction.at.split(' ').count() == position { ' ' } else { '.' };
            fields.iter().try_for_each(|(field, is)| one(table, &format!("{}{separator}{field}", correction.at), &Change::Is(is)))
        }
        Change::CountAndValue => count_and_value(table),
        ref change => one(table, correction.at, change),
    }
}

fn one(table: &mut Table, at: &str, change: &Change) -> Result<(), String> {
    let position = position(table, at).ok_or_else(|| format!("correction at {at}: there is no such place"))?;
    let needless = || Err(format!("correction at {at}: the description has it right; remove the correction"));
    let parse = |text: &str| read_type(text).ok_or_else(|| format!("correction at {at}: {text} is not a type"));
    let content = match (position, change) {
        (Position::Field(field), Change::Optional) => {
            return if std::mem::replace(&mut field.required, false) { Ok(()) } else { needless() };
        }
        (Position::Field(Field { content, .. }) | Position::Content(content), _) => content,
    };
    let corrected = match change {
        Change::Nullable => Type::union([content.clone(), Type::Null]),
        Change::Or(other) => Type::union([content.clone(), parse(other)?]),
        Change::Is(other) => parse(other)?,
        Change::Optional | Change::Are(_) | Change::CountAndValue => return Err(format!("correction at {at}: this cannot be changed so")),
    };
    if corrected == *content {
        return needless();
    }
    *content = corrected;
    Ok(())
}

fn position<'a>(table: &'a mut Table, at: &str) -> Option<Position<'a>> {
    let mut words = at.split(' ');
    let first = words.next()?;
    let second = words.next()?;
    if first == "object" {
        return field_in(table.objects.get_mut(second.strip_prefix('@')?)?, words.next()?);
    }
    let operation = table.operation(&Method::from_bytes(first.as_bytes()).ok()?, second)?;
    let part = words.next()?;
    if let Some(parameter) = part.strip_prefix('?') {
        return operation.query.iter_mut().find(|field| field.name == parameter).map(Position::Field);
    }
    if let Some(parameter) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        return operation.path.iter_mut().find(|field| field.name == parameter).map(Position::Field);
    }
    let content = match part {
        "body" => &mut operation.body.as_mut()?.content,
        status => operation.answers.get_mut(&status.parse().ok()?)?.as_mut()?,
    };
    match words.next() {
        Some(path) => field_in(content.object_in_place()?, path),
        None => Some(Position::Content(content)),
    }
}

fn field_in<'a>(object: &'a mut Object, path: &str) -> Option<Position<'a>> {
    match path.split_once('.') {
        None => object.field(path).map(Position::Field),
        Some((name, further)) => field_in(object.field(name)?.content.object_in_place()?, further),
    }
}

fn count_and_value(table: &mut Table) -> Result<(), String> {
    let answers = table.operations.iter_mut().flat_map(|operation| operation.answers.iter_mut());
    let mut lists: Vec<_> =
        answers.filter_map(|(_, content)| content.as_mut()).filter(|content| matches!(content, Type::Array(_))).collect();
    if lists.is_empty() {
        return Err("no answer is described as a list any more; remove the correction".to_owned());
    }
    for list in &mut lists {
        let field = |name: &str, content: Type| Field { name: name.to_owned(), required: true, read_only: false, content };
        let fields = vec![field("count", Type::Integer), field("value", list.clone())];
        **list = Type::Object(Object { fields, others: None });
    }
    Ok(())
}

/// References to objects that do not exist, and shared objects without a reference.
pub fn dangling(table: &Table) -> Vec<String> {
    let mut named = BTreeSet::new();
    let mut waiting: Vec<Type> = Vec::new();
    let mut errors = Vec::new();
    for operation in &table.operations {
        waiting.extend(operation.body.iter().map(|body| body.content.clone()));
        waiting.extend(operation.answers.values().flatten().cloned());
        waiting.extend(operation.query.iter().map(|field| field.content.clone()));
        let like = operation.like.as_ref();
        let original = |like: &String| table.operations.iter().find(|other| other.method == operation.method && other.template == *like);
        if like.is_some_and(|like| original(like).is_none_or(|original| original.like.is_some())) {
            errors.push(format!("{}: what it is like is not described", operation.name()));
        }
    }
    while let Some(content) = waiting.pop() {
        match content {
            Type::Named(name) => match table.objects.get(&name) {
                Some(object) if named.insert(name.clone()) => waiting.push(Type::Object(object.clone())),
                Some(_) => {}
                None => errors.push(format!("@{name}: there is no such object")),
            },
            Type::Array(content) | Type::Map(content) => waiting.push(*content),
            Type::Union(parts) => waiting.extend(parts),
            Type::Object(object) => {
                waiting.extend(object.fields.into_iter().map(|field| field.content));
                waiting.extend(object.others.map(|others| *others));
            }
            _ => {}
        }
    }
    errors.extend(table.objects.keys().filter(|name| !named.contains(*name)).map(|name| format!("object @{name}: nothing names it")));
    errors
}
