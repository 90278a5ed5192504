//! Passwords and real KDCs: a true one, a false one of the same realm, a trusted realm, one that is not, and none at all.
//!
//! The library reads its environment whenever it likes, and what it leaves in memory is to be seen from outside: this program
//! runs again as a process that is told names and passwords on its standard input, and says what they came to.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use zeroize::Zeroizing;

use super::*;
use crate::auth::kerberos::test_realm::TestRealm;
use crate::auth::kerberos::{ChannelBindings, NameRules};

const KEYTAB: &str = "TRACKER_PASSWORD_KEYTAB";
const ANSWER: &str = "ANSWER ";

/// The other process: not a test by itself.
#[test]
fn answers_for_the_other_tests() {
    let Some(keytab) = std::env::var_os(KEYTAB) else { return };
    let names = NameRules::new(true, [("R.TEST", "R")]);
    let kdc = Kdc::start(Options {
        keytab: Some(keytab.into()),
        names,
        channel_bindings: ChannelBindings::default(),
        debugging: false,
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What is not a secret stays: whoever looks for one in this memory would find it.
    let mut asked = Vec::new();
    while let Some((user, realm, password)) = question() {
        asked.push(user.clone());
        let realm = Some(realm.as_str()).filter(|realm| !realm.is_empty());
        let begun = boot_now();
        let outcome = runtime.block_on(kdc.check(&user, realm, password));
        let taken = boot_now().since(begun).as_micros();
        match outcome {
            Ok(identity) => println!("{ANSWER}{taken} {identity:?}"),
            Err(failure) => println!("{ANSWER}{taken} {}: {failure}", failure.label()),
        }
    }
}

/// A line `user<TAB>realm<TAB>password`, of which nothing stays behind but what is returned.
fn question() -> Option<(String, String, Password)> {
    let mut line = Zeroizing::new([0_u8; 4096]);
    let mut length = 0;
    let stdin = std::io::stdin();
    loop {
        let byte = line.get_mut(length..=length).unwrap();
        if nix::unistd::read(stdin.as_fd(), byte).unwrap() == 0 {
            return None;
        }
        if byte == b"\n" {
            break;
        }
        length += 1;
    }
    let mut parts = std::str::from_utf8(&line[..length]).unwrap().split('\t');
    let mut part = || parts.next().unwrap();
    let (user, realm) = (part().to_owned(), part().to_owned());
    let password = part();
    let mut text = Zeroizing::new(String::with_capacity(password.len()));
    text.push_str(password);
    Some((user, realm, Password::new(text)))
}

/// The other process, seen from here.
struct Other {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(realm: &TestRealm, keytab: &Path) -> Self {
        let mut command = realm.command(std::env::current_exe().unwrap().to_str().unwrap());
        command.args(["answers_for_the_other_tests", "--nocapture"]).env(KEYTAB, keytab);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, ask, answers }
    }

    fn send(&mut self, user: &str, realm: &str, password: &str) {
        self.ask.write_all(format!("{user}\t{realm}\t{password}\n").as_bytes()).unwrap();
    }

    /// What it came to, and how long it took.
    fn answer(&mut self) -> (String, Duration) {
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "it has ended");
            // The harness writes in between, without an end of its line.
            let Some((_, answer)) = line.split_once(ANSWER) else { continue };
            let (micros, answer) = answer.trim_end().split_once(' ').unwrap();
            return (answer.to_owned(), Duration::from_micros(micros.parse().unwrap()));
        }
    }

    fn check(&mut self, user: &str, realm: &str, password: &str) -> String {
        self.send(user, realm, password);
        self.answer().0
    }

    /// How often these bytes are in its memory, wherever that can be read.
    fn holds(&self, needle: &[u8]) -> usize {
        let proc = Path::new("/proc").join(self.child.id().to_string());
        let memory = std::fs::File::open(proc.join("mem")).unwrap();
        let maps = std::fs::read_to_string(proc.join("maps")).unwrap();
        let mut found = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (start, rest) = line.split_once('-').unwrap();
            let number = |hex: &str| u64::from_str_radix(hex, 16).unwrap();
            let (start, end) = (number(start), number(rest.split(' ').next().unwrap()));
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            // What cannot be read is not memory of the program's.
            if memory.read_exact_at(&mut bytes, start).is_ok() {
                found += bytes.windows(needle.len()).filter(|window| *window == needle).count();
            }
        }
        found
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A realm with people.
fn realm(dir: &Path) -> Option<TestRealm> {
    let realm = TestRealm::start(dir, "R.TEST")?;
    realm.kadmin("addprinc +requires_preauth -pw alice-pw alice");
    realm.kadmin("addprinc -requires_preauth -pw bob-pw bob");
    Some(realm)
}

fn subdir(dir: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    let path = dir.path().join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

#[test]
fn each_refusal_of_a_real_kdc_has_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let Some(here) = realm(&subdir(&dir, "here")) else { return };
    for (options, name) in [
        ("+requires_preauth -pwexpire yesterday", "late"),
        ("+requires_preauth -allow_tix", "locked"),
        ("-expire yesterday", "gone"),
        ("", "PC-17$"),
        ("", "Müller"),
    ] {
        here.kadmin(&format!("addprinc {options} -pw their-pw {name}"));
    }
    let trusted = TestRealm::start(&subdir(&dir, "trusted"), "T.TEST").unwrap();
    let lone = TestRealm::start(&subdir(&dir, "lone"), "LONE.TEST").unwrap();
    for realm in [&here, &trusted] {
        realm.kadmin("addprinc -pw throw-away krbtgt/R.TEST@T.TEST");
    }
    trusted.kadmin("addprinc +requires_preauth -pw theirs alice");
    lone.kadmin("addprinc +requires_preauth -pw theirs alice");
    here.configure(&[&here, &trusted, &lone]);

    let mut other = Other::start(&here, &here.keytab());
    let before = files(dir.path());
    for (user, realm, password, answer) in [
        ("alice", "", "alice-pw", "Identity(R\\alice, alice@r.test)"),
        ("bob", "", "bob-pw", "Identity(R\\bob, bob@r.test)"),
        ("alice", "R.TEST", "alice-pw", "Identity(R\\alice, alice@r.test)"),
        ("alice", "r.Test", "alice-pw", "Identity(R\\alice, alice@r.test)"),
        ("Müller", "", "their-pw", "Identity(R\\Müller, müller@r.test)"),
        // A user of a realm that is trusted is that realm's, whatever else has their name.
        ("alice", "T.TEST", "theirs", "Identity(alice@T.TEST, alice@t.test)"),
        ("alice", "T.TEST", "alice-pw", "wrong-password"),
        ("alice", "", "theirs", "wrong-password"),
        ("alice", "", "alice-pw ", "wrong-password"),
        ("alice", "", "alice-p", "wrong-password"),
        ("bob", "", "alice-pw", "wrong-password"),
        ("alice", "", "alice-pw\0", "wrong-password"),
        ("alice", "", "", "password-length"),
        ("nobody", "", "alice-pw", "unknown-user: nobody in R.TEST has this name"),
        ("late", "", "their-pw", "password-expired"),
        ("locked", "", "their-pw", "account-disabled"),
        ("gone", "", "their-pw", "account-disabled"),
        // Right, but nothing leads from there to here.
        ("alice", "LONE.TEST", "theirs", "foreign-realm: no trust leads from LONE.TEST"),
        ("alice", "LONE.TEST", "wrong", "wrong-password"),
        ("alice", "STRANGE.TEST", "alice-pw", "foreign-realm: the name is of a realm that is not known"),
        ("PC-17$", "", "their-pw", "bad-name"),
        ("HTTP/proxy.example.test", "", "x", "bad-name"),
        ("krbtgt/R.TEST", "", "x", "bad-name"),
        ("kadmin/changepw", "", "x", "bad-name"),
        ("alice\\@x", "", "alice-pw", "bad-name"),
        ("alice@T.TEST", "", "alice-pw", "bad-name"),
    ] {
        let found = other.check(user, realm, password);
        assert!(found.starts_with(answer), "{user} of {realm:?}: {found}, not {answer}");
        let words = found.to_lowercase();
        assert!(!words.contains("-pw") && !words.contains("theirs"), "{found}");
    }
    assert_eq!(files(dir.path()), before, "nothing is kept");
}

/// The files in the realm's directory: credentials and the record of used tokens would be there.
fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("here")).unwrap().flatten();
    let mut found: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_false_kdc_lets_nobody_in() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut true_one) = realm(&subdir(&dir, "true")) else { return };
    // Of the same realm, with a service of the same name, and a password that the attacker has chosen.
    let false_one = TestRealm::start(&subdir(&dir, "false"), "R.TEST").unwrap();
    false_one.kadmin("addprinc +requires_preauth -pw chosen alice");
    let mut deceived = Other::start(&false_one, &true_one.keytab());
    let found = deceived.check("alice", "", "chosen");
    assert!(found.starts_with("false-kdc: a KDC accepts this password as alice@R.TEST's"), "{found}");
    assert!(deceived.check("alice", "", "alice-pw").starts_with("wrong-password"));
    // One that knows nothing of the service.
    false_one.kadmin("delprinc -force HTTP/proxy.example.test");
    assert!(deceived.check("alice", "", "chosen").starts_with("false-kdc"));
    // The false one's own keytab would prove it: what is refused is the KDC, and nothing else.
    let mut fooled = Other::start(&true_one, &true_one.keytab());
    assert!(fooled.check("alice", "", "alice-pw").starts_with("Identity"));
    assert!(fooled.check("alice", "", "chosen").starts_with("wrong-password"));
    // Without a keytab there is no telling, so nobody is let in, by the true one neither.
    for keytab in ["none", "empty"] {
        let keytab = dir.path().join(keytab);
        if keytab.ends_with("empty") {
            std::fs::write(&keytab, b"\x05\x02").unwrap();
        }
        let found = Other::start(&true_one, &keytab).check("alice", "", "alice-pw");
        assert!(found.starts_with("unavailable: no password can be verified"), "{found}");
    }
    // A keytab that the true KDC has left behind: the same, with the remedy.
    true_one.kadmin("cpw -randkey HTTP/proxy.example.test");
    let found = fooled.check("alice", "", "alice-pw");
    assert!(found.starts_with("false-kdc") && found.contains("renew the keytab"), "{found}");
    true_one.stop_kdc();
}

#[test]
fn a_kdc_that_is_dead_or_silent_is_told_at_once_and_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut here) = realm(&subdir(&dir, "here")) else { return };
    let mut other = Other::start(&here, &here.keytab());
    assert!(other.check("alice", "", "alice-pw").starts_with("Identity"));
    here.stop_kdc();
    let refused = other.check("alice", "", "alice-pw");
    assert!(refused.starts_with("unavailable: no KDC of R.TEST answers"), "{refused}");
    let refused = other.check("alice", "", "wrong");
    assert!(refused.contains("it was silent a moment ago"), "{refused}");
    here.start_kdc();
    let taken_up = |other: &mut Other| {
        for _ in 0..120 {
            if other.check("alice", "", "alice-pw").starts_with("Identity") {
                return;
            }
            thread::sleep(Duration::from_millis(250));
        }
        panic!("the KDC is not asked again");
    };
    taken_up(&mut other);

    // Nobody refuses, nobody answers: the library goes on and on, whoever asked does not.
    let silence = here.silence_kdc();
    let refused = other.check("alice", "", "alice-pw");
    assert!(refused.starts_with("unavailable: no KDC of R.TEST answers"), "{refused}");
    let refused = other.check("alice", "", "alice-pw");
    assert!(refused.contains("it was silent a moment ago"), "{refused}");
    drop(silence);
    here.start_kdc();
    taken_up(&mut other);
}

#[test]
fn no_password_stays_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let Some(here) = realm(&subdir(&dir, "here")) else { return };
    let number = boot_now().as_nanos();
    let (right, wrong, name) = (
        format!("right-{number:x}-secret"),
        format!("wrong-{number:x}-secret"),
        format!("nobody-{number:x}-name"),
    );
    here.kadmin(&format!("cpw -pw {right} alice"));
    here.kadmin(&format!("cpw -pw {right} bob"));
    let mut other = Other::start(&here, &here.keytab());
    for (user, password, answer) in [
        ("alice", &right, "Identity"),
        ("bob", &right, "Identity"),
        ("alice", &wrong, "wrong-password"),
        ("bob", &wrong, "wrong-password"),
        (name.as_str(), &wrong, "unknown-user"),
    ] {
        let found = other.check(user, "", password);
        assert!(found.starts_with(answer), "{found}");
        assert_eq!(other.holds(password.as_bytes()), 0, "after the password of {user}");
    }
    assert!(other.holds(name.as_bytes()) > 0, "what is there would be found");
}

/// How long refusals take, and when they are answered: `cargo test -p tracker-user --lib how_long_refusals_take -- --ignored
/// --nocapture`.
#[test]
#[ignore = "a measurement: takes some seconds, and wants an idle machine"]
fn how_long_refusals_take() {
    const TRIES: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let Some(here) = realm(&subdir(&dir, "here")) else { return };
    here.kadmin("addprinc +requires_preauth -pwexpire yesterday -pw their-pw late");
    here.kadmin("addprinc +requires_preauth -allow_tix -pw their-pw locked");
    let mut other = Other::start(&here, &here.keytab());
    let kinds = [
        ("right", "alice", "", "alice-pw"),
        ("wrong", "alice", "", "wrong"),
        ("wrong, no pre-authentication", "bob", "", "wrong"),
        ("unknown user", "nobody", "", "wrong"),
        ("expired", "late", "", "wrong"),
        ("disabled", "locked", "", "wrong"),
        ("foreign realm", "alice", "STRANGE.TEST", "wrong"),
        ("a service", "HTTP/proxy.example.test", "", "wrong"),
    ];
    let (pace, random) = (crate::auth::password::Pace::default(), ring::rand::SystemRandom::new());
    let mut taken = vec![Vec::new(); kinds.len()];
    let mut answered = taken.clone();
    // Interleaved: what else the machine does falls on all alike.
    for _ in 0..TRIES {
        for (number, (_, user, realm, password)) in kinds.into_iter().enumerate() {
            other.send(user, realm, password);
            let (_, took) = other.answer();
            let begun = BootTime::default();
            let random = u64::from_ne_bytes(ring::rand::generate(&random).unwrap().expose());
            taken[number].push(took);
            answered[number].push(pace.until(begun, begun.after(took), random).since(begun));
        }
    }
    println!("{:32}{:>27}{:>27}", "", "taken: least, median, most", "answered");
    for ((kind, ..), times) in kinds.iter().zip(taken.iter_mut().zip(&mut answered)) {
        let row = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            let at = |n: usize| times[n].as_secs_f64() * 1_000.0;
            format!("{:9.2}{:9.2}{:9.2}", at(0), at(TRIES / 2), at(TRIES - 1))
        };
        println!("{kind:32}{}{}   ms", row(times.0), row(times.1));
    }
}
