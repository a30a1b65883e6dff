//! Where a PostgreSQL ledger lives, and who logs in: the address of the configuration, a connection service file, the
//! password file, a systemd credential. A password is never in the address.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use url::Url;

/// Everything that it takes to connect but the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name, address, or folder of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// How the connection is protected.
    pub protection: Protection,
    /// Where the password comes from, besides the password file.
    pub password: PasswordSource,
}

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// It does not leave this host.
    Local,
    /// TLS, with the server's name checked against the system's certificates, or against these.
    Verified(Option<PathBuf>),
}

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// `PGPASSFILE`, else `~/.pgpass`; none of them is no error: a socket may need none.
    PasswordFile,
    /// This password file.
    NamedFile(PathBuf),
    /// A systemd credential, by name.
    Credential(String),
    /// The `password` line of a service, in this file.
    Service(PathBuf, String),
}

/// What is wrong with an address, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct AddressError {
    /// What.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

fn wrong<T>(what: impl Into<String>, help: &'static str) -> Result<T, AddressError> {
    Err(AddressError { what: what.into(), help })
}

/// Stands where `role@/database` names no host: a URL that has a role must have one.
const NO_HOST: &str = "no-host.invalid";

const SHAPE: &str = "use postgres://ROLE@HOST/DATABASE, for example postgres://amie@db.example.org/amie";

impl Address {
    /// Reads `postgres://role@host:port/database?sslmode=...&sslrootcert=...&host=...&service=...`, and the connection
    /// service that it (or `PGSERVICE`) names.
    ///
    /// # Errors
    /// Where it holds a password, names nobody or no database, or would send records over a network in the clear.
    ///
    /// ```
    /// use runner::ledger::Address;
    /// let address = Address::parse("postgres://amie@db.example.org/amie", None)?;
    /// assert_eq!((address.host.as_str(), address.port), ("db.example.org", 5432));
    /// assert!(Address::parse("postgres://amie:secret@db.example.org/amie", None).is_err());
    /// # Ok::<(), runner::ledger::AddressError>(())
    /// ```
    pub fn parse(text: &str, credential: Option<&str>) -> Result<Self, AddressError> {
        Self::with_environment(text, credential, &|name| env::var_os(name).map(PathBuf::from))
    }

    fn with_environment(
        text: &str,
        credential: Option<&str>,
        environment: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Result<Self, AddressError> {
        let Ok(url) = Url::parse(&text.replacen("@/", &format!("@{NO_HOST}/"), 1)) else {
            return wrong("this is no address", SHAPE);
        };
        if url.password().is_some() {
            return wrong(
                "a password does not belong into the configuration",
                "put it into ~/.pgpass (or the file that PGPASSFILE names), or name a systemd credential in \
                 ledger.password_credential",
            );
        }
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "sslmode" | "sslrootcert" | "host" | "port" | "user" | "dbname" | "service" | "passfile" => {
                    given.insert(name.into_owned(), value.into_owned());
                }
                "password" => {
                    return wrong(
                        "a password does not belong into the configuration",
                        "put it into ~/.pgpass (or the file that PGPASSFILE names)",
                    );
                }
                _ => {
                    return wrong(
                        format!("the option \"{}\" is not known", name.escape_debug()),
                        "known are host, port, user, dbname, service, passfile, sslmode, sslrootcert",
                    );
                }
            }
        }
        let parts = [
            ("host", url.host_str().filter(|host| *host != NO_HOST).map(str::to_owned)),
            ("port", url.port().map(|port| port.to_string())),
            ("user", Some(url.username().to_owned())),
            ("dbname", Some(url.path().trim_start_matches('/').to_owned())),
        ];
        for (name, value) in parts {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let Some(value) = percent_decoded(&value) else { return wrong("this is no address", SHAPE) };
                given.insert(name.to_owned(), value.trim_matches(['[', ']']).to_owned());
            }
        }
        let service = given.remove("service");
        let service = service.or_else(|| environment("PGSERVICE")?.into_os_string().into_string().ok());
        let mut password = PasswordSource::PasswordFile;
        if let Some(service) = service {
            let (file, lines) = read_service(&service, environment)?;
            if lines.contains_key("password") {
                password = PasswordSource::Service(file, service);
            }
            for (name, value) in lines {
                given.entry(name).or_insert(value);
            }
        }
        if let Some(path) = given.get("passfile") {
            password = PasswordSource::NamedFile(path.into());
        }
        if let Some(name) = credential {
            password = PasswordSource::Credential(name.to_owned());
        }
        let take = |name: &str| given.get(name).filter(|value| !value.is_empty()).cloned();
        let host = take("host").unwrap_or_else(|| "/var/run/postgresql".to_owned());
        let port = take("port").unwrap_or_else(|| "5432".to_owned());
        let Ok(port) = port.parse() else { return wrong(format!("there is no port {port}"), SHAPE) };
        let Some(user) = take("user") else { return wrong("it does not say as whom to log in", SHAPE) };
        let Some(database) = take("dbname") else { return wrong("it names no database", SHAPE) };
        let protection = protection(&host, take("sslmode").as_deref(), take("sslrootcert"))?;
        Ok(Self { host, port, user, database, protection, password })
    }

    /// The address as it may be shown.
    #[must_use]
    pub fn shown(&self) -> String {
        let Self { host, port, user, database, .. } = self;
        if host.starts_with('/') {
            format!("postgres://{user}@/{database}?host={host}&port={port}")
        } else if host.contains(':') {
            format!("postgres://{user}@[{host}]:{port}/{database}")
        } else {
            format!("postgres://{user}@{host}:{port}/{database}")
        }
    }

    /// The password, where there is one. Read at each connection: it may be changed while a long run goes on.
    ///
    /// # Errors
    /// Where a file that holds it can be read by others, or not at all.
    pub(super) fn password(&self) -> Result<Option<String>, String> {
        self.password_with(&|name| env::var_os(name).map(PathBuf::from))
    }

    fn password_with(&self, environment: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Option<String>, String> {
        match &self.password {
            PasswordSource::Credential(name) => {
                let folder = environment("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!(
                        "CREDENTIALS_DIRECTORY is not set: is there a LoadCredential={name}:... in the unit?"
                    )
                })?;
                let path = folder.join(name);
                let text =
                    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
            }
            PasswordSource::Service(file, service) => {
                let text = secret_file(file)?;
                Ok(section(&text, service).and_then(|mut lines| lines.remove("password")))
            }
            PasswordSource::NamedFile(path) => self.look_up(path),
            PasswordSource::PasswordFile => {
                let path = environment("PGPASSFILE").or_else(|| Some(environment("HOME")?.join(".pgpass")));
                match path {
                    Some(path) if path.exists() => self.look_up(&path),
                    _ => Ok(None),
                }
            }
        }
    }

    fn look_up(&self, path: &Path) -> Result<Option<String>, String> {
        let text = secret_file(path)?;
        let host = if self.host.starts_with('/') { "localhost" } else { &self.host };
        let wanted = [host, &self.port.to_string(), &self.database, &self.user];
        let of_line = |line: &str| {
            let mut fields = password_fields(line)?;
            let password = fields.pop()?;
            let matches = fields.len() == wanted.len()
                && fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
            matches.then_some(password)
        };
        Ok(text.lines().filter(|line| !line.starts_with('#')).find_map(of_line))
    }
}

/// Reads a file that holds a secret; others than owner and group must not be able to.
fn secret_file(path: &Path) -> Result<String, String> {
    use std::os::unix::fs::PermissionsExt;
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    let mode = fs::metadata(path).map_err(at)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!("{}: others may read it: chmod 600, then run again", path.display()));
    }
    fs::read_to_string(path).map_err(at)
}

/// Host, port, database, role, password; `\:` and `\\` stand for themselves.
fn password_fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            // What follows the fourth colon is the password, colons and all, but for escapes.
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut()?.push(characters.next()?),
            other => fields.last_mut()?.push(other),
        }
    }
    (fields.len() == 5).then_some(fields)
}

fn read_service(
    service: &str,
    environment: &dyn Fn(&str) -> Option<PathBuf>,
) -> Result<(PathBuf, BTreeMap<String, String>), AddressError> {
    let own = environment("PGSERVICEFILE").or_else(|| Some(environment("HOME")?.join(".pg_service.conf")));
    let system = environment("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".into());
    for path in own.into_iter().chain([system.join("pg_service.conf")]) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if let Some(lines) = section(&text, service) {
            return Ok((path, lines));
        }
    }
    wrong(
        format!("there is no connection service \"{}\"", service.escape_debug()),
        "define it in ~/.pg_service.conf, or in the file that PGSERVICEFILE names",
    )
}

fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = header == name;
            if inside {
                found.get_or_insert_default();
            }
        } else if inside
            && !line.starts_with('#')
            && let (Some(lines), Some((key, value))) = (&mut found, line.split_once('='))
        {
            lines.entry(key.trim().to_owned()).or_insert_with(|| value.trim().to_owned());
        }
    }
    found
}

fn protection(host: &str, mode: Option<&str>, root: Option<String>) -> Result<Protection, AddressError> {
    let address: Option<IpAddr> = host.parse().ok();
    let local =
        host.starts_with('/') || host == "localhost" || address.is_some_and(|address| address.is_loopback());
    match mode {
        None if local && root.is_none() => Ok(Protection::Local),
        Some("disable") if local => Ok(Protection::Local),
        Some("disable") => wrong(
            "sslmode=disable: records and the password would cross the network in the clear",
            "leave sslmode out: the server's certificate is then checked (sslrootcert=FILE names your own authority)",
        ),
        None | Some("verify-full") => Ok(Protection::Verified(root.map(PathBuf::from))),
        Some(other) => wrong(
            format!("sslmode={}: who answers would not be known for sure", other.escape_debug()),
            "use sslmode=verify-full; sslrootcert=FILE names your own authority, or the server's own certificate",
        ),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn nothing(_: &str) -> Option<PathBuf> {
        None
    }

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::with_environment(text, None, &nothing)
    }

    #[test]
    fn an_address_says_where_and_as_whom() {
        let address = parse("postgres://amie@db.example.org:5433/usage").unwrap();
        assert_eq!(address.shown(), "postgres://amie@db.example.org:5433/usage");
        assert_eq!(address.protection, Protection::Verified(None));
        let socket = parse("postgresql://amie@/usage?host=/run/pg&port=5499").unwrap();
        assert_eq!((socket.host.as_str(), socket.port), ("/run/pg", 5499));
        assert_eq!(socket.protection, Protection::Local);
        assert_eq!(parse("postgres://a@[::1]/u").unwrap().shown(), "postgres://a@[::1]:5432/u");
        assert_eq!(parse("postgres://a%40b@localhost/u").unwrap().user, "a@b");
    }

    #[test]
    fn what_is_unsafe_or_incomplete_is_refused_by_name() {
        for (text, what) in [
            ("postgres://amie:secret@h/d", "password"),
            ("postgres://amie@h/d?password=x", "password"),
            ("postgres://amie@h/d?sslmode=disable", "in the clear"),
            ("postgres://amie@h/d?sslmode=require", "who answers"),
            ("postgres://amie@h/d?sslmode=prefer", "who answers"),
            ("postgres://h/d", "as whom"),
            ("postgres://amie@h", "no database"),
            ("postgres://amie@h/d?application_name=x", "not known"),
            ("postgres://amie@h:99999/d", "no address"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.what.contains(what), "{text}: {error:?}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn passwords_come_from_a_file_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pass");
        let lines = "# theirs\nother:*:*:*:no\ndb:5432:d\\:x:amie:s\\\\e:c\\:ret\n*:*:*:amie:any\n";
        fs::write(&file, lines).unwrap();
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let environment = |name: &str| (name == "PGPASSFILE").then(|| file.clone());
        let address = parse("postgres://amie@db/d%3Ax").unwrap();
        mode(0o600);
        assert_eq!(address.password_with(&environment).unwrap().as_deref(), Some("s\\e:c:ret"));
        let elsewhere = parse("postgres://amie@db2/d").unwrap();
        assert_eq!(elsewhere.password_with(&environment).unwrap().as_deref(), Some("any"));
        let nobody = parse("postgres://bob@db2/d").unwrap();
        assert_eq!(nobody.password_with(&environment), Ok(None));
        mode(0o604);
        assert!(address.password_with(&environment).unwrap_err().contains("chmod 600"));
        assert_eq!(address.password_with(&nothing), Ok(None));
    }

    #[test]
    fn a_service_file_fills_in_what_the_address_leaves_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services");
        fs::write(&file, "[x]\nhost=nowhere\n[amie]\nhost = db.example.org\nport=5433\nuser=amie\ndbname=usage\npassword=pw\n")
            .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let environment = |name: &str| (name == "PGSERVICEFILE").then(|| file.clone());
        let read = |text, credential| Address::with_environment(text, credential, &environment);
        let address = read("postgres:///?service=amie", None).unwrap();
        assert_eq!(address.shown(), "postgres://amie@db.example.org:5433/usage");
        assert_eq!(address.password_with(&environment).unwrap().as_deref(), Some("pw"));
        let other = read("postgres://bob@/?service=amie", None).unwrap();
        assert_eq!(other.user, "bob");
        assert!(read("postgres:///?service=nobody", None).unwrap_err().what.contains("nobody"));
        let credential = read("postgres:///?service=amie", Some("pg")).unwrap();
        fs::write(folder.path().join("pg"), "from systemd\n").unwrap();
        let systemd = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| folder.path().to_owned());
        assert_eq!(credential.password_with(&systemd).unwrap().as_deref(), Some("from systemd"));
        assert!(credential.password_with(&nothing).unwrap_err().contains("LoadCredential=pg"));
    }
}
