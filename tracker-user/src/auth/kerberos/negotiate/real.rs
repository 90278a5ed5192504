//! The verifier and a real realm of its own: what needs a channel, or a look at what GSSAPI was told.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext as _};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE};

use super::*;

const KEYTAB: &str = "TRACKER_REAL_KEYTAB";

/// GSSAPI reads its environment whenever it likes, so that it must be right from the start: the test runs itself again.
#[test]
fn with_a_real_realm() {
    if let Some(keytab) = std::env::var_os(KEYTAB) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(check(keytab.into()));
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(realm) = Realm::start(dir.path()) else {
        // A machine without a KDC's programs; CI has them.
        assert!(std::env::var_os("TRACKER_REQUIRE_PRIVILEGED").is_none(), "krb5-kdc is missing");
        println!("skipped: no krb5-kdc");
        return;
    };
    let mut again = realm.command(std::env::current_exe().unwrap().to_str().unwrap());
    let again = again.args(["with_a_real_realm", "--nocapture"]).env(KEYTAB, dir.path().join("keytab"));
    let output = again.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

async fn check(keytab: PathBuf) {
    let options = Options { keytab: Some(keytab), debugging: true, ..Options::default() };
    let verifier = TicketVerifier::start(options.clone(), Counters::hidden().unwrap()).unwrap();
    a_ticket_tells_everything(&verifier).await;
    for policy in [ChannelBindings::Off, ChannelBindings::Accept, ChannelBindings::Require] {
        verifier.configure(Options { channel_bindings: policy, ..options.clone() });
        tokens_keep_to_their_channel(&verifier, policy).await;
    }
}

async fn a_ticket_tells_everything(verifier: &TicketVerifier) {
    let mut client = Client::new(CtxFlags::GSS_C_MUTUAL_FLAG | CtxFlags::GSS_C_DELEG_FLAG);
    let token = client.token(None);
    let Ok(Progress::Proved { identity, answer, details }) =
        verifier.verify(Attempt::first(token.clone())).await
    else {
        panic!("a good token was refused");
    };
    assert_eq!(identity.to_string(), "alice@R.TEST");
    assert_eq!(details.service, "HTTP/proxy.example.test@R.TEST");
    assert_eq!((details.enctype, details.token_bytes), (18, token.len()));
    let inside = details.inside.as_ref().unwrap();
    assert_eq!((inside.session_enctype, inside.session_key_bits), (18, 256));
    assert!(inside.ends > inside.starts && inside.authenticated.is_some(), "{inside:?}");
    // Mutual authentication: what is sent back completes the client's side.
    assert!(context_flags(details.flags).contains("mutual"));
    assert!(!client.0.is_complete());
    client.0.step(answer.as_deref(), None).unwrap();
    assert!(client.0.is_complete());
    // The second time it is a replay, of whose ticket is told.
    match verifier.verify(Attempt::first(token)).await {
        Err(Failure::Rejected(refused)) => {
            assert_eq!(refused.cause, Cause::Replay.into(), "{refused:?}");
            assert!(refused.why.contains("a ticket of alice@R.TEST"), "{refused:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// RFC 5929: bound to this channel, to another, or to none.
async fn tokens_keep_to_their_channel(verifier: &TicketVerifier, policy: ChannelBindings) {
    const HERE: &[u8] = b"tls-server-end-point:here";
    const THERE: &[u8] = b"tls-server-end-point:there";
    let here = Channel::Named(HERE.into());
    let (wrong, missing) = (Some(Cause::ChannelBindings), Some(Cause::Unbound));
    // What it is refused for under each policy: off, accept, require; and whether it is said to be bound where the two are
    // compared.
    for (bound, channel, refused, is_bound) in [
        (Some(HERE), &here, [None, None, None], true),
        (Some(THERE), &here, [None, wrong, wrong], false),
        // A client that knows of no bindings, and one that binds where there is nothing to bind to.
        (None, &here, [None, None, missing], false),
        (Some(HERE), &Channel::Plain, [None, None, None], false),
        (None, &Channel::Plain, [None, None, None], false),
        // A channel that nothing can be bound to: what comes by it cannot be checked.
        (Some(HERE), &Channel::Unnamed, [None, None, None], false),
    ] {
        let case = format!("{policy:?}: {bound:?} on {channel:?}");
        let token = Client::new(CtxFlags::GSS_C_MUTUAL_FLAG).token(bound);
        let outcome = verifier.verify(Attempt { channel: channel.clone(), ..Attempt::first(token) }).await;
        let expected = match policy {
            ChannelBindings::Off => refused[0],
            ChannelBindings::Accept => refused[1],
            ChannelBindings::Require => refused[2],
        };
        match (outcome, expected) {
            (Err(Failure::Unavailable(why)), None) => {
                assert!(policy == ChannelBindings::Require && *channel == Channel::Unnamed, "{case}: {why}");
            }
            (Ok(Progress::Proved { details, .. }), None) => {
                assert!(policy != ChannelBindings::Require || *channel != Channel::Unnamed, "{case}");
                let told = context_flags(details.flags).contains("channel-bound");
                assert_eq!(told, is_bound && policy != ChannelBindings::Off, "{case}");
            }
            (Err(Failure::Rejected(refused)), Some(cause)) => {
                assert_eq!(refused.cause, cause.into(), "{case}: {refused:?}");
            }
            (other, _) => panic!("{case}: {other:?}"),
        }
    }
}

/// A client with a ticket.
struct Client(ClientCtx);

impl Client {
    fn new(flags: CtxFlags) -> Self {
        let name = Name::new(b"HTTP@proxy.example.test", Some(GSS_NT_HOSTBASED_SERVICE)).unwrap();
        Self(ClientCtx::new(None, name, flags, Some(GSS_MECH_SPNEGO)))
    }

    fn token(&mut self, channel: Option<&[u8]>) -> Vec<u8> {
        self.0.step(None, channel).unwrap().unwrap().to_vec()
    }
}

/// A realm with a user, who has a ticket, and a service.
struct Realm {
    dir: PathBuf,
    kdc: Option<Child>,
}

impl Realm {
    /// `None` where there are no programs for it.
    fn start(dir: &Path) -> Option<Self> {
        if !Path::new("/usr/sbin/krb5kdc").exists() {
            return None;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let at = dir.display();
        let krb5 = format!(
            "[libdefaults]\n default_realm = R.TEST\n dns_canonicalize_hostname = false\n rdns = false\n \
             dns_lookup_kdc = false\n permitted_enctypes = aes256-cts-hmac-sha1-96\n\
             [realms]\n R.TEST = {{\n  kdc = 127.0.0.1:{port}\n }}\n[domain_realm]\n example.test = R.TEST\n .example.test = R.TEST\n"
        );
        let kdc = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n R.TEST = {{\n  \
             database_name = {at}/principal\n  key_stash_file = {at}/stash\n }}\n[logging]\n kdc = FILE:{at}/log\n"
        );
        std::fs::write(dir.join("krb5.conf"), krb5).unwrap();
        std::fs::write(dir.join("kdc.conf"), kdc).unwrap();
        let mut realm = Self { dir: dir.to_owned(), kdc: None };
        realm.run("kdb5_util create -s -P throw-away -r R.TEST");
        realm.run("kadmin.local -r R.TEST addprinc -randkey HTTP/proxy.example.test");
        realm.run(&format!("kadmin.local -r R.TEST ktadd -k {at}/keytab HTTP/proxy.example.test"));
        realm.run("kadmin.local -r R.TEST addprinc -randkey alice");
        realm.run(&format!("kadmin.local -r R.TEST ktadd -k {at}/alice alice"));
        realm.kdc = Some(
            realm.command("krb5kdc").args(["-n", "-r", "R.TEST"]).stdout(Stdio::null()).spawn().unwrap(),
        );
        for _ in 0..100 {
            if realm
                .command("kinit")
                .args(["-k", "-t", &format!("{at}/alice"), "alice"])
                .status()
                .unwrap()
                .success()
            {
                return Some(realm);
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("no ticket can be had");
    }

    fn run(&self, line: &str) {
        let mut words = line.split(' ');
        let mut command = self.command(words.next().unwrap());
        let done = command.args(words).stdout(Stdio::null()).status().unwrap();
        assert!(done.success(), "{line}");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, file) in
            [("KRB5_CONFIG", "krb5.conf"), ("KRB5_KDC_PROFILE", "kdc.conf"), ("KRB5CCNAME", "tickets")]
        {
            command.env(name, self.dir.join(file));
        }
        command.env("KRB5RCACHEDIR", &self.dir).env_remove("KRB5_KTNAME");
        command
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        if let Some(kdc) = &mut self.kdc {
            let _ = kdc.kill();
            let _ = kdc.wait();
        }
    }
}
