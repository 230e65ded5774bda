//! The checker of histories, on histories known to be good and bad, and against another checker.

#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/linearizability.rs"]
mod linearizability;

use std::time::Instant;

use history::Action::{self, Read, Write};
use history::{Moment, Operation};
use linearizability::check;
use proptest::prelude::*;
use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

fn answered(action: Action, invoked: Moment, returned: Moment) -> Operation {
    Operation {
        action,
        invoked,
        returned: Some(returned),
    }
}

fn unanswered(action: Action, invoked: Moment) -> Operation {
    Operation {
        action,
        invoked,
        returned: None,
    }
}

#[test]
fn good_histories_have_an_order() {
    let cases = [
        ("nothing", vec![]),
        ("read of nothing", vec![answered(Read(0), 1, 2)]),
        (
            "one after another",
            vec![
                answered(Write(1), 1, 2),
                answered(Read(1), 3, 4),
                answered(Write(2), 5, 6),
                answered(Read(2), 7, 8),
            ],
        ),
        (
            "while it is written either is read",
            vec![
                answered(Write(1), 1, 10),
                answered(Read(0), 2, 3),
                answered(Read(1), 4, 5),
            ],
        ),
        (
            "of two at a time either is last",
            vec![
                answered(Write(1), 1, 5),
                answered(Write(2), 2, 4),
                answered(Read(1), 6, 7),
            ],
        ),
        (
            "an unknown write that never was",
            vec![unanswered(Write(1), 1), answered(Read(0), 5, 6)],
        ),
        (
            "an unknown write that takes effect late",
            vec![
                unanswered(Write(1), 1),
                answered(Write(2), 2, 3),
                answered(Read(2), 4, 5),
                answered(Read(1), 6, 7),
            ],
        ),
    ];
    for (name, history) in cases {
        assert_eq!(check(&history), Ok(()), "{name}");
    }
}

#[test]
fn bad_histories_have_none() {
    let cases = [
        ("read of what nobody wrote", vec![answered(Read(7), 1, 2)]),
        (
            "an old value after the new one was answered",
            vec![answered(Write(1), 1, 2), answered(Read(0), 3, 4)],
        ),
        (
            "read before it was written",
            vec![answered(Read(1), 1, 2), answered(Write(1), 3, 4)],
        ),
        (
            "two reads that see two writes in different orders",
            vec![
                answered(Write(1), 1, 10),
                answered(Write(2), 2, 11),
                answered(Read(1), 3, 4),
                answered(Read(2), 5, 6),
                answered(Read(1), 7, 8),
            ],
        ),
        (
            "an unknown write that comes and goes",
            vec![
                unanswered(Write(1), 1),
                answered(Read(1), 2, 3),
                answered(Read(0), 4, 5),
            ],
        ),
        (
            "a retried write that takes effect twice",
            vec![
                answered(Write(1), 1, 9),
                answered(Read(1), 2, 3),
                answered(Write(2), 4, 5),
                answered(Read(2), 6, 7),
                answered(Read(1), 10, 11),
            ],
        ),
    ];
    for (name, history) in cases {
        assert!(check(&history).is_err(), "{name}");
    }
}

#[test]
fn it_says_which_answer_no_order_explains() {
    let stale = answered(Read(1), 5, 6);
    let history = [
        answered(Write(1), 1, 2),
        answered(Write(2), 3, 4),
        stale,
        answered(Read(2), 7, 8),
    ];
    assert_eq!(check(&history).map_err(|error| error.0), Err(stale));
}

/// What stateright's tester says. It knows threads, each with one operation at a time: who was
/// answered goes on to the next operation, who was not is never heard of again.
fn stateright_agrees_to(history: &[Operation]) -> bool {
    let mut operations = history.to_vec();
    operations.sort_by_key(|operation| operation.invoked);
    let mut free_from: Vec<Moment> = Vec::new();
    let mut events: Vec<(Moment, usize, bool, Action)> = Vec::new();
    for Operation {
        action,
        invoked,
        returned,
    } in operations
    {
        let free = free_from.iter().position(|moment| *moment < invoked);
        let thread = free.unwrap_or(free_from.len());
        free_from.resize(free_from.len().max(thread + 1), 0);
        free_from[thread] = returned.unwrap_or(Moment::MAX);
        events.push((invoked, thread, true, action));
        events.extend(returned.map(|moment| (moment, thread, false, action)));
    }
    events.sort_unstable_by_key(|(moment, ..)| *moment);
    let mut tester = LinearizabilityTester::new(Register(0));
    for (_, thread, begins, action) in events {
        let (operation, answer) = match action {
            Write(value) => (RegisterOp::Write(value), RegisterRet::WriteOk),
            Read(value) => (RegisterOp::Read, RegisterRet::ReadOk(value)),
        };
        let taken = if begins {
            tester.on_invoke(thread, operation).map(|_| ())
        } else {
            tester.on_return(thread, answer).map(|_| ())
        };
        taken.expect("a history of threads with one operation each");
    }
    tester.is_consistent()
}

/// Up to seven operations at any times, on few values; writes write each their own.
fn histories() -> impl Strategy<Value = Vec<Operation>> {
    let operation = (any::<bool>(), 0..5_u64, 0..40_u64, 1..20_u64, 0..4_u8);
    prop::collection::vec(operation, 0..7).prop_map(|drawn| {
        let operations = drawn.into_iter().zip(1..).map(|(drawn, number)| {
            let (writes, read, begin, takes, luck) = drawn;
            let action = if writes { Write(number) } else { Read(read) };
            // Spread so that no two moments are equal.
            let (invoked, returned) = (begin * 32 + number, (begin + takes) * 32 + 16 + number);
            Operation {
                action,
                invoked,
                returned: (luck > 0).then_some(returned),
            }
        });
        operations.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_agrees_with_another_checker(history in histories()) {
        prop_assert_eq!(check(&history).is_ok(), stateright_agrees_to(&history));
    }
}

#[test]
#[ignore = "a measurement: why the simulation does not use stateright's tester"]
fn measures_the_checkers() {
    for unknown in [0, 2, 4, 6, 8] {
        // Writers whose outcome stays unknown; then one reads what none of them can explain.
        let mut history: Vec<Operation> = (1..=unknown)
            .map(|value| unanswered(Write(value), value))
            .collect();
        for (value, moment) in (100..150).zip((100..).step_by(4)) {
            history.push(answered(Write(value), moment, moment + 1));
            history.push(answered(Read(value), moment + 2, moment + 3));
        }
        history.push(answered(Read(100), 1_000, 1_001));
        let began = Instant::now();
        assert!(check(&history).is_err());
        let ours = began.elapsed();
        println!("{unknown} unknown of {}: ours {ours:?}", history.len());
        // With four it has not come to an end within a minute.
        if unknown <= 2 {
            let began = Instant::now();
            assert!(!stateright_agrees_to(&history));
            println!("  stateright {:?}", began.elapsed());
        }
    }
}
