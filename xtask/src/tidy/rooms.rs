//! The table of rooms: what each direct child of `tracker-user/src` is for, and which others it may import.
//!
//! The rule that holds the tree to it is in `imports`, the picture of it in docs/ARCHITECTURE.md is made by `draw`.

/// A direct child of `tracker-user/src`: `name.rs`, or the folder `name/`, or both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Its name, as in `crate::name`.
    pub(super) name: &'static str,
    /// What its code may import: rooms of earlier rows only, and none that it does not. Tests may import whatever is
    /// below `app`.
    pub(super) imports: &'static [&'static str],
    /// What it is for, in a line.
    pub(super) purpose: &'static str,
}

/// The wiring: no other room imports it, not even for a test.
pub(super) const TOP: &str = "app";
/// The programs, each a crate of its own that calls the library.
pub(super) const PROGRAMS: &str = "bin";

/// The table, bottom up. A row names only earlier rows, so no circle can be written.
pub(super) const ROOMS: &[Room] = &[
    Room {
        name: "types",
        imports: &[],
        purpose: "small values that several rooms share: client address, connection, session number, device, identity, \
                  method, factor, scope",
    },
    Room {
        name: "clock",
        imports: &[],
        purpose: "boot time and wall time, two types; nobody else reads a clock",
    },
    Room {
        name: "outside",
        imports: &[],
        purpose: "text from outside as it is shown: cut, and without what does something on a terminal",
    },
    Room {
        name: "links",
        imports: &["types"],
        purpose: "names and numbers of the host's network interfaces",
    },
    Room {
        name: "private",
        imports: &[],
        purpose: "directories, files and memory that belong to the daemon alone",
    },
    Room {
        name: "pages",
        imports: &["types"],
        purpose: "what people see: the house style, the languages, whom the gateway belongs to",
    },
    Room { name: "panics", imports: &[], purpose: "a panic ends the process, and says what to do about it" },
    Room { name: "threads", imports: &[], purpose: "threads for what blocks, which no lack of threads ends" },
    Room {
        name: "output",
        imports: &["clock", "outside"],
        purpose: "standard output: a thread writes, nobody waits",
    },
    Room {
        name: "session",
        imports: &["types", "clock"],
        purpose: "the core, pure: evidence, policy, judge, decision, table of sessions",
    },
    Room {
        name: "net",
        imports: &["types", "clock", "outside", "private", "session"],
        purpose: "listeners, transports, certificates, the registry of open connections",
    },
    Room {
        name: "observe",
        imports: &["types", "clock", "private", "session", "net"],
        purpose: "what clients do on the wire: kernel side or the proxy's own eyes; gives evidence",
    },
    Room {
        name: "audit",
        imports: &["types", "clock", "links", "outside", "session"],
        purpose: "the trail: what happened, and who gave an order",
    },
    Room {
        name: "store",
        imports: &["types", "clock", "links", "private", "panics", "session", "net", "observe", "audit"],
        purpose: "what survives: one redb file, its journal, history and continuity",
    },
    Room {
        name: "tracker",
        imports: &["types", "clock", "threads", "session", "net", "observe", "audit", "store"],
        purpose: "the event loop, the single writer of sessions",
    },
    Room {
        name: "auth",
        imports: &["types", "clock", "outside", "threads", "session", "audit", "store"],
        purpose: "who somebody is: credentials, factors, offers; Kerberos; who may try",
    },
    Room {
        name: "config",
        imports: &["types", "session", "net", "auth"],
        purpose: "raw text to typed values, all problems at once; one table of keys for file, `get` and `set`",
    },
    Room {
        name: "mail",
        imports: &["types", "clock", "outside", "pages", "threads", "audit", "store", "auth", "config"],
        purpose: "mail that the gateway sends: a queue on disk, a conversation with a mail server, notices to users",
    },
    Room {
        name: "proxy",
        imports: &[
            "types", "clock", "outside", "links", "pages", "threads", "output", "session", "net", "observe",
            "audit", "tracker", "auth", "config",
        ],
        purpose: "the explicit proxy, the data plane: authorise, forward, connect",
    },
    Room {
        name: "metrics",
        imports: &["net", "observe"],
        purpose: "what Prometheus scrapes, and whether clients are served",
    },
    Room {
        name: "ops",
        imports: &[
            "types", "clock", "links", "pages", "threads", "session", "net", "observe", "audit", "store",
            "tracker", "auth", "config", "proxy",
        ],
        purpose: "what an operator can look at and do, each with an actor",
    },
    Room {
        name: "admin",
        imports: &[
            "types", "clock", "links", "private", "threads", "session", "net", "observe", "audit", "store",
            "tracker", "auth", "config", "proxy", "ops",
        ],
        purpose: "the admin socket, a skin of the operator's operations",
    },
    Room {
        name: "portal",
        imports: &[
            "types", "clock", "outside", "links", "pages", "session", "net", "audit", "store", "tracker",
            "auth", "config", "mail", "ops",
        ],
        purpose: "the web pages, a skin of the operator's operations: login, logout, who is here, administration",
    },
    Room {
        name: "doctor",
        imports: &["clock", "links", "private", "net", "observe", "store", "auth", "config", "mail", "admin"],
        purpose: "`trackerctl doctor`: gathers facts, judges them, changes nothing",
    },
    Room {
        name: "cli",
        imports: &[
            "types", "clock", "outside", "links", "observe", "audit", "store", "auth", "config", "admin",
            "doctor",
        ],
        purpose: "`trackerctl`: command line to admin client, answer to table or JSON",
    },
    Room {
        name: "app",
        imports: &[
            "types", "clock", "links", "pages", "threads", "output", "session", "net", "observe", "audit",
            "store", "tracker", "auth", "config", "mail", "proxy", "metrics", "ops", "admin", "portal",
        ],
        purpose: "the wiring: parsed, bound, running; no room knows it",
    },
    Room {
        name: "bin",
        imports: &["private", "panics", "output", "config", "proxy", "doctor", "cli", "app"],
        purpose: "the programs: `trackerd` and `trackerctl`",
    },
];
