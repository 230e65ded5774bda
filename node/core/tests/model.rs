//! The rules of replication, explored completely within bounds: every order of deliveries, losses,
//! repetitions, late and unknown register changes, crashes and lost disks. And each rule broken
//! once, to see that the exploration would notice.

#[path = "model/protocol.rs"]
mod protocol;

use std::time::{Duration, Instant};

use protocol::{Bounds, Mutation, Protocol, Step, World};
use stateright::{Checker, HasDiscoveries, Model, Property};

const ACKNOWLEDGED_IS_KEPT: &str = "every acknowledged entry is on every in-sync disk";
const ONE_HISTORY: &str = "one value at each place, one acknowledging leader in each epoch";
const ACKNOWLEDGES: &str = "something is acknowledged";
const SUCCEEDS: &str = "a successor acknowledges more";

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.steps(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        self.take(world, &step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ACKNOWLEDGED_IS_KEPT, |_, world: &World| is_kept(world)),
            Property::always(ONE_HISTORY, |_, world: &World| world.broken.is_none()),
            Property::sometimes(ACKNOWLEDGES, |_, world: &World| {
                world.acknowledged.len() == 2
            }),
            Property::sometimes(SUCCEEDS, |_, world: &World| {
                world.acknowledging[2].is_some() && world.acknowledging[1].is_some()
            }),
        ]
    }
}

fn is_kept(world: &World) -> bool {
    let members =
        (0..world.nodes.len()).filter(|pod| world.register.in_sync.contains(world.disk_of(*pod)));
    members.into_iter().all(|pod| {
        let log = world.nodes[pod].durable.log;
        (0..world.acknowledged.len()).all(|index| log.get(index) == world.acknowledged.get(index))
    })
}

/// Says how much there was to see.
fn explore(bounds: Bounds) -> String {
    let protocol = Protocol {
        bounds,
        mutation: Mutation::None,
    };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    format!("{states} states, up to {depth} steps deep")
}

const TWO: Bounds = Bounds {
    replicas: 2,
    in_sync: 2,
    writes: 2,
    epochs: 3,
    versions: 4,
    crashes: 1,
    lost_disks: 1,
};

const THREE: Bounds = Bounds {
    replicas: 3,
    in_sync: 2,
    writes: 2,
    epochs: 2,
    versions: 3,
    crashes: 1,
    lost_disks: 0,
};

#[test]
fn two_replicas_keep_what_they_acknowledge() {
    println!("two replicas: {}", explore(TWO));
}

#[test]
fn three_replicas_keep_what_they_acknowledge() {
    println!("three replicas: {}", explore(THREE));
}

/// What is too much for every push. Complete where it ends in time; else as far as it gets.
#[test]
#[ignore = "runs for up to PERCOLATE_SOAK_SECONDS: make soak"]
fn larger_bounds_keep_what_they_acknowledge() {
    let text =
        std::env::var("PERCOLATE_SOAK_SECONDS").expect("PERCOLATE_SOAK_SECONDS says for how long");
    let seconds = text.parse().expect("PERCOLATE_SOAK_SECONDS is a number");
    let bounds = Bounds {
        epochs: 4,
        versions: 5,
        crashes: 2,
        ..TWO
    };
    let began = Instant::now();
    let time = Duration::from_secs(seconds);
    let checker = Protocol {
        bounds,
        mutation: Mutation::None,
    }
    .checker()
    .threads(2)
    .timeout(time)
    .spawn_bfs()
    .join();
    for rule in [ACKNOWLEDGED_IS_KEPT, ONE_HISTORY] {
        checker.assert_no_discovery(rule);
    }
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let extent = if began.elapsed() < time {
        "all"
    } else {
        "time is up after"
    };
    println!(
        "two replicas, four epochs, two crashes: {extent} {states} states, up to {depth} steps deep"
    );
}

#[test]
fn each_broken_rule_is_noticed() {
    for mutation in Mutation::ALL {
        let checker = Protocol {
            bounds: THREE,
            mutation,
        }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
        let found = checker.discoveries();
        let broken = found.get(ACKNOWLEDGED_IS_KEPT).or(found.get(ONE_HISTORY));
        let steps = broken.map(|path| path.clone().into_actions());
        let steps = steps.unwrap_or_else(|| panic!("{mutation:?} goes unnoticed"));
        println!(
            "{mutation:?}: noticed after {} steps of {} states\n  {steps:?}",
            steps.len(),
            checker.unique_state_count()
        );
    }
}
