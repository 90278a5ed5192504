//! Recovery of a lost second factor by mail, with a real mail server: Debian's aiosmtpd.

mod attempts;
mod browser;
mod delay;
mod delivery;
mod refusals;
mod whole;

use anyhow::{Context as _, Result, ensure};
use lab::client::Reply;
use lab::oath::Authenticator;
use lab::smtp::{self, Mail, Smtp, Tls, Wishes};
use lab::web::Web;
use lab::{Lab, answers};

use crate::portal_login::log_in;

const HOME: &str = "/second-factor";
const SET_UP: &str = "/second-factor/set-up";
const RECOVER: &str = "/second-factor/recover";
const GIVE: &str = "/second-factor/recover/code";

/// Users may set up a second factor; alice has a mailbox in the company's mail domain.
const SETTINGS: &str = "[second-factor.domains]\n\"EXAMPLE.TEST\" = \"optional\"\n\
    [portal]\norganisation = \"Example & Sons\"\ncontact = \"Phone 4711\"\n";

/// Settings: the lab's mail server.
fn mail(scheme: &str, port: u16, user: &str) -> String {
    format!(
        "[mail]\nfrom = \"gateway@example.test\"\nsmtp = \"{scheme}://{user}{}:{port}\"\n\
         domains = {{ \"EXAMPLE.TEST\" = \"mail.example\" }}\n",
        smtp::NAME
    )
}

/// A lab with a mail server that offers STARTTLS, whom the gateway trusts.
fn start(clients: usize, more: &str) -> Result<(Lab, Smtp)> {
    let wishes = Wishes { tls: Tls::Trusted, asks_for_a_password: false };
    let settings = format!("{SETTINGS}{}{more}", mail("smtp", smtp::PORT, ""));
    start_with(clients, wishes, &settings)
}

fn start_with(clients: usize, wishes: Wishes, settings: &str) -> Result<(Lab, Smtp)> {
    let mut lab = Lab::prepare(clients, &lab::gateway::bin_dir()?)?;
    let smtp = Smtp::start(&lab.scratch, &lab.net.origin, wishes)?;
    let (name, value) = smtp.trust();
    lab.gateway.run_under(["env".to_owned(), format!("{name}={}", value.display())]);
    lab.gateway.configure(settings)?;
    lab.gateway.start()?;
    Ok((lab, smtp))
}

fn leads_to(reply: &Reply, to: &str) -> bool {
    matches!(reply.code, 302 | 303) && reply.header("location") == [to]
}

/// Somebody logs in with their password and sets up an authenticator, with this recovery address.
fn set_up<'a>(lab: &'a Lab, client: usize, user: &str, address: &str) -> Result<(Web<'a>, Authenticator)> {
    let web = Web::new(lab, client);
    ensure!(leads_to(&log_in(&web, user, &format!("{user}-pw"))?, "/"), "{}", lab.gateway.log());
    ensure!(leads_to(&web.post(&web.get(SET_UP)?, SET_UP, &[])?, SET_UP));
    let page = web.get(SET_UP)?;
    let own = Authenticator::on(&page)?;
    let fields = [("code", own.code()?), ("address", address.to_owned())];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    let done = web.post(&page, "/second-factor/activate", &fields)?;
    ensure!(done.code == 200 && done.text().contains("class=\"codes\""), "{done:?}\n{}", done.text());
    Ok((web, own))
}

/// In a browser of its own the password is given, and the page of recovery is opened.
fn lost<'a>(lab: &'a Lab, client: usize, user: &str) -> Result<(Web<'a>, Reply)> {
    let web = Web::new(lab, client);
    let done = log_in(&web, user, &format!("{user}-pw"))?;
    ensure!(leads_to(&done, HOME), "{done:?}\n{}", done.text());
    let asked = web.get(HOME)?;
    ensure!(asked.text().contains(&format!("href=\"{RECOVER}\">Recover lost 2FA")), "{}", asked.text());
    let page = web.get(RECOVER)?;
    ensure!(page.code == 200, "{page:?}");
    Ok((web, page))
}

/// A code is asked for; the page says the same whatever becomes of it.
fn ask(web: &Web<'_>, page: &Reply) -> Result<Reply> {
    let asked = web.post(page, RECOVER, &[])?;
    ensure!(asked.code == 200 && asked.text().contains("a code is on its way"), "{}", asked.text());
    Ok(asked)
}

/// The code in a mail.
fn code(mail: &Mail) -> Result<String> {
    let code = mail.behind("resets your second factor is: ")?;
    ensure!(code.len() == 9 && code.as_bytes().get(4) == Some(&b'-'), "{code}");
    Ok(code)
}

/// Of these mails the last that has a code in it.
fn last_code(mails: &[Mail]) -> Result<String> {
    mails.iter().rev().find_map(|mail| code(mail).ok()).context("no code")
}

/// The reasons of the audit trail's events of this kind, the oldest first.
fn reasons(lab: &Lab, kind: &str) -> Result<Vec<String>> {
    let told = lab.gateway.ask(&["events"])?;
    let of = answers::list(&told, "events").into_iter().filter(|event| event["event"] == kind);
    Ok(of.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect())
}
