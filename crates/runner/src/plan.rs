//! Which files of which sources an invocation reads.

use crate::config::{Config, ConfigError, Source, SourceKind};
use crate::input::{Expanded, InputError, expand, open};
use crate::pipeline::format::first_line;
use std::path::{Path, PathBuf};

/// A source with its files.
#[derive(Debug)]
pub struct Planned<'c> {
    /// The source.
    pub source: &'c Source,
    /// Its files, and patterns that mean none.
    pub files: Expanded,
}

/// Why it cannot be said what to read.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The named source is not there.
    #[error(transparent)]
    Config(Box<ConfigError>),
    /// A path cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A path is given, and nothing tells whose it is.
    #[error("{}: which source does this belong to? Use --source with one of: {sources}", path.display())]
    WhichSource {
        /// The path.
        path: PathBuf,
        /// Names of the sources.
        sources: String,
    },
}

/// The sources to read: all enabled ones or the named one, with their own paths or with the given ones.
///
/// Given paths without a source's name are told by the sources' patterns, then by their first line.
///
/// # Errors
/// An unknown source, a path that is not there, a path whose source cannot be told.
pub fn plan<'c>(
    config: &'c Config,
    source: Option<&str>,
    paths: &[String],
) -> Result<Vec<Planned<'c>>, PlanError> {
    let sources = config.selected(source).map_err(|error| PlanError::Config(Box::new(error)))?;
    if paths.is_empty() {
        return sources
            .into_iter()
            .map(|source| Ok(Planned { source, files: expand(&config.folder, &source.paths)? }))
            .collect();
    }
    let given = expand(Path::new(""), paths)?;
    if let [only] = sources.as_slice() {
        return Ok(vec![Planned { source: only, files: given }]);
    }
    let mut planned: Vec<Planned<'c>> = Vec::new();
    for file in given.files {
        let owner = owner(config, &sources, &file).ok_or_else(|| PlanError::WhichSource {
            path: file.clone(),
            sources: sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", "),
        })?;
        match planned.iter_mut().find(|planned| planned.source.name == owner.name) {
            Some(planned) => planned.files.files.push(file),
            None => {
                planned.push(Planned {
                    source: owner,
                    files: Expanded { files: vec![file], ..Expanded::default() },
                });
            }
        }
    }
    Ok(planned)
}

fn owner<'c>(config: &Config, sources: &[&'c Source], file: &Path) -> Option<&'c Source> {
    let full = std::fs::canonicalize(file).ok()?;
    let listed = |source: &&Source| {
        expand(&config.folder, &source.paths)
            .map(|own| {
                own.files.iter().filter_map(|path| std::fs::canonicalize(path).ok()).any(|path| path == full)
            })
            .unwrap_or(false)
    };
    let by_pattern: Vec<&'c Source> = sources.iter().copied().filter(listed).collect();
    if let [only] = by_pattern.as_slice() {
        return Some(only);
    }
    let (line, _) = first_line(open(file).ok()?.reader).ok()?;
    let looks = |source: &&Source| match &source.kind {
        SourceKind::Sacct { .. } => parsers::sacct::guess_delimiter(&line).is_some(),
        SourceKind::SacctJson { .. } => line.trim_ascii_start().starts_with(b"{"),
        SourceKind::Pbs { .. } => {
            line.get(2) == Some(&b'/') && line.get(5) == Some(&b'/') && line.get(19) == Some(&b';')
        }
        SourceKind::Quota { .. } => memchr::memmem::find(&line, b",BlockStatus,").is_some(),
    };
    let by_content: Vec<&'c Source> = sources.iter().copied().filter(looks).collect();
    match by_content.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}
