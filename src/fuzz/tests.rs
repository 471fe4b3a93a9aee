//! Replays the corpus of every target, and then mutations of it: always the same, so that a failure can be repeated.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::{WEBHOOK, names, run};

/// The folder of the crate for libFuzzer.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The inputs in the corpus of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = folder().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The words that libFuzzer inserts too, from lines such as `"\x00word"`.
fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let file = folder().join("dictionaries").join(format!("{target}.dict"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let quoted = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    quoted.map(|line| unquoted(line).unwrap_or_else(|| panic!("{target}: {line} is no word"))).collect()
}

fn unquoted(line: &str) -> Option<Vec<u8>> {
    let mut rest = line.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut word = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => (u8::from_str_radix(std::str::from_utf8(&[*high, *low]).ok()?, 16).ok()?, after),
            (b'\\', [escaped @ (b'\\' | b'"'), after @ ..]) => (*escaped, after),
            (b'\\', _) => return None,
            (plain, after) => (*plain, after),
        };
        word.push(byte);
        rest = after;
    }
    Some(word)
}

/// Number of mutations, which take about two seconds in a debug build.
fn mutations(target: &str) -> usize {
    match target {
        "outbox_file" | "outbox_rows" => 40,
        "hook_path" | "host_pattern" => 5_000,
        "cloud_events" => 2_000,
        "glob" => 150,
        "repository_path" => 1_000,
        _ => 200,
    }
}

/// One to four changes of an input: bits, cuts, repetitions, words, and pieces of another input.
fn mutated(random: &mut fastrand::Rng, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=input.len());
        let end = random.usize(at..=input.len().min(at + 64));
        match random.u8(..6) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 => drop(input.drain(at..end)),
            2 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            3 => {
                let other = &seeds[random.usize(..seeds.len())];
                let from = random.usize(..=other.len());
                input.splice(at.., other[from..].iter().copied());
            }
            4 => {
                input.splice(at..end, std::iter::repeat_with(|| random.u8(..)).take(1 + (end - at) / 8).collect::<Vec<_>>());
            }
            _ if !words.is_empty() => {
                let word = words[random.usize(..words.len())].clone();
                let until = if random.bool() { at } else { end };
                input.splice(at..until, word);
            }
            _ => {}
        }
    }
    input
}

#[track_caller]
fn holds(target: &str, input: &[u8]) {
    assert!(
        catch_unwind(AssertUnwindSafe(|| run(target, input))).is_ok(),
        "the fuzz target {target} failed; add the input to its corpus, under a name that says what it is:\n  \
         echo {} | xxd -r -p >tests/fuzz/corpus/{target}/NAME",
        hex::encode(input)
    );
}

fn replay(target: &str) {
    let (seeds, words) = (corpus(target), dictionary(target));
    assert!(!seeds.is_empty(), "{target} has no corpus");
    for seed in &seeds {
        holds(target, seed);
    }
    let mut random = fastrand::Rng::with_seed(20_261_130);
    for _ in 0..mutations(target) {
        holds(target, &mutated(&mut random, &seeds, &words));
    }
}

/// A test for each target but the webhooks, which no list here names.
macro_rules! replayed {
    ($($target:ident)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*
    };
}

replayed! {
    cloud_events glob hook_path host_pattern outbox_file outbox_rows repository_path
}

#[test]
fn the_webhook_of_every_provider() {
    let webhooks: Vec<String> = names().into_iter().filter(|name| name.ends_with(WEBHOOK)).collect();
    assert!(webhooks.len() > 5, "{webhooks:?}");
    let failed: Vec<&String> = std::thread::scope(|scope| {
        let replays: Vec<_> = webhooks.iter().map(|name| (name, scope.spawn(|| replay(name)))).collect();
        replays.into_iter().filter_map(|(name, replay)| replay.join().err().map(|_| name)).collect()
    });
    assert!(failed.is_empty(), "{failed:?} failed, as printed above");
}

#[test]
fn every_target_is_replayed_and_built() {
    let names = names();
    let others: Vec<_> = names.iter().filter(|name| !name.ends_with(WEBHOOK)).collect();
    assert_eq!(others, REPLAYED);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in names {
        let program = fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).unwrap_or_default();
        assert!(program.contains(&format!("forgebind::fuzz::run(\"{name}\", data)")), "fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is missing in tests/fuzz/Cargo.toml");
    }
}

#[test]
#[should_panic(expected = "there is no fuzz target nonsense")]
fn an_unknown_target_is_an_error() {
    run("nonsense", b"");
}

#[test]
fn mutations_are_always_the_same_and_differ_from_their_seeds() {
    let (seeds, words) = (vec![b"one".to_vec(), b"two two".to_vec()], vec![b"word".to_vec()]);
    let series = || {
        let mut random = fastrand::Rng::with_seed(1);
        (0..200).map(|_| mutated(&mut random, &seeds, &words)).collect::<Vec<_>>()
    };
    assert_eq!(series(), series());
    let changed = series().iter().filter(|input| !seeds.contains(input)).count();
    assert!(changed > 150, "{changed}");
}
