//! The operations, without any skin.

pub(super) fn note_portion(_: usize) {}
