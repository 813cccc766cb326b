//! Links that are cut, streams that break, and storms.

use mortise_core::group::NodeId;

use super::{Cure, Fault};
use crate::world::{Happening, Weather, World};

impl World {
    pub(super) fn disturb(&mut self, fault: Fault, target: NodeId) {
        let other = self.any_node();
        let links: Vec<(NodeId, NodeId)> = match fault {
            Fault::Isolate => self.ids().iter().flat_map(|id| [(target, *id), (*id, target)]).collect(),
            Fault::OneWay if self.random.chance(500) => vec![(target, other)],
            Fault::OneWay => self.ids().iter().map(|id| (target, *id)).collect(),
            Fault::HeardAgain => return self.hear_again(target, other),
            Fault::Pair => vec![(target, other), (other, target)],
            Fault::Split => {
                let sides: Vec<bool> = self.ids().iter().map(|_| self.random.chance(500)).collect();
                let apart = |a: NodeId, b: NodeId| sides[a.0 as usize - 1] != sides[b.0 as usize - 1];
                let ids = self.ids();
                let all = ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b)));
                all.filter(|(a, b)| apart(*a, *b)).collect()
            }
            Fault::BreakStreams => return self.break_streams(),
            _ => return self.storm(),
        };
        let links: Vec<_> = links.into_iter().filter(|(from, to)| from != to).collect();
        self.network.cut.extend(links.iter().copied());
        let lasts = self.while_it_lasts();
        self.at(self.now + lasts, Happening::Cure(Cure::Links(links)));
    }

    /// One node does not hear another for so long that it asks to be elected, hears it again, and then nobody does.
    fn hear_again(&mut self, silent: NodeId, deaf: NodeId) {
        let heard = self.now + self.random.between(self.unit * 11 / 10, self.unit * 3 / 2);
        self.network.cut.insert((silent, deaf));
        self.at(heard, Happening::Cure(Cure::Links(vec![(silent, deaf)])));
        let isolated = heard + self.random.between(self.unit / 20, self.unit);
        self.at(isolated, Happening::Cure(Cure::Isolate(silent)));
    }

    fn break_streams(&mut self) {
        for key in self.network.whole() {
            if self.random.chance(500) {
                self.break_stream(key);
            }
        }
    }

    fn storm(&mut self) {
        let calm = self.profile.weather;
        let longest = self.random.between(calm.latency.1, self.unit / 4);
        self.network.weather = Weather {
            latency: (calm.latency.0, longest),
            lost: self.random.between(10, 150),
            twice: self.random.between(0, 200),
            ghosts: self.random.between(0, 30),
        };
        let lasts = self.while_it_lasts();
        self.at(self.now + lasts, Happening::Cure(Cure::Weather(calm)));
    }
}
