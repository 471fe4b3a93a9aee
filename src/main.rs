//! The `forgebind` binary.

fn main() {}
