//! Paths and patterns of a source, as the files that they mean today, in a stable order.

use super::InputError;
use globset::GlobBuilder;
use std::path::{Path, PathBuf};

/// The files that paths and patterns mean.
#[derive(Debug, Default)]
pub struct Expanded {
    /// Files, in the order of the paths; each pattern's files sorted by name; none twice.
    pub files: Vec<PathBuf>,
    /// Patterns that mean no file.
    pub empty_patterns: Vec<String>,
}

/// Expands `paths`, relative ones against `folder`.
///
/// # Errors
/// A plain path that does not exist or is a folder, a pattern that is malformed, a folder that cannot be read.
pub fn expand(folder: &Path, paths: &[String]) -> Result<Expanded, InputError> {
    let mut expanded = Expanded::default();
    for path in paths {
        let full = folder.join(path);
        if !path.contains(['*', '?', '[', '{']) || full.is_file() {
            // `-` and named pipes are files here; they are read once.
            if full.is_dir() {
                return Err(InputError::Folder { path: full });
            }
            if !full.exists() {
                return Err(InputError::Missing { path: full });
            }
            push(&mut expanded.files, full);
            continue;
        }
        let matches = pattern(&full, path)?;
        if matches.is_empty() {
            expanded.empty_patterns.push(path.clone());
        }
        for file in matches {
            push(&mut expanded.files, file);
        }
    }
    Ok(expanded)
}

fn push(files: &mut Vec<PathBuf>, file: PathBuf) {
    if !files.contains(&file) {
        files.push(file);
    }
}

/// The files that one pattern means, sorted by name.
fn pattern(full: &Path, written: &str) -> Result<Vec<PathBuf>, InputError> {
    let refuse = |problem: String| InputError::Pattern { pattern: written.to_owned(), problem };
    // Walk only from the last folder before the first wildcard, and only as deep as the pattern reaches.
    let mut root = PathBuf::new();
    let mut depth = 0_usize;
    for part in full.components() {
        let wild = part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
        if wild || depth > 0 {
            depth += 1;
        } else {
            root.push(part);
        }
    }
    let text = full.to_str().ok_or_else(|| refuse("is not UTF-8".to_owned()))?;
    if text.contains("**") {
        depth = 16;
    }
    let matcher = GlobBuilder::new(text)
        .literal_separator(true)
        .build()
        .map_err(|error| refuse(error.kind().to_string()))?
        .compile_matcher();
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(&root).max_depth(depth).follow_links(true) {
        let entry = entry.map_err(|error| refuse(error.to_string()))?;
        if entry.file_type().is_file() && matcher.is_match(entry.path()) {
            files.push(entry.into_path());
        }
    }
    files.sort();
    Ok(files)
}
