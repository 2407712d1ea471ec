//! The fuzzer's targets over their seeds, and over variations of them: a short run, without
//! libFuzzer.

use crate::targets;
use crate::tcp::Dice;
use std::fs;
use std::path::Path;

type Target = (&'static str, fn(&[u8]), u32);

/// Each target, and how many variations of each seed it gets.
const TARGETS: [Target; 5] = [
    ("commands", targets::commands::run, 200),
    ("finders", targets::finders::run, 500),
    ("replies", targets::replies::run, 200),
    ("segments", targets::segments::run, 200),
    ("splits", targets::splits::run, 20),
];

#[test]
fn seeds_and_their_like_break_no_promise() {
    for (name, run, variations) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/seeds")
            .join(name);
        let mut seeds: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|it| it.unwrap().path())
            .collect();
        seeds.sort();
        assert!(seeds.len() >= 5, "{name} has seeds");
        let mut dice = Dice(1);
        let seeds: Vec<_> = seeds.iter().map(|seed| fs::read(seed).unwrap()).collect();
        for seed in &seeds {
            run(seed);
            for _ in 0..variations {
                let other = &seeds[dice.below(seeds.len() as u64) as usize];
                run(&varied(seed, other, &mut dice));
            }
        }
    }
}

/// A few bytes replaced, taken out or doubled, or another seed's end.
fn varied(seed: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(data.len() as u64 + 1) as usize;
        match dice.below(5) {
            0 if at < data.len() => data[at] = dice.throw() as u8,
            1 if at < data.len() => drop(data.remove(at)),
            2 => data.insert(at, b"\n\r ,|()0129\xff"[dice.below(12) as usize]),
            3 => {
                data.truncate(at);
                data.extend(&other[at.min(other.len())..]);
            }
            _ => {
                let piece = data[at..data.len().min(at + 20)].to_vec();
                data.splice(at..at, piece);
            }
        }
    }
    data
}
