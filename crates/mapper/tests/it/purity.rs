//! No floating point anywhere in the crate: not in an expression, not in a type.

use std::path::Path;

#[test]
fn no_source_file_names_a_floating_point_type() {
    let mut files = 0;
    look_into(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files > 15, "{files} files were read");
}

fn look_into(folder: &Path, files: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look_into(&path, files);
            continue;
        }
        *files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{}: the first line says what the file is", path.display());
        for (number, line) in text.lines().enumerate() {
            let words: Vec<_> = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
            let float = words.iter().any(|word| {
                ["f32", "f64", "from_f64", "to_f64"].contains(word)
                    || word.ends_with("f64") && word.starts_with(|c: char| c.is_ascii_digit())
            });
            assert!(!float, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}
