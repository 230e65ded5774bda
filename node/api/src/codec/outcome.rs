//! Outcomes, and what is remembered of them, and their bytes.

use percolate_core::clock::Hlc;
use percolate_core::operation::{
    Effect, IdempotencyRecord, Outcome, Refusal, RefusalCode, Written,
};

use super::DecodeError;
use super::actors::{version_from_proto, version_to_proto};
use crate::proto::data::v1 as proto;

pub(super) fn to_proto(outcome: &Outcome) -> proto::Outcome {
    use proto::outcome as oneof;
    let outcome = match outcome {
        Outcome::Applied(written) => oneof::Outcome::Applied(applied_to_proto(written)),
        Outcome::Refused(refusal) => oneof::Outcome::Refused(proto::Refused {
            operation: refusal.operation,
            code: refusal.code as u32,
            current: refusal.current.as_ref().map(version_to_proto),
        }),
    };
    proto::Outcome {
        outcome: Some(outcome),
    }
}

pub(super) fn from_proto(outcome: proto::Outcome) -> Result<Outcome, DecodeError> {
    use proto::outcome as oneof;
    match outcome
        .outcome
        .ok_or(DecodeError::Missing { field: "outcome" })?
    {
        oneof::Outcome::Applied(applied) => {
            let written = applied.written.into_iter().map(written_from_proto);
            Ok(Outcome::Applied(written.collect::<Result<_, _>>()?))
        }
        oneof::Outcome::Refused(refused) => {
            let number = refused.code;
            let code = RefusalCode::ALL
                .into_iter()
                .find(|&code| code as u32 == number);
            Ok(Outcome::Refused(Refusal {
                operation: refused.operation,
                code: code.ok_or(DecodeError::Unknown {
                    field: "refusal",
                    number,
                })?,
                current: refused
                    .current
                    .as_ref()
                    .map(version_from_proto)
                    .transpose()?,
            }))
        }
    }
}

pub(super) fn record_to_proto(record: &IdempotencyRecord) -> proto::IdempotencyRecord {
    proto::IdempotencyRecord {
        index: record.index,
        hlc: record.hlc.packed(),
        fingerprint: record.fingerprint.to_vec(),
        outcome: Some(to_proto(&record.outcome)),
    }
}

pub(super) fn record_from_proto(
    record: proto::IdempotencyRecord,
) -> Result<IdempotencyRecord, DecodeError> {
    let bytes = record.fingerprint.len();
    let fingerprint = record.fingerprint.try_into();
    let outcome = record
        .outcome
        .ok_or(DecodeError::Missing { field: "outcome" })?;
    Ok(IdempotencyRecord {
        index: record.index,
        hlc: Hlc::from_packed(record.hlc),
        fingerprint: fingerprint.map_err(|_| DecodeError::Fingerprint { bytes })?,
        outcome: from_proto(outcome)?,
    })
}

pub(super) fn applied_to_proto(written: &[Written]) -> proto::Applied {
    proto::Applied {
        written: written.iter().map(written_to_proto).collect(),
    }
}

fn written_to_proto(written: &Written) -> proto::Written {
    proto::Written {
        effect: written.effect as u32,
        version: Some(version_to_proto(&written.version)),
        updated_at: written.updated_at.packed(),
    }
}

fn written_from_proto(written: proto::Written) -> Result<Written, DecodeError> {
    let number = written.effect;
    let effect = Effect::ALL
        .into_iter()
        .find(|&effect| effect as u32 == number);
    let version = written
        .version
        .ok_or(DecodeError::Missing { field: "version" })?;
    Ok(Written {
        effect: effect.ok_or(DecodeError::Unknown {
            field: "effect",
            number,
        })?,
        version: version_from_proto(&version)?,
        updated_at: Hlc::from_packed(written.updated_at),
    })
}
