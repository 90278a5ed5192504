//! Whoever looks at everybody, or ends everybody, leaves the loop to others in between. Counted in portions, not by a clock.

use super::*;
use crate::tracker::Whose;

const MANY: u32 = 20_000;

/// All sessions were walked over, in portions, and others were answered between them.
fn in_portions(asked: &[Asked]) {
    let portions: Vec<usize> = asked
        .iter()
        .filter_map(|asked| if let Asked::Portion(sessions) = asked { Some(*sessions) } else { None })
        .collect();
    assert!(portions.iter().all(|sessions| *sessions <= walk::PORTION), "{portions:?}");
    assert_eq!(portions.iter().sum::<usize>(), MANY as usize, "everybody was met once");
    let is_portion = |asked: &Asked| matches!(asked, Asked::Portion(_));
    let (first, last) =
        (asked.iter().position(is_portion).unwrap(), asked.iter().rposition(is_portion).unwrap());
    let between = asked[first..last].iter().filter(|asked| !is_portion(asked)).count();
    assert!(between > 0, "nobody was answered during {} portions", portions.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loop_answers_others_between_the_portions_of_a_walk() {
    let limits =
        Limits { rate_span: Duration::ZERO, patience: Duration::from_secs(300), ..Limits::default() };
    let rig = Rig::with(MANY, limits);
    let (sessions, asked) = rig.asked_during(rig.ops.sessions()).await;
    assert_eq!(sessions.unwrap().len(), MANY as usize);
    in_portions(&asked);
    let (hosts, asked) = rig.asked_during(rig.ops.hosts()).await;
    assert_eq!(hosts.unwrap().len(), MANY as usize);
    in_portions(&asked);
    let (users, asked) = rig.asked_during(rig.ops.users()).await;
    assert_eq!(users.unwrap().len(), MANY as usize / 5);
    in_portions(&asked);
    let wanted = crate::store::Wanted { client: None, user: None, at: None, most: 1_000 };
    let (history, asked) = rig.asked_during(rig.ops.history(wanted)).await;
    assert_eq!(history.unwrap().len(), 1_000);
    in_portions(&asked);

    // A logout of everybody, too: others see some gone and some not yet.
    let tracker = rig.parts().tracker.clone();
    let other = tokio::spawn(async move {
        let mut seen = std::collections::BTreeSet::new();
        while let Some(left) = tracker.ask(|view| view.table.len()).await {
            seen.insert(left);
            if left == 0 {
                break;
            }
        }
        seen
    });
    assert_eq!(rig.ops.logout(Whose::All, operator()).await.unwrap().ended.len(), MANY as usize);
    let seen = other.await.unwrap();
    assert!(seen.iter().any(|left| (1..MANY as usize).contains(left)), "{seen:?}");
}

/// Who stands during the whole walk is met once, whoever comes and goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_leaves_nobody_out_who_stays() {
    let rig = Rig::with(4_000, Limits::default());
    let mut walk = rig.ops.walk_sessions().await.unwrap();
    let mut met = Vec::new();
    let mut number = 0;
    while let Some(portion) = walk.next().await.unwrap() {
        met.extend(portion.into_iter().map(|session| session.client));
        // One that was met, and one that was not yet.
        for gone in [number, 3_999 - number] {
            rig.ops.logout(Whose::Client(client(gone)), operator()).await.unwrap();
        }
        number += 1;
    }
    let once: std::collections::HashSet<_> = met.iter().copied().collect();
    assert_eq!(once.len(), met.len());
    assert!((number..4_000 - number).all(|stays| once.contains(&client(stays))));
}

/// What blocks is done by the operators' own threads: when they hang, operators wait, and nobody else.
#[tokio::test]
async fn when_the_operators_threads_hang_the_loop_does_not() {
    let rig = Rig::with(1, Limits { patience: Duration::from_millis(50), ..Limits::default() });
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let mut hanging = Vec::new();
    loop {
        let held = Arc::clone(&held);
        match rig.parts().threads.run(move || held.lock().unwrap().recv().is_err()) {
            Ok(job) => hanging.push(job),
            Err(_) => break,
        }
    }
    let error = rig.ops.status().await.unwrap_err();
    assert!(matches!(error, OpsError::Busy(_) | OpsError::TooSlow { .. }), "{error}");
    assert_eq!(rig.parts().tracker.ask(|view| view.table.len()).await, Some(1));
    drop(release);
    for job in hanging {
        assert!(job.await.unwrap());
    }
    // None of what was given up is still waiting.
    rig.parts().threads.run(|| ()).unwrap().await.unwrap();
}
