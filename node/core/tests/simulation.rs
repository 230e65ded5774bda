//! The real `replica` machine in a simulated world: a seeded network that loses, repeats, delays
//! and reorders; disks that lose what was not synced; a register whose changes may succeed
//! without anybody hearing of it, or late; crashes, pauses, lost disks, handovers.
//!
//! Every schedule is a function of its seed. A failing seed replays with
//! `PERCOLATE_SEED=<seed> cargo test -p percolate-core --test simulation -- --ignored --nocapture replays_a_seed`.

#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/soak.rs"]
mod soak;
#[path = "simulation/world.rs"]
mod world;

use std::time::Duration;

use percolate_core::replica::Timing;
use world::{Breakage, Scenario, World};

/// Schedules of each of four scenarios, 10,000 in all; `PERCOLATE_SEEDS` asks for another number.
const SEEDS: u64 = 2_500;

/// Says what clients did.
fn check(scenario: Scenario) -> String {
    let asked = std::env::var("PERCOLATE_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    let seeds = 0..asked.unwrap_or(SEEDS);
    let (mut acknowledged, mut snapshots, mut fresh) = (0, 0, 0);
    let (mut merged, mut rescued) = (0, 0);
    let mut operations = [0; 4];
    for seed in seeds {
        let world = World::run(scenario, seed);
        if let Err(violation) = world.verdict() {
            panic!(
                "{scenario:?} seed {seed}: {violation}\n{}",
                World::run_traced(scenario, seed).trace_tail()
            );
        }
        acknowledged += world.acknowledged();
        snapshots += world.snapshots();
        fresh += world.fresh_reads();
        merged += world.merged();
        rescued += world.rescued();
        for (sum, count) in operations.iter_mut().zip(world.client_operations()) {
            *sum += count;
        }
    }
    assert!(
        acknowledged > 0,
        "{scenario:?}: nothing was ever acknowledged, so nothing was tested"
    );
    assert!(snapshots > 0, "{scenario:?}: no log was ever too short");
    assert!(
        fresh > 0,
        "{scenario:?}: no replica ever knew how old what it shows is"
    );
    assert!(
        merged > 0 && rescued > 0,
        "{scenario:?}: of leaders that were replaced nothing was ever rescued, or nobody told"
    );
    let [writes, confirmed, sessions, unknown] = operations;
    assert!(
        operations.iter().all(|count| *count > 0),
        "{scenario:?}: a kind of operation never happened"
    );
    format!(
        "{scenario:?}: {writes} writes of clients, {unknown} of unknown outcome, {confirmed} reads confirmed, {sessions} of sessions; {rescued} rescued for the last failovers"
    )
}

#[test]
fn two_replicas_lose_nothing_acknowledged() {
    println!("{}", check(Scenario::TwoReplicas));
}

#[test]
fn three_replicas_lose_nothing_acknowledged() {
    println!("{}", check(Scenario::ThreeReplicas));
}

#[test]
fn a_minimum_of_two_in_sync_loses_nothing_even_with_a_lost_disk() {
    println!("{}", check(Scenario::MinimumOfTwo));
}

#[test]
fn handovers_and_drops_lose_nothing_acknowledged() {
    println!("{}", check(Scenario::Handovers));
}

#[test]
fn an_undisturbed_tenant_acknowledges_everything() {
    for seed in 0..50 {
        let world = World::run(Scenario::Undisturbed, seed);
        assert_eq!(world.verdict(), Ok(()), "seed {seed}");
        assert_eq!(
            world.acknowledged(),
            world.proposed(),
            "seed {seed}\n{}",
            World::run_traced(Scenario::Undisturbed, seed).trace_tail()
        );
        let [.., unknown] = world.client_operations();
        assert_eq!(unknown, 0, "seed {seed}: every client is answered");
    }
}

/// Schedules of each scenario of a single fault: what may happen in one is much the same in all.
const SEEDS_OF_ONE_FAULT: u64 = 200;

/// Every schedule of a scenario of one fault, each without a violation.
fn survey(scenario: Scenario) -> impl Iterator<Item = World> {
    (0..SEEDS_OF_ONE_FAULT).map(move |seed| {
        let world = World::run(scenario, seed);
        if let Err(violation) = world.verdict() {
            panic!(
                "{scenario:?} seed {seed}: {violation}\n{}",
                World::run_traced(scenario, seed).trace_tail()
            );
        }
        world
    })
}

/// F18: in 20 s of a flapping link there are no more takeovers than fit in; and some there are.
#[test]
fn a_flapping_link_changes_leaders_no_faster_than_patience_allows() {
    for scenario in [Scenario::FlappingPair, Scenario::FlappingTrio] {
        let takeovers: Vec<usize> = survey(scenario).map(|world| world.takeovers()).collect();
        let most = takeovers.iter().max().copied().unwrap_or(0);
        let all: usize = takeovers.iter().sum();
        println!("{scenario:?}: {all} takeovers, at most {most} in a schedule");
        assert!(most > 0, "{scenario:?}: no follower ever lost patience");
        // One for each time patience can run out, and one for the silence that outlasts the flapping.
        let bound = 20_000 / Timing::new(500, 2_500).takeover_after + 1;
        assert!(most as u64 <= bound, "{scenario:?}: {most} takeovers");
    }
}

/// F22: writes wait for a slow follower or go on without it, and in the end it is in sync again.
#[test]
fn a_slow_disk_is_waited_for_or_left_out_and_nothing_is_lost() {
    let stalls: Vec<(u64, bool)> = survey(Scenario::SlowDisk)
        .map(|world| world.stall())
        .collect();
    let longest = stalls.iter().map(|(wait, _)| *wait).max().unwrap_or(0);
    let dropped = stalls.iter().filter(|(_, dropped)| *dropped).count();
    println!("longest wait {longest} ms, left out in {dropped} of {SEEDS_OF_ONE_FAULT}");
    let waited_for = stalls
        .iter()
        .any(|(wait, dropped)| *wait > 1_000 && !dropped);
    assert!(waited_for, "nobody waited for a slow disk");
    assert!(dropped > 0, "no disk that hangs was ever left out");
}

/// F20: a disk that was put back to an earlier state, or is a copy of another's, is noticed before its
/// replica is counted on for anything, and is filled anew; nothing acknowledged is lost.
#[test]
fn disks_put_back_or_cloned_are_noticed_and_nothing_is_lost() {
    let mut sum = [0; 2];
    for world in survey(Scenario::SpoiledDisks) {
        for (sum, count) in sum.iter_mut().zip(world.spoilt()) {
            *sum += count;
        }
    }
    let [put_back, cloned] = sum;
    println!("{put_back} disks put back, {cloned} cloned");
    assert!(put_back > 0 && cloned > 0);
}

/// F36: who is to stop while writes stall is told in time that it may, and nothing is lost.
#[test]
fn a_leader_that_stops_while_writes_stall_is_told_in_time() {
    let stalled = survey(Scenario::StopInStall).filter(|world| world.stall().0 > 1_000);
    assert!(stalled.count() > 0, "no write ever stalled");
}

/// Seeds in which each broken rule of rescuing must show; it shows within the first few.
const SEEDS_OF_A_BREAKAGE: u64 = 2_000;

#[test]
fn each_broken_rule_of_rescuing_is_noticed() {
    for breakage in Breakage::ALL {
        let noticed = (0..SEEDS_OF_A_BREAKAGE).find_map(|seed| {
            let scenarios = [Scenario::ThreeReplicas, Scenario::MinimumOfTwo];
            scenarios.into_iter().find_map(|scenario| {
                let violation = World::run_broken(scenario, seed, breakage)
                    .verdict()
                    .err()?;
                let shows = violation.contains(breakage.symptom());
                shows.then_some((scenario, seed, violation))
            })
        });
        let (scenario, seed, violation) =
            noticed.unwrap_or_else(|| panic!("{breakage:?} goes unnoticed"));
        println!("{breakage:?}: {scenario:?} seed {seed}: {violation}");
    }
}

/// Schedules that once broke a rule, and what was wrong. A seed belongs to the code it ran on: one
/// that no longer meets what it met then is no loss where its scenario still does.
const REGRESSIONS: [(Scenario, u64, &str); 1] = [(
    Scenario::StopInStall,
    51,
    "a replica whose disk hung took over, sent nothing as its promise was not on disk, and left out everybody else for not answering: nobody could replace it",
)];

#[test]
fn schedules_that_once_failed_pass() {
    for (scenario, seed, story) in REGRESSIONS {
        let verdict = World::run(scenario, seed).verdict();
        assert_eq!(verdict, Ok(()), "{scenario:?} seed {seed}: {story}");
    }
}

#[test]
fn equal_seeds_give_equal_traces() {
    for seed in 0..20 {
        for scenario in Scenario::ALL {
            let traces = [0, 1].map(|_| World::run_traced(scenario, seed).trace_hash());
            assert_eq!(traces[0], traces[1], "{scenario:?} seed {seed}");
        }
    }
}

#[test]
#[ignore = "for whoever looks into the seed in PERCOLATE_SEED"]
fn replays_a_seed() {
    let text = std::env::var("PERCOLATE_SEED").expect("PERCOLATE_SEED names a seed");
    let seed = text.parse().expect("PERCOLATE_SEED is a number");
    for scenario in Scenario::ALL {
        let world = World::run_traced(scenario, seed);
        println!(
            "{scenario:?}: {:?}\n{}",
            world.verdict(),
            world.trace_tail()
        );
    }
}

#[test]
#[ignore = "runs for PERCOLATE_SOAK_SECONDS: make soak"]
fn soaks_in_fresh_seeds() {
    let text =
        std::env::var("PERCOLATE_SOAK_SECONDS").expect("PERCOLATE_SOAK_SECONDS says for how long");
    let seconds = text.parse().expect("PERCOLATE_SOAK_SECONDS is a number");
    let outcome = soak::soak(Duration::from_secs(seconds), |line| println!("{line}"));
    if let Err(violation) = outcome {
        panic!("{violation}");
    }
}
