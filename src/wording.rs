//! Words for people.

/// How many there are of something, in words that agree: `1 binding`, `2 bindings`.
#[must_use]
pub fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
