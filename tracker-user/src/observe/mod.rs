//! What clients do on the wire.
