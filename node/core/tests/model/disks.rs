//! Disks and sets of them: a pod that lost its disk holds another one.

/// A disk: the pod's number and how many disks it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DiskId(u8);

impl DiskId {
    pub(super) const COUNT: usize = 6;

    pub(crate) fn new(pod: usize, lost_before: u8) -> Self {
        Self(u8::try_from(pod).expect("few pods") * 2 + lost_before)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Disks(u8);

impl Disks {
    pub(crate) fn with(self, disk: DiskId) -> Self {
        Self(self.0 | 1 << disk.0)
    }

    pub(crate) fn without(self, disk: DiskId) -> Self {
        Self(self.0 & !(1 << disk.0))
    }

    pub(crate) fn contains(self, disk: DiskId) -> bool {
        self.0 & 1 << disk.0 != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = DiskId> {
        (0..6).map(DiskId).filter(move |disk| self.contains(*disk))
    }
}
