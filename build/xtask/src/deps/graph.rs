//! A graph of names, and its circles.

use std::collections::{BTreeMap, BTreeSet};

/// Who imports whom. Pure.
#[derive(Default)]
pub(super) struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
    /// One place for each import, for who has to mend it.
    places: BTreeMap<(String, String), String>,
}

impl Graph {
    pub(super) fn room(&mut self, name: &str) {
        self.edges.entry(name.to_owned()).or_default();
    }

    /// `from` imports `to`, seen at `place`. A room's imports of itself do not count.
    pub(super) fn import(&mut self, from: &str, to: &str, place: &str) {
        if from != to && self.edges.contains_key(to) {
            self.edges.entry(from.to_owned()).or_default().insert(to.to_owned());
            self.places.entry((from.to_owned(), to.to_owned())).or_insert_with(|| place.to_owned());
        }
    }

    pub(super) fn rooms(&self) -> usize {
        self.edges.len()
    }

    pub(super) fn edges(&self) -> usize {
        self.edges.values().map(BTreeSet::len).sum()
    }

    /// The shortest circle through each room that is in one, each circle once.
    pub(super) fn circles(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let circles = self.edges.keys().filter_map(|room| self.shortest(room));
        circles
            .filter(|circle| seen.insert(circle.iter().cloned().collect::<BTreeSet<_>>()))
            .map(|circle| self.told(&circle))
            .collect()
    }

    /// The rooms of the shortest way from a room back to itself, beginning with it.
    fn shortest(&self, room: &str) -> Option<Vec<String>> {
        let mut ways = vec![vec![room.to_owned()]];
        let mut reached = BTreeSet::new();
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                let last = way.last()?;
                for next in self.edges.get(last).into_iter().flatten() {
                    if next == room {
                        return Some(way);
                    }
                    if reached.insert(next.clone()) {
                        longer.push(way.iter().chain([next]).cloned().collect());
                    }
                }
            }
            ways = longer;
        }
        None
    }

    fn told(&self, circle: &[String]) -> String {
        let nexts = circle.iter().cycle().skip(1);
        let arrow = |(from, to): (&String, &String)| {
            let place = self.places.get(&(from.clone(), to.clone())).map_or("", String::as_str);
            format!("{from} -> {to} ({place})")
        };
        circle.iter().zip(nexts).map(arrow).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        edges.iter().for_each(|(from, to)| {
            graph.room(from);
            graph.room(to);
        });
        edges.iter().for_each(|(from, to)| graph.import(from, to, "x.rs"));
        graph
    }

    #[test]
    fn a_way_has_no_circle_and_a_ring_has_one() {
        assert!(graph(&[("a", "b"), ("b", "c"), ("a", "c"), ("a", "a")]).circles().is_empty());
        let ring = graph(&[("a", "b"), ("b", "c"), ("c", "a")]).circles();
        assert_eq!(ring, ["a -> b (x.rs), b -> c (x.rs), c -> a (x.rs)"]);
        assert_eq!(graph(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")]).circles().len(), 2);
    }
}
