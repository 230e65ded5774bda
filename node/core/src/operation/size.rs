//! About how many bytes an operation has, so that what waits can be bounded without encoding it.

use super::{Action, Operation, PatchLabels};
use crate::model::{Json, Name};

/// What an operation has besides its text and its content: tags, lengths, precondition.
const FRAME_BYTES: usize = 32;

impl Operation {
    /// About how many bytes it has in the log. JSON strings are counted unescaped.
    pub fn size(&self) -> usize {
        FRAME_BYTES + self.action.size()
    }
}

impl Action {
    fn size(&self) -> usize {
        match self {
            Self::PutResource(put) => {
                let metadata = put.metadata.iter().flatten();
                put.id.as_str().len()
                    + put.content.len()
                    + metadata.map(field).sum::<usize>()
                    + put.content_type.as_ref().map_or(0, name)
            }
            Self::PutEntity(put) => {
                put.id.as_str().len()
                    + name(&put.entity_type)
                    + put.properties.iter().map(field).sum::<usize>()
                    + put.labels.iter().flatten().map(name).sum::<usize>()
            }
            Self::PatchEntity(patch) => {
                let fields = patch.properties.iter();
                let fields =
                    fields.map(|(key, value)| name(key) + value.as_ref().map_or(0, Json::size));
                labels_of(&patch.labels) + patch.id.as_str().len() + fields.sum::<usize>()
            }
            Self::PutEdge(put) => {
                let ends = [&put.src, &put.edge_type, &put.dst];
                ends.iter().map(|id| id.as_str().len()).sum::<usize>()
                    + put.properties.iter().map(field).sum::<usize>()
            }
            Self::PutMoment(put) => {
                put.id.as_str().len()
                    + put.content.len()
                    + put.metadata.iter().map(field).sum::<usize>()
            }
            Self::Delete(key) => key.to_bytes().len(),
        }
    }
}

fn labels_of(labels: &PatchLabels) -> usize {
    match labels {
        PatchLabels::Keep => 0,
        PatchLabels::Replace(all) => all.iter().map(name).sum(),
        PatchLabels::Change { add, remove } => add.iter().chain(remove).map(name).sum(),
    }
}

fn name(name: &Name) -> usize {
    name.as_str().len()
}

fn field((key, value): (&Name, &Json)) -> usize {
    name(key) + value.size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ItemId;
    use crate::operation::{PutMoment, PutResource};

    #[test]
    fn contents_count_whole() {
        let id = || ItemId::new("an-id").expect("valid");
        let resource = |bytes: usize| PutResource {
            id: id(),
            content: vec![0; bytes],
            content_type: None,
            metadata: None,
        };
        let moment = |bytes: usize| PutMoment {
            id: id(),
            timestamp_us: 0,
            content: "x".repeat(bytes),
            metadata: std::collections::BTreeMap::new(),
        };
        let size = |action: Action| Operation::from(action).size();
        for bytes in [0, 1, 1 << 20] {
            let empty = size(Action::PutResource(resource(0)));
            assert_eq!(size(Action::PutResource(resource(bytes))), empty + bytes);
            let empty = size(Action::PutMoment(moment(0)));
            assert_eq!(size(Action::PutMoment(moment(bytes))), empty + bytes);
        }
    }
}
