//! Transactions and their bytes.

use percolate_core::clock::Hlc;
use percolate_core::log::Place;
use percolate_core::model::{ItemId, ItemKey, Json, Name};
use percolate_core::operation::{
    Action, IdempotencyKey, Operation, PatchEntity, PatchLabels, Precondition, PutEdge, PutEntity,
    PutMoment, PutResource, Transaction,
};

use super::actors::{version_from_proto, version_to_proto};
use super::{DecodeError, members_from_proto, members_to_proto, unique};
use crate::proto::data::v1 as proto;

pub(super) fn to_proto(transaction: &Transaction) -> proto::Transaction {
    let hlc = transaction.hlc().packed();
    let operations = transaction.operations().iter().map(operation_to_proto);
    let operations = operations.collect();
    let key = transaction.idempotency_key();
    let idempotency_key = key.map(|key| key.as_str().to_owned());
    let Some(origin) = transaction.origin() else {
        return proto::Transaction {
            hlc,
            idempotency_key,
            operations,
            rescued: None,
            opens_after_loss: false,
        };
    };
    proto::Transaction {
        hlc,
        idempotency_key: None,
        operations: Vec::new(),
        rescued: Some(proto::Rescued {
            epoch: origin.place.epoch,
            index: origin.place.index,
            hlc: origin.hlc.packed(),
            idempotency_key,
            operations,
        }),
        opens_after_loss: false,
    }
}

pub(super) fn from_proto(transaction: proto::Transaction) -> Result<Transaction, DecodeError> {
    let hlc = Hlc::from_packed(transaction.hlc);
    let (key, operations) = (transaction.idempotency_key, transaction.operations);
    let Some(rescued) = transaction.rescued else {
        return new(hlc, key, operations);
    };
    if key.is_some() || !operations.is_empty() {
        return Err(DecodeError::Repeated {
            field: "transaction",
        });
    }
    let place = Place {
        epoch: rescued.epoch,
        index: rescued.index,
    };
    let first = Hlc::from_packed(rescued.hlc);
    let transaction = new(first, rescued.idempotency_key, rescued.operations)?;
    Ok(transaction.rescued(place, hlc))
}

fn new(
    hlc: Hlc,
    idempotency_key: Option<String>,
    operations: Vec<proto::Operation>,
) -> Result<Transaction, DecodeError> {
    let key = idempotency_key.map(IdempotencyKey::new).transpose()?;
    let operations = operations.into_iter().enumerate();
    let operations = operations
        .map(|(n, operation)| operation_from_proto(n, operation))
        .collect::<Result<_, _>>()?;
    Ok(Transaction::new(hlc, key, operations)?)
}

pub(super) fn operation_to_proto(operation: &Operation) -> proto::Operation {
    use proto::operation as oneof;
    let action = match &operation.action {
        Action::PutResource(put) => oneof::Action::PutResource(put_resource_to_proto(put)),
        Action::PutEntity(put) => oneof::Action::PutEntity(put_entity_to_proto(put)),
        Action::PatchEntity(patch) => oneof::Action::PatchEntity(patch_entity_to_proto(patch)),
        Action::PutEdge(put) => oneof::Action::PutEdge(proto::PutEdge {
            src: put.src.to_string(),
            edge_type: put.edge_type.to_string(),
            dst: put.dst.to_string(),
            properties: members_to_proto(&put.properties),
        }),
        Action::PutMoment(put) => oneof::Action::PutMoment(proto::PutMoment {
            id: put.id.to_string(),
            timestamp_us: put.timestamp_us,
            content: put.content.clone(),
            metadata: members_to_proto(&put.metadata),
        }),
        Action::Delete(key) => oneof::Action::Delete(key.to_bytes()),
    };
    let precondition = operation
        .precondition
        .as_ref()
        .map(|precondition| match precondition {
            Precondition::Version(version) => {
                oneof::Precondition::IfVersion(version_to_proto(version))
            }
            Precondition::Exists => oneof::Precondition::IfExists(proto::Exists {}),
            Precondition::Absent => oneof::Precondition::IfAbsent(proto::Absent {}),
        });
    proto::Operation {
        action: Some(action),
        precondition,
    }
}

pub(super) fn operation_from_proto(
    n: usize,
    operation: proto::Operation,
) -> Result<Operation, DecodeError> {
    use proto::operation as oneof;
    let unknown = DecodeError::UnknownOperation { operation: n };
    let action = match operation.action.ok_or(unknown)? {
        oneof::Action::PutResource(put) => Action::PutResource(put_resource_from_proto(put)?),
        oneof::Action::PutEntity(put) => Action::PutEntity(put_entity_from_proto(put)?),
        oneof::Action::PatchEntity(patch) => Action::PatchEntity(patch_entity_from_proto(patch)?),
        oneof::Action::PutEdge(put) => Action::PutEdge(PutEdge {
            src: ItemId::new(put.src)?,
            edge_type: ItemId::new(put.edge_type)?,
            dst: ItemId::new(put.dst)?,
            properties: members_from_proto(put.properties)?,
        }),
        oneof::Action::PutMoment(put) => Action::PutMoment(PutMoment {
            id: ItemId::new(put.id)?,
            timestamp_us: put.timestamp_us,
            content: put.content,
            metadata: members_from_proto(put.metadata)?,
        }),
        oneof::Action::Delete(key) => Action::Delete(ItemKey::from_bytes(&key)?),
    };
    let precondition = match operation.precondition {
        None => None,
        Some(oneof::Precondition::IfVersion(version)) => {
            Some(Precondition::Version(version_from_proto(&version)?))
        }
        Some(oneof::Precondition::IfExists(_)) => Some(Precondition::Exists),
        Some(oneof::Precondition::IfAbsent(_)) => Some(Precondition::Absent),
    };
    Ok(Operation {
        action,
        precondition,
    })
}

fn put_resource_to_proto(put: &PutResource) -> proto::PutResource {
    proto::PutResource {
        id: put.id.to_string(),
        content: put.content.clone(),
        content_type: put.content_type.as_ref().map(Name::to_string),
        metadata: put.metadata.as_ref().map(|metadata| proto::Members {
            members: members_to_proto(metadata),
        }),
    }
}

fn put_resource_from_proto(put: proto::PutResource) -> Result<PutResource, DecodeError> {
    let metadata = put
        .metadata
        .map(|metadata| members_from_proto(metadata.members));
    Ok(PutResource {
        id: ItemId::new(put.id)?,
        content: put.content,
        content_type: put.content_type.map(Name::new).transpose()?,
        metadata: metadata.transpose()?,
    })
}

fn put_entity_to_proto(put: &PutEntity) -> proto::PutEntity {
    proto::PutEntity {
        id: put.id.to_string(),
        entity_type: put.entity_type.to_string(),
        properties: members_to_proto(&put.properties),
        labels: put.labels.as_deref().map(names_to_proto),
    }
}

fn put_entity_from_proto(put: proto::PutEntity) -> Result<PutEntity, DecodeError> {
    Ok(PutEntity {
        id: ItemId::new(put.id)?,
        entity_type: Name::new(put.entity_type)?,
        properties: members_from_proto(put.properties)?,
        labels: put
            .labels
            .map(|labels| names_from_proto(labels.names))
            .transpose()?,
    })
}

fn patch_entity_to_proto(patch: &PatchEntity) -> proto::PatchEntity {
    use proto::patch_entity as oneof;
    let change = |(name, value): (&Name, &Option<Json>)| proto::Change {
        name: name.to_string(),
        json: value.as_ref().map(Json::to_text),
    };
    let labels = match &patch.labels {
        PatchLabels::Keep => None,
        PatchLabels::Replace(names) => Some(oneof::Labels::ReplaceLabels(names_to_proto(names))),
        PatchLabels::Change { add, remove } => {
            Some(oneof::Labels::ChangeLabels(proto::LabelChange {
                add: names_to_proto(add).names,
                remove: names_to_proto(remove).names,
            }))
        }
    };
    proto::PatchEntity {
        id: patch.id.to_string(),
        properties: patch.properties.iter().map(change).collect(),
        labels,
    }
}

fn patch_entity_from_proto(patch: proto::PatchEntity) -> Result<PatchEntity, DecodeError> {
    use proto::patch_entity as oneof;
    let properties = patch.properties.into_iter().map(|change| {
        let value = change.json.as_deref().map(Json::parse).transpose()?;
        Ok((Name::new(change.name)?, value))
    });
    let labels = match patch.labels {
        None => PatchLabels::Keep,
        Some(oneof::Labels::ReplaceLabels(labels)) => {
            PatchLabels::Replace(names_from_proto(labels.names)?)
        }
        Some(oneof::Labels::ChangeLabels(change)) => PatchLabels::Change {
            add: names_from_proto(change.add)?,
            remove: names_from_proto(change.remove)?,
        },
    };
    Ok(PatchEntity {
        id: ItemId::new(patch.id)?,
        properties: unique("property", properties)?,
        labels,
    })
}

fn names_to_proto(names: &[Name]) -> proto::Names {
    proto::Names {
        names: names.iter().map(Name::to_string).collect(),
    }
}

fn names_from_proto(names: Vec<String>) -> Result<Vec<Name>, DecodeError> {
    let names = names.into_iter().map(|name| Ok(Name::new(name)?));
    names.collect()
}
