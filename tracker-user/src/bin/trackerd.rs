//! `trackerd`, the gateway's daemon: arguments, configuration, [`App`], run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use tikv_jemallocator::Jemalloc;
use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use tracker::app::{App, StartError};
use tracker::config::{ConfigError, DEFAULT_PATH, Document};
use tracker::doctor;
use tracker::output::{Format, Output};
use tracker::proxy::AccessLog;
use tracker::{panics, private};

/// Two thirds of the memory of the C library's allocator with 100,000 sessions (docs/BENCHMARKS.md, scale). It
/// serves the C libraries too. Its options are set where it is built: `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How long the end of the process waits for the last lines to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// sysexits.h: the command or the configuration is wrong.
const EX_USAGE: u8 = 64;
/// sysexits.h: permission denied.
const EX_NOPERM: u8 = 77;

/// An explicit-proxy gateway that knows who sits behind each client address.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    /// The configuration file; without it, /etc/tracker/tracker.toml where it exists, else the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, name every problem, and exit.
    #[arg(long)]
    check_config: bool,
    /// Log as JSON, a document a line.
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    // Before anything secret is read.
    let hidden = private::memory();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EX_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let (path, file) = match read(args.config.as_deref()) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("{error}");
            return EX_USAGE.into();
        }
    };
    if args.check_config {
        let name = path.map_or_else(|| "embedded defaults".into(), |path| path.display().to_string());
        let (problems, of_certificates) = doctor::check_certificates(&file.config);
        let warnings = file.config.warnings().into_iter().chain(file.config.not_in_effect_warnings());
        for warning in warnings.chain(of_certificates).chain(doctor::check_passkeys(&file.config)) {
            eprintln!("{name}: warning: {warning}");
        }
        if !problems.is_empty() {
            for problem in problems {
                eprintln!("{name}: {problem}");
            }
            return EX_USAGE.into();
        }
        println!("{name}: good");
        return ExitCode::SUCCESS;
    }
    // Before any other thread, which inherits it: a file that may not grow is an error of the write then (EFBIG), as a full
    // disk is, and no signal that ends the process.
    let outgrown = SigSet::from(Signal::SIGXFSZ).thread_block();
    let output = match Output::start(if args.log_json { Format::Json } else { Format::Text }) {
        Ok(output) => output,
        Err(error) => {
            eprintln!("trackerd: standard output cannot be used: {error}");
            return ExitCode::FAILURE;
        }
    };
    log(&output);
    let last_lines = output.clone();
    panics::end_the_process(move || last_lines.finish(LAST_WORDS));
    if let Err(error) = hidden {
        warn!(%error, "a core dump of the daemon would have passwords in it");
    }
    let code = run(path, file, &output, outgrown);
    output.finish(LAST_WORDS);
    code
}

fn run(path: Option<PathBuf>, file: Document, output: &Output, outgrown: nix::Result<()>) -> ExitCode {
    if let Err(error) = outgrown {
        warn!(%error, "a limit of file sizes (RLIMIT_FSIZE) would end the daemon");
    }
    raise_file_limit();
    let access = match access_log(output) {
        Ok(access) => access,
        Err(error) => {
            error!(%error, "no threads can be started");
            return ExitCode::FAILURE;
        }
    };
    // Whatever serves clients has threads of its own, and so has the event loop: here are operators and scrapers.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.worker_threads(2).thread_name("operators").enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "no threads can be started");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(serve(path, file, access, output.clone()))
}

async fn serve(path: Option<PathBuf>, file: Document, access: AccessLog, output: Output) -> ExitCode {
    let app = match App::bind(path, file, access, output).await {
        Ok(app) => app,
        Err(error) => {
            eprintln!("trackerd: {error}");
            return match error {
                StartError::Certificate(_) => EX_USAGE.into(),
                StartError::Observer(error) if error.is_privilege() => EX_NOPERM.into(),
                _ => ExitCode::FAILURE,
            };
        }
    };
    match app.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trackerd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Each connection and tunnel takes one or two descriptors; the usual soft limit of 1024 is for programs that use
/// select(2), which this one does not.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is");
    }
}

/// The file that was named must be there; the default one may be missing.
fn read(named: Option<&Path>) -> Result<(Option<PathBuf>, Document), ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_PATH));
    match Document::read(path) {
        Ok(file) => Ok((Some(path.into()), file)),
        Err(error) if named.is_none() && error.is_missing() => Ok((None, Document::default())),
        Err(error) => Err(error),
    }
}

/// The access log has a way of its own to standard output, and is selected like the other lines.
fn access_log(output: &Output) -> std::io::Result<AccessLog> {
    if !tracing::enabled!(target: "access", tracing::Level::INFO) {
        return Ok(AccessLog::off());
    }
    AccessLog::start(output.clone())
}

/// Everything goes to standard output, for the journal or a file: the daemon's own lines, `access` and `audit`.
/// `TRACKER_LOG` selects, as in `info,access=off`.
fn log(output: &Output) {
    let filter = EnvFilter::try_from_env("TRACKER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // It has a line for each answer of a stranger's browser that it cannot read. What came of it is told where it is judged.
    let filter = match "webauthn_rs_core=off".parse() {
        Ok(silent) => filter.add_directive(silent),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let builder = builder.with_writer(output.clone());
    match output.format() {
        Format::Json => builder.json().init(),
        Format::Text => builder.init(),
    }
}
