//! A real PostgreSQL for tests: the newest one installed, in a folder of its own, stopped when the tests end.
//!
//! Without one, tests that need it say so and pass; `AMIE_POSTGRES=require` makes them fail instead.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A server of its own. Dropped, or when this process dies, it is stopped and its folder removed.
pub(crate) struct Server {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    binaries: PathBuf,
    child: Mutex<Option<Child>>,
}

/// The server that tests share, each with a database of its own.
pub(crate) fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(Server::start).as_ref()
}

fn newest_binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, path)| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

fn as_root() -> bool {
    rustix::process::getuid().is_root()
}

impl Server {
    /// Starts one; `None` where there is none to start.
    pub(crate) fn start() -> Option<Self> {
        let Some(binaries) = newest_binaries() else {
            let required = std::env::var("AMIE_POSTGRES").is_ok_and(|value| value == "require");
            assert!(!required, "PostgreSQL is not installed (apt-get install postgresql), and is required");
            #[allow(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
            }
            return None;
        };
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("amie-pg-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port, binaries, child: Mutex::default() };
        server.init();
        server.up();
        server.sql("postgres", "CREATE ROLE amie LOGIN PASSWORD 'correct horse' CREATEDB");
        Some(server)
    }

    /// A command as a user that PostgreSQL runs as: it refuses root.
    fn command(&self, script: &str) -> Command {
        let mut command = if as_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh", "-c", script]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        command
            .current_dir(&self.folder)
            .env("PATH", format!("{}:/usr/bin:/bin", self.binaries.display()))
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn init(&self) {
        // Another order than that of bytes, where the server can: keys must not depend on it.
        let script = "
            initdb -D data -U postgres -A trust --no-sync -E UTF8 --locale-provider=icu --icu-locale=en-US >log 2>&1 ||
                { rm -rf data; initdb -D data -U postgres -A trust --no-sync -E UTF8 --locale=C.UTF-8 >log 2>&1; } || exit 1
            printf 'local all all trust\\nhost all all 127.0.0.1/32 scram-sha-256\\n' >data/pg_hba.conf
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                -addext basicConstraints=critical,CA:FALSE -keyout data/server.key -out data/server.crt >>log 2>&1
            chmod 600 data/server.key; cp data/server.crt server.crt; chmod 644 server.crt
        ";
        assert!(self.command(script).status().unwrap().success(), "{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Starts it (again), and waits until it answers.
    pub(crate) fn up(&self) {
        // The shell ends the server when its input ends: with this process, however that ends.
        let script = format!(
            "postgres -D data -p {} -k \"$PWD\" -c listen_addresses=127.0.0.1 -c ssl=on -c fsync=off -c full_page_writes=off \
             -c max_connections=200 -c shared_buffers=64MB -c max_wal_size=256MB >>log 2>&1 & echo $! >pid; cat >/dev/null; \
             kill -INT $(cat pid) 2>/dev/null; wait; [ -e stay ] || rm -rf \"$PWD\"",
            self.port
        );
        let mut child = self.command(&script);
        let child = child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        *self.child.lock().unwrap() = Some(child);
        let started = Instant::now();
        while !self.try_sql("postgres", "SELECT 1") {
            assert!(started.elapsed() < Duration::from_secs(60), "it does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it at once, as a crash would, or in order; its data stay.
    pub(crate) fn down(&self, signal: &str) {
        let script = format!(
            "touch stay; kill -{signal} $(head -1 data/postmaster.pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.02; done"
        );
        assert!(self.command(&script).status().unwrap().success());
        let child = self.child.lock().unwrap().take();
        if let Some(mut child) = child {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        let _ = fs::remove_file(self.folder.join("stay"));
    }

    /// `psql` as the role that owns the ledgers.
    pub(crate) fn as_role(&self, database: &str) -> Command {
        let mut command = Command::new("psql");
        command
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "amie", "-d", database])
            .env("PGHOST", &self.folder)
            .env("PGPORT", self.port.to_string());
        command
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        Command::new("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                database,
                "-c",
                sql,
            ])
            .env("PGHOST", &self.folder)
            .env("PGPORT", self.port.to_string())
            .output()
            .unwrap()
    }

    /// Whether a statement succeeds, as the administrator.
    pub(crate) fn try_sql(&self, database: &str, sql: &str) -> bool {
        self.psql(database, sql).status.success()
    }

    /// What a statement answers, as the administrator.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A fresh database, and its address.
    pub(crate) fn database(&self) -> (String, String) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ledger{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER amie"));
        let url = self.address(&name);
        (name, url)
    }

    /// The address of a database, by the socket.
    pub(crate) fn address(&self, database: &str) -> String {
        format!("postgres://amie@/{database}?host={}&port={}", self.folder.display(), self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.lock().unwrap().take();
        if let Some(mut child) = child {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}
