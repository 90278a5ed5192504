//! A copy of the state directory, put back: nobody in it is logged in, and it is said. And nobody else may open it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::wait::until;

use crate::common::{SOON, is_let_through, logged, session, status_without_credentials};

const FILES: [&str; 2] = ["tracker.redb", "revoked"];

fn run(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().expect("a program");
    ensure!(Command::new(program).args(arguments).status()?.success(), "{words:?}");
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Nobody is logged in from the first client, and log, audit trail and status say that the database was replaced.
fn is_out_and_told(lab: &Lab, why: &str) -> Result<()> {
    assert_eq!(status_without_credentials(lab, 0), 407, "{why}: {}", lab.gateway.log());
    let warnings = lab.gateway.ask(&["status"])?["warnings"].to_string();
    assert!(warnings.contains("not the one that this gateway last wrote"), "{why}: {warnings}");
    let events = lab.gateway.events()?;
    assert!(events.iter().any(|event| event.kind == "replaced"), "{why}: {events:?}");
    logged(lab, &["the database is not the one that this gateway last wrote"])
        .with_context(|| why.to_owned())?;
    Ok(())
}

type PutBack = fn(&Path, &Path) -> Result<()>;

/// How a copy is put in the place of the state directory, or of its files.
const WAYS: [(&str, PutBack); 4] = [
    ("written over the files", |copy, state| {
        let from = FILES.map(|name| text(&copy.join(name)));
        run(&["cp", &from[0], &from[1], &text(state)])
    }),
    ("unpacked over the files, with their times", |copy, state| {
        run(&["cp", "-a", "--remove-destination", &format!("{}/.", text(copy)), &text(state)])
    }),
    ("a fresh directory", |copy, state| {
        std::fs::remove_dir_all(state)?;
        run(&["cp", "-a", &text(copy), &text(state)])
    }),
    ("the copied directory itself, renamed", |copy, state| {
        std::fs::remove_dir_all(state)?;
        Ok(std::fs::rename(copy, state)?)
    }),
];

#[test]
fn a_backup_that_is_put_back_logs_nobody_in_and_says_so() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let state = lab.scratch.join("state");
    for hot in [true, false] {
        for (number, (how, put_back)) in WAYS.into_iter().enumerate() {
            let why = format!("{how}, hot: {hot}");
            let copy = lab.scratch.join(&format!("copy-{hot}-{number}"));
            lab.login(0, "alice")?;
            if !hot {
                lab.gateway.stop()?;
            }
            run(&["cp", "-a", &text(&state), &text(&copy)])?;
            if !hot {
                lab.gateway.start()?;
            }
            assert!(is_let_through(&lab, 0), "{why}: a restart costs nobody their session");
            assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
            assert_eq!(status_without_credentials(&lab, 0), 407);
            lab.gateway.stop()?;
            put_back(&copy, &state)?;
            lab.gateway.start()?;
            is_out_and_told(&lab, &why)?;
        }
    }
    // Whoever proves themselves now stays in, also over a crash.
    lab.login(0, "alice")?;
    lab.gateway.kill();
    lab.gateway.start()?;
    assert!(is_let_through(&lab, 0), "{}", lab.gateway.log());
    let warnings = lab.gateway.ask(&["status"])?["warnings"].to_string();
    assert!(!warnings.contains("last wrote"), "{warnings}");
    Ok(())
}

#[test]
fn a_backup_put_back_after_a_crash_logs_nobody_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let state = lab.scratch.join("state");
    let copy = lab.scratch.join("copy");
    lab.login(0, "alice")?;
    run(&["cp", "-a", &text(&state), &text(&copy)])?;
    // Kicked out by somebody who is gone again.
    lab.login(0, "bob")?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    lab.gateway.kill();
    WAYS[0].1(&copy, &state)?;
    lab.gateway.start()?;
    is_out_and_told(&lab, "written over the files")
}

#[test]
fn a_backup_on_another_gateway_logs_nobody_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let mut others = Vec::new();
    for number in 0..2 {
        lab.login(0, "alice")?;
        let copy = lab.scratch.join(&format!("copy-{number}"));
        if number == 1 {
            lab.gateway.stop()?;
        }
        run(&["cp", "-a", &text(&lab.scratch.join("state")), &text(&copy)])?;
        if number == 0 {
            lab.gateway.kill();
        }
        others.push(copy);
        if number == 0 {
            lab.gateway.start()?;
        }
    }
    for (number, copy) in others.iter().enumerate() {
        let pins = PathBuf::from(format!("{}-{number}", text(&lab.scratch.pin_dir())));
        lab.gateway.configure(&format!(
            "state-dir = \"{}\"\nrun-dir = \"{}\"\n[observer]\npin-dir = \"{}\"\n",
            text(copy),
            text(&lab.scratch.join("run")),
            text(&pins)
        ))?;
        lab.gateway.start()?;
        let told = is_out_and_told(&lab, &text(copy));
        lab.gateway.stop()?;
        assert_eq!(lab.gateway.ctl(&["detach", "--pin-dir", &text(&pins)])?.exit, 0);
        told?;
    }
    Ok(())
}

#[test]
fn one_file_missing_logs_nobody_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let state = lab.scratch.join("state");
    for put_back in [true, false] {
        let copy = lab.scratch.join(&format!("copy-{put_back}"));
        lab.login(0, "alice")?;
        run(&["cp", "-a", &text(&state), &text(&copy)])?;
        if put_back {
            assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
        }
        lab.gateway.stop()?;
        if put_back {
            WAYS[0].1(&copy, &state)?;
        }
        std::fs::remove_file(state.join("revoked"))?;
        lab.gateway.start()?;
        is_out_and_told(&lab, &format!("the mark is missing, a backup: {put_back}"))?;
    }
    // Without the database everything begins anew, which is no backup.
    lab.login(0, "alice")?;
    lab.gateway.stop()?;
    std::fs::remove_file(state.join("tracker.redb"))?;
    lab.gateway.start()?;
    assert_eq!(status_without_credentials(&lab, 0), 407);
    Ok(())
}

/// Whether a process of `nobody` gets a lock on it.
fn nobody_locks(lab: &Lab, path: &Path) -> Result<bool> {
    let mut nobody = lab.net.gateway.command("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    Ok(nobody.args(["flock", "--nonblock"]).arg(path).arg("true").output()?.status.success())
}

fn mode(path: &Path) -> Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

#[test]
fn nobody_else_may_open_or_lock_what_the_gateway_keeps() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let (state, run_dir, pins) = (lab.scratch.join("state"), lab.scratch.join("run"), lab.scratch.pin_dir());
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    open(lab.scratch.path(), 0o755)?;
    lab.login(0, "alice")?;
    lab.gateway.stop()?;
    // As an earlier version left it, or a careless umask.
    open(&state, 0o777)?;
    open(&run_dir, 0o777)?;
    open(&pins, 0o777)?;
    for name in FILES {
        open(&state.join(name), 0o666)?;
        assert!(nobody_locks(&lab, &state.join(name))?, "else this test shows nothing");
    }
    assert!(nobody_locks(&lab, &pins)?);
    lab.gateway.start()?;
    assert!(is_let_through(&lab, 0), "{}", lab.gateway.log());
    for (path, wanted) in [
        (state.clone(), 0o700),
        (pins, 0o700),
        (run_dir.clone(), 0o775),
        (state.join(FILES[0]), 0o600),
        (state.join(FILES[1]), 0o600),
        (run_dir.join("admin.sock"), 0o660),
    ] {
        assert_eq!(mode(&path)?, wanted, "{}", text(&path));
        if path != run_dir {
            assert!(!nobody_locks(&lab, &path)?, "{}", text(&path));
        }
    }
    assert!(lab.gateway.log().contains("others could open it: it was closed to them"));
    // Made by the gateway, whatever the umask.
    lab.gateway.stop()?;
    std::fs::remove_dir_all(&state)?;
    std::fs::remove_dir_all(&run_dir)?;
    lab.gateway.run_under(["sh", "-c", "umask 0; exec \"$@\"", "sh"]);
    lab.gateway.start()?;
    for (path, wanted) in [
        (state.clone(), 0o700),
        (run_dir.clone(), 0o750),
        (state.join(FILES[0]), 0o600),
        (state.join(FILES[1]), 0o600),
    ] {
        assert_eq!(mode(&path)?, wanted, "{}", text(&path));
    }
    Ok(())
}

#[test]
fn directories_of_others_are_refused_with_the_remedy() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    assert!(!session(&lab, 0)?.id.is_empty());
    for name in ["state", "run"] {
        lab.gateway.stop()?;
        std::os::unix::fs::chown(lab.scratch.join(name), Some(65_534), None)?;
        lab.gateway.start_unready()?;
        assert_eq!(lab.gateway.wait()?.code(), Some(1), "{}", lab.gateway.log());
        let log = lab.gateway.log();
        assert!(log.contains("belongs to user 65534") && log.contains("chown it to 0"), "{log}");
        std::os::unix::fs::chown(lab.scratch.join(name), Some(0), None)?;
        lab.gateway.start()?;
    }
    // A directory that others use is not closed under them.
    lab.gateway.stop()?;
    let state = lab.scratch.join("state");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(state.join("somebodys-notes"), "")?;
    lab.gateway.start_unready()?;
    assert_eq!(lab.gateway.wait()?.code(), Some(1), "{}", lab.gateway.log());
    assert!(lab.gateway.log().contains("somebodys-notes"), "{}", lab.gateway.log());
    std::fs::remove_file(state.join("somebodys-notes"))?;
    lab.gateway.start()?;
    until("alice to be in", SOON, || is_let_through(&lab, 0).then_some(()))
}

/// After a reboot the note of the last transaction is gone, and an address that we listen on, or a cgroup, may not be there
/// yet; nor is the note ever where there is no place for it in memory.
#[test]
fn a_start_that_fails_costs_nobody_their_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let (pins, disk) = (lab.scratch.pin_dir(), lab.scratch.join("no-pins"));
    for (bad, good) in [
        (
            "[observer]\nmode = \"ebpf\"\ncgroup = \"/nowhere\"\n",
            "[observer]\nmode = \"auto\"\ncgroup = \"auto\"\n",
        ),
        ("[metrics]\nlisten = \"192.0.2.99:9477\"\n", "[metrics]\nlisten = \"127.0.0.1:9477\"\n"),
    ] {
        for place in [&pins, &disk] {
            lab.gateway.configure(&format!("[observer]\npin-dir = \"{}\"\n", text(place)))?;
            lab.gateway.restart()?;
            lab.login(0, "alice")?;
            lab.gateway.stop()?;
            forget_notes(&pins)?;
            lab.gateway.configure(bad)?;
            for _ in 0..2 {
                lab.gateway.start_unready()?;
                assert!(!lab.gateway.wait()?.success(), "{}", lab.gateway.log());
            }
            lab.gateway.configure(good)?;
            lab.gateway.start()?;
            assert!(is_let_through(&lab, 0), "{bad} {}: {}", place.display(), lab.gateway.log());
        }
    }
    Ok(())
}

/// As a reboot does.
fn forget_notes(pins: &Path) -> Result<()> {
    for entry in std::fs::read_dir(pins)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("store-") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[test]
fn a_backup_put_back_under_a_running_gateway_is_told() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let (state, copy) = (lab.scratch.join("state"), lab.scratch.join("copy"));
    lab.login(0, "alice")?;
    run(&["cp", "-a", &text(&state), &text(&copy)])?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    let warns = |lab: &Lab, what: &str| -> Result<()> {
        let warnings = lab.gateway.ask(&["status"])?["warnings"].to_string();
        let ready = lab.gateway.http("/ready")?.1;
        for told in [warnings, ready] {
            ensure!(told.contains(what) && told.contains("while it was in use"), "{what}: {told}");
        }
        Ok(())
    };
    std::fs::remove_file(state.join(FILES[0]))?;
    warns(&lab, "was removed")?;
    run(&["cp", "-a", &text(&copy.join(FILES[0])), &text(&state)])?;
    warns(&lab, "was replaced")?;
    lab.gateway.restart()?;
    is_out_and_told(&lab, "put back while it ran")
}
