//! However a stream is cut, lost and repeated: both ends hear the same, and the same opens.

use crate::conversation::{TIMEOUT, masquerade, publish, publish_v6};
use crate::tcp::{Dice, FAIR, Result, Weather, Wire};
use ftp_nat_common::abi::Session;

/// A turn: whose it is (true: the server's), and what is said.
type Turn = (bool, &'static str);

const C: bool = false;
const S: bool = true;

/// A session, and its turns.
struct Scene {
    session: fn([u32; 2]) -> Session,
    turns: &'static [Turn],
}

const SCENES: [Scene; 6] = [
    Scene {
        session: publish,
        turns: &[
            (S, "220-Welcome\r\n 227 (10,0,0,5,1,1)\r\n220 to this\r\n"),
            (C, "USER a\r\n"),
            (S, "331 Password\r\n"),
            (C, "PASS b\r\n"),
            (S, "230 In\r\n"),
            (C, "PASV\r\n"),
            (S, "227 Entering Passive Mode (10,0,0,5,195,80).\r\n"),
            (C, "RETR a\r\n"),
            (S, "150 Opening\r\n226 Done\r\n"),
            (C, "PASV\r\n"),
            (S, "227 =10,0,0,5,195,81\r\n"),
            (C, "LIST\r\n"),
            (S, "150 Opening\r\n"),
            (S, "226 Done\r\n"),
        ],
    },
    Scene {
        session: publish,
        turns: &[
            (S, "220 Hi\r\n"),
            (C, "NOOP\r\nPASV\r\nCWD x\r\nPASV\r\n"),
            (S, "200 Ok\r\n227 (10,0,0,5,195,80)\r\n550 No\r\n"),
            (
                S,
                "227-Two\r\n 10,0,0,5,195,81\r\n227 (10,0,0,5,195,82)\r\n",
            ),
            (C, "EPSV\r\nEPSV\r\n"),
            (S, "500 No\r\n229 Ok (|||50003|)\r\n"),
            (C, "PORT 198,51,100,7,200,1\r\nRETR x\r\n"),
            (S, "200 Ok\r\n150 a\r\n226 b\r\n227 (10,0,0,5,195,84)\r\n"),
            (C, "PORT 192,0,2,1,0,25\r\n"),
            (S, "500 XXXX\r\n"),
        ],
    },
    Scene {
        session: masquerade,
        turns: &[
            (S, "220 Hi\r\n"),
            (C, "PORT 192,168,1,7,195,80\r\n"),
            (S, "200 Ok\r\n"),
            (C, "RETR a\r\n"),
            (S, "150 x\r\n226 y\r\n"),
            (C, "EPRT |1|192.168.1.7|50001|\r\nRETR b\r\n"),
            (S, "200 Ok\r\n150 x\r\n226 y\r\n"),
            (C, "NOOP\r\nPORT 192,168,1,7,1,1\r\nNOOP\r\n"),
            (S, "200 Ok\r\n500 No\r\n200 Ok\r\n"),
            (
                C,
                "P\nPO\nPOR\nPORT\nPORT \nPORT 1\nEPR\n\n\nPORT 192,168,1,7,195,82\n",
            ),
            (S, "500 No\n"),
        ],
    },
    Scene {
        session: publish_v6,
        turns: &[
            (S, "220 Hi\r\n"),
            (C, "EPSV\r\n"),
            (S, "229 Ok (|2|fe80::1|50000|)\r\n"),
            (C, "EPSV\r\n"),
            (S, "229 (!!!50001!)\r\n"),
            (C, "EPRT |2|2001:db8:2::7|50002|\r\nEPRT |2|::1|50003|\r\n"),
            (S, "200 Ok\r\n500 No\r\n"),
        ],
    },
    Scene {
        session: publish,
        turns: &[
            (S, "220 Hi\r\n"),
            (C, "PASV\r\n"),
            (S, "227 Logout.\r\n"),
            (C, "PASV\r\n"),
            (S, "227 Mode (10,0,0,5,195).\r\n2"),
            (S, "2\n22\r\n227\r227 (10,0,0,5,195,80)\r\n\r\n227 x\r\n"),
            (C, "AUTH TLS\r\n"),
            (S, "234 Go\r\n"),
            (C, "\u{16}\u{3}\u{1}\u{0}\n\u{1}PASV\u{2}\r\n\u{3}"),
            (
                S,
                "\u{16}\u{3}\u{1}\u{0}\n\u{1}227 (10,0,0,5,195,81)\u{2}\r\n\u{3}",
            ),
        ],
    },
    Scene {
        session: publish,
        turns: &[
            (S, "220 Hi\r\n"),
            (C, "PASV\r\n"),
            (
                S,
                "200 A line that holds nothing, but is rather long all the same\r\n",
            ),
            (
                S,
                "227 \u{8fdb}\u{5165}\u{88ab}\u{52a8}\u{ff08}10,0,0,5,195,80\u{ff09}\r\n",
            ),
            (C, "PASV\r\n"),
            (S, "227 ( 255 , 255 , 255 , 255 , 195 , 81 )\n"),
            (C, "PASV\r\n"),
            (
                S,
                "227-a b c d e f (10,0,0,5,195,82)\n227 a b c d e f (10,0,0,5,195,82)\n",
            ),
        ],
    },
];

/// The turns of a scene, cut.
fn cut(turns: &[Turn], mut pieces: impl FnMut(&[u8]) -> Vec<Vec<u8>>) -> Vec<(bool, Vec<Vec<u8>>)> {
    let cut = |(is_server, text): &Turn| (*is_server, pieces(text.as_bytes()));
    turns.iter().map(cut).collect()
}

fn whole(scene: &Scene, isn: [u32; 2]) -> Result {
    let turns = cut(scene.turns, |text| vec![text.to_vec()]);
    let it = Wire::new((scene.session)(isn), FAIR).play(&turns);
    assert!(!it.openings.is_empty() || scene.turns.iter().any(|(_, text)| text.contains("234")));
    it
}

/// Cut at these places.
fn at(places: &[usize]) -> impl FnMut(&[u8]) -> Vec<Vec<u8>> + use<> {
    let places = places.to_vec();
    move |text| {
        let mut pieces = Vec::new();
        let mut from = 0;
        for place in places.iter().chain([&text.len()]) {
            let to = (*place).clamp(from, text.len());
            if to > from {
                pieces.push(text[from..to].to_vec());
            }
            from = to;
        }
        pieces
    }
}

#[test]
fn a_cut_at_every_byte_changes_nothing() {
    for (number, scene) in SCENES.iter().enumerate() {
        let wanted = whole(scene, [1, 2]);
        let longest = scene
            .turns
            .iter()
            .map(|(_, text)| text.len())
            .max()
            .unwrap();
        for nagle in [false, true] {
            for place in 1..longest {
                let weather = Weather { nagle, ..FAIR };
                let turns = cut(scene.turns, at(&[place]));
                let it = Wire::new((scene.session)([1, 2]), weather).play(&turns);
                assert_eq!(it, wanted, "scene {number}, cut at {place}, Nagle {nagle}");
            }
        }
    }
}

#[test]
fn a_cut_at_every_pair_of_bytes_changes_nothing() {
    for (number, scene) in SCENES.iter().enumerate() {
        let wanted = whole(scene, [1, 2]);
        let longest = scene
            .turns
            .iter()
            .map(|(_, text)| text.len())
            .max()
            .unwrap();
        for first in 1..longest {
            for second in first + 1..longest {
                let weather = Weather {
                    nagle: (first + second) % 2 == 0,
                    seed: (first * second) as u64,
                    ..FAIR
                };
                let turns = cut(scene.turns, at(&[first, second]));
                let it = Wire::new((scene.session)([1, 2]), weather).play(&turns);
                assert_eq!(it, wanted, "scene {number}, cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn single_bytes_change_nothing() {
    for (number, scene) in SCENES.iter().enumerate() {
        let wanted = whole(scene, [1, 2]);
        for nagle in [false, true] {
            for window in [1, 2, 10, 1000] {
                for seed in 0..20 {
                    let weather = Weather {
                        nagle,
                        window,
                        seed,
                        ..FAIR
                    };
                    let turns = cut(scene.turns, |text| {
                        text.iter().map(|byte| vec![*byte]).collect()
                    });
                    let it = Wire::new((scene.session)([1, 2]), weather).play(&turns);
                    assert_eq!(it, wanted, "scene {number}, {weather:?}");
                }
            }
        }
    }
}

/// Random cuts on a random network, with numbers that wrap.
fn storm(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut dice = Dice(seed);
        let scene = &SCENES[dice.below(SCENES.len() as u64) as usize];
        let isn = [0, 1].map(|_| match dice.below(3) {
            0 => dice.throw() as u32,
            _ => 0_u32.wrapping_sub(dice.below(300) as u32),
        });
        let loss = [0, 5, 20, 40][dice.below(4) as usize];
        let weather = Weather {
            seed,
            loss,
            // Lines are let go at last: here that would be a difference.
            timeout: if loss > 0 { 10_000_000 } else { TIMEOUT },
            repeats: [0, 5, 30][dice.below(3) as usize],
            late: [0, 5, 30][dice.below(3) as usize],
            segment: [8, 50, 536, 1400][dice.below(4) as usize],
            window: 1 + dice.below(10) as usize,
            nagle: dice.below(2) == 0,
        };
        let turns = cut(scene.turns, |text| {
            let mut places: Vec<_> = (0..dice.below(6))
                .map(|_| dice.below(text.len() as u64) as usize)
                .collect();
            places.sort_unstable();
            at(&places)(text)
        });
        let wanted = whole(scene, isn);
        let it = Wire::new((scene.session)(isn), weather).play(&turns);
        assert_eq!(it, wanted, "seed {seed}: {weather:?}");
    }
}

#[test]
fn a_storm_changes_nothing() {
    storm(0..20_000);
}

/// The same for as long as one wants: `cargo test -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn a_long_storm_changes_nothing() {
    storm(1_000_000..3_000_000);
}
