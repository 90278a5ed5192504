//! Bans: listed, told of where they matter, and lifted.

use super::*;

fn wrong(rig: &Rig, client: &str, account: &str, is_known: bool) {
    let one = rig.parts().regulator.begin(client.parse().unwrap(), account).unwrap();
    if is_known { one.known().failed() } else { one.failed() }
}

fn scopes(bans: &[BanView]) -> Vec<&'static str> {
    bans.iter().map(|ban| ban.target.scope()).collect()
}

#[tokio::test]
async fn bans_are_listed_and_told_of_where_they_matter() {
    let rig = Rig::with(3, Limits::default());
    assert!(rig.ops.bans().await.unwrap().is_empty());
    for client in ["10.0.0.1", "10.0.0.1", "10.0.0.1", "192.0.2.9"] {
        wrong(&rig, client, "user1@example.test", true);
    }
    let bans = rig.ops.bans().await.unwrap();
    assert_eq!(scopes(&bans), ["user", "pair"]);
    assert!(bans.iter().all(|ban| ban.identity.as_ref().unwrap().user() == "user1"));
    assert_eq!(rig.ops.status().await.unwrap().bans, 2);
    // The pair's at its address; the user's also where that user is logged in.
    let there = rig.ops.explain("10.0.0.1".parse().unwrap(), Hypothetical::default()).await.unwrap();
    assert!(scopes(&there.bans).contains(&"pair"));
    let elsewhere = rig.ops.explain("192.0.2.9".parse().unwrap(), Hypothetical::default()).await.unwrap();
    assert!(elsewhere.bans.is_empty());
    let told = rig.parts().audit.past(|event| event.ban().is_some());
    assert_eq!(told.len(), 2);
}

#[tokio::test]
async fn lifting_lifts_every_ban_that_names_it_and_nothing_else() {
    let rig = Rig::new();
    let lift = async |of: &str| {
        let lifted = rig.ops.lift_bans(of.to_owned(), Actor::unknown(Via::Socket)).await;
        lifted.map(|lifted| scopes(&lifted.bans).len())
    };
    assert_eq!(lift("alice").await.unwrap_err().kind(), ErrorKind::NotFound);
    for account in ["alice@example.test", "alice@other.test", "alice@", "no such name"] {
        for client in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "2001:db8::1"] {
            wrong(&rig, client, account, account.contains('@'));
        }
    }
    // Each account, and each account from the first address.
    assert_eq!(rig.ops.bans().await.unwrap().len(), 8);
    assert_eq!(lift("EXAMPLE.TEST\\Alice").await.unwrap(), 2);
    assert_eq!(lift("alice@example.test").await.unwrap_err().kind(), ErrorKind::NotFound, "it is done");
    assert_eq!(lift("local\\alice").await.unwrap(), 2);
    assert_eq!(lift("No Such Name").await.unwrap(), 2);
    assert_eq!(lift("2001:db8::/64").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(lift("192.0.2.1").await.unwrap(), 1);
    assert_eq!(lift("alice").await.unwrap(), 1);
    assert!(rig.ops.bans().await.unwrap().is_empty());
    assert_eq!(rig.parts().store.bans().unwrap(), [], "on disk as well");
    assert_eq!(rig.ordered().iter().filter(|event| event.event == "lifted").count(), 8);
}
