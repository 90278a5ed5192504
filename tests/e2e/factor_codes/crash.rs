//! A code is spent in the transaction that keeps the session: a gateway that is killed between the two knows both, or neither.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Lab;
use lab::web::Web;

use super::{CODE, OPTIONAL, give, is_in, password, set_up};

#[test]
fn a_code_is_spent_also_where_the_gateway_is_killed_before_its_answer() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(2, OPTIONAL)?;
    let mut authenticators = Vec::new();
    for user in ["alice", "bob", "carol"] {
        authenticators.push((user, set_up(&lab, 1, user)?.1));
    }
    let mut begun = 0;
    for (round, (user, own)) in authenticators.iter().cycle().take(6).enumerate() {
        let web = Web::new(&lab, 0);
        let page = password(&web, user)?;
        let code = own.code()?;
        let fields = format!("token={}&code={code}", lab::web::token(&page)?);
        let jar = web.jar().display().to_string();
        let curl = lab.curl(0).direct().arg("--insecure").arg("--cookie").arg(&jar).data(&fields);
        let mut child = curl.command(&Web::url(CODE)).stdout(std::process::Stdio::null()).spawn()?;
        // Before it comes, while it is written, after it was answered.
        thread::sleep(Duration::from_millis(5 + 12 * round as u64));
        lab.gateway.kill();
        child.wait()?;
        lab.gateway.start()?;
        let has_begun = lab.gateway.session(&lab.address(0))?.is_some_and(|session| session.is_active());
        begun += usize::from(has_begun);
        let web = Web::new(&lab, 0);
        let page = password(&web, user)?;
        let again = give(&web, &page, &code)?;
        if has_begun {
            ensure!(again.code == 403, "round {round}: twice: {again:?}");
        } else {
            ensure!(again.code == 403 || is_in(&again, "/"), "round {round}: {again:?}");
        }
    }
    ensure!(begun > 0, "none was ever accepted before the gateway was killed");
    Ok(())
}
