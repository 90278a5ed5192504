//! Where content ends, and what of the bytes that carry it goes on.

use super::chunked::Chunks;

/// What is left of a message's content.
#[derive(Debug, Default)]
pub(in crate::proxy) enum Body {
    /// Nothing.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All that comes before the connection is closed: answers only.
    UntilClose,
}

/// How content goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) enum Coding {
    /// In the framing that it came in.
    #[default]
    Same,
    /// Without any: the end of the connection is its end.
    Plain,
    /// It came without an end of its own, and gets chunks.
    Chunked,
}

/// What is to be done with the next bytes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Step {
    /// So many of them go on as they are.
    Pass {
        count: usize,
        /// They are content; otherwise they are framing, which goes on only where the framing does.
        content: bool,
    },
    /// In the place of so many of them, these go on where the framing does.
    Replace { count: usize, by: Vec<u8> },
    /// It cannot be said yet.
    More,
    /// There is nothing left.
    End,
}

/// Content that does not keep to its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum BadBody {
    #[error("it broke off")]
    BrokeOff,
    #[error("a chunk's size is not a number")]
    ChunkSize,
    #[error("a chunk does not end where it says")]
    ChunkEnd,
    #[error("the extension of a chunk is too long")]
    Extension,
    #[error("its trailers are too long or malformed")]
    Trailers,
}

impl Body {
    /// Content with these many bytes.
    pub(super) const fn of_length(length: u64) -> Self {
        if length == 0 { Self::None } else { Self::Length(length) }
    }

    /// Content in chunks.
    pub(in crate::proxy) const fn chunked() -> Self {
        Self::Chunked(Chunks::new())
    }

    /// Whether nothing is left.
    pub(in crate::proxy) const fn is_over(&self) -> bool {
        match self {
            Self::None => true,
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::UntilClose => false,
        }
    }

    /// How many bytes are known to be left; content in chunks may be of any length.
    pub(in crate::proxy) const fn at_least(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            _ => 0,
        }
    }

    /// The bytes that may be taken from the connection without a look at them.
    pub(super) const fn plain(&mut self) -> Option<&mut u64> {
        match self {
            Self::Length(left) if *left > 0 => Some(left),
            _ => None,
        }
    }

    /// Looks at what comes next.
    pub(in crate::proxy) fn step(&mut self, bytes: &[u8]) -> Result<Step, BadBody> {
        match self {
            Self::None | Self::Length(0) => Ok(Step::End),
            Self::Chunked(chunks) => chunks.step(bytes),
            _ if bytes.is_empty() => Ok(Step::More),
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                Ok(Step::Pass { count, content: true })
            }
            Self::UntilClose => Ok(Step::Pass { count: bytes.len(), content: true }),
        }
    }

    /// The connection was closed.
    pub(in crate::proxy) fn closed(&mut self) -> Result<(), BadBody> {
        match self {
            Self::UntilClose => *self = Self::None,
            _ if !self.is_over() => return Err(BadBody::BrokeOff),
            _ => {}
        }
        Ok(())
    }
}
