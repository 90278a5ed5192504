//! The gateway's own users, as the API says them. Passwords go one way only.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::EndedSession;
use crate::auth::Password;
use crate::types::Role;

/// The gateway's own users in short, in `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalUsers {
    /// How many there are, logged in or not.
    pub count: usize,
    /// What an operator should look at, which is among the warnings, too; `null` when all is well.
    pub warning: Option<String>,
}

/// One of the gateway's own users, in `GET /v1/local-users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalUser {
    /// The name, as it was typed.
    pub name: String,
    /// Nobody is let in by this name.
    pub disabled: bool,
    /// The password is good for nothing but changing it.
    pub must_change: bool,
    /// Whether the user may administer the gateway.
    pub administrator: bool,
    /// What the user may do to the gateway: `user`, `viewer` or `administrator`.
    pub role: Role,
    /// When the user was added.
    pub created: Timestamp,
    /// When the password, or whether it counts, was last changed.
    pub changed: Timestamp,
    /// When the user was last logged in; `null` if that never was.
    pub last_login: Option<Timestamp>,
}

/// `POST /v1/local-users`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name.
    pub name: String,
    /// The password.
    #[serde(serialize_with = "reveal", deserialize_with = "conceal")]
    pub password: Password,
    /// Whether the user may administer the gateway.
    #[serde(default)]
    pub administrator: bool,
    /// What the user may do to the gateway; absent: as `administrator` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

impl NewUser {
    /// The role that both fields come to; `None` where they speak against each other.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match (self.role, self.administrator) {
            (None, true) => Some(Role::Administrator),
            (None, false) => Some(Role::User),
            (Some(role), administrator) => Some(role).filter(|role| role.may_change() || !administrator),
        }
    }
}

/// `PUT /v1/local-users/{name}/role`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    /// What the user may do to the gateway from now on.
    pub role: Role,
}

/// `PUT /v1/local-users/{name}/password`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The password.
    #[serde(serialize_with = "reveal", deserialize_with = "conceal")]
    pub password: Password,
}

/// `PUT /v1/local-users/{name}/disabled`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disabled {
    /// Whether nobody is to be let in by this name.
    pub disabled: bool,
}

/// The answer to each change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserChanged {
    /// The user's name.
    pub name: String,
    /// The user, as they are now; `null` if they were removed.
    pub user: Option<LocalUser>,
    /// The user's sessions that ended.
    pub ended: Vec<EndedSession>,
    /// What an operator should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

fn reveal<S: Serializer>(password: &Password, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(password.reveal())
}

fn conceal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
    // The error would name what it found, and that may be a password without its quotes.
    let text = Zeroizing::<String>::deserialize(deserializer);
    text.map(Password::new).map_err(|_| serde::de::Error::custom("the password is no string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_sent_and_read_and_shown_nowhere() {
        let text = r#"{"name":"bob","password":"correct \"horse\" ü","administrator":true}"#;
        let read: NewUser = serde_json::from_str(text).unwrap();
        assert_eq!((read.password.reveal(), read.administrator), ("correct \"horse\" ü", true));
        assert!(!format!("{read:?}").contains("horse"));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let role = |fields: &str| {
            let text = format!("{{\"name\":\"bob\",\"password\":\"p\"{fields}}}");
            serde_json::from_str::<NewUser>(&text).unwrap().role()
        };
        for (fields, means) in [
            ("", Some(Role::User)),
            (r#","administrator":true"#, Some(Role::Administrator)),
            (r#","role":"viewer""#, Some(Role::Viewer)),
            (r#","administrator":true,"role":"administrator""#, Some(Role::Administrator)),
            (r#","administrator":true,"role":"viewer""#, None),
        ] {
            assert_eq!(role(fields), means, "{fields}");
        }
        for bad in [r#"{"password":20061983}"#, r#"{"password":["20061983"]}"#, r#"{"password":null}"#] {
            let error = serde_json::from_str::<NewPassword>(bad).unwrap_err().to_string();
            assert!(!error.contains("2006") && error.contains("the password is no string"), "{error}");
        }
    }
}
