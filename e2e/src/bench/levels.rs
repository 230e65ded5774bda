//! What a node says of itself at `/metrics`, as far as a benchmark needs it. Pure.

use anyhow::{Context as _, Result};

const PREFIX: &str = "percolate_node_";

/// The levels of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Levels {
    /// Whether it leads.
    pub(super) leads: bool,
    /// Replicas in sync, as far as it knows.
    pub(super) in_sync: u64,
    /// The end of its log.
    pub(super) last: u64,
    /// What its readers see.
    pub(super) applied: u64,
    /// The size of the snapshot that it copies, in bytes; 0 while it copies none.
    pub(super) snapshot_bytes: u64,
    /// How much of that is here.
    pub(super) copied_bytes: u64,
}

impl Levels {
    /// From the text of the metrics.
    ///
    /// # Errors
    /// When one is missing: then the node is another one than this was written for.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let level = |name: &str| {
            let value = text.lines().find_map(|line| {
                let value = line.strip_prefix(PREFIX)?.strip_prefix(name)?;
                value.strip_prefix(' ')?.trim().parse().ok()
            });
            value.with_context(|| format!("the node does not say its {name}"))
        };
        let leads: u64 = level("role{role=\"leader\"}")?;
        Ok(Self {
            leads: leads == 1,
            in_sync: level("in_sync_replicas")?,
            last: level("last_index")?,
            applied: level("applied_index")?,
            snapshot_bytes: level("snapshot_bytes")?,
            copied_bytes: level("snapshot_copied_bytes")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE percolate_node_last_index gauge
percolate_node_last_index 12
percolate_node_applied_index 11
percolate_node_role{role=\"follower\"} 0
percolate_node_role{role=\"leader\"} 1
percolate_node_in_sync_replicas 2
percolate_node_snapshot_bytes 100
percolate_node_snapshot_copied_bytes 40
";

    #[test]
    fn levels_are_read_by_their_whole_names() {
        let expected = Levels {
            leads: true,
            in_sync: 2,
            last: 12,
            applied: 11,
            snapshot_bytes: 100,
            copied_bytes: 40,
        };
        assert_eq!(Levels::parse(TEXT).expect("readable"), expected);
    }

    #[test]
    fn a_level_that_is_not_there_is_named() {
        let text = TEXT.replace("applied_index", "visible_index");
        let error = Levels::parse(&text).expect_err("one is missing");
        assert_eq!(error.to_string(), "the node does not say its applied_index");
    }
}
