//! The first page of those who may look: what there is now, what there was, and what needs attention.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use jiff::{Timestamp, ToSpan as _};

use super::chart::{self, Chart, Figures, chart, figures};
use super::failed;
use super::words::{Clock, bytes, filled, number, span};
use crate::audit::{Ground, TrailEntry};
use crate::clock::wall_now;
use crate::links::shown;
use crate::ops::{Bucket, Count, Level, Span, Status, Timeline};
use crate::pages::Language;
use crate::portal::admin::Viewing;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;

/// So many events are shown.
const EVENTS: usize = 12;

#[derive(Template)]
#[template(path = "status_overview.html")]
struct Overview {
    page: Page,
    warnings: Vec<String>,
    figures: Vec<(&'static str, String)>,
    measures: Vec<Measured>,
    grounds: Vec<(&'static str, [String; 3])>,
    events: Vec<Event>,
    numbers: Vec<Numbers>,
    width: usize,
    height: usize,
    base: usize,
}

/// A measure, with a chart for each span.
struct Measured {
    label: &'static str,
    drawings: Vec<Drawing>,
}

/// A chart and what belongs to it.
struct Drawing {
    /// What tells it from the others on the page.
    id: String,
    span: &'static str,
    chart: Chart,
    description: String,
    last: String,
    peak: String,
    /// Where it makes sense.
    total: Option<String>,
}

/// The numbers behind the charts of a span.
struct Numbers {
    span: &'static str,
    heads: Vec<&'static str>,
    rows: Vec<(String, Vec<String>)>,
}

struct Event {
    moment: String,
    time: String,
    what: String,
    client: String,
    user: String,
    why: String,
}

/// What is drawn.
#[derive(Clone, Copy)]
enum Measure {
    Level(Level),
    Count(Count),
    /// All refusals, whatever their ground.
    Refusals,
}

/// In the order of the page.
const MEASURES: [(&str, Measure); 8] = [
    ("Sessions", Measure::Level(Level::Sessions)),
    ("Users", Measure::Level(Level::Users)),
    ("Connections", Measure::Level(Level::Connections)),
    ("Logins", Measure::Count(Count::Logins)),
    ("Refusals", Measure::Refusals),
    ("Kick-outs", Measure::Count(Count::KickOuts)),
    ("Received", Measure::Count(Count::Received)),
    ("Sent", Measure::Count(Count::Sent)),
];

impl Measure {
    fn of(self, bucket: &Bucket) -> u64 {
        match self {
            Self::Level(level) => bucket.level(level),
            Self::Count(count) => bucket.count(count),
            Self::Refusals => (0..Ground::KINDS).map(|ground| bucket.count(Count::Refused(ground))).sum(),
        }
    }

    fn values(self, timeline: &Timeline) -> Vec<Option<u64>> {
        timeline.buckets.iter().map(|bucket| bucket.as_ref().map(|bucket| self.of(bucket))).collect()
    }

    fn shown(self, value: u64) -> String {
        match self {
            Self::Count(Count::Received | Count::Sent) => bytes(value),
            _ => number(value),
        }
    }

    const fn adds_up(self) -> bool {
        !matches!(self, Self::Level(_))
    }
}

pub(super) async fn show(Viewing(visit): Viewing, State(site): State<Site>) -> Response {
    let ops = &site.parts().ops;
    let (status, series) = match tokio::join!(ops.status(), ops.series()) {
        (Ok(status), Ok(series)) => (status, series),
        (Err(error), _) | (_, Err(error)) => return failed(&visit, &error),
    };
    let (language, clock) = (visit.language(), Clock::here());
    let measured = |(label, measure): (&'static str, Measure)| Measured {
        label,
        drawings: series.iter().map(|timeline| drawing(language, label, measure, timeline)).collect(),
    };
    let events = site.parts().audit.newest(EVENTS);
    let overview = Overview {
        figures: now(language, &status),
        warnings: status.warnings,
        measures: MEASURES.into_iter().map(measured).collect(),
        grounds: grounds(&series),
        events: events.iter().map(|entry| event(language, &clock, entry)).collect(),
        numbers: series.iter().map(|timeline| numbers(&clock, timeline)).collect(),
        width: chart::WIDTH,
        height: chart::HEIGHT,
        base: chart::HEIGHT - 1,
        page: visit.page(),
    };
    answer(&visit, StatusCode::OK, &overview)
}

/// What there is now.
fn now(language: &Language, status: &Status) -> Vec<(&'static str, String)> {
    let of = |value: usize| number(value as u64);
    let licences = match status.licences.max {
        None => number(status.licences.used.into()),
        Some(max) => filled(
            language.t("{used} of {max}"),
            &[("used", &number(status.licences.used.into())), ("max", &number(max.into()))],
        ),
    };
    vec![
        ("Users", of(status.users)),
        ("Active sessions", of(status.active)),
        ("Waiting or stale sessions", of(status.stale + status.waiting)),
        ("Licences in use", licences),
        ("Connections", of(status.connections)),
        ("Bans", of(status.bans)),
        ("Running for", span(super::words::between(status.started, wall_now()))),
    ]
}

fn drawing(language: &Language, label: &'static str, measure: Measure, timeline: &Timeline) -> Drawing {
    let values = measure.values(timeline);
    let Figures { last, peak, total, unknown } = figures(&values);
    let last = last.map_or_else(|| "–".to_owned(), |last| measure.shown(last));
    let (peak, total) = (measure.shown(peak), measure.adds_up().then(|| measure.shown(total)));
    let span = name(timeline.span);
    let mut description = match &total {
        Some(total) => filled(
            language.t("Last {last}, peak {peak}, total {total}."),
            &[("last", &last), ("peak", &peak), ("total", total)],
        ),
        None => filled(language.t("Last {last}, peak {peak}."), &[("last", &last), ("peak", &peak)]),
    };
    if unknown > 0 {
        description.push(' ');
        description += &filled(
            language.t("Nothing is known of {unknown} of {all} parts: the gateway did not run."),
            &[("unknown", &number(unknown as u64)), ("all", &number(values.len() as u64))],
        );
    }
    let word = label.to_ascii_lowercase();
    Drawing {
        id: format!("{word}-{}", timeline.span.as_str()),
        span,
        chart: chart(&values),
        description,
        last,
        peak,
        total,
    }
}

/// Refusals by their grounds, over each span; those that happened.
fn grounds(series: &[Timeline; 3]) -> Vec<(&'static str, [String; 3])> {
    let total = |timeline: &Timeline, ground: usize| {
        timeline.buckets.iter().flatten().map(|bucket| bucket.count(Count::Refused(ground))).sum::<u64>()
    };
    let all = Ground::LABELS.into_iter().enumerate();
    let all = all.map(|(ground, label)| (label, series.each_ref().map(|timeline| total(timeline, ground))));
    let happened = all.filter(|(_, totals)| totals.iter().any(|total| *total > 0));
    happened.map(|(label, totals)| (label, totals.map(number))).collect()
}

/// The same as the charts, as numbers; the newest first. What is not known is left out.
fn numbers(clock: &Clock, timeline: &Timeline) -> Numbers {
    let begun = |behind: usize| -> Timestamp {
        let minutes = i64::try_from(behind).unwrap_or_default() * timeline.span.width();
        timeline.last.checked_sub(minutes.minutes()).unwrap_or(timeline.last)
    };
    let known = timeline.buckets.iter().rev().enumerate();
    let known = known.filter_map(|(behind, bucket)| Some((begun(behind), bucket.as_ref()?)));
    let row = |(begun, bucket): (Timestamp, &Bucket)| {
        let shown = MEASURES.iter().map(|(_, measure)| measure.shown(measure.of(bucket)));
        (clock.minute(begun), shown.collect())
    };
    Numbers {
        span: name(timeline.span),
        heads: MEASURES.iter().map(|(label, _)| *label).collect(),
        rows: known.map(row).collect(),
    }
}

const fn name(span: Span) -> &'static str {
    match span {
        Span::Hour => "Last hour",
        Span::Day => "Last day",
        Span::Week => "Last week",
    }
}

fn event(language: &Language, clock: &Clock, entry: &TrailEntry) -> Event {
    let event = &entry.event;
    let why = match event.by() {
        Some(by) => filled(language.t("by {user}"), &[("user", &crate::audit::Named::in_short(by))]),
        None => {
            event.cause().map(str::to_owned).or_else(|| event.reason().map(Into::into)).unwrap_or_default()
        }
    };
    Event {
        moment: entry.time.to_string(),
        time: clock.moment(entry.time),
        what: language.t(event.kind().as_str()).to_owned(),
        client: event.client().map(|client| shown(client).to_string()).unwrap_or_default(),
        user: event.user().map(crate::audit::Named::in_short).unwrap_or_default(),
        why: language.t(&why).to_owned(),
    }
}
