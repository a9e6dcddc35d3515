//! The Merkle tree of RFC 6962, over hashes that are leaves already: growing it, the nodes that a
//! proof is made of, and checking a proof. Pure; [`super::tiles`] keeps the nodes.
//!
//! The hash of a leaf begins with 0x00 ([`crate::ledger::leaf`] does), that of a node with 0x01.

use sha2::{Digest, Sha256};

/// A leaf or a node.
pub type Hash = [u8; 32];

/// Levels of the tree that one level of tiles spans.
pub(super) const TILE_HEIGHT: u32 = 8;
/// Hashes of a full tile.
pub(super) const TILE_WIDTH: usize = 1 << TILE_HEIGHT;

/// The hash of two neighbours.
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let hash = Sha256::new().chain_update([1]).chain_update(left).chain_update(right);
    hash.finalize().into()
}

/// The root of a tree without leaves.
#[must_use]
pub fn empty() -> Hash {
    Sha256::digest([]).into()
}

/// The root over a complete subtree; the number of hashes is a power of two.
pub(super) fn subtree(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            node(&subtree(left), &subtree(right))
        }
    }
}

/// Hashes of one level of the tree, next to each other: leaves, or roots of the tiles below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Level of tiles, from 0.
    pub level: u32,
    /// Its place on that level, from 0.
    pub number: u64,
    /// At most 256 hashes.
    pub hashes: Vec<Hash>,
}

/// A tree that grows: its right edge is all that it needs.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// The tiles that are not full, from the leaves up.
    edge: Vec<Vec<Hash>>,
}

impl Tree {
    /// The tree whose right edge is that.
    pub(super) fn of_edge(size: u64, edge: Vec<Vec<Hash>>) -> Tree {
        Tree { size, edge }
    }

    /// Leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; `full` is given every tile that it fills.
    pub fn push(&mut self, leaf: Hash, mut full: impl FnMut(Tile)) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            let at = level as usize;
            if self.edge.len() == at {
                self.edge.push(Vec::with_capacity(TILE_WIDTH));
            }
            self.edge[at].push(hash);
            if self.edge[at].len() < TILE_WIDTH {
                return;
            }
            let hashes = std::mem::replace(&mut self.edge[at], Vec::with_capacity(TILE_WIDTH));
            hash = subtree(&hashes);
            let number = (self.size >> (TILE_HEIGHT * (level + 1))) - 1;
            full(Tile { level, number, hashes });
        }
    }

    /// The tiles at the right edge that are not full, and not empty.
    #[must_use]
    pub fn edge(&self) -> Vec<Tile> {
        let tile = |(level, hashes): (u32, &Vec<Hash>)| Tile {
            level,
            number: self.size >> (TILE_HEIGHT * (level + 1)),
            hashes: hashes.clone(),
        };
        (0..).zip(&self.edge).map(tile).filter(|tile| !tile.hashes.is_empty()).collect()
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for hashes in &self.edge {
            let mut end = hashes.len();
            while end > 0 {
                let width = 1 << end.trailing_zeros();
                let left = subtree(&hashes[end - width..end]);
                root = Some(root.map_or(left, |right| node(&left, &right)));
                end -= width;
            }
        }
        root.unwrap_or_else(empty)
    }
}

/// A run of leaves under one hash of a proof: from, and up to but not including.
pub(super) type Run = (u64, u64);

/// Largest power of two below a number above 1.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The runs whose hashes prove that the leaf at an index is in the tree of a size, from the leaf up.
pub(super) fn inclusion(index: u64, size: u64) -> Vec<Run> {
    let (mut begin, mut end) = (0, size);
    let mut runs = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            runs.push((middle, end));
            end = middle;
        } else {
            runs.push((begin, middle));
            begin = middle;
        }
    }
    runs.reverse();
    runs
}

/// The runs whose hashes prove that the tree of a size goes on from that of a smaller one.
pub(super) fn consistency(from: u64, to: u64) -> Vec<Run> {
    let (mut begin, mut end) = (0, to);
    let mut runs = Vec::new();
    let mut whole = true;
    while from != end {
        let middle = begin + split(end - begin);
        if from <= middle {
            runs.push((middle, end));
            end = middle;
        } else {
            runs.push((begin, middle));
            (begin, whole) = (middle, false);
        }
    }
    if !whole {
        runs.push((begin, end));
    }
    runs.reverse();
    runs
}

/// The complete subtrees of a run, largest first: level and index. A run begins where a subtree
/// of its size may begin.
pub(super) fn subtrees((begin, end): Run) -> Vec<(u32, u64)> {
    let (mut at, mut found) = (begin, Vec::new());
    while at < end {
        let level = (end - at).ilog2();
        found.push((level, at >> level));
        at += 1 << level;
    }
    found
}

/// Whether a proof shows that a leaf is at an index of the tree with a size and root.
#[must_use]
pub fn includes(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let runs = inclusion(index, size);
    let pairs = runs.iter().zip(proof);
    let made = pairs.fold(leaf, |hash, ((begin, _), other)| match *begin > index {
        true => node(&hash, other),
        false => node(other, &hash),
    });
    runs.len() == proof.len() && made == *root
}

/// Whether a proof shows that the tree with a size and root goes on from a smaller one.
#[must_use]
pub fn consistent(from: (u64, &Hash), to: (u64, &Hash), proof: &[Hash]) -> bool {
    if from.0 == to.0 {
        return proof.is_empty() && from.1 == to.1;
    }
    if from.0 == 0 || from.0 > to.0 {
        return false;
    }
    let runs = consistency(from.0, to.0);
    if runs.len() != proof.len() {
        return false;
    }
    // The old tree is a complete subtree of the new one, or begins with the proof's first hash.
    let whole = runs.first().is_none_or(|(_, end)| *end > from.0);
    let (first, rest) = match (whole, proof.split_first()) {
        (true, _) => (*from.1, 0),
        (false, Some((first, _))) => (*first, 1),
        (false, None) => return false,
    };
    let (mut old, mut new) = (first, first);
    for ((begin, _), hash) in runs.iter().zip(proof).skip(rest) {
        if *begin >= from.0 {
            new = node(&new, hash);
        } else {
            (old, new) = (node(hash, &old), node(hash, &new));
        }
    }
    old == *from.1 && new == *to.1
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::secrets::hex;

    /// The leaves of the test vectors that implementations of RFC 6962 share, and their roots.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaf(bytes: &[u8]) -> Hash {
        Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
    }

    fn leaves(many: u64) -> Vec<Hash> {
        (0..many).map(|n| leaf(&n.to_be_bytes())).collect()
    }

    fn tree(leaves: &[Hash]) -> Tree {
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf, |_| {}));
        tree
    }

    /// The root as the RFC words it.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(split(many.len() as u64) as usize);
                node(&by_definition(left), &by_definition(right))
            }
        }
    }

    fn hashes(runs: &[Run], leaves: &[Hash]) -> Vec<Hash> {
        let hash = |run: &Run| {
            let of = |(level, index): (u32, u64)| {
                let begin = (index << level) as usize;
                subtree(&leaves[begin..begin + (1 << level)])
            };
            let all: Vec<Hash> = subtrees(*run).into_iter().map(of).collect();
            all.into_iter().rev().reduce(|right, left| node(&left, &right)).unwrap()
        };
        runs.iter().map(hash).collect()
    }

    #[test]
    fn roots_are_those_of_the_test_vectors() {
        let mut tree = Tree::default();
        assert_eq!(
            hex(&tree.root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (bytes, root) in LEAVES.into_iter().zip(ROOTS) {
            tree.push(leaf(bytes), |_| {});
            assert_eq!(hex(&tree.root()), root);
        }
    }

    #[test]
    fn a_tree_that_grows_has_the_root_of_the_definition_and_fills_each_tile_once() {
        let leaves = leaves(70_000);
        let (mut tree, mut full) = (Tree::default(), Vec::new());
        for (size, leaf) in (1..).zip(&leaves) {
            tree.push(*leaf, |tile| full.push((tile.level, tile.number, tile.hashes.len())));
            if [1, 255, 256, 257, 65_535, 65_536, 65_537, 70_000].contains(&size) {
                assert_eq!(tree.root(), by_definition(&leaves[..size]), "{size}");
            }
        }
        assert!(full.iter().all(|(_, _, hashes)| *hashes == 256));
        let of_level = |wanted: u32| -> Vec<u64> {
            full.iter().filter(|tile| tile.0 == wanted).map(|tile| tile.1).collect()
        };
        assert_eq!(of_level(0), (0..273).collect::<Vec<_>>());
        assert_eq!(of_level(1), [0]);
        let edge: Vec<_> =
            tree.edge().iter().map(|t| (t.level, t.number, t.hashes.len())).collect();
        assert_eq!(edge, [(0, 273, 112), (1, 1, 17), (2, 0, 1)]);
    }

    #[test]
    fn every_proof_of_a_small_tree_holds_and_none_holds_for_anything_else() {
        let leaves = leaves(70);
        for size in 1..=70_u64 {
            let root = tree(&leaves[..size as usize]).root();
            for index in 0..size {
                let proof = hashes(&inclusion(index, size), &leaves);
                let own = leaves[index as usize];
                assert!(includes(own, index, size, &proof, &root), "{index} of {size}");
                assert!(!includes(empty(), index, size, &proof, &root));
                assert!(!includes(own, index, size, &proof, &empty()));
                assert!(size == 1 || !includes(own, (index + 1) % size, size, &proof, &root));
                let longer = [proof.as_slice(), &[own]].concat();
                assert!(!includes(own, index, size, &longer, &root));
            }
            for from in 1..=size {
                let old = tree(&leaves[..from as usize]).root();
                let proof = hashes(&consistency(from, size), &leaves);
                let holds = consistent((from, &old), (size, &root), &proof);
                assert!(holds, "{from} to {size}");
                assert!(!consistent((from, &empty()), (size, &root), &proof));
                assert!(!consistent((from, &old), (size, &empty()), &proof));
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(!consistent((from, &old), (size, &root), shorter));
                }
            }
        }
    }

    #[test]
    fn proofs_are_those_of_the_examples_in_the_rfc() {
        // RFC 6962, 2.1.3: seven leaves d0 to d6.
        assert_eq!(inclusion(0, 7), [(1, 2), (2, 4), (4, 7)]);
        assert_eq!(inclusion(3, 7), [(2, 3), (0, 2), (4, 7)]);
        assert_eq!(inclusion(4, 7), [(5, 6), (6, 7), (0, 4)]);
        assert_eq!(inclusion(6, 7), [(4, 6), (0, 4)]);
        assert_eq!(consistency(3, 7), [(2, 3), (3, 4), (0, 2), (4, 7)]);
        assert_eq!(consistency(4, 7), [(4, 7)]);
        assert_eq!(consistency(6, 7), [(4, 6), (6, 7), (0, 4)]);
    }
}
