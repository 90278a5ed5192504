//! The pages, with thousands of sessions: what one costs, what live viewers cost, how fast people can leave, what memory the
//! portal adds, and what all of it does to requests meanwhile.

mod visitor;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lab::gateway::{PORTAL_PORT, PORTAL_TLS_PORT};
use lab::net::{GATEWAY_V4, GATEWAY_V6};
use lab::wait::{Stopwatch, silence, until};

use super::Outcome;
use super::aims::Aim;
use super::negotiate::Crowd;
use super::rig::gateways::Variant;
use super::rig::load::Work;
use super::rig::report::{Table, Unit, remarks, table};
use super::rig::series::{Rounds, Sample, Series, median};
use super::rig::{Rig, Subject};
use visitor::Visitor;

/// How many, and how long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Sessions.
    #[arg(long, default_value_t = 5_000)]
    sessions: u64,
    /// Pages asked for in each round.
    #[arg(long, default_value_t = 100)]
    pages: u32,
    /// Live viewers.
    #[arg(long, default_value_t = 8)]
    viewers: usize,
    /// Connections held by the requests.
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

/// Who looks at the pages, and their password.
const ADMINISTRATOR: (&str, &str) = ("carol", "carol-pw");
const SETTINGS: &str =
    "[portal]\nadministrators = [\"carol@EXAMPLE.TEST\"]\n[observer]\nmax-records = 100000\n";
/// The same gateway without pages.
const NO_PORTAL: &str = "[portal]\nhttp = \"\"\nhttps = \"\"\n[observer]\nmax-records = 100000\n";
/// A hundred rows, sorted by a number and filtered by a part of the name that all have.
const PAGE: &str = "/status/sessions?sort=received&order=descending&q=alice";
/// What browsers with script listen to on it.
const LIVE: &str = "/status/live/sessions?sort=received&order=descending&q=alice";
/// Viewers are watched for so long in each round, and as long without them.
const WATCHED: Duration = Duration::from_secs(10);
/// Logouts a second that must be done.
const LOGOUTS: u64 = 200;
/// Before each request, in milliseconds: the requests take about a quarter of what the gateway can do.
const PAUSE: u32 = 8;
/// Memory that was freed a moment ago may still be counted.
const SETTLES: Duration = Duration::from_secs(2);

/// What is measured on.
struct Stand<'a> {
    rig: &'a Rig,
    subject: Subject,
    first: Ipv6Addr,
    options: &'a Options,
}

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let mut crowd = Crowd::new(&rig)?;
    let first = crowd.take(usize::try_from(options.sessions)?);
    let without = without(&rig, first, options)?;
    let note = "everything on, with the portal";
    let variant = Variant { settings: &[SETTINGS], note, ..Variant::default() };
    let subject = rig.tracker("trackerd", 0, &variant)?;
    subject.tracker()?.login(&rig, 0, "alice")?;
    let stand = Stand { rig: &rig, subject, first, options };
    stand.fill()?;
    let visitor = stand.administrator()?;

    let Rounds { rounds, seconds } = options.rounds;
    let (mut page, mut times, mut viewers, mut logouts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut quiet = Series::of(&stand.subject, "with pauses; nobody looks");
    let mut busy = Series::of(&stand.subject, "with pauses; pages, viewers, logouts");
    let mut full = Series::of(&stand.subject, "without pauses; nobody looks");
    let mut full_busy = Series::of(&stand.subject, "without pauses; pages, viewers, logouts");
    let mut resident: f64 = 0.0;
    for round in 1..=rounds {
        let watch = Stopwatch::start();
        let (cpu, time) = stand.pages(&visitor)?;
        page.push(cpu);
        times.push(time);
        viewers.push(stand.viewers(&visitor)?);
        for (pause, quiet, busy) in [(PAUSE, &mut quiet, &mut busy), (0, &mut full, &mut full_busy)] {
            quiet.samples.push(stand.requests(seconds, pause)?);
            busy.samples.push(stand.all_at_once(&visitor, seconds, pause)?);
        }
        silence(SETTLES);
        resident = resident.max(stand.resident());
        logouts.push(stand.logouts(0)?);
        stand.fill()?;
        eprintln!("round {round} of {rounds} in {:.0} s", watch.elapsed().as_secs_f64());
    }

    let added = resident - without;
    let rate = median(logouts.iter().map(|work| work.units / work.seconds).collect());
    let p99 = median(logouts.iter().map(|work| work.p99).collect());
    let (page, times, viewers) = (median(page), median(times), median(viewers));
    let mut figures = Table::new(&["what".to_owned(), "figure".to_owned()]);
    for (what, figure) in [
        ("a page of 100 rows, sorted and filtered: CPU of the whole daemon", format!("{page:.2} ms")),
        ("the same: from asking to its last byte, TLS included", format!("{times:.2} ms")),
        ("live viewers: CPU of the whole daemon, less what it takes without them", format!("{viewers:.2} %")),
        ("logouts by the logout URL, one after another on two connections", format!("{rate:.0} a second")),
        ("a logout, on disk before it is answered: p99", format!("{p99:.2} ms")),
        ("memory that the portal adds", format!("{added:.1} MiB")),
    ] {
        figures.row(&[what.to_owned(), figure]);
    }
    let aims = vec![
        Aim::at_most("portal: CPU of a page of 100 rows in ms", page, 10.0, None),
        Aim::at_most("portal: live viewers, % of a core", viewers, 3.0, None),
        Aim::at_most("portal: seconds for 200 logouts", LOGOUTS as f64 / rate, 1.0, None),
        Aim::at_most("portal: memory that it adds in MiB", added, 10.0, None),
        Aim::at_most(
            "portal: p99 of requests, with pauses, of that while nobody looks",
            busy.ratio(&quiet, |s| s.work.p99),
            1.1,
            None,
        ),
    ];
    let all = [&quiet, &busy, &full, &full_busy];
    let text = format!(
        "{} sessions, {} viewers; {rounds} rounds. Then a GET of 1 KiB on {} kept connections (wrk) for {seconds} s, while nobody \
         looks; and while the viewers watch, pages follow each other, one a second, and {LOGOUTS} people a second log out. With \
         pauses of {PAUSE} ms before each request; and without, where the requests take the whole core, and whatever else is \
         done on it is missing to them.\n\n\
         {}\n{}{}",
        options.sessions,
        options.viewers,
        options.connections,
        figures.text(),
        table(Unit::each("request", "requests/s"), &all, &[]),
        remarks(&all)
    );
    Ok(Outcome { text, aims })
}

/// The memory of a gateway that has no pages, with as many sessions and after as many logins, logouts and requests, in MiB.
fn without(rig: &Rig, first: Ipv6Addr, options: &Options) -> Result<f64> {
    let note = "portal.http = \"\", portal.https = \"\"";
    let variant = Variant { settings: &[NO_PORTAL], note, ..Variant::default() };
    let subject = rig.tracker("trackerd, no portal", 1, &variant)?;
    subject.tracker()?.login(rig, 0, "alice")?;
    let stand = Stand { rig, subject, first, options };
    let mut resident: f64 = 0.0;
    for _ in 0..options.rounds.rounds {
        stand.fill()?;
        // With the pages they log out by themselves, and some more than once.
        let ended = stand.subject.tracker()?.gateway.ctl(&["logout", "--all"])?;
        ensure!(ended.exit == 0, "{ended:?}");
        stand.subject.tracker()?.login(rig, 0, "alice")?;
        stand.fill()?;
        rig.wrk(&stand.subject, options.connections, options.rounds.seconds)?;
        silence(SETTLES);
        resident = resident.max(stand.resident());
    }
    Ok(resident)
}

impl Stand<'_> {
    /// Logs in whoever of the crowd is not.
    fn fill(&self) -> Result<()> {
        self.rig.crowd(&self.subject, "alice", self.first, self.options.sessions, 0)
    }

    /// Where the pages are, by IPv4 under TLS.
    const fn secure() -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(GATEWAY_V4), PORTAL_TLS_PORT)
    }

    /// Somebody who has logged in to look.
    fn administrator(&self) -> Result<Visitor> {
        let mut visitor = Visitor::new(&self.rig.client()?.ns, Self::secure())?;
        let form = visitor.get("/admin/login")?;
        let (name, password) = ADMINISTRATOR;
        let fields = format!("name={name}&password={password}");
        let head = visitor.post(&form, "/admin/login", &fields)?;
        ensure!(head.code == 303, "no login: {}", head.text);
        let page = visitor.get(PAGE)?;
        let rows = page.matches("<tr").count();
        ensure!(rows > 100, "{rows} rows on the page of sessions");
        Ok(visitor)
    }

    /// Seconds of CPU that the whole daemon has taken.
    fn cpu(&self) -> Result<f64> {
        let (user, system) = self.subject.group.as_ref().context("it has a cgroup")?.cpu()?;
        Ok(user + system)
    }

    fn resident(&self) -> f64 {
        let bytes = self.subject.group.as_ref().map_or(0, |group| group.memory().0);
        bytes as f64 / 1_048_576.0
    }

    /// Pages one after another: milliseconds of CPU and of waiting for each, without what the daemon takes anyway.
    fn pages(&self, visitor: &Visitor) -> Result<(f64, f64)> {
        // The portal does not keep a connection for as long as a round takes.
        let mut visitor = visitor.again(&self.rig.client()?.ns, Self::secure())?;
        // What is asked for again within a second might be known.
        let count = self.options.pages;
        let (before, watch) = (self.cpu()?, Stopwatch::start());
        let mut waited = Duration::ZERO;
        for _ in 0..count {
            let asked = Stopwatch::start();
            visitor.get(PAGE)?;
            waited += asked.elapsed();
        }
        let (took, used) = (watch.elapsed(), self.cpu()? - before);
        let each = |seconds: f64| seconds / f64::from(count) * 1e3;
        let cpu = each(used - self.idle(took)?);
        eprintln!("    a page: {cpu:.2} ms of CPU");
        Ok((cpu, each(waited.as_secs_f64())))
    }

    /// What the daemon takes in this time while nothing is asked of it, in seconds.
    fn idle(&self, time: Duration) -> Result<f64> {
        let time = time.max(Duration::from_secs(1));
        let before = self.cpu()?;
        silence(time);
        Ok(self.cpu()? - before)
    }

    /// Live viewers: what they take of a core, in percent.
    fn viewers(&self, visitor: &Visitor) -> Result<f64> {
        let idle = self.idle(WATCHED)?;
        let used = self.watched(visitor, |_| {
            // The first table is sent at once.
            silence(SETTLES);
            self.idle(WATCHED)
        })?;
        let share = (used - idle) / WATCHED.as_secs_f64() * 100.0;
        eprintln!("    {} viewers: {share:.2} % of a core", self.options.viewers);
        Ok(share)
    }

    /// Does something while viewers look at the live page. Each of them must have heard something.
    fn watched<T>(&self, visitor: &Visitor, work: impl FnOnce(&AtomicU64) -> Result<T>) -> Result<T> {
        let ns = &self.rig.client()?.ns;
        let (stop, heard) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut watching = Vec::new();
        for _ in 0..self.options.viewers {
            let mut viewer = visitor.again(ns, Self::secure())?;
            viewer.listen(LIVE)?;
            watching.push(viewer);
        }
        std::thread::scope(|scope| {
            for mut viewer in watching {
                let (stop, heard) = (&stop, &heard);
                scope.spawn(move || {
                    while !stop.load(Relaxed) && viewer.hear().is_ok() {
                        heard.fetch_add(1, Relaxed);
                    }
                });
            }
            let done = work(&heard);
            let least = self.options.viewers as u64;
            let told = until("the viewers to be told something", SETTLES, || {
                (heard.load(Relaxed) >= least).then_some(())
            });
            stop.store(true, Relaxed);
            told.and(done)
        })
    }

    /// Everybody of the crowd logs out, `rate` a second.
    fn logouts(&self, rate: u64) -> Result<Work> {
        let portal = SocketAddr::from((GATEWAY_V6, PORTAL_PORT));
        let all = (self.options.sessions, rate);
        let work = self.rig.logouts_begin(&self.subject, portal, self.first, all)?.end()?;
        let left = self.subject.tracker()?.gateway.sessions()?.len();
        // The one that the requests are made on.
        ensure!(left == 1, "{left} sessions are left");
        Ok(work)
    }

    /// Requests alone, with a pause before each, in milliseconds.
    fn requests(&self, seconds: f64, pause: u32) -> Result<Sample> {
        let connections = self.options.connections;
        self.rig.measure(&self.subject, || match pause {
            0 => self.rig.wrk(&self.subject, connections, seconds),
            pause => self.rig.wrk_with_pauses(&self.subject, connections, seconds, pause),
        })
    }

    /// Requests, while everything goes on.
    fn all_at_once(&self, visitor: &Visitor, seconds: f64, pause: u32) -> Result<Sample> {
        let (rig, portal) = (self.rig, SocketAddr::from((GATEWAY_V6, PORTAL_PORT)));
        // Those who leave are there until the end.
        let leave = ((seconds + 2.0) * LOGOUTS as f64) as u64;
        let mut reader = visitor.again(&rig.client()?.ns, Self::secure())?;
        let stop = AtomicBool::new(false);
        let sample = self.watched(visitor, |_| {
            let leave = (leave.min(self.options.sessions), LOGOUTS);
            let leaving = rig.logouts_begin(&self.subject, portal, self.first, leave)?;
            let sample = std::thread::scope(|scope| {
                let reading = scope.spawn(|| -> Result<()> {
                    while !stop.load(Relaxed) {
                        reader.get(PAGE)?;
                        silence(Duration::from_secs(1));
                    }
                    Ok(())
                });
                let sample = self.requests(seconds, pause);
                stop.store(true, Relaxed);
                reading.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
                sample
            })?;
            leaving.end()?;
            Ok(sample)
        })?;
        self.fill()?;
        Ok(sample)
    }
}
