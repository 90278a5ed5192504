//! The pool, with acceptors that behave badly; and GSSAPI with what needs no realm.

use std::sync::mpsc;

use super::*;
use crate::auth::outcome::Rejection;
use crate::panics::tests::{assert_aborted, in_a_process};

struct Fake<F>(F);

impl<F: Fn(&[u8]) -> Result<Progress, Failure> + Send + Sync + 'static> Acceptor for Fake<F> {
    fn accept(
        &self,
        _handshake: Option<Handshake>,
        token: &[u8],
        _channel: &Channel,
    ) -> Result<Progress, Failure> {
        (self.0)(token)
    }
}

fn proved(user: &str) -> Progress {
    let details = Box::new(Details::of_nothing());
    Progress::Proved { identity: Identity::new(user, "R", "R"), answer: None, details }
}

fn counters() -> Counters {
    Counters::hidden().unwrap()
}

#[tokio::test]
async fn a_full_queue_is_told_at_once_and_the_rest_is_served() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake(move |_: &[u8]| {
        begun.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        Ok(proved("alice"))
    });
    let verifier = Arc::new(TicketVerifier::with(Arc::new(fake), 1, 2, counters()).unwrap());
    let verify = || {
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move { verifier.verify(Attempt::first(vec![1])).await })
    };
    let first = verify();
    begins.recv().await.unwrap();
    let waiting = [verify(), verify()];
    while verifier.queued() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(verifier.verify(Attempt::first(vec![1])).await, Err(Failure::Busy)));
    for _ in 0..3 {
        release.send(()).unwrap();
    }
    for task in [first].into_iter().chain(waiting) {
        assert!(matches!(task.await.unwrap(), Ok(Progress::Proved { .. })));
    }
}

#[test]
fn a_token_that_makes_the_verifier_panic_ends_the_process() {
    let work = || {
        let fake = Fake(|_: &[u8]| -> Result<Progress, Failure> { panic!("of a test") });
        let verifier = TicketVerifier::with(Arc::new(fake), 1, 8, counters()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _ = runtime.block_on(verifier.verify(Attempt::first(b"bad".to_vec())));
    };
    let name = "a_token_that_makes_the_verifier_panic_ends_the_process";
    assert_aborted(&in_a_process(module_path!(), name, work), "a panic ended the gateway");
}

#[tokio::test(start_paused = true)]
async fn a_hang_ends_for_the_async_side() {
    let fake = Fake(|_: &[u8]| {
        loop {
            thread::park();
        }
    });
    let verifier = TicketVerifier::with(Arc::new(fake), 1, 8, counters()).unwrap();
    assert!(matches!(verifier.verify(Attempt::first(vec![1])).await, Err(Failure::TimedOut)));
}

#[tokio::test]
async fn when_the_verifier_is_gone_no_thread_holds_anything_of_the_library() {
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake(move |_: &[u8]| {
        begun.send(()).unwrap();
        thread::sleep(Duration::from_millis(50));
        Ok(proved("alice"))
    });
    let acceptor = Arc::new(fake);
    let held = Arc::downgrade(&acceptor);
    let verifier = TicketVerifier::with(acceptor, 2, 8, counters()).unwrap();
    let mut asked = Box::pin(verifier.verify(Attempt::first(vec![1])));
    tokio::select! {
        _ = &mut asked => panic!("it takes longer than to begin"),
        begun = begins.recv() => begun.unwrap(),
    }
    drop(asked);
    drop(verifier);
    assert_eq!(held.strong_count(), 0);
}

#[tokio::test]
async fn a_bad_keytab_is_named_and_nothing_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.keytab");
    std::fs::write(&path, b"").unwrap();
    let options = Options { keytab: Some(path.clone()), ..Options::default() };
    let verifier = TicketVerifier::start(options.clone(), counters()).unwrap();
    let problem = verifier.problem().unwrap();
    assert!(problem.contains("empty.keytab") && problem.contains("is empty"), "{problem}");
    let krb5 = b"\x60\x0d\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00".to_vec();
    match verifier.verify(Attempt::first(krb5)).await {
        Err(Failure::Unavailable(why)) => assert_eq!(why, problem),
        other => panic!("{other:?}"),
    }
    // What could not be accepted anyway is told all the same.
    match verifier.verify(Attempt::first(b"NTLMSSP\0".to_vec())).await {
        Err(Failure::Rejected(refused)) => assert_eq!(refused.cause, Cause::Ntlm.into()),
        other => panic!("{other:?}"),
    }
    let missing = Options { keytab: Some(dir.path().join("none")), ..options };
    verifier.configure(missing);
    assert!(verifier.problem().unwrap().contains("does not exist"));
}

#[tokio::test]
async fn garbage_gets_a_reason() {
    // A keytab with one AES key, made by hand: GSSAPI only looks whether there is one.
    let mut entry = Vec::new();
    let text = |entry: &mut Vec<u8>, text: &[u8]| {
        entry.extend((text.len() as u16).to_be_bytes());
        entry.extend(text);
    };
    entry.extend(2_u16.to_be_bytes());
    for component in [&b"EXAMPLE.TEST"[..], b"HTTP", b"proxy.example.test"] {
        text(&mut entry, component);
    }
    entry.extend(1_u32.to_be_bytes()); // name type
    entry.extend(0_u32.to_be_bytes()); // time
    entry.push(1); // version
    entry.extend(18_u16.to_be_bytes()); // aes256-cts-hmac-sha1-96
    text(&mut entry, &[7; 32]);
    let file = [b"\x05\x02".to_vec(), (entry.len() as u32).to_be_bytes().to_vec(), entry].concat();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keytab");
    std::fs::write(&path, file).unwrap();
    let verifier =
        TicketVerifier::start(Options { keytab: Some(path), ..Options::default() }, counters()).unwrap();
    assert_eq!(verifier.problem(), None);

    let spnego = b"\x60\x1e\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x14garbage-garbage-garb".to_vec();
    let krb5 =
        [&b"\x60\x81\x80\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00"[..], &[0x41; 117]].concat();
    for (token, words) in [
        (b"NTLMSSP\0\x01".to_vec(), "sent NTLM"),
        (b"hello".to_vec(), "no GSSAPI token"),
        (spnego, "damaged"),
        (krb5, ""),
    ] {
        match verifier.verify(Attempt::first(token)).await {
            Err(Failure::Rejected(Rejection { why, .. })) => {
                assert!(why.contains(words) && !why.contains('\n') && why.len() > 10, "{why:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}
