//! `trackerctl user`: the gateway's own users.

use hyper::Method;

use super::args::{Args, User};
use super::run::{Failure, print};
use super::{secret, show};
use crate::admin::client::Client;
use crate::admin::{query, wire};
use crate::types::Role;

/// Carries a command out. A password is asked for before the daemon is: whoever mistypes it has done nothing.
pub(super) async fn carry_out(args: &Args, client: &Client, wanted: &User) -> Result<(), Failure> {
    let at = |name: &str, what: &str| format!("/v1/local-users/{}{what}", query::encode(name));
    let (value, done) = match wanted {
        User::List => {
            let value = client.get("/v1/local-users").await?;
            return print(args, &value, |users: Vec<wire::LocalUser>| show::local_users(&users));
        }
        User::Add { name, administrator, viewer } => {
            let password = secret::new_password(name)?;
            let role = viewer.then_some(Role::Viewer);
            let new = wire::NewUser { name: name.clone(), password, administrator: *administrator, role };
            (client.send_json(Method::POST, "/v1/local-users", &new).await?, "was added")
        }
        User::Password { name } => {
            let new = wire::NewPassword { password: secret::new_password(name)? };
            (client.send_json(Method::PUT, &at(name, "/password"), &new).await?, "has another password")
        }
        User::Role { name, role } => {
            let done = match role {
                Role::User => "may use the gateway, and nothing else",
                Role::Viewer => "may look at what administrators see",
                Role::Administrator => "may administer the gateway",
            };
            (client.send_json(Method::PUT, &at(name, "/role"), &wire::NewRole { role: *role }).await?, done)
        }
        User::Disable { name } | User::Enable { name } => {
            let disabled = matches!(wanted, User::Disable { .. });
            let new = wire::Disabled { disabled };
            let done = if disabled { "is disabled" } else { "is enabled" };
            (client.send_json(Method::PUT, &at(name, "/disabled"), &new).await?, done)
        }
        User::Remove { name } => (client.delete(&at(name, "")).await?, "was removed"),
    };
    print(args, &value, |changed: wire::UserChanged| show::user_changed(&changed, done))
}
