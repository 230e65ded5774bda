//! What is asked of the replicas without looking at the answers' content: load, confirmations,
//! handovers of processes that stop.

use percolate_core::replica::{Input, Position};

use super::{DURATION, Event, QUIET, Scenario, World};

impl World {
    pub(super) fn load(&mut self) {
        if !self.register.requests.is_empty() && self.now + QUIET >= DURATION {
            self.register.requests.clear();
            self.register.version += 1;
            self.notify_watchers();
        }
        if self.scenario == Scenario::Undisturbed
            && (self.now < 5_000 || self.now + QUIET > DURATION)
        {
            return;
        }
        for index in 0..self.nodes.len() {
            let leads = self.nodes[index].position() == Some(Position::Leader);
            // With what clients write about half of what a simulated disk can sync: who comes back has
            // to catch up before the end.
            if leads && self.dice.one_in(5) {
                for _ in 0..=self.dice.below(4) {
                    self.payloads += 1;
                    self.next_request += 1;
                    let payload = self.payloads.to_be_bytes().to_vec();
                    let id = self.next_request;
                    self.schedule(index, 0, Event::Input(Input::Propose { id, payload }));
                }
            }
            if leads && self.dice.one_in(20) {
                self.next_request += 1;
                let id = self.next_request;
                self.asked.insert(
                    id,
                    self.acknowledged.keys().next_back().copied().unwrap_or(0),
                );
                self.schedule(index, 0, Event::Input(Input::Confirm(id)));
            }
            if self.scenario == Scenario::Handovers
                && self.nodes[index].replica.is_some()
                && self.now + QUIET < DURATION
                && self.dice.one_in(150)
            {
                self.next_request += 1;
                let id = self.next_request;
                let asked = (index, self.nodes[index].process, self.now);
                self.handovers.insert(id, asked);
                self.schedule(index, 0, Event::Input(Input::HandOver(id)));
            }
        }
    }
}
