//! Clients that write and read a few keys, and remember what they did and what they were told.
//!
//! ```text
//! a client ─▶ Propose, Confirm, or a read at any replica ─▶ answered, refused, or never known
//!    └─────── the same write again, under its identity ◀─────────────────────────────────┘
//! ```
//! Three kinds of operations: writes; reads that a leader confirms first, which with the writes
//! must be linearizable for each key; and reads of a session at any replica, which may be old,
//! but not older than what that client has seen of the key. Every replica's state is kept from
//! the entries it applies, and hashed: at an equal index all are equal.

use std::collections::BTreeMap;

use percolate_core::identity::{Epoch, Index};
use percolate_core::log::SharedEntry;
use percolate_core::replica::{Input, Position, RequestId, StateDigest};

use super::history::{Action, Moment, Operation, Value};
use super::store::{Key, Store, Write};
use super::{DURATION, Dice, Event, QUIET, Scenario, World, linearizability};

/// Enough that operations overlap, few enough that they meet on a key.
const CLIENTS: usize = 3;
const KEYS: Key = 2;
/// A client tries again when nothing was answered for so long.
const ANSWER_WITHIN: u64 = 1_500;
/// A pause between tries, and between operations up to twice as long.
const PAUSE: u64 = 250;
/// How far two clocks may differ.
const CLOCKS_APART: u64 = 10_000;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Write(Write),
    Confirmed,
    Session,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy)]
struct Doing {
    kind: Kind,
    key: Key,
    invoked: Moment,
    /// The latest try, while it may be answered.
    request: Option<RequestId>,
    /// An earlier try may take effect, now or later.
    uncertain: bool,
    again_at: u64,
    tries: u64,
}

#[derive(Debug, Clone, Default)]
struct Client {
    /// The highest index it was told of: reads of its session want it applied.
    token: Index,
    /// Where what it last saw of each key took effect.
    seen: [Index; KEYS as usize],
    doing: Option<Doing>,
    idle_until: u64,
}

/// What clients do, and what came of it.
pub(super) struct Clients {
    dice: Dice,
    moment: Moment,
    everyone: Vec<Client>,
    values: Value,
    identities: u64,
    histories: [Vec<Operation>; KEYS as usize],
    /// Proposals that replicas have taken, by replica and place.
    proposed: BTreeMap<(usize, Index), RequestId>,
    stores: Vec<Store>,
    /// The hash of the state at each index, of whoever got there first.
    states: BTreeMap<Index, u64>,
    /// Where each value took effect.
    effects: BTreeMap<Value, Index>,
    session_reads: u64,
    /// How far the clock of each replica is ahead.
    ahead: Vec<u64>,
}

impl Clients {
    pub(super) fn new(seed: u64, replicas: usize) -> Self {
        let mut clocks = Dice(seed ^ 0xc10c);
        let ahead = (0..replicas).map(|_| clocks.below(CLOCKS_APART));
        Self {
            ahead: ahead.collect(),
            dice: Dice(seed ^ 0xc11e),
            moment: 0,
            everyone: vec![Client::default(); CLIENTS],
            values: 0,
            identities: 0,
            histories: std::array::from_fn(|_| Vec::new()),
            proposed: BTreeMap::new(),
            stores: vec![Store::default(); replicas],
            states: BTreeMap::new(),
            effects: BTreeMap::new(),
            session_reads: 0,
        }
    }

    fn next_moment(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    fn waiting_for(&self, request: RequestId) -> Option<(usize, Doing)> {
        let doing = |client: &Client| client.doing.filter(|doing| doing.request == Some(request));
        let mut clients = self.everyone.iter().enumerate();
        clients.find_map(|(who, client)| Some((who, doing(client)?)))
    }

    /// `client` was told: remember the operation, and what it has seen by it.
    fn told(&mut self, who: usize, doing: Doing, action: Action, index: Index, now: u64) {
        let returned = Some(self.next_moment());
        let (Action::Write(value) | Action::Read(value)) = action;
        let place = self.effects.get(&value).copied().unwrap_or(0);
        let client = &mut self.everyone[who];
        let seen = &mut client.seen[usize::from(doing.key)];
        *seen = place.max(*seen);
        client.token = client.token.max(index);
        client.doing = None;
        client.idle_until = now + self.dice.below(2 * PAUSE);
        if !matches!(doing.kind, Kind::Session) {
            self.histories[usize::from(doing.key)].push(Operation {
                action,
                invoked: doing.invoked,
                returned,
            });
        }
    }

    /// A write whose outcome the client will never know.
    fn give_up(&mut self, who: usize, now: u64) {
        let Some(doing) = self.everyone[who].doing.take() else {
            return;
        };
        self.everyone[who].idle_until = now + self.dice.below(2 * PAUSE);
        if let Kind::Write(write) = doing.kind
            && (doing.uncertain || doing.request.is_some())
        {
            self.histories[usize::from(doing.key)].push(Operation {
                action: Action::Write(write.value),
                invoked: doing.invoked,
                returned: None,
            });
        }
    }
}

impl World {
    pub(super) fn tick_clients(&mut self) {
        let calm = !self.scenario.is_disturbed();
        if self.scenario == Scenario::Undisturbed
            && (self.now < 5_000 || self.now + QUIET > DURATION)
        {
            return;
        }
        for who in 0..CLIENTS {
            let client = &self.clients.everyone[who];
            match client.doing {
                None if self.now >= client.idle_until => self.begin(who),
                Some(doing) if self.now >= doing.again_at => {
                    // Where nothing is lost on the way, patience is rewarded.
                    let patient = calm || self.clients.dice.below(6) >= doing.tries;
                    if patient {
                        self.attempt(who, doing);
                    } else {
                        self.clients.give_up(who, self.now);
                    }
                }
                _ => {}
            }
        }
    }

    fn begin(&mut self, who: usize) {
        let key = Key::try_from(self.clients.dice.below(u64::from(KEYS))).expect("few keys");
        let kind = match self.clients.dice.below(5) {
            0 | 1 => Kind::Confirmed,
            2 => Kind::Session,
            _ => {
                self.clients.values += 1;
                self.clients.identities += 1;
                Kind::Write(Write {
                    identity: self.clients.identities,
                    key,
                    value: self.clients.values,
                    time: 0,
                })
            }
        };
        let doing = Doing {
            kind,
            key,
            invoked: self.clients.next_moment(),
            request: None,
            uncertain: false,
            again_at: 0,
            tries: 0,
        };
        self.attempt(who, doing);
    }

    /// Ask a replica: who seems to lead, now and then any.
    fn attempt(&mut self, who: usize, mut doing: Doing) {
        doing.uncertain |= doing.request.is_some();
        doing.tries += 1;
        doing.again_at = self.now + PAUSE;
        doing.request = None;
        self.clients.everyone[who].doing = Some(doing);
        let anywhere = matches!(doing.kind, Kind::Session) || self.clients.dice.one_in(10);
        let Some(target) = self.choose(doing.kind, anywhere) else {
            return;
        };
        let input = |id| match doing.kind {
            Kind::Write(write) => {
                let time = self.now + self.clients.ahead[target];
                let payload = Write { time, ..write }.encode();
                Some(Input::Propose { id, payload })
            }
            Kind::Confirmed => Some(Input::Confirm(id)),
            Kind::Session => None,
        };
        let id = self.next_request + 1;
        let Some(input) = input(id) else {
            return self.read_session(who, doing, target);
        };
        note!(self, "client {who} asks {target} for {doing:?}");
        self.next_request = id;
        doing.request = Some(id);
        doing.again_at = self.now + ANSWER_WITHIN;
        self.clients.everyone[who].doing = Some(doing);
        self.schedule(target, 0, Event::Input(input));
    }

    /// Where several seem to lead, who was replaced is asked for reads: it must not answer.
    fn choose(&mut self, kind: Kind, anywhere: bool) -> Option<usize> {
        let standings = self.nodes.iter().enumerate().filter_map(|(index, node)| {
            let standing = node.replica.as_ref()?.standing(&node.disk);
            let fit = anywhere || standing.position == Position::Leader;
            fit.then_some((standing.epoch, index))
        });
        let fit: Vec<(Epoch, usize)> = standings.collect();
        if matches!(kind, Kind::Confirmed) && !anywhere {
            return fit.iter().min().map(|(_, index)| *index);
        }
        let pick = self.clients.dice.below(fit.len().max(1) as u64);
        let pick = fit.get(usize::try_from(pick).expect("few replicas"));
        pick.map(|(_, index)| *index)
    }

    /// Whatever the replica has applied, if that is as much as the session has seen.
    fn read_session(&mut self, who: usize, doing: Doing, target: usize) {
        let store = &self.clients.stores[target];
        let paused = self.nodes[target].paused_until > self.now;
        if paused || store.applied < self.clients.everyone[who].token {
            return; // it asks again, elsewhere
        }
        let (value, applied) = (store.read(doing.key), store.applied);
        note!(
            self,
            "client {who} reads {value} of {} at {target}",
            doing.key
        );
        let place = self.clients.effects.get(&value).copied().unwrap_or(0);
        let seen = self.clients.everyone[who].seen[usize::from(doing.key)];
        if place < seen {
            return self.violate(format!(
                "client {who} reads {value} of key {} at {}, from {place}, but has seen what is from {seen}",
                doing.key, self.nodes[target].pod
            ));
        }
        self.clients.session_reads += 1;
        let now = self.now;
        self.clients
            .told(who, doing, Action::Read(value), applied, now);
    }

    /// A replica gave a proposal its place.
    pub(super) fn client_proposed(&mut self, node: usize, request: RequestId, place: Index) {
        if self.clients.waiting_for(request).is_some() {
            self.payloads += 1;
        }
        self.clients.proposed.insert((node, place), request);
    }

    /// A replica will not carry out what it was asked for.
    pub(super) fn client_refused(&mut self, request: RequestId) {
        if let Some((who, mut doing)) = self.clients.waiting_for(request) {
            doing.request = None;
            doing.again_at = self.now + PAUSE;
            self.clients.everyone[who].doing = Some(doing);
        }
    }

    /// A replica leads no longer: of what it was asked, nobody knows what becomes.
    pub(super) fn client_answers_lost(&mut self, node: usize) {
        let left: Vec<RequestId> = self
            .clients
            .proposed
            .extract_if((node, 0)..=(node, Index::MAX), |_, _| true)
            .map(|(_, request)| request)
            .collect();
        for request in left {
            if let Some((who, mut doing)) = self.clients.waiting_for(request) {
                doing.again_at = self.now;
                self.clients.everyone[who].doing = Some(doing);
            }
        }
    }

    /// A replica acknowledges what it proposed; the answer may be lost.
    pub(super) fn client_acknowledged(&mut self, node: usize, place: Index) {
        let Some(request) = self.clients.proposed.remove(&(node, place)) else {
            return;
        };
        let lost = self.scenario.is_disturbed() && self.clients.dice.one_in(8);
        let Some((who, doing)) = self.clients.waiting_for(request).filter(|_| !lost) else {
            return;
        };
        if let Kind::Write(write) = doing.kind {
            note!(self, "client {who} has written {} at {place}", write.value);
            let now = self.now;
            self.clients
                .told(who, doing, Action::Write(write.value), place, now);
        }
    }

    /// A replica led when asked: the client reads there, at the confirmed index or above.
    pub(super) fn client_confirmed(&mut self, node: usize, request: RequestId, index: Index) {
        let Some((who, doing)) = self.clients.waiting_for(request) else {
            return;
        };
        let store = &self.clients.stores[node];
        let (applied, value) = (store.applied, store.read(doing.key));
        if applied < index {
            let pod = &self.nodes[node].pod;
            return self.violate(format!("{pod} confirms {index}, having {applied} applied"));
        }
        note!(
            self,
            "client {who} reads {value} of {}, confirmed",
            doing.key
        );
        let now = self.now;
        self.clients
            .told(who, doing, Action::Read(value), applied, now);
    }

    /// O4: at an equal index replicas have equal states.
    pub(super) fn apply(&mut self, node: usize, entry: &SharedEntry) {
        let (store, place) = (&mut self.clients.stores[node], entry.head.index);
        let effect = store.apply(entry, self.breakage);
        let hash = store.hash;
        if effect.is_repeated {
            let pod = &self.nodes[node].pod;
            return self.violate(format!("what is at {place} takes effect twice at {pod}"));
        }
        if *self.clients.states.entry(place).or_insert(hash) != hash {
            let pod = &self.nodes[node].pod;
            return self.violate(format!("{pod} has another state at {place} than others"));
        }
        if let Some(value) = effect.value {
            self.clients.effects.entry(value).or_insert(place);
        }
        if let Some(merged) = effect.merged {
            self.decided(node, entry, merged);
        }
    }

    /// What was applied last is told to the machine, to be compared with what others have come to.
    pub(super) fn digest(&mut self, node: usize) {
        let store = &self.clients.stores[node];
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&store.hash.to_be_bytes());
        let index = store.applied;
        let digests = vec![StateDigest { index, hash }];
        self.schedule(node, 0, Event::Input(Input::Applied(digests)));
    }

    /// A process starts: what its disk has applied is there again.
    pub(super) fn restore_store(&mut self, node: usize) {
        self.client_answers_lost(node);
        self.clients.stores[node] = Store::default();
        for place in 1..=self.nodes[node].disk.restored().applied {
            if let Some(entry) = self.nodes[node].disk.entry(place).cloned() {
                self.apply(node, &entry);
            }
        }
    }

    /// O3: what clients were told of each key fits into one order.
    pub(super) fn judge_clients(&mut self) {
        let now = self.now;
        for who in 0..CLIENTS {
            self.clients.give_up(who, now);
        }
        for key in 0..KEYS {
            let history = &self.clients.histories[usize::from(key)];
            if let Err(unexplained) = linearizability::check(history) {
                return self.violate(format!("key {key} is not linearizable: {unexplained:?}"));
            }
        }
    }

    /// Operations of clients that were answered: writes, confirmed reads, reads of sessions; and
    /// writes whose outcome stayed unknown.
    pub(crate) fn client_operations(&self) -> [u64; 4] {
        let mut counts = [0, 0, self.clients.session_reads, 0];
        for operation in self.clients.histories.iter().flatten() {
            counts[match (operation.action, operation.returned) {
                (Action::Write(_), Some(_)) => 0,
                (Action::Read(_), _) => 1,
                (Action::Write(_), None) => 3,
            }] += 1;
        }
        counts
    }
}
