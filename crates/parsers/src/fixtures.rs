//! Real `sacct` text for unit tests: what the shortcuts are held against the grammars with.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// Every `sacct` text of the fixtures, by its path.
pub(crate) fn texts() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/slurm");
    let mut texts = Vec::new();
    for version in ["22.05", "24.05", "26.05-sample", "22.05-latin1db"] {
        for entry in std::fs::read_dir(root.join(version)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.to_ascii_lowercase().starts_with("p-") {
                continue;
            }
            let mut text = std::fs::read(&path).unwrap();
            if name.ends_with(".gz") {
                let packed = std::mem::take(&mut text);
                flate2::read::GzDecoder::new(&*packed).read_to_end(&mut text).unwrap();
            }
            texts.push((format!("{version}/{name}"), text));
        }
    }
    assert!(texts.len() > 50, "{}", texts.len());
    texts
}

/// Every distinct field of them, whatever column it stands in.
pub(crate) fn fields() -> BTreeSet<Vec<u8>> {
    let split = |byte: &u8| matches!(byte, b'|' | b'\n' | 0x1f);
    texts().iter().flat_map(|(_, text)| text.split(split)).map(<[u8]>::to_vec).collect()
}
