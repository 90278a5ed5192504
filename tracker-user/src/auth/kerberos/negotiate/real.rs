//! The verifier and a real realm of its own: what needs a channel, or a look at what GSSAPI was told.

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext as _};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE};

use super::*;
use crate::auth::kerberos::test_realm::TestRealm;

const KEYTAB: &str = "TRACKER_REAL_KEYTAB";

/// GSSAPI reads its environment whenever it likes, so that it must be right from the start: the test runs itself again.
#[test]
fn with_a_real_realm() {
    if let Some(keytab) = std::env::var_os(KEYTAB) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(check(keytab.into()));
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(realm) = TestRealm::start(dir.path(), "R.TEST") else { return };
    realm.log_in_alice();
    let mut again = realm.command(std::env::current_exe().unwrap().to_str().unwrap());
    let again = again.args(["with_a_real_realm", "--nocapture"]).env(KEYTAB, realm.keytab());
    let output = again.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

async fn check(keytab: PathBuf) {
    let options = Options { keytab: Some(keytab), debugging: true, ..Options::default() };
    let verifier = TicketVerifier::start(options, Counters::hidden().unwrap()).unwrap();
    a_ticket_tells_everything(&verifier).await;
    tokens_keep_to_their_channel(&verifier).await;
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
async fn tokens_keep_to_their_channel(verifier: &TicketVerifier) {
    const HERE: &[u8] = b"tls-server-end-point:here";
    for (bound, came_on, accepted, is_bound) in [
        (Some(HERE), Some(HERE), true, true),
        (Some(&b"tls-server-end-point:there"[..]), Some(HERE), false, false),
        // A client that knows of no bindings, and one that binds where none can be told.
        (None, Some(HERE), true, false),
        (Some(HERE), None, true, false),
    ] {
        let token = Client::new(CtxFlags::GSS_C_MUTUAL_FLAG).token(bound);
        let attempt = Attempt { channel_binding: came_on.map(Into::into), ..Attempt::first(token) };
        match verifier.verify(attempt).await {
            Ok(Progress::Proved { details, .. }) => {
                assert!(accepted, "{bound:?} on {came_on:?}");
                let told = context_flags(details.flags).contains("channel-bound");
                assert_eq!(told, is_bound, "{bound:?} on {came_on:?}");
            }
            Err(Failure::Rejected(refused)) => {
                assert!(!accepted, "{bound:?} on {came_on:?}: {refused:?}");
                assert_eq!(refused.cause, Cause::ChannelBindings.into(), "{refused:?}");
            }
            other => panic!("{other:?}"),
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
