//! The two ways in which WebDriver's commands reach a browser.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::ns::Ns;
use crate::raw::Raw;
use crate::wait::PAGE;

/// See the module.
#[derive(Debug)]
pub(super) enum Wire {
    /// HTTP to a driver beside the browser.
    Driver(Driver),
    /// A connection to the browser itself.
    Marionette(Marionette),
}

impl Wire {
    /// Sends a command, and returns what came of it.
    pub(super) fn ask(&mut self, command: &str, parameters: &Value) -> Result<Value> {
        match self {
            Self::Driver(driver) => driver.ask(command, parameters),
            Self::Marionette(marionette) => marionette.ask(command, parameters),
        }
    }
}

/// chromedriver.
#[derive(Debug)]
pub(super) struct Driver {
    ns: Ns,
    address: SocketAddr,
    session: String,
}

impl Driver {
    /// Opens a session, and a window.
    pub(super) fn new(ns: &Ns, address: SocketAddr, capabilities: &Value) -> Result<Self> {
        let mut driver = Self { ns: ns.clone(), address, session: String::new() };
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let made = driver.request("POST", "/session", &body)?;
        let id = made["sessionId"].as_str().with_context(|| made.to_string())?;
        driver.session = format!("/session/{id}");
        Ok(driver)
    }

    fn ask(&self, command: &str, parameters: &Value) -> Result<Value> {
        let device =
            || format!("webauthn/authenticator/{}", parameters["device"].as_str().unwrap_or_default());
        let element = || format!("element/{}", parameters["id"].as_str().unwrap_or_default());
        let (method, path) = match command {
            "Navigate" => ("POST", "url".to_owned()),
            "GetCurrentURL" => ("GET", "url".to_owned()),
            "GetTitle" => ("GET", "title".to_owned()),
            "GetPageSource" => ("GET", "source".to_owned()),
            "FindElement" => ("POST", "element".to_owned()),
            "ElementSendKeys" => ("POST", format!("{}/value", element())),
            "ElementClick" => ("POST", format!("{}/click", element())),
            "PerformActions" => ("POST", "actions".to_owned()),
            "ExecuteScript" => ("POST", "execute/sync".to_owned()),
            "ExecuteAsyncScript" => ("POST", "execute/async".to_owned()),
            "GetCookies" => ("GET", "cookie".to_owned()),
            "DeleteAllCookies" => ("DELETE", "cookie".to_owned()),
            "TakeScreenshot" => ("GET", "screenshot".to_owned()),
            "SetTimeouts" => ("POST", "timeouts".to_owned()),
            "AddVirtualAuthenticator" => ("POST", "webauthn/authenticator".to_owned()),
            "RemoveVirtualAuthenticator" => ("DELETE", device()),
            "GetCredentials" => ("GET", format!("{}/credentials", device())),
            "AddCredential" => ("POST", format!("{}/credential", device())),
            "SetUserVerified" => ("POST", format!("{}/uv", device())),
            "DevTools" => ("POST", "goog/cdp/execute".to_owned()),
            other => bail!("the driver has no {other}"),
        };
        self.request(method, &format!("{}/{path}", self.session), parameters)
    }

    fn request(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut raw = Raw::connect(&self.ns, self.address)?;
        raw.wait_for(PAGE)?;
        raw.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        ))?;
        let (head, answer) = raw.answer().with_context(|| format!("{method} {path}"))?;
        let mut answer: Value = serde_json::from_slice(&answer)?;
        let value = answer.get_mut("value").map(Value::take).unwrap_or_default();
        if head.code != 200 {
            // The rest is a trace of the driver's own.
            bail!("{}: {}", value["error"], value["message"]);
        }
        Ok(value)
    }
}

/// Firefox.
#[derive(Debug)]
pub(super) struct Marionette {
    stream: TcpStream,
    count: u64,
}

impl Marionette {
    /// Hears who is there, and opens a session.
    pub(super) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PAGE))?;
        stream.set_write_timeout(Some(PAGE))?;
        let mut marionette = Self { stream, count: 0 };
        let greeting = marionette.hear()?;
        anyhow::ensure!(greeting["marionetteProtocol"] == 3, "another protocol: {greeting}");
        marionette.ask("NewSession", &json!({ "acceptInsecureCerts": true }))?;
        Ok(marionette)
    }

    fn ask(&mut self, command: &str, parameters: &Value) -> Result<Value> {
        self.count += 1;
        let message = json!([0, self.count, format!("WebDriver:{command}"), parameters]).to_string();
        self.stream.write_all(format!("{}:{message}", message.len()).as_bytes())?;
        let mut answer = self.hear().with_context(|| command.to_owned())?;
        anyhow::ensure!(answer[1] == json!(self.count), "an answer to something else: {answer}");
        if !answer[2].is_null() {
            bail!("{}: {}", answer[2]["error"], answer[2]["message"]);
        }
        let result = answer[3].take();
        // Lists come as they are, everything else in an object.
        Ok(result.get("value").cloned().unwrap_or(result))
    }

    /// A message: its length, a colon, JSON.
    fn hear(&mut self) -> Result<Value> {
        let mut length = 0;
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            match byte[0] {
                digit @ b'0'..=b'9' if length < 10_000_000 => {
                    length = length * 10 + usize::from(digit - b'0');
                }
                b':' => break,
                other => bail!("no length: {other}"),
            }
        }
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message)?;
        Ok(serde_json::from_slice(&message)?)
    }
}
