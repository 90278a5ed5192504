//! Running the load: wrk for plain requests, our own tool (`tracker-user/examples/load`) for everything else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr};
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result, bail, ensure};
use lab::scratch::Process;
use serde_json::Value;

use super::place::{Cgroup, PROXY_CORE};
use super::{ORIGIN, Rig, Subject, Way};

/// What a load has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Requests, connections, gigabytes.
    pub(crate) units: f64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Milliseconds; 0 where there is no such figure.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
}

/// Tells wrk to ask as one asks a proxy, and to say what it measured in JSON.
const SCRIPT: &str = r#"
done = function(summary, latency)
  io.write(string.format('JSON{"requests":%d,"microseconds":%d,"bad":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// wrk at work.
pub(crate) struct Wrk {
    process: Process,
    name: String,
}

/// A crowd that logs out.
pub(crate) struct Leaving(Process);

/// The load tool, prepared and waiting for the word.
pub(crate) struct Tool {
    process: Process,
    output: BufReader<ChildStdout>,
    what: String,
}

impl Rig {
    /// Requests for a kibibyte on so many kept connections.
    pub(crate) fn wrk(&self, subject: &Subject, connections: usize, seconds: f64) -> Result<Work> {
        self.wrk_begins(subject, connections, seconds)?.end()
    }

    /// The same, with a pause of so many milliseconds before each: load that leaves the gateway time.
    pub(crate) fn wrk_with_pauses(
        &self,
        subject: &Subject,
        connections: usize,
        seconds: f64,
        pause: u32,
    ) -> Result<Work> {
        let pauses = format!("function delay() return {pause} end\n");
        self.wrk_scripted(subject, connections, seconds, &pauses)?.end()
    }

    /// Without pauses, begun.
    pub(crate) fn wrk_begins(&self, subject: &Subject, connections: usize, seconds: f64) -> Result<Wrk> {
        self.wrk_scripted(subject, connections, seconds, "")
    }

    fn wrk_scripted(&self, subject: &Subject, connections: usize, seconds: f64, more: &str) -> Result<Wrk> {
        let target = match subject.way {
            Way::Proxy => format!("http://{ORIGIN}/1k"),
            Way::Direct | Way::Plain => "/1k".to_owned(),
        };
        // haproxy refuses a Host that differs from the target's.
        let script = format!("wrk.path = \"{target}\"\nwrk.headers[\"Host\"] = \"{ORIGIN}\"\n{more}{SCRIPT}");
        let script = self.lab.scratch.write("wrk.lua", script)?;
        let mut wrk = self.load_ns(subject)?.command("wrk");
        // wrk knows whole seconds only.
        wrk.args(["-t1", "--latency", "-c", &connections.to_string(), "-d", &format!("{seconds:.0}s"), "-s"]);
        wrk.arg(&script).arg(format!("http://{}/", subject.v4()));
        wrk.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Wrk { process: self.lab.scratch.spawn(&mut wrk)?, name: subject.name.clone() })
    }

    /// The load tool with these arguments, prepared; it runs where the load for this subject belongs.
    pub(crate) fn tool(&self, subject: &Subject, arguments: &[String]) -> Result<Tool> {
        self.tool_in(subject, None, arguments)
    }

    /// A crowd that logs a user in from `count` addresses, `rate` a second; to its end.
    pub(crate) fn crowd(
        &self,
        subject: &Subject,
        user: &str,
        from: Ipv6Addr,
        count: u64,
        rate: u64,
    ) -> Result<()> {
        let mut command = self.load_ns(subject)?.command(&self.tool);
        command.arg("login").arg(format!("--proxy={}", subject.v6())).arg(format!("--from={from}"));
        command.arg(format!("--count={count}")).arg(format!("--rate={rate}"));
        command.envs(self.lab.realm.environment()).env("KRB5CCNAME", self.lab.tickets(user)?);
        let output = command.output()?;
        ensure!(output.status.success(), "logins of {user}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// A crowd that logs out from `count` addresses by the portal, `rate` a second; begun.
    pub(crate) fn logouts_begin(
        &self,
        subject: &Subject,
        portal: SocketAddr,
        from: Ipv6Addr,
        (count, rate): (u64, u64),
    ) -> Result<Leaving> {
        let mut command = self.load_ns(subject)?.command(&self.tool);
        command.arg("logout").arg(format!("--proxy={portal}")).arg(format!("--from={from}"));
        command.arg(format!("--count={count}")).arg(format!("--rate={rate}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Leaving(self.lab.scratch.spawn(&mut command)?))
    }

    /// The load tool; in a cgroup and on the proxies' core, if it is what is measured.
    pub(crate) fn tool_in(
        &self,
        subject: &Subject,
        group: Option<&Cgroup>,
        arguments: &[String],
    ) -> Result<Tool> {
        let words = group.map(|group| group.enter(PROXY_CORE)).unwrap_or_default();
        let mut words = words.into_iter().chain([self.tool.clone().into_os_string()]);
        let mut command = self.load_ns(subject)?.command(words.next().unwrap_or_default());
        command.args(words).args(arguments).envs(self.lab.realm.environment());
        command.env("KRB5CCNAME", self.lab.tickets("alice")?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let what = format!("load {} at {}", arguments.join(" "), subject.name);
        let mut process = self.lab.scratch.spawn(&mut command)?;
        let output = process.child().and_then(|child| child.stdout.take()).context("no pipe")?;
        let mut tool = Tool { process, output: BufReader::new(output), what };
        let line = tool.line()?;
        ensure!(line == "READY", "{}: {line}", tool.what);
        Ok(tool)
    }
}

/// All that a program prints until its end.
fn printed(process: &mut Process) -> Result<String> {
    let mut output = process.child().and_then(|child| child.stdout.take()).context("no pipe")?;
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    Ok(text)
}

impl Leaving {
    /// Waits for the last of them, and says what they did.
    pub(crate) fn end(mut self) -> Result<Work> {
        let text = printed(&mut self.0)?;
        // Why there is none, it has said already.
        done("logouts", &serde_json::from_str(&text).context("the logouts did not come to their end")?)
    }
}

impl Wrk {
    /// Waits for its end, and says what it did.
    pub(crate) fn end(mut self) -> Result<Work> {
        let text = printed(&mut self.process)?;
        let line = text.lines().find_map(|line| line.strip_prefix("JSON")).with_context(|| text.clone())?;
        let said: Value = serde_json::from_str(line)?;
        let get = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        ensure!(get("bad") == 0.0, "{}: {} requests failed\n{text}", self.name, get("bad"));
        Ok(Work {
            units: get("requests"),
            seconds: get("microseconds") / 1e6,
            p50: get("p50") / 1e3,
            p99: get("p99") / 1e3,
        })
    }
}

/// What the tool says it has done.
fn done(what: &str, said: &Value) -> Result<Work> {
    let get = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    ensure!(get("failed") == 0.0 && get("done") > 0.0, "{what}: {said}");
    Ok(Work {
        units: get("done"),
        seconds: get("seconds"),
        p50: get("p50_us") / 1e3,
        p99: get("p99_us") / 1e3,
    })
}

impl Tool {
    /// Lets it begin.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let input = self.process.child().and_then(|child| child.stdin.as_mut()).context("no pipe")?;
        Ok(input.write_all(b"\n")?)
    }

    /// Waits for what it prints at its end.
    pub(crate) fn end(mut self) -> Result<Value> {
        let line = self.line()?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Lets it work, and returns what it prints.
    pub(crate) fn go(mut self) -> Result<Value> {
        self.begin()?;
        self.end()
    }

    /// The same, for deeds that count dialogues.
    pub(crate) fn dialogues(self) -> Result<Work> {
        let what = self.what.clone();
        done(&what, &self.go()?)
    }

    /// The same, for bytes: a unit is a gigabyte.
    pub(crate) fn bytes(self) -> Result<Work> {
        let said = self.go()?;
        let get = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        Ok(Work { units: get("bytes") / 1e9, seconds: get("seconds"), p50: 0.0, p99: 0.0 })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("{} ended without a word; its complaint is above", self.what);
        }
        Ok(line.trim().to_owned())
    }
}
