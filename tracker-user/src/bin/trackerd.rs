//! trackerd.
fn main() {}
