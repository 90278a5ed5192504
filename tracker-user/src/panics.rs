//! A panic is a bug, and it ends the process. What it left half changed decides nothing any more: the next start goes by
//! what is on disk and by what the kernel recorded, as after `kill -9`.
//!
//! What ships is built with `panic = "abort"`. The daemon does not depend on how it was built: its hook ends the process
//! itself, whichever thread panicked, so tests meet what operators do. Nothing in this program catches a panic.

use std::cell::Cell;
use std::io::Write as _;
use std::time::Duration;
use std::{process, thread};

thread_local! {
    static ADVICE: Cell<Option<String>> = const { Cell::new(None) };
}

/// What is said where a panic has no advice of its own.
const START_ANEW: &str = "a panic ended the gateway: it is a bug, please report the lines above. Sessions and records are \
                          kept; start it again, as systemd does by itself";
/// The process ends so many seconds after a panic at the latest, whatever keeps its last words from being written.
const AT_THE_LATEST: u32 = 1;
/// And so long after that where the alarm does not end it.
const AFTER_THE_ALARM: Duration = Duration::from_millis(200);

/// From now on, a panic of any thread ends the process (SIGABRT). Standard error gets the panic, then what helps;
/// `last_words` may finish what else is to be written, and is cut short after a second (SIGALRM; SIGABRT where that is blocked
/// or ignored).
pub fn end_the_process(last_words: impl Fn() + Send + Sync + 'static) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // First of all: a standard error that nobody reads keeps the lines below waiting for ever, and other threads go on
        // serving meanwhile.
        nix::unistd::alarm::set(AT_THE_LATEST);
        // Whoever started the daemon may have had SIGALRM blocked or ignored, which is inherited. If there is no thread to be
        // had, the alarm is all there is.
        let _ = thread::Builder::new().name("last-words".into()).spawn(|| {
            thread::sleep(Duration::from_secs(AT_THE_LATEST.into()) + AFTER_THE_ALARM);
            process::abort();
        });
        tell(panic);
        let advice = ADVICE.try_with(Cell::take).ok().flatten();
        // Nobody is left who could be told that it cannot be written.
        let _ = writeln!(std::io::stderr(), "trackerd: {}", advice.as_deref().unwrap_or(START_ANEW));
        last_words();
        process::abort();
    }));
}

/// Does `work`. Should it panic on this thread, `advice` is what the operator is told to do.
pub fn advised<T>(advice: String, work: impl FnOnce() -> T) -> T {
    let outer = ADVICE.replace(Some(advice));
    let done = work();
    ADVICE.set(outer);
    done
}

#[cfg(test)]
pub(crate) mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Output};

    use nix::libc::{SIGABRT, SIGALRM};
    use nix::sys::resource::{Resource, setrlimit};

    use super::*;
    use crate::threads::{Size, Threads};

    const CHILD: &str = "TRACKER_TEST_PANICS";

    /// Does `work` in a process of its own, in which a panic ends it as it ends the daemon; tells how it ended, and what it
    /// wrote to standard error. Called by the test `name` of `module`, which it begins anew there.
    pub(crate) fn in_a_process(module: &str, name: &str, work: impl FnOnce()) -> Output {
        in_a_process_with(module, name, || (), work)
    }

    fn in_a_process_with(
        module: &str,
        name: &str,
        last_words: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce(),
    ) -> Output {
        in_this(Command::new(env::current_exe().unwrap()), module, name, last_words, work)
    }

    /// `test` runs this program, or does so with what is added to it.
    fn in_this(
        mut test: Command,
        module: &str,
        name: &str,
        last_words: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce(),
    ) -> Output {
        if env::var_os(CHILD).is_some() {
            // No core dump for what is meant to end.
            setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
            end_the_process(last_words);
            work();
            process::exit(0);
        }
        let (_crate, module) = module.split_once("::").unwrap();
        test.args(["--exact", &format!("{module}::{name}"), "--nocapture"]).env(CHILD, "1");
        // Names for a backtrace take longer than a busy machine has.
        test.env("RUST_BACKTRACE", "0");
        test.output().unwrap()
    }

    pub(crate) fn assert_aborted(output: &Output, told: &str) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(SIGABRT), "{:?}: {said}", output.status);
        assert!(said.contains("of a test") && said.contains(told), "{said}");
    }

    #[test]
    fn a_thread_that_panics_ends_the_process() {
        let name = "a_thread_that_panics_ends_the_process";
        let work = || drop(thread::spawn(|| panic!("of a test")).join());
        assert_aborted(&in_a_process(module_path!(), name, work), START_ANEW);
    }

    #[test]
    fn a_task_that_panics_ends_the_process() {
        let work = || {
            let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
            let _ = runtime.block_on(runtime.spawn(async { panic!("of a test") as () }));
        };
        let name = "a_task_that_panics_ends_the_process";
        assert_aborted(&in_a_process(module_path!(), name, work), START_ANEW);
    }

    #[test]
    fn work_of_a_pool_that_panics_ends_the_process() {
        let work = || {
            let threads = Threads::start("test", Size { least: 1, most: 1, queue: 1 }).unwrap();
            let answer = threads.run::<()>(|| panic!("of a test"));
            let _ = answer.unwrap().blocking_recv();
        };
        let name = "work_of_a_pool_that_panics_ends_the_process";
        assert_aborted(&in_a_process(module_path!(), name, work), START_ANEW);
    }

    #[test]
    fn advice_is_for_what_is_done_and_no_longer() {
        let work = || {
            advised("outer advice".into(), || {
                advised("inner advice".into(), || ());
                panic!("of a test");
            });
        };
        let name = "advice_is_for_what_is_done_and_no_longer";
        let output = in_a_process(module_path!(), name, work);
        assert_aborted(&output, "trackerd: outer advice");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(START_ANEW));
    }

    #[test]
    fn last_words_that_never_end_are_cut_short_where_sigalrm_does_nothing() {
        let name = "last_words_that_never_end_are_cut_short_where_sigalrm_does_nothing";
        let last_words = || thread::sleep(Duration::from_secs(3600));
        // What a shell ignores, its programs ignore.
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' ALRM; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
        let output = in_this(shell, module_path!(), name, last_words, || panic!("of a test"));
        assert_aborted(&output, START_ANEW);
    }

    #[test]
    fn last_words_that_never_end_are_cut_short() {
        let name = "last_words_that_never_end_are_cut_short";
        let last_words = || thread::sleep(Duration::from_secs(3600));
        let output = in_a_process_with(module_path!(), name, last_words, || panic!("of a test"));
        assert_eq!(output.status.signal(), Some(SIGALRM), "{output:?}");
    }

    #[test]
    fn without_a_panic_nothing_happens() {
        let work = || assert_eq!(advised("advice".into(), || 7), 7);
        assert!(in_a_process(module_path!(), "without_a_panic_nothing_happens", work).status.success());
    }
}
