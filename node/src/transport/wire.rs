//! Replication messages as protobuf, and back.

use std::sync::Arc;

use percolate_api::proto::replication::v1 as proto;
use percolate_core::identity::{Incarnation, ReplicaId};
use percolate_core::log::{Chain, Entry, Head, Place, SharedEntry};
use percolate_core::replica::message;
use percolate_core::replica::{Message, Proven, StateDigest};

/// Why an envelope cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// A part that must be there is not.
    #[error("{field} is missing")]
    Missing { field: &'static str },
    /// A fixed-size part has another size.
    #[error("{field} has {bytes} bytes, not {wanted}")]
    Length {
        field: &'static str,
        bytes: usize,
        wanted: usize,
    },
}

/// An envelope's content.
pub(super) struct Received {
    pub(super) from: ReplicaId,
    pub(super) to: ReplicaId,
    pub(super) incarnation: Incarnation,
    pub(super) message: Message,
}

pub(super) fn envelope(
    from: ReplicaId,
    to: ReplicaId,
    incarnation: Incarnation,
    message: &Message,
) -> proto::Envelope {
    let bytes = |identity: u128| identity.to_be_bytes().to_vec();
    proto::Envelope {
        from: bytes(from.0),
        to: bytes(to.0),
        incarnation: bytes(incarnation.0),
        message: Some(encode(message)),
    }
}

fn encode(message: &Message) -> proto::envelope::Message {
    use proto::envelope::Message as Wire;
    match message {
        Message::Append(append) => Wire::Append(proto::Append {
            epoch: append.epoch,
            round: append.round,
            previous: Some(encode_head(append.previous)),
            entries: append
                .entries
                .iter()
                .map(|entry| encode_entry(entry))
                .collect(),
            commit: append.commit,
            base: append.base,
            last: append.last,
            quiet: append.quiet,
            proven_mark: append.proven.map_or(0, |proven| proven.mark),
            proven_commit: append.proven.map_or(0, |proven| proven.commit),
            start: append.start,
            counted: append.counted,
            digest: append.digest.map(|digest| proto::StateDigest {
                index: digest.index,
                hash: digest.hash.to_vec(),
            }),
        }),
        Message::Appended(appended) => Wire::Appended(proto::Appended {
            epoch: appended.epoch,
            round: appended.round,
            matched: appended.matched,
            durable: appended.durable,
            mark: appended.mark,
        }),
        Message::Mismatch(mismatch) => Wire::Mismatch(proto::Mismatch {
            epoch: mismatch.epoch,
            heads: mismatch.heads.iter().copied().map(encode_head).collect(),
        }),
        Message::Rejected { promised_epoch } => Wire::Rejected(proto::Rejected {
            promised_epoch: *promised_epoch,
        }),
        Message::Join(join) => Wire::Join(proto::Join {
            pod: join.pod.clone(),
            last: Some(encode_head(join.last)),
            promised_epoch: join.promised_epoch,
        }),
        Message::Leaving => Wire::Leaving(proto::Leaving {}),
        Message::LeadershipMoved => Wire::LeadershipMoved(proto::LeadershipMoved {}),
        Message::Offer(offer) => {
            let entries = offer.entries.iter().map(|entry| encode_entry(entry));
            Wire::Offer(proto::Offer {
                epoch: offer.epoch,
                entries: entries.collect(),
                is_last: offer.is_last,
            })
        }
        Message::Rescued { places } => Wire::Rescued(proto::Rescued {
            places: places.iter().copied().map(encode_place).collect(),
        }),
        Message::Outrun(outrun) => Wire::Outrun(proto::Outrun {
            epoch: outrun.epoch,
            committed: Some(encode_head(outrun.committed)),
        }),
        Message::Candidacy(candidacy) => Wire::Candidacy(proto::Candidacy {
            epoch: candidacy.epoch,
            pod: candidacy.pod.clone(),
            last: Some(encode_head(candidacy.last)),
        }),
    }
}

fn encode_place(place: Place) -> proto::Place {
    proto::Place {
        epoch: place.epoch,
        index: place.index,
    }
}

fn decode_place(place: &proto::Place) -> Place {
    Place {
        epoch: place.epoch,
        index: place.index,
    }
}

fn encode_head(head: Head) -> proto::Head {
    proto::Head {
        epoch: head.epoch,
        index: head.index,
        chain: head.chain.0.to_vec(),
    }
}

fn encode_entry(entry: &Entry) -> proto::Entry {
    proto::Entry {
        head: Some(encode_head(entry.head)),
        payload: entry.payload.clone(),
    }
}

pub(super) fn received(envelope: proto::Envelope) -> Result<Received, WireError> {
    let message = envelope
        .message
        .ok_or(WireError::Missing { field: "message" })?;
    Ok(Received {
        from: ReplicaId(u128::from_be_bytes(sixteen("from", &envelope.from)?)),
        to: ReplicaId(u128::from_be_bytes(sixteen("to", &envelope.to)?)),
        incarnation: Incarnation(u128::from_be_bytes(sixteen(
            "incarnation",
            &envelope.incarnation,
        )?)),
        message: decode(message)?,
    })
}

fn decode(message: proto::envelope::Message) -> Result<Message, WireError> {
    use proto::envelope::Message as Wire;
    Ok(match message {
        Wire::Append(append) => Message::Append(message::Append {
            epoch: append.epoch,
            round: append.round,
            previous: decode_head("previous", append.previous)?,
            entries: decode_entries(append.entries)?,
            commit: append.commit,
            base: append.base,
            last: append.last,
            quiet: append.quiet,
            proven: (append.proven_mark != 0).then_some(Proven {
                mark: append.proven_mark,
                commit: append.proven_commit,
            }),
            start: append.start,
            counted: append.counted,
            digest: append.digest.as_ref().map(decode_digest).transpose()?,
        }),
        Wire::Appended(appended) => Message::Appended(message::Appended {
            epoch: appended.epoch,
            round: appended.round,
            matched: appended.matched,
            durable: appended.durable,
            mark: appended.mark,
        }),
        Wire::Mismatch(mismatch) => Message::Mismatch(message::Mismatch {
            epoch: mismatch.epoch,
            heads: mismatch
                .heads
                .into_iter()
                .map(|head| decode_head("heads", Some(head)))
                .collect::<Result<_, _>>()?,
        }),
        Wire::Rejected(rejected) => Message::Rejected {
            promised_epoch: rejected.promised_epoch,
        },
        Wire::Join(join) => Message::Join(message::Join {
            last: decode_head("last", join.last)?,
            pod: join.pod,
            promised_epoch: join.promised_epoch,
        }),
        Wire::Leaving(_) => Message::Leaving,
        Wire::LeadershipMoved(_) => Message::LeadershipMoved,
        Wire::Offer(offer) => Message::Offer(message::Offer {
            epoch: offer.epoch,
            entries: decode_entries(offer.entries)?,
            is_last: offer.is_last,
        }),
        Wire::Rescued(rescued) => Message::Rescued {
            places: rescued.places.iter().map(decode_place).collect(),
        },
        Wire::Outrun(outrun) => Message::Outrun(message::Outrun {
            epoch: outrun.epoch,
            committed: decode_head("committed", outrun.committed)?,
        }),
        Wire::Candidacy(candidacy) => Message::Candidacy(message::Candidacy {
            epoch: candidacy.epoch,
            last: decode_head("last", candidacy.last)?,
            pod: candidacy.pod,
        }),
    })
}

fn decode_entries(entries: Vec<proto::Entry>) -> Result<Vec<SharedEntry>, WireError> {
    let entries = entries.into_iter();
    entries
        .map(|entry| decode_entry(entry).map(Arc::new))
        .collect()
}

fn decode_head(field: &'static str, head: Option<proto::Head>) -> Result<Head, WireError> {
    let head = head.ok_or(WireError::Missing { field })?;
    Ok(Head {
        epoch: head.epoch,
        index: head.index,
        chain: Chain(sixteen("chain", &head.chain)?),
    })
}

fn decode_entry(entry: proto::Entry) -> Result<Entry, WireError> {
    Ok(Entry {
        head: decode_head("head", entry.head)?,
        payload: entry.payload,
    })
}

fn decode_digest(digest: &proto::StateDigest) -> Result<StateDigest, WireError> {
    Ok(StateDigest {
        index: digest.index,
        hash: sized("hash", &digest.hash)?,
    })
}

fn sixteen(field: &'static str, bytes: &[u8]) -> Result<[u8; 16], WireError> {
    sized(field, bytes)
}

fn sized<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::Length {
        field,
        bytes: bytes.len(),
        wanted: N,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let first = Arc::new(Entry::after(Head::default(), 3, b"payload".to_vec()));
        let last = first.head;
        let messages = [
            Message::Append(message::Append {
                epoch: 3,
                round: 9,
                previous: Head::default(),
                entries: vec![Arc::clone(&first)],
                commit: 1,
                base: 5,
                last: 1,
                quiet: true,
                proven: Some(Proven { mark: 7, commit: 1 }),
                start: 1,
                counted: true,
                digest: Some(StateDigest {
                    index: 1,
                    hash: [9; 32],
                }),
            }),
            Message::Appended(message::Appended {
                epoch: 3,
                round: 9,
                matched: 2,
                durable: 1,
                mark: 8,
            }),
            Message::Mismatch(message::Mismatch {
                epoch: 3,
                heads: vec![last, Head::default()],
            }),
            Message::Rejected { promised_epoch: 4 },
            Message::Join(message::Join {
                pod: "acme-1".to_owned(),
                last,
                promised_epoch: 2,
            }),
            Message::Leaving,
            Message::LeadershipMoved,
            Message::Offer(message::Offer {
                epoch: 4,
                entries: vec![Arc::clone(&first)],
                is_last: true,
            }),
            Message::Rescued {
                places: vec![Place { epoch: 3, index: 1 }, Place { epoch: 3, index: 2 }],
            },
            Message::Outrun(message::Outrun {
                epoch: 3,
                committed: last,
            }),
            Message::Candidacy(message::Candidacy {
                epoch: 3,
                pod: "acme-2".to_owned(),
                last,
            }),
        ];
        for message in messages {
            let sent = envelope(ReplicaId(1), ReplicaId(2), Incarnation(3), &message);
            let got = received(sent).expect("readable");
            assert_eq!(
                (got.from, got.to, got.incarnation),
                (ReplicaId(1), ReplicaId(2), Incarnation(3))
            );
            assert_eq!(got.message, message);
        }
    }

    /// A leader of the version before sends neither proofs nor, as a follower, marks.
    #[test]
    fn what_an_older_version_leaves_out_is_read_as_absent() {
        let append = proto::Append {
            epoch: 3,
            previous: Some(encode_head(Head::default())),
            ..proto::Append::default()
        };
        let read = decode(proto::envelope::Message::Append(append)).expect("readable");
        assert!(
            matches!(&read, Message::Append(append) if append.proven.is_none()),
            "{read:?}"
        );
        let appended = proto::Appended {
            epoch: 3,
            ..proto::Appended::default()
        };
        let read = decode(proto::envelope::Message::Appended(appended)).expect("readable");
        assert!(
            matches!(&read, Message::Appended(appended) if appended.mark == 0),
            "{read:?}"
        );
    }

    #[test]
    fn damaged_envelopes_are_refused() {
        let good = envelope(
            ReplicaId(1),
            ReplicaId(2),
            Incarnation(3),
            &Message::LeadershipMoved,
        );
        assert!(
            received(proto::Envelope {
                from: vec![0; 15],
                ..good.clone()
            })
            .is_err()
        );
        assert!(
            received(proto::Envelope {
                message: None,
                ..good
            })
            .is_err()
        );
    }
}
