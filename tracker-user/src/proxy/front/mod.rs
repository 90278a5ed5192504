//! What speaks with clients: a front for each version of HTTP. It makes exchanges of what comes on a connection, and writes
//! their answers down.

pub(super) mod http1;
