//! The import graphs, of files and of top-level modules.

use crate::index::Index;
use crate::scanner::Source;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// A directed graph without parallel edges and loops.
pub(crate) struct ImportGraph {
    edges: Vec<BTreeSet<usize>>,
}

impl ImportGraph {
    /// The graph of files: an edge leads from a file to each file that declares a name it uses. A `mod` declaration
    /// and a `pub use` of a module below are folder structure, not an edge.
    pub(crate) fn of_files(sources: &[Source]) -> Self {
        let index = Index::new(sources);
        let mut edges = vec![BTreeSet::new(); sources.len()];
        for (n, source) in sources.iter().enumerate() {
            for (path, is_public) in index.absolute_paths(n) {
                let Some(to) = index.declared_in(&path).filter(|to| *to != n) else {
                    continue;
                };
                if !(is_public && sources[to].module.starts_with(&source.module)) {
                    edges[n].insert(to);
                }
            }
        }
        Self { edges }
    }

    /// Merges the nodes that `group` maps to the same number.
    pub(crate) fn grouped(&self, count: usize, group: impl Fn(usize) -> usize) -> Self {
        let mut edges = vec![BTreeSet::new(); count];
        for (from, to) in self.edges() {
            if group(from) != group(to) {
                edges[group(from)].insert(group(to));
            }
        }
        Self { edges }
    }

    /// All edges.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (usize, usize)> {
        self.edges
            .iter()
            .enumerate()
            .flat_map(|(from, to)| to.iter().map(move |to| (from, *to)))
    }

    /// The shortest cycle through the edge `from → to`; its first node is repeated at its end.
    pub(crate) fn cycle(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut came_from = HashMap::from([(to, from)]);
        let mut queue = VecDeque::from([to]);
        while let Some(node) = queue.pop_front() {
            for next in &self.edges[node] {
                if *next == from {
                    let mut way = vec![from, node];
                    while way[way.len() - 1] != from {
                        way.push(came_from[&way[way.len() - 1]]);
                    }
                    way.reverse();
                    // Starts at the smallest node, so that each cycle has one spelling.
                    way.pop();
                    let least = (0..way.len()).min_by_key(|n| way[*n])?;
                    way.rotate_left(least);
                    way.push(way[0]);
                    return Some(way);
                }
                if !came_from.contains_key(next) {
                    came_from.insert(*next, node);
                    queue.push_back(*next);
                }
            }
        }
        None
    }
}

#[test]
fn the_shortest_cycle_through_an_edge_is_found() {
    let edges = [vec![1], vec![2, 3], vec![3], vec![0, 4], vec![]];
    let graph = ImportGraph {
        edges: edges.into_iter().map(BTreeSet::from_iter).collect(),
    };
    assert_eq!(graph.cycle(0, 1), Some(vec![0, 1, 3, 0]));
    assert_eq!(graph.cycle(1, 2), Some(vec![0, 1, 2, 3, 0]));
    assert_eq!(graph.cycle(3, 4), None);
    assert!(
        graph
            .grouped(2, |n| usize::from(n == 4))
            .cycle(0, 1)
            .is_none()
    );
    assert!(
        graph
            .grouped(2, |n| usize::from(n == 2))
            .cycle(0, 1)
            .is_some()
    );
}
