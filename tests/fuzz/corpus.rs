//! What is kept: `corpus/TARGET/`. A file that ends in `.hex` has one input a line, `#` before a comment; any other file is
//! one input.

use std::{collections::BTreeSet, fs, path::PathBuf};

/// Longer inputs are not kept by themselves.
const MAX_KEPT_BYTES: usize = 1024;
/// So many of one target are kept by themselves, with so many bytes together.
const MAX_KEPT: usize = 60;
const MAX_KEPT_TOTAL: usize = 5 * 1024;

fn directory(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// The inputs of a target, in the order of their files' names.
pub fn read(target: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(directory(target)) else { return Vec::new() };
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    let mut inputs = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).expect("a readable file");
        if path.extension().is_some_and(|extension| extension == "hex") {
            let text = String::from_utf8(bytes).expect("a file of hexadecimal digits");
            inputs.extend(text.lines().filter(|line| !line.starts_with('#')).map(unhex));
        } else {
            inputs.push(bytes);
        }
    }
    inputs
}

/// Adds inputs to `kept.hex`, the shortest first, as long as there is room.
pub fn keep(target: &str, found: &[Vec<u8>]) {
    let path = directory(target).join("kept.hex");
    fs::create_dir_all(directory(target)).expect("a directory for the corpus");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let mut lines: BTreeSet<(usize, String)> = before.lines().map(|line| (line.len(), line.to_owned())).collect();
    let short = found.iter().filter(|input| input.len() <= MAX_KEPT_BYTES);
    lines.extend(short.map(|input| (input.len() * 2, hex(input))));
    let lines: Vec<(usize, String)> = lines.into_iter().collect();
    // Every so manyth, so that long ones are among them.
    let step = lines.len().div_ceil(MAX_KEPT).max(1);
    let mut text = String::new();
    for (_, line) in lines.iter().step_by(step) {
        if text.len() + line.len() < 2 * MAX_KEPT_TOTAL {
            text.push_str(line);
            text.push('\n');
        }
    }
    fs::write(&path, text).expect("a file for the corpus");
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits.
pub fn unhex(line: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal digits");
    (0..line.len()).step_by(2).map(byte).collect()
}
