//! Passwords that an operator gives: from the terminal, twice and without being shown, or the first line of standard input. Never
//! from the command line, which every user of the host can read.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize as _, Zeroizing};

use crate::auth::Password;

/// No line is longer that is read for a password: what is longer than a password may be is told by the daemon.
const LONGEST: usize = 4_096;
/// What some editors write before a text in UTF-8. Nobody types it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// There is no password.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    /// Standard input has none.
    #[error("standard input has no password: write it there as one line")]
    Missing,
    /// What was given is longer than any password.
    #[error("the line is longer than any password")]
    Long,
    /// What was given is no UTF-8.
    #[error("the password is not written in UTF-8")]
    NotText,
    /// The two that were typed are not the same.
    #[error("the two passwords are not the same; nothing was changed")]
    Differ,
    /// Nothing was typed.
    #[error("no password was typed; nothing was changed")]
    Given,
    /// The terminal cannot be used.
    #[error("the password cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// A new password for the user of this name.
pub(super) fn new_password(name: &str) -> Result<Password, SecretError> {
    // From here on others of this account cannot look into this process, and it leaves no core. If that is refused, it is as
    // with any other program.
    let _ = set_dumpable(false);
    if !io::stdin().is_terminal() {
        return line(&mut io::stdin().lock())?.ok_or(SecretError::Missing).map(Password::new);
    }
    let terminal = Quiet::new()?;
    let name = crate::outside::shown(name, crate::outside::NAME);
    let first = terminal.ask(&format!("New password for {name}: "))?;
    let second = terminal.ask("The same again: ")?;
    drop(terminal);
    if first.is_empty() {
        return Err(SecretError::Given);
    }
    if first != second { Err(SecretError::Differ) } else { Ok(Password::new(first)) }
}

/// The next line, without its end; `None` at the end of the input. Byte by byte: what follows is not taken.
fn line(input: &mut impl Read) -> Result<Option<Zeroizing<String>>, SecretError> {
    // As much as there may be: what has to be moved would be left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut next = [0];
    let mut is_there = false;
    loop {
        match input.read(&mut next) {
            Ok(0) => break,
            Ok(_) if next == *b"\n" => {
                is_there = true;
                break;
            }
            Ok(_) if bytes.len() == LONGEST => return Err(SecretError::Long),
            Ok(_) => {
                is_there = true;
                bytes.extend_from_slice(&next);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    next.zeroize();
    // As files of other systems have it, at the end and at the start.
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    let text = String::from_utf8(std::mem::take(&mut *bytes));
    let text = text.map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        SecretError::NotText
    })?;
    Ok(is_there.then_some(Zeroizing::new(text)))
}

/// What an operator gives up with, or puts the program aside with.
const SIGNALS: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];

/// The terminal while it shows nothing of what is typed. It is as it was when this is dropped, and also where the operator
/// gives up: signals are dealt with between two reads.
struct Quiet {
    terminal: File,
    before: Termios,
    signals: SigSet,
    signalled: SignalFd,
}

impl Quiet {
    fn new() -> io::Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let signals: SigSet = SIGNALS.into_iter().collect();
        // This program has no other thread that they could come to.
        signals.thread_block()?;
        let signalled = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let quiet = Self { terminal, before, signals, signalled };
        quiet.hush()?;
        Ok(quiet)
    }

    fn hush(&self) -> io::Result<()> {
        let mut quiet = self.before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        // The line's end is seen.
        quiet.local_flags.insert(LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        // What was typed before anything was asked for was meant for something else, and has been shown.
        Ok(tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &quiet)?)
    }

    fn restore(&self) {
        // There is nothing else to be done about it.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }

    /// What is typed after `prompt`; empty at the end of the input.
    fn ask(&self, prompt: &str) -> Result<Zeroizing<String>, SecretError> {
        (&self.terminal).write_all(prompt.as_bytes())?;
        let mut input = Typed { quiet: self, prompt };
        Ok(line(&mut input)?.unwrap_or_default())
    }

    /// Does what the signal would have done, with the terminal as it was. If the program goes on after it, it was put aside.
    fn give_in(&self, signal: Signal) -> io::Result<()> {
        self.restore();
        self.signals.thread_unblock()?;
        raise(signal)?;
        self.signals.thread_block()?;
        self.hush()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.restore();
        let _ = self.signals.thread_unblock();
    }
}

/// What is typed, while signals are heard.
struct Typed<'a> {
    quiet: &'a Quiet,
    prompt: &'a str,
}

impl Read for Typed<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Quiet { terminal, signalled, .. } = self.quiet;
        loop {
            let mut ready = [
                PollFd::new(terminal.as_fd(), PollFlags::POLLIN),
                PollFd::new(signalled.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut ready, PollTimeout::NONE)?;
            if let Some(told) = signalled.read_signal()? {
                let signal =
                    i32::try_from(told.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
                self.quiet.give_in(signal.unwrap_or(Signal::SIGTERM))?;
                (&self.quiet.terminal).write_all(self.prompt.as_bytes())?;
                continue;
            }
            if ready.first().and_then(PollFd::revents).is_some_and(|events| !events.is_empty()) {
                return (&self.quiet.terminal).read(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password_and_nothing_else_is_taken() {
        let read = |input: &[u8]| {
            let mut input = input;
            let read = line(&mut input).map(|line| line.map(|line| line.to_string()));
            (read.map_err(|error| error.to_string()), input.len())
        };
        let good = |text: &str, left| (Ok(Some(text.to_owned())), left);
        assert_eq!(read(b"correct horse\nnext"), good("correct horse", 4));
        assert_eq!(read(b"correct horse\r\n"), good("correct horse", 0));
        assert_eq!(read(b"\xef\xbb\xbfcorrect horse\r\n"), good("correct horse", 0));
        assert_eq!(read(b" blanks stay "), good(" blanks stay ", 0));
        assert_eq!(read("pässwört\n".as_bytes()), good("pässwört", 0));
        assert_eq!(read(b"\n"), good("", 0));
        assert_eq!(read(b""), (Ok(None), 0));
        assert_eq!(read(b"\xff\n").0, Err("the password is not written in UTF-8".into()));
        assert_eq!(read(&[b'x'; LONGEST + 1]).0, Err("the line is longer than any password".into()));
    }
}
