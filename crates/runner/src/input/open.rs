//! Opens one input file: plain, gzip or zstd, told by its first bytes, never by its name.

use super::InputError;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

/// Largest zstd window that is accepted, as a power of two: 128 MiB. A larger one is refused, not allocated.
const ZSTD_WINDOW_LOG: u32 = 27;

/// An opened input file.
pub struct Opened {
    /// Its decompressed bytes.
    pub reader: Box<dyn Read + Send>,
    /// Its size on disk, bytes.
    pub size: u64,
}

/// Opens a file for reading.
///
/// # Errors
/// A folder, a file that cannot be read, a compression that is not supported.
pub fn open(path: &Path) -> Result<Opened, InputError> {
    let fail = |error| InputError::Read { path: path.to_owned(), error };
    let file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if meta.is_dir() {
        return Err(InputError::Folder { path: path.to_owned() });
    }
    Ok(Opened { reader: decompress(file, path)?, size: meta.len() })
}

/// A file that is read more than once. What comes from a pipe is kept in an unlinked temporary file first.
#[derive(Debug)]
pub struct Rereadable<'p> {
    file: File,
    path: &'p Path,
}

impl<'p> Rereadable<'p> {
    /// Opens a file for reading it more than once.
    ///
    /// # Errors
    /// As [`open`]; and where a pipe's bytes cannot be kept.
    pub fn open(path: &'p Path) -> Result<Self, InputError> {
        let fail = |error| InputError::Read { path: path.to_owned(), error };
        let mut file = File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if meta.is_dir() {
            return Err(InputError::Folder { path: path.to_owned() });
        }
        if !meta.is_file() {
            let mut kept = tempfile::tempfile().map_err(fail)?;
            io::copy(&mut file, &mut kept).map_err(fail)?;
            file = kept;
        }
        Ok(Self { file, path })
    }

    /// Its decompressed bytes, from the beginning. Readers share their place in the file: one is done before the next is made.
    ///
    /// # Errors
    /// Where the file cannot be read, or its compression is not supported.
    pub fn read(&self) -> Result<Box<dyn Read + Send>, InputError> {
        let fail = |error| InputError::Read { path: self.path.to_owned(), error };
        let mut file = self.file.try_clone().map_err(fail)?;
        file.rewind().map_err(fail)?;
        decompress(file, self.path)
    }
}

/// The decompressed bytes of a file.
fn decompress(mut file: File, path: &Path) -> Result<Box<dyn Read + Send>, InputError> {
    let fail = |error| InputError::Read { path: path.to_owned(), error };
    let mut magic = Vec::with_capacity(6);
    file.by_ref().take(6).read_to_end(&mut magic).map_err(fail)?;
    let compression = |format| Err(InputError::Compression { path: path.to_owned(), format });
    let whole = io::Cursor::new(magic.clone()).chain(file);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => {
            // Several members one behind the other are one file: logrotate and `cat a.gz b.gz` make such.
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, whole)))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::new(whole).map_err(fail)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(fail)?;
            Box::new(decoder)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return compression("xz"),
        [b'B', b'Z', b'h', ..] => return compression("bzip2"),
        [b'P', b'K', 3, 4, ..] => return compression("zip"),
        _ => Box::new(whole),
    })
}
