//! The loop shared by the controller and the coordinators: an operation reads recorded state and returns
//! records; only `replay` changes that state, so the live path and recovery cannot diverge.

/// State that is a function of the records of one log.
pub trait StateMachine {
    type Record;

    /// Applies one record. Called once per record in offset order, both right after it was appended
    /// and when the log is loaded again; it must not look at anything but `self` and its arguments.
    fn replay(&mut self, offset: i64, record: &Self::Record);
}

/// What an operation decided: records to append, and the response to give once they are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<R, Rec> {
    /// Appended as one batch, in order; empty when nothing changes.
    pub records: Vec<Rec>,
    pub response: R,
}

impl<R, Rec> Outcome<R, Rec> {
    pub fn new(records: Vec<Rec>, response: R) -> Self {
        Outcome { records, response }
    }

    /// A response that changes nothing.
    pub fn response(response: R) -> Self {
        Outcome { records: Vec::new(), response }
    }

    pub fn map<T>(self, f: impl FnOnce(R) -> T) -> Outcome<T, Rec> {
        Outcome { records: self.records, response: f(self.response) }
    }
}
