//! trackerctl.
fn main() {}
