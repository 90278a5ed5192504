//! The reference: it remembers everything that truly happened to one client, and decides by scanning all of it.
//!
//! It knows each moment only as well as the test could see it from outside, as a [`Span`]. Where that leaves open whether
//! a clock had run out, it follows both possibilities until a decision tells which was the case: then it follows that
//! one, and the decision counts as not compared. A decision that no possibility allows is a disagreement.

use std::time::Duration;

/// How far the gateway's view of a moment may lie outside what the test saw of it, on a loaded machine.
const SLACK: Duration = Duration::from_millis(100);

/// Something happened in this span of time, counted from the beginning of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

impl Span {
    /// The later one of two moments.
    fn later(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.max(other.to) }
    }

    /// Whether it was surely before the other, surely not, or one cannot know.
    fn before(self, other: Self) -> Maybe {
        Maybe::of(self.to < other.from, self.from > other.to)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maybe {
    Yes,
    No,
    Unclear,
}

impl Maybe {
    fn of(yes: bool, no: bool) -> Self {
        match (yes, no) {
            (true, _) => Self::Yes,
            (_, true) => Self::No,
            _ => Self::Unclear,
        }
    }

    /// Whether at least `limit` lay between two moments.
    fn at_least(limit: Duration, start: Span, end: Span) -> Self {
        let (shortest, longest) = (end.from.saturating_sub(start.to), end.to.saturating_sub(start.from));
        Self::of(shortest >= limit + SLACK, longest + SLACK < limit)
    }

    /// Whether any of these is so.
    fn any(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::No, |so_far, one| match (so_far, one) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Unclear, _) | (_, Self::Unclear) => Self::Unclear,
            _ => Self::No,
        })
    }
}

/// Which clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Session,
    Traffic,
    Absolute,
}

/// What the gateway was told to go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) mode: Mode,
    pub(super) timeout: Duration,
    pub(super) lifetime: Option<Duration>,
    pub(super) on_reopen: bool,
}

/// Something that happened to a client.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    /// A connection, by its number, was established.
    Opened(u32, Span),
    /// It ended, in whatever way, from whichever side.
    Closed(u32, Span),
    /// Stream data moved.
    Data(Span),
    /// A request was decided upon, or broke off.
    Request { at: Span, path: String, offered: Option<&'static str>, outcome: Outcome },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Served, as this user if the access log tells.
    Served(Option<String>),
    /// 407.
    Challenged,
    /// The connection ended before an answer came.
    Broken,
    /// Something else.
    Status(u16),
}

/// What the comparison of one fact came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Nothing to compare.
    None,
    /// There was one possible decision, and it was taken.
    Agreed,
    /// More than one was possible; one of them was taken.
    Unclear,
    /// The decision was not possible.
    Disagreed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    user: &'static str,
    created: Span,
    proved: Span,
    counted_from: Span,
    stale: bool,
    /// It is known that a reopening since the proof wants a new one.
    reopened: bool,
    /// A decision showed that nothing that ended before this moment had made it stale, or was a reopening.
    fine_until: Duration,
}

impl Session {
    fn new(user: &'static str, at: Span) -> Self {
        let fine_until = Duration::ZERO;
        Self { user, created: at, proved: at, counted_from: at, stale: false, reopened: false, fine_until }
    }
}

/// What may be the case.
type World = Option<Session>;

/// See the module.
pub(super) struct Model {
    rules: Rules,
    open: Vec<(u32, Span)>,
    closed_since: Option<Span>,
    /// When nothing was open; the last value says whether that is certain.
    closed_periods: Vec<(Span, Span, bool)>,
    data: Vec<Span>,
    worlds: Vec<World>,
}

impl Model {
    /// A client that has not done anything.
    pub(super) fn new(rules: Rules) -> Self {
        let begin = Span { from: Duration::ZERO, to: Duration::ZERO };
        Self {
            rules,
            open: Vec::new(),
            closed_since: Some(begin),
            closed_periods: Vec::new(),
            data: Vec::new(),
            worlds: vec![None],
        }
    }

    /// Takes a fact in, and compares it if it is a decision.
    pub(super) fn learn(&mut self, fact: &Fact) -> Comparison {
        match fact {
            Fact::Opened(id, at) => {
                if let Some(since) = self.closed_since.take() {
                    self.closed_periods.push((since, *at, true));
                }
                self.open.push((*id, *at));
                Comparison::None
            }
            Fact::Closed(id, at) => {
                self.closed(*id, *at);
                Comparison::None
            }
            Fact::Data(at) => {
                self.data.push(*at);
                Comparison::None
            }
            Fact::Request { at, offered: None, outcome, .. } => self.decided(*at, outcome),
            Fact::Request { at, offered: Some(user), outcome, .. } => self.proved(user, *at, outcome),
        }
    }

    /// Whether a user is known who has to prove themselves again.
    pub(super) fn waits(&self) -> bool {
        self.worlds.iter().flatten().any(|session| session.stale || session.reopened)
    }

    /// What may be the case now, for people.
    pub(super) fn shown(&self) -> String {
        format!("{:#?}", self.worlds)
    }

    fn closed(&mut self, id: u32, at: Span) {
        self.open.retain(|(open, _)| *open != id);
        // The others may all have been opened after it ended: then nothing was open in between.
        let Some(next) = self
            .open
            .iter()
            .map(|(_, opened)| *opened)
            .reduce(|a, b| Span { from: a.from.min(b.from), to: a.to.min(b.to) })
        else {
            self.closed_since = Some(at);
            return;
        };
        if at.from <= next.to {
            self.closed_periods.push((at, next, false));
        }
    }

    fn decided(&mut self, at: Span, outcome: &Outcome) -> Comparison {
        let possible: Vec<(Option<&'static str>, World)> =
            self.worlds.iter().flat_map(|world| self.decide(world, at)).collect();
        let fits = |user: &Option<&'static str>| match (outcome, user) {
            (Outcome::Challenged, None) | (Outcome::Served(None), Some(_)) => true,
            (Outcome::Served(Some(as_user)), Some(user)) => as_user == user,
            _ => false,
        };
        if matches!(outcome, Outcome::Broken | Outcome::Status(_)) {
            return Comparison::None;
        }
        let certain = possible.iter().all(|(user, _)| fits(user));
        let worlds: Vec<World> =
            possible.into_iter().filter(|(user, _)| fits(user)).map(|(_, world)| world).collect();
        if worlds.is_empty() {
            return Comparison::Disagreed;
        }
        self.believe(worlds);
        if certain { Comparison::Agreed } else { Comparison::Unclear }
    }

    fn proved(&mut self, user: &'static str, at: Span, outcome: &Outcome) -> Comparison {
        let proved: Vec<World> = self.worlds.iter().flat_map(|world| self.prove(world, user, at)).collect();
        match outcome {
            Outcome::Served(None) => self.believe(proved),
            Outcome::Served(Some(as_user)) if as_user == user => self.believe(proved),
            // It may have got through, or not.
            Outcome::Broken => {
                let unchanged = std::mem::take(&mut self.worlds);
                self.believe(unchanged.into_iter().chain(proved).collect());
                return Comparison::None;
            }
            _ => return Comparison::Disagreed,
        }
        Comparison::Agreed
    }

    fn believe(&mut self, worlds: Vec<World>) {
        self.worlds.clear();
        for world in worlds {
            if !self.worlds.contains(&world) {
                self.worlds.push(world);
            }
        }
        assert!(self.worlds.len() < 200, "the model has lost its way: {}", self.shown());
    }

    /// Who is served without credentials, and what that would mean.
    fn decide(&self, world: &World, now: Span) -> Vec<(Option<&'static str>, World)> {
        let mut possible = Vec::new();
        for world in self.look(world, now) {
            let Some(session) = &world else {
                possible.push((None, None));
                continue;
            };
            let reopened = match (session.stale || session.reopened, self.rules.on_reopen) {
                (true, _) => Maybe::Yes,
                (false, true) => self.reopened(session),
                (false, false) => Maybe::No,
            };
            if reopened != Maybe::No {
                possible.push((None, Some(Session { reopened: !session.stale, ..session.clone() })));
            }
            if reopened != Maybe::Yes {
                let served = Session { fine_until: now.to, ..session.clone() };
                possible.push((Some(session.user), Some(served)));
            }
        }
        possible
    }

    /// What a good proof comes to.
    fn prove(&self, world: &World, user: &'static str, now: Span) -> Vec<World> {
        let after = |world: World| match world {
            Some(session) if session.user == user => Some(Session {
                proved: now,
                counted_from: if session.stale { now } else { session.counted_from },
                stale: false,
                reopened: false,
                ..session
            }),
            _ => Some(Session::new(user, now)),
        };
        self.look(world, now).into_iter().map(after).collect()
    }

    /// What time has done to a session.
    fn look(&self, world: &World, now: Span) -> Vec<World> {
        let Some(session) = world else { return vec![None] };
        let mut worlds = Vec::new();
        let over = self.rules.lifetime.map_or(Maybe::No, |l| Maybe::at_least(l, session.created, now));
        if over != Maybe::No {
            worlds.push(None);
        }
        let ran_out = if session.stale { Maybe::Yes } else { self.ran_out(session, now) };
        if over != Maybe::Yes && ran_out != Maybe::No {
            worlds.push(Some(Session { stale: true, reopened: false, ..session.clone() }));
        }
        if over != Maybe::Yes && ran_out != Maybe::Yes {
            worlds.push(world.clone());
        }
        worlds
    }

    /// Whether the timeout ran out at some moment since the last proof.
    fn ran_out(&self, session: &Session, now: Span) -> Maybe {
        let timeout = self.rules.timeout;
        let gap = |start: Span, end: Span| {
            if end.to <= session.fine_until {
                return Maybe::No;
            }
            Maybe::at_least(timeout, start.later(session.proved), end)
        };
        match self.rules.mode {
            Mode::Session => {
                let running = self.closed_since.map(|since| (since, now));
                let passed = self.closed_periods.iter().map(|(from, to, _)| (*from, *to));
                Maybe::any(passed.chain(running).map(|(from, to)| gap(from, to)))
            }
            Mode::Traffic => {
                let starts = std::iter::once(session.proved).chain(self.data.iter().copied());
                let ends = self.data.iter().copied().chain([now]);
                Maybe::any(starts.zip(ends).map(|(start, end)| gap(start, end)))
            }
            Mode::Absolute => Maybe::at_least(timeout, session.counted_from, now),
        }
    }

    /// Whether nothing was open at some moment since the last proof.
    fn reopened(&self, session: &Session) -> Maybe {
        let since = self.closed_periods.iter().filter(|(_, to, _)| to.to > session.fine_until);
        Maybe::any(since.map(|(from, _, certain)| match (session.proved.before(*from), certain) {
            (Maybe::Yes, false) => Maybe::Unclear,
            (known, _) => known,
        }))
    }
}
