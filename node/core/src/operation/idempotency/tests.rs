use super::*;

const HOUR_MS: u64 = 60 * 60 * 1000;

#[test]
fn keys_are_short_and_visible() {
    for (key, is_key) in [
        ("a", true),
        ("2b0c1c5e-6d5a-4f5b-9a55-0b7f3c7d1e11", true),
        (&"k".repeat(255), true),
        (&"k".repeat(256), false),
        ("", false),
        ("a b", false),
        ("a\n", false),
        ("é", false),
    ] {
        assert_eq!(IdempotencyKey::new(key).is_ok(), is_key, "{key:?}");
    }
}

#[test]
fn a_key_is_answered_only_for_the_same_request() {
    let outcome = Outcome::Applied(Vec::new());
    let record = IdempotencyRecord {
        index: 7,
        hlc: Hlc::ZERO,
        fingerprint: [1; 32],
        outcome: outcome.clone(),
    };
    assert_eq!(record.replay(&[1; 32]), Replay::Answer(&outcome));
    assert_eq!(record.replay(&[2; 32]), Replay::KeyReused);
}

#[test]
fn records_are_forgotten_by_age_and_by_number() {
    let at = |hour: u64| Hlc::from_wall_ms(hour * HOUR_MS);
    let many = IDEMPOTENCY_KEYS_PER_TENANT;
    for (case, hours, count, now, expected) in [
        ("none", vec![], 0, at(100), 0),
        ("all young", vec![80, 90], 2, at(100), 0),
        ("exactly a day old", vec![76, 90], 2, at(100), 0),
        ("older than a day", vec![60, 75, 76], 3, at(100), 2),
        ("clock stepped back", vec![200, 201], 2, at(100), 0),
        ("one too many", vec![90, 91, 92], many + 1, at(100), 1),
        (
            "too many, and old ones",
            vec![10, 11, 92],
            many + 1,
            at(100),
            2,
        ),
    ] {
        let recorded = hours.into_iter().map(at);
        assert_eq!(expired(recorded, count, now), expected, "{case}");
    }
}
