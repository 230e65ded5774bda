//! Whether this replica has come to the same state as its leader.
//!
//! ```text
//! leader:   latest applied (index, hash) ──with a heartbeat──▶ follower: the same index, the same hash?
//! follower: applied already: compared at once · not yet: compared when it is · long ago: let be
//! ```
//! Both have applied committed entries, so at an equal index equal hashes are due, whoever led when.

use std::collections::VecDeque;

use crate::identity::Index;

/// The state after the entry at `index`, as a hash over all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateDigest {
    /// The last entry applied.
    pub index: Index,
    /// Equal on all replicas at an equal index.
    pub hash: [u8; 32],
}

/// Digests kept of what was applied last: a leader names its latest, which is hardly ever this far back.
const REMEMBERED: usize = 1_024;

/// What this replica has come to, and what its leader says.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// In order of their indexes, without gaps but where the process began.
    recent: VecDeque<StateDigest>,
    /// What the leader named, not applied here yet. One at a time: a later one would always be ahead.
    named: Option<StateDigest>,
}

impl Agreement {
    /// The state this replica has come to.
    pub(super) fn latest(&self) -> Option<StateDigest> {
        self.recent.back().copied()
    }

    /// More was applied. The index at which the leader came to something else, if so.
    pub(super) fn applied(&mut self, digests: Vec<StateDigest>) -> Option<Index> {
        let skipped = digests.len().saturating_sub(REMEMBERED);
        let named = self.named;
        let differs = digests
            .iter()
            .find(|own| named.is_some_and(|named| named.index == own.index && named != **own))
            .map(|own| own.index);
        self.recent.extend(digests.into_iter().skip(skipped));
        while self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        let reached = self.latest().map_or(0, |latest| latest.index);
        self.named = self.named.filter(|named| named.index > reached);
        differs
    }

    /// The leader has come to this. The index, if this replica has come to something else there.
    pub(super) fn named(&mut self, digest: StateDigest) -> Option<Index> {
        let reached = self.latest().map_or(0, |latest| latest.index);
        if digest.index > reached {
            self.named.get_or_insert(digest);
            return None;
        }
        let own = self
            .recent
            .binary_search_by_key(&digest.index, |own| own.index)
            .ok()
            .map(|place| self.recent[place])?;
        (own != digest).then_some(digest.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(index: Index, hash: u8) -> StateDigest {
        StateDigest {
            index,
            hash: [hash; 32],
        }
    }

    /// Applied first, then named, then applied: where it differs, before and after.
    fn check(before: &[u8], named: StateDigest, after: &[u8]) -> (Option<Index>, Option<Index>) {
        let mut agreement = Agreement::default();
        let digests = |from: usize, hashes: &[u8]| {
            (from as Index..)
                .zip(hashes)
                .map(|(index, hash)| digest(index, *hash))
                .collect()
        };
        assert_eq!(agreement.applied(digests(1, before)), None);
        let at_once = agreement.named(named);
        (at_once, agreement.applied(digests(1 + before.len(), after)))
    }

    #[test]
    fn states_are_compared_at_the_index_the_leader_names() {
        for (name, before, named, after, expected) in [
            ("equal", vec![1, 2, 3], digest(2, 2), vec![], (None, None)),
            (
                "different",
                vec![1, 2, 3],
                digest(2, 9),
                vec![],
                (Some(2), None),
            ),
            (
                "the latest",
                vec![1, 2, 3],
                digest(3, 9),
                vec![],
                (Some(3), None),
            ),
            (
                "later, equal",
                vec![1],
                digest(3, 3),
                vec![2, 3, 4],
                (None, None),
            ),
            (
                "later, different",
                vec![1],
                digest(3, 9),
                vec![2, 3, 4],
                (None, Some(3)),
            ),
            (
                "not reached",
                vec![1],
                digest(9, 9),
                vec![2, 3, 4],
                (None, None),
            ),
            (
                "before the process",
                vec![],
                digest(1, 9),
                vec![1],
                (None, Some(1)),
            ),
        ] {
            assert_eq!(check(&before, named, &after), expected, "{name}");
        }
    }

    #[test]
    fn what_was_applied_long_ago_is_let_be() {
        let mut agreement = Agreement::default();
        let many = REMEMBERED as Index + 10;
        assert_eq!(
            agreement.applied((1..=many).map(|index| digest(index, 1)).collect()),
            None
        );
        assert_eq!(agreement.named(digest(10, 9)), None);
        assert_eq!(agreement.named(digest(11, 9)), Some(11));
        assert_eq!(agreement.recent.len(), REMEMBERED);
    }

    #[test]
    fn under_load_the_first_that_was_named_is_waited_for() {
        let mut agreement = Agreement::default();
        assert_eq!(agreement.named(digest(5, 9)), None);
        assert_eq!(agreement.named(digest(50, 50)), None);
        let applied = (1..=5).map(|index| digest(index, 1)).collect();
        assert_eq!(agreement.applied(applied), Some(5));
    }
}
