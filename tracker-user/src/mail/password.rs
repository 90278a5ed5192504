//! The password for the mail server, from the file that an operator names.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// No password is longer, in bytes.
const MOST: usize = 1024;

/// The file's first line. Nothing is waited for: of a pipe, nothing is read.
///
/// # Errors
/// When it cannot be read, or holds no password.
pub(super) fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if !file.metadata()?.is_file() {
        return Err(wrong("it is no file"));
    }
    // In a piece of memory of its own, large enough for all of it: none that grew leaves a copy behind.
    let mut content = Zeroizing::new([0; MOST + 2]);
    let mut length = 0;
    loop {
        let read = file.read(content.get_mut(length..).unwrap_or_default())?;
        if read == 0 {
            break;
        }
        length += read;
    }
    let text = content.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let line = text.and_then(|text| text.split(['\r', '\n']).next()).unwrap_or_default();
    if line.is_empty() || line.len() > MOST || line.contains('\0') {
        return Err(wrong("its first line is no password of at most 1024 bytes"));
    }
    let mut password = Zeroizing::new(String::with_capacity(line.len()));
    password.push_str(line);
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_and_nothing_that_could_take_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        for (content, password) in [
            ("s\u{e9}cret word\n", Some("s\u{e9}cret word".to_owned())),
            ("secret\r\nmore\n", Some("secret".into())),
            ("secret", Some("secret".into())),
            ("", None),
            ("\nsecret\n", None),
            (&*"x".repeat(MOST), Some("x".repeat(MOST))),
            (&*"x".repeat(MOST + 1), None),
            (&*"x".repeat(1 << 20), None),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read(&path).ok().map(|read| read.to_string()), password, "{} bytes", content.len());
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(&path).is_err());
        assert!(read(&directory.path().join("none")).is_err());
        assert!(read(directory.path()).is_err());
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read(&pipe).is_err());
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
