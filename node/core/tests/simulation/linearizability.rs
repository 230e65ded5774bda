//! Whether operations on one key can be put into an order that explains every answer.
//!
//! ```text
//! history ─▶ without what nobody noticed ─▶ try in every order that time allows ─▶ one that fits?
//! ```
//! Wing and Gong's search: of the operations not yet placed, any that began before the first of
//! them returned may come next. Lowe's memory keeps it short: what was placed and the value it
//! led to are tried once. One key at a time, for histories of single keys are linearizable
//! exactly if the whole is.
//!
//! Why not stateright's tester: it tries without a memory and copies the history at every step.
//! `measures_the_checkers` in `linearizability.rs` shows what that costs.

use std::collections::HashSet;

use super::history::{Action, Moment, NOTHING, Operation, Value};

/// The operation that no order explains: in the best attempt it was the first left to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unexplained(pub(crate) Operation);

/// Finds an order of `history`, which is of one key, written to with unique values.
pub(crate) fn check(history: &[Operation]) -> Result<(), Unexplained> {
    let operations = noticed(history);
    let mut search = Search {
        placed: vec![0; operations.len().div_ceil(64)],
        operations: &operations,
        tried: HashSet::new(),
        deepest: None,
    };
    if search.place(0, 0, NOTHING) {
        return Ok(());
    }
    let (_, operation) = search.deepest.expect("a failed search was stopped by one");
    Err(Unexplained(operation))
}

/// Without writes of unknown outcome that nobody read: they may as well never have happened. In
/// the order in which they began.
fn noticed(history: &[Operation]) -> Vec<Operation> {
    let read: HashSet<Value> = history
        .iter()
        .filter_map(|operation| match operation.action {
            Action::Read(value) => Some(value),
            Action::Write(_) => None,
        })
        .collect();
    let mut operations: Vec<Operation> = history
        .iter()
        .filter(|operation| match operation.action {
            Action::Write(value) => operation.returned.is_some() || read.contains(&value),
            Action::Read(_) => operation.returned.is_some(),
        })
        .copied()
        .collect();
    operations.sort_by_key(|operation| operation.invoked);
    operations
}

struct Search<'a> {
    operations: &'a [Operation],
    /// A bit for each operation.
    placed: Vec<u64>,
    tried: HashSet<(Vec<u64>, Value)>,
    /// How many were placed at best, and what stood in the way.
    deepest: Option<(usize, Operation)>,
}

impl Search<'_> {
    /// Whether the rest can be placed after `count` operations, which are all before `first` and
    /// some others, and led to `value`.
    fn place(&mut self, first: usize, count: usize, value: Value) -> bool {
        let first = (first..self.operations.len())
            .find(|index| !self.is_placed(*index))
            .unwrap_or(self.operations.len());
        let Some((deadline, urgent)) = self.first_to_return(first) else {
            return true; // what is left was never answered
        };
        if !self.tried.insert((self.placed.clone(), value)) {
            return false;
        }
        if self.deepest.is_none_or(|(depth, _)| depth < count) {
            self.deepest = Some((count, urgent));
        }
        for index in first..self.operations.len() {
            let operation = self.operations[index];
            if operation.invoked > deadline {
                break;
            }
            let next = match operation.action {
                Action::Write(written) => written,
                Action::Read(read) if read == value => value,
                Action::Read(_) => continue,
            };
            if self.is_placed(index) {
                continue;
            }
            self.placed[index / 64] ^= 1 << (index % 64);
            if self.place(first, count + 1, next) {
                return true;
            }
            self.placed[index / 64] ^= 1 << (index % 64);
        }
        false
    }

    /// Among the operations not placed, the first to return, and when.
    fn first_to_return(&self, first: usize) -> Option<(Moment, Operation)> {
        let mut earliest: Option<(Moment, Operation)> = None;
        for index in first..self.operations.len() {
            let operation = self.operations[index];
            if earliest.is_some_and(|(moment, _)| operation.invoked > moment) {
                break;
            }
            if let Some(returned) = operation.returned.filter(|_| !self.is_placed(index))
                && earliest.is_none_or(|(moment, _)| returned < moment)
            {
                earliest = Some((returned, operation));
            }
        }
        earliest
    }

    fn is_placed(&self, index: usize) -> bool {
        self.placed[index / 64] & 1 << (index % 64) != 0
    }
}
