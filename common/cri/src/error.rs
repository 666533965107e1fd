//! What a failed call says about itself.

use tonic::{Code, Status};

/// A call the runtime refused or never answered.
#[derive(Debug, thiserror::Error)]
#[error("calling {call} of the container runtime for {object}")]
pub struct CallError {
    pub call: &'static str,
    /// The sandbox, container or image it was about; "the node" for others.
    pub object: String,
    #[source]
    pub source: Status,
}

impl CallError {
    /// The object is not there. For stop, remove and status calls this means: done.
    pub fn is_not_found(&self) -> bool {
        self.source.code() == Code::NotFound
    }

    /// The runtime does not know the call: use the fallback.
    pub fn is_unimplemented(&self) -> bool {
        self.source.code() == Code::Unimplemented
    }

    /// The object is in a state that forbids the call.
    pub fn is_refused(&self) -> bool {
        self.source.code() == Code::FailedPrecondition
    }

    /// The name is taken by an older object. containerd reports its own reservation as an unknown error.
    pub fn is_name_taken(&self) -> bool {
        self.source.code() == Code::AlreadyExists
            || (self.source.code() == Code::Unknown && self.source.message().contains("is reserved for"))
    }

    /// True if the same call may succeed later: the runtime is away, slow or busy.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.source.code(),
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Aborted
                | Code::ResourceExhausted
                | Code::Unknown
                | Code::Internal
        )
    }

    /// It took longer than it may.
    pub fn is_timeout(&self) -> bool {
        self.source.code() == Code::DeadlineExceeded
            || (self.source.code() == Code::Unknown
                && self.source.message().contains("exceeded: context deadline"))
    }

    /// The runtime's own words.
    pub fn reason(&self) -> &str {
        self.source.message()
    }
}
