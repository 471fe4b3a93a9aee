//! What the descriptions have wrong, and what shows it. What they lack is in `additions.facts`.

use forgebind::api::v1alpha1::ProviderKind;

/// Something that a description has wrong.
#[derive(Debug)]
pub struct Slip {
    /// Whose description.
    pub provider: ProviderKind,
    /// Where: `object @NAME FIELD.FIELD`, or `METHOD TEMPLATE` with `?PARAMETER`, `body FIELD.FIELD` or `STATUS FIELD.FIELD`.
    pub at: &'static str,
    /// How it is.
    pub change: Change,
    /// What shows it: a page of the provider's documentation, or an answer that was recorded.
    pub evidence: &'static str,
}

/// How it is.
#[derive(Debug)]
pub enum Change {
    /// It may be left out.
    Optional,
    /// It may be null.
    Nullable,
    /// It is of this type.
    Is(&'static str),
    /// It may be of this type too.
    Or(&'static str),
    /// The fields of the object at this place are of these types.
    Are(&'static [(&'static str, &'static str)]),
    /// Every answer that is described as a list is an object with `count` and the list as `value`.
    CountAndValue,
}

/// Every known slip.
pub const SLIPS: &[Slip] = &[];
