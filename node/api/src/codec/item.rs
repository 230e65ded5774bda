//! Items and their bytes.

use std::collections::BTreeMap;

use percolate_core::clock::Hlc;
use percolate_core::model::{
    Body, Causal, Content, Edge, Entity, Fields, Item, Json, LabelDot, Labels, Lww, Moment,
    MomentContent, Name, Resource,
};
use percolate_core::version::Dot;

use super::actors::{KnownActors, ListedActors};
use super::{DecodeError, members_from_proto, members_to_proto, unique};
use crate::proto::data::v1 as proto;
use proto::item::Siblings;

pub(super) fn to_proto(item: &Item) -> proto::Item {
    let mut actors = ListedActors::default();
    let version = actors.version(item.version());
    let last_delete = item.last_delete().map(|delete| actors.stamp(delete));
    let siblings = match item {
        Item::Resource(state) => Siblings::Resources(proto::Resources {
            siblings: siblings_to_proto(&mut actors, state, resource_to_proto),
        }),
        Item::Entity(state) => Siblings::Entities(proto::Entities {
            siblings: siblings_to_proto(&mut actors, state, entity_to_proto),
        }),
        Item::Edge(state) => Siblings::Edges(proto::Edges {
            siblings: siblings_to_proto(&mut actors, state, edge_to_proto),
        }),
        Item::Moment(state) => Siblings::Moments(proto::Moments {
            siblings: siblings_to_proto(&mut actors, state, moment_to_proto),
        }),
    };
    proto::Item {
        version,
        updated_at: item.updated_at().packed(),
        last_delete,
        siblings: Some(siblings),
        actors: actors.into_proto(),
    }
}

pub(super) fn from_proto(item: proto::Item) -> Result<Item, DecodeError> {
    let updated_at = Hlc::from_packed(item.updated_at);
    let actors = KnownActors::new(&item.actors, &item.version, updated_at)?;
    let delete = item.last_delete;
    match item
        .siblings
        .ok_or(DecodeError::Missing { field: "kind" })?
    {
        Siblings::Resources(list) => state_from_proto(
            actors,
            updated_at,
            delete,
            list.siblings,
            resource_from_proto,
        ),
        Siblings::Entities(list) => {
            state_from_proto(actors, updated_at, delete, list.siblings, entity_from_proto)
        }
        Siblings::Edges(list) => {
            state_from_proto(actors, updated_at, delete, list.siblings, edge_from_proto)
        }
        Siblings::Moments(list) => {
            state_from_proto(actors, updated_at, delete, list.siblings, moment_from_proto)
        }
    }
}

/// Reads one sibling and the dot it goes by.
type ReadSibling<P, T> = fn(&KnownActors, P) -> Result<(Dot, T), DecodeError>;

fn siblings_to_proto<T: Body, P>(
    actors: &mut ListedActors,
    state: &Causal<T>,
    to_proto: fn(&mut ListedActors, Dot, &T) -> P,
) -> Vec<P> {
    let siblings = state.siblings().iter();
    siblings
        .map(|(&dot, body)| to_proto(actors, dot, body))
        .collect()
}

fn state_from_proto<T: Body, P>(
    actors: KnownActors,
    updated_at: Hlc,
    last_delete: Option<proto::Stamp>,
    siblings: Vec<P>,
    from_proto: ReadSibling<P, T>,
) -> Result<Item, DecodeError> {
    let siblings = siblings
        .into_iter()
        .map(|sibling| from_proto(&actors, sibling));
    let siblings: BTreeMap<Dot, T> = unique("dot", siblings)?;
    let last_delete = last_delete
        .map(|stamp| actors.stamp(Some(stamp)))
        .transpose()?;
    let state = Causal::from_parts(actors.into_version(), updated_at, last_delete, siblings)?;
    Ok(T::into_item(state))
}

fn resource_to_proto(actors: &mut ListedActors, dot: Dot, resource: &Resource) -> proto::Resource {
    let content = &resource.content.value;
    proto::Resource {
        dot: Some(actors.dot(dot)),
        content_stamp: Some(actors.stamp(resource.content.stamp)),
        content_type: content.content_type.to_string(),
        content: content.bytes.clone(),
        metadata: fields_to_proto(actors, &resource.metadata),
    }
}

fn resource_from_proto(
    actors: &KnownActors,
    resource: proto::Resource,
) -> Result<(Dot, Resource), DecodeError> {
    let content = Content {
        content_type: Name::new(resource.content_type)?,
        bytes: resource.content,
    };
    let body = Resource {
        content: Lww {
            value: content,
            stamp: actors.stamp(resource.content_stamp)?,
        },
        metadata: fields_from_proto(actors, resource.metadata)?,
    };
    Ok((actors.dot(resource.dot)?, body))
}

fn entity_to_proto(actors: &mut ListedActors, dot: Dot, entity: &Entity) -> proto::Entity {
    let labels = entity
        .labels
        .iter()
        .map(|(name, actor, label)| (name.to_string(), actor, label));
    proto::Entity {
        dot: Some(actors.dot(dot)),
        type_stamp: Some(actors.stamp(entity.entity_type.stamp)),
        entity_type: entity.entity_type.value.to_string(),
        properties: fields_to_proto(actors, &entity.properties),
        labels: labels
            .map(
                |(
                    name,
                    actor,
                    LabelDot {
                        sequence,
                        is_removed,
                    },
                )| proto::Label {
                    name,
                    dot: Some(actors.dot(Dot { actor, sequence })),
                    is_removed,
                },
            )
            .collect(),
    }
}

fn entity_from_proto(
    actors: &KnownActors,
    entity: proto::Entity,
) -> Result<(Dot, Entity), DecodeError> {
    let entity_type = Name::new(entity.entity_type)?;
    let body = Entity {
        entity_type: Lww {
            value: entity_type,
            stamp: actors.stamp(entity.type_stamp)?,
        },
        properties: fields_from_proto(actors, entity.properties)?,
        labels: labels_from_proto(actors, entity.labels)?,
    };
    Ok((actors.dot(entity.dot)?, body))
}

fn labels_from_proto(
    actors: &KnownActors,
    labels: Vec<proto::Label>,
) -> Result<Labels, DecodeError> {
    let labels = labels.into_iter().map(|label| {
        let dot = actors.dot(label.dot)?;
        let (sequence, is_removed) = (dot.sequence, label.is_removed);
        let key = (Name::new(label.name)?, dot.actor);
        Ok((
            key,
            LabelDot {
                sequence,
                is_removed,
            },
        ))
    });
    let labels = unique("label", labels)?;
    Ok(labels
        .into_iter()
        .map(|((name, actor), dot)| (name, actor, dot))
        .collect())
}

fn edge_to_proto(actors: &mut ListedActors, dot: Dot, edge: &Edge) -> proto::Edge {
    proto::Edge {
        dot: Some(actors.dot(dot)),
        stamp: Some(actors.stamp(edge.properties.stamp)),
        properties: members_to_proto(&edge.properties.value),
    }
}

fn edge_from_proto(actors: &KnownActors, edge: proto::Edge) -> Result<(Dot, Edge), DecodeError> {
    let value = members_from_proto(edge.properties)?;
    let properties = Lww {
        value,
        stamp: actors.stamp(edge.stamp)?,
    };
    Ok((actors.dot(edge.dot)?, Edge { properties }))
}

fn moment_to_proto(actors: &mut ListedActors, dot: Dot, moment: &Moment) -> proto::Moment {
    let content = &moment.content.value;
    proto::Moment {
        dot: Some(actors.dot(dot)),
        stamp: Some(actors.stamp(moment.content.stamp)),
        timestamp_us: content.timestamp_us,
        text: content.text.clone(),
        metadata: members_to_proto(&content.metadata),
    }
}

fn moment_from_proto(
    actors: &KnownActors,
    moment: proto::Moment,
) -> Result<(Dot, Moment), DecodeError> {
    let value = MomentContent {
        timestamp_us: moment.timestamp_us,
        text: moment.text,
        metadata: members_from_proto(moment.metadata)?,
    };
    let content = Lww {
        value,
        stamp: actors.stamp(moment.stamp)?,
    };
    Ok((actors.dot(moment.dot)?, Moment { content }))
}

fn fields_to_proto(actors: &mut ListedActors, fields: &Fields) -> Vec<proto::Field> {
    let field = |(name, field): (&Name, &Lww<Option<Json>>)| proto::Field {
        name: name.to_string(),
        stamp: Some(actors.stamp(field.stamp)),
        json: field.value.as_ref().map(Json::to_text),
    };
    fields.iter().map(field).collect()
}

fn fields_from_proto(
    actors: &KnownActors,
    fields: Vec<proto::Field>,
) -> Result<Fields, DecodeError> {
    let fields = fields.into_iter().map(|field| {
        let value = field.json.as_deref().map(Json::parse).transpose()?;
        let stamp = actors.stamp(field.stamp)?;
        Ok((Name::new(field.name)?, Lww { value, stamp }))
    });
    Ok(unique("field", fields)?.into_iter().collect())
}
