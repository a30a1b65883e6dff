//! The API key: read from a file, a systemd credential or the environment, and never shown again.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// No name has a key of this length in it by chance.
const LONG_KEY: usize = 12;

/// The longest key; real ones have some dozens of characters. A longer file is some other file.
const MAX_KEY_BYTES: usize = 4096;

/// The key that a site sends with each request. Its `Debug` prints nothing of it, and it is wiped from memory when it is
/// dropped. The header that carries it is marked as sensitive; copies that the HTTP library makes of headers are not wiped.
///
/// ```
/// use amie_usage::ApiKey;
/// let key = ApiKey::new("s3cr3t\n")?;
/// assert_eq!(format!("{key:?}"), "ApiKey(****)");
/// # Ok::<(), amie_usage::KeyError>(())
/// ```
#[derive(Clone)]
pub struct ApiKey {
    key: SecretString,
    /// The key as JSON, HTML and addresses write it, where that is different: it is looked for in what comes back.
    other_spellings: Vec<SecretString>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(****)")
    }
}

/// Why there is no key. No variant holds any part of one.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the API key from {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Everybody on the host may read the file.
    #[error(
        "the API key in {} is open to everybody (mode {mode:04o}); run: chmod o-rwx {}",
        path.display(),
        shell_word(path)
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The environment variable is not set.
    #[error("there is no API key: the environment variable {name} is not set")]
    NoVariable {
        /// The variable.
        name: String,
    },
    /// Not started by systemd with that credential.
    #[error(
        "there is no API key: no systemd credential \"{name}\" \
         (CREDENTIALS_DIRECTORY is not set; the unit needs LoadCredential={name}:FILE)"
    )]
    NoCredential {
        /// The credential.
        name: String,
    },
    /// Not the name of a credential.
    #[error("\"{name}\" cannot be the name of a systemd credential")]
    CredentialName {
        /// The name.
        name: String,
    },
    /// Nothing is there.
    #[error("the API key in {origin} is empty")]
    Empty {
        /// Where it was looked for.
        origin: String,
    },
    /// It is longer than any key, or has characters that cannot be sent in a header.
    #[error(
        "the API key in {origin} is too long, or has blanks, line ends or other characters that cannot be sent"
    )]
    Unsendable {
        /// Where it was found.
        origin: String,
    },
}

impl ApiKey {
    /// The key itself; one line end behind it is cut.
    ///
    /// # Errors
    /// Where it is empty, or has other characters than visible ASCII.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        Self::checked(text.as_bytes(), "the configuration")
    }

    /// Reads a file that only its owner and its group may read (`0640 root:group` is usual).
    ///
    /// # Errors
    /// Where it cannot be read, is open to others, or holds no key.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // The mode of what was opened, not of what the name means by now.
        let metadata = file.metadata().map_err(failed)?;
        refuse_open(path, &metadata)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        file.take(MAX_KEY_BYTES as u64 + 3).read_to_end(&mut bytes).map_err(failed)?;
        Self::checked(&bytes, &path.display().to_string())
    }

    /// Reads an environment variable.
    ///
    /// # Errors
    /// Where it is not set, or holds no key.
    pub fn from_env(name: &str) -> Result<Self, KeyError> {
        let value = std::env::var_os(name).ok_or_else(|| KeyError::NoVariable { name: name.to_owned() })?;
        let value = Zeroizing::new(value.into_encoded_bytes());
        Self::checked(&value, &format!("the environment variable {name}"))
    }

    /// Reads a systemd credential: `$CREDENTIALS_DIRECTORY/name`, which `LoadCredential=name:FILE` puts there.
    ///
    /// # Errors
    /// Where there is none of that name, or it holds no key.
    pub fn from_credential(name: &str) -> Result<Self, KeyError> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(KeyError::CredentialName { name: name.to_owned() });
        }
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
            .ok_or_else(|| KeyError::NoCredential { name: name.to_owned() })?;
        Self::from_file(Path::new(&folder).join(name))
    }

    /// The key, for the one header that carries it.
    pub(crate) fn expose(&self) -> &str {
        self.key.expose_secret()
    }

    /// A text that somebody else wrote, without the key, should it have come back in it.
    ///
    /// It is looked for as it is, and as JSON, HTML and addresses would write it.
    pub(crate) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.redact_in_place(&mut text);
        text
    }

    /// The same; a text without the key is not copied.
    fn redact_in_place(&self, text: &mut String) {
        for written in std::iter::once(&self.key).chain(&self.other_spellings) {
            if text.contains(written.expose_secret()) {
                *text = text.replace(written.expose_secret(), "****");
            }
        }
    }

    /// A part of a record's identity, without the key. A key of a few characters stays in: it may be in a job id, too, which
    /// must not change for that.
    pub(crate) fn redact_name(&self, name: &mut String) {
        if self.expose().len() >= LONG_KEY {
            self.redact_in_place(name);
        }
    }

    fn checked(bytes: &[u8], origin: &str) -> Result<Self, KeyError> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.is_empty() {
            return Err(KeyError::Empty { origin: origin.to_owned() });
        }
        let sendable = bytes.len() <= MAX_KEY_BYTES && bytes.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(bytes) {
            Ok(text) if sendable => {
                Ok(Self { key: SecretString::from(text), other_spellings: other_spellings(text) })
            }
            _ => Err(KeyError::Unsendable { origin: origin.to_owned() }),
        }
    }
}

/// The key as JSON, HTML and addresses write it, where that is not the key itself.
fn other_spellings(key: &str) -> Vec<SecretString> {
    let escaped = |escape: fn(char) -> Option<&'static str>| {
        let mut out = Zeroizing::new(String::with_capacity(key.len() * 6));
        for character in key.chars() {
            match escape(character) {
                Some(escaped) => out.push_str(escaped),
                None => out.push(character),
            }
        }
        out
    };
    let json = escaped(|character| match character {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        _ => None,
    });
    let html = escaped(|character| match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        _ => None,
    });
    let address = Zeroizing::new(url::form_urlencoded::byte_serialize(key.as_bytes()).collect::<String>());
    [json, html, address]
        .into_iter()
        .filter(|written| written.as_str() != key)
        .map(|written| SecretString::from(written.as_str()))
        .collect()
}

#[cfg(unix)]
fn refuse_open(path: &Path, metadata: &std::fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open(_: &Path, _: &std::fs::Metadata) -> Result<(), KeyError> {
    Ok(())
}

/// A path as one word of a shell command.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(folder: &tempfile::TempDir, text: &[u8], mode: u32) -> PathBuf {
        let path = folder.path().join(format!("key {mode:o}"));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_is_read_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["s3cr3t", "s3cr3t\n", "s3cr3t\r\n"] {
            let key = ApiKey::from_file(file(&folder, text.as_bytes(), 0o640)).unwrap();
            assert_eq!(key.expose(), "s3cr3t");
        }
    }

    #[test]
    fn a_file_that_others_may_touch_is_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o604, 0o602, 0o601, 0o644, 0o666] {
            let path = file(&folder, b"s3cr3t", mode);
            let error = ApiKey::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("run: chmod o-rwx '{}'", path.display())), "{error}");
            assert!(error.contains(&format!("{mode:04o}")) && !error.contains("s3cr3t"), "{error}");
        }
        for mode in [0o400, 0o600, 0o640, 0o660] {
            ApiKey::from_file(file(&folder, b"s3cr3t", mode)).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_without_being_shown() {
        for text in ["", "\n", "s3cr3t\n\n", "s3c r3t", "s3cr3t\t", "s3cr3\u{e9}t", "s3cr3t\r\nX-Evil: 1"] {
            let error = ApiKey::new(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3c"), "{error:?}");
        }
        assert!(matches!(ApiKey::new("\n"), Err(KeyError::Empty { .. })));
        let folder = tempfile::tempdir().unwrap();
        for (length, fits) in [(4096, true), (4097, false), (1_000_000, false)] {
            let path = file(&folder, "k".repeat(length).as_bytes(), 0o600);
            assert_eq!(ApiKey::from_file(path).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn a_missing_source_says_which() {
        let error = ApiKey::from_env("AMIE_USAGE_TEST_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.contains("AMIE_USAGE_TEST_NO_SUCH_VARIABLE"), "{error}");
        let error = ApiKey::from_file("/nonexistent/key").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/key"), "{error}");
        for name in ["", "..", "../key", "a/b"] {
            assert!(matches!(ApiKey::from_credential(name), Err(KeyError::CredentialName { .. })), "{name}");
        }
    }

    #[test]
    fn neither_debug_nor_a_redacted_text_shows_it() {
        let key = ApiKey::new("s3cr3t").unwrap();
        assert!(!format!("{key:?} {:#?}", Some(&key)).contains("s3cr3t"));
        assert_eq!(key.redact("bad key s3cr3t!"), "bad key ****!");
        // Of a name only a key is taken out that cannot be a part of it by chance.
        for (key, name, left) in [("7", "job-7", "job-7"), ("k3y-of-a-site", "x k3y-of-a-site", "x ****")] {
            let mut name = name.to_owned();
            ApiKey::new(key).unwrap().redact_name(&mut name);
            assert_eq!(name, left);
        }
        let odd = ApiKey::new(r#"a"b\c&d<e/f=g"#).unwrap();
        for written in [
            r#"a"b\c&d<e/f=g"#,
            r#"{"key":"a\"b\\c&d<e/f=g"}"#,
            "<p>a&quot;b\\c&amp;d&lt;e/f=g</p>",
            "https://h/?key=a%22b%5Cc%26d%3Ce%2Ff%3Dg&x=1",
        ] {
            let redacted = odd.redact(written);
            assert!(redacted.contains("****") && !redacted.contains('g'), "{redacted}");
        }
    }
}
