//! Where and how the client connects, checked once.

use crate::ApiKey;
use crate::wire::{Settings, SettingsError};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// What a [`Client`](crate::Client) is made from. Start from [`ClientConfig::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `https://usage.access-ci.org/api/v1`, or the test endpoint's.
    pub base_url: String,
    /// The site's name, sent as `XA-SITE`.
    pub site: String,
    /// The site's key, sent as `XA-API-KEY`.
    pub key: ApiKey,
    /// The longest wait for a connection, TLS included.
    pub connect_timeout: Duration,
    /// The longest silence in the middle of an answer, and before it.
    pub read_timeout: Duration,
    /// The longest time that one request takes, from connecting to the last byte of its answer.
    pub total_timeout: Duration,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Allows `http://` to other hosts than this one: the key then travels in the clear.
    pub allow_plain_http: bool,
    /// `User-Agent`.
    pub user_agent: String,
    /// What may differ on the wire.
    pub settings: Settings,
    /// The most bytes of an answer that are read.
    pub max_response_bytes: usize,
    /// The shortest time from the start of one request to that of the next, over all clones of a client; zero: none.
    pub min_interval: Duration,
}

impl ClientConfig {
    /// The defaults: 10 s to connect, 60 s of silence, 120 s in all, answers up to 64 MiB, no limit of rate.
    #[must_use]
    pub fn new(base_url: impl Into<String>, site: impl Into<String>, key: ApiKey) -> Self {
        Self {
            base_url: base_url.into(),
            site: site.into(),
            key,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(120),
            ca_bundle: None,
            allow_plain_http: false,
            user_agent: concat!("amie-usage/", env!("CARGO_PKG_VERSION")).to_owned(),
            settings: Settings::default(),
            max_response_bytes: 64 * 1024 * 1024,
            min_interval: Duration::ZERO,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address is none, or has parts that it must not have.
    #[error("the API address \"{url}\" cannot be used: {reason}")]
    Url {
        /// The address, without a password.
        url: String,
        /// Why.
        reason: String,
    },
    /// The key would travel in the clear.
    #[error("the API address \"{url}\" is not https: the key would travel in the clear")]
    PlainHttp {
        /// The address.
        url: String,
    },
    /// A value that cannot be sent as a header.
    #[error("{what} cannot be sent as a header: it is empty or has line ends or other unsuitable characters")]
    Header {
        /// Which value.
        what: &'static str,
    },
    /// A setting of the wire.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A timeout of nothing.
    #[error("{which} must be longer than nothing")]
    Timeout {
        /// Which timeout.
        which: &'static str,
    },
    /// The file with certificates cannot be read.
    #[error("cannot read certificates from {}: {reason}", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system gives the blocking client no event queue.
    #[error("cannot wait for answers: {reason}")]
    Runtime {
        /// Why.
        reason: String,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// Why.
        reason: String,
    },
}

/// The addresses of all calls.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    pub(crate) send: Url,
    pub(crate) status: Url,
    pub(crate) failed: Url,
    pub(crate) loaded: Url,
}

/// True for this host by address or by the name that always means it.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Checks the address and its use of http.
pub(crate) fn endpoints(config: &ClientConfig) -> Result<Endpoints, ConfigError> {
    let refuse =
        |url: &str, reason: &str| ConfigError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let text = config.base_url.trim().trim_end_matches('/');
    // What cannot be parsed is not repeated: it may hold a password.
    let base = Url::parse(text).map_err(|error| refuse("...", &error.to_string()))?;
    if !base.username().is_empty() || base.password().is_some() {
        return Err(refuse("...", "it holds a user name or a password; the key has its own place"));
    }
    if !matches!(base.scheme(), "https" | "http") {
        return Err(refuse(base.as_str(), "it must begin with https://"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(refuse(base.as_str(), "it must have neither ? nor #"));
    }
    if base.scheme() == "http" && !config.allow_plain_http && !is_loopback(&base) {
        return Err(ConfigError::PlainHttp { url: base.to_string() });
    }
    let settings = &config.settings;
    settings.check()?;
    let at = |path: &str| {
        Url::parse(&format!("{text}{path}")).map_err(|error| refuse(base.as_str(), &error.to_string()))
    };
    Ok(Endpoints {
        send: at(&settings.send_path)?,
        status: at(&settings.status_path)?,
        failed: at(settings.failed_path.trim_end_matches('/'))?,
        loaded: at(&settings.loaded_path)?,
    })
}

fn headers(config: &ClientConfig) -> Result<HeaderMap, ConfigError> {
    let name =
        |what, text: &str| HeaderName::from_bytes(text.as_bytes()).map_err(|_| ConfigError::Header { what });
    let site = config.site.trim();
    let site_value = HeaderValue::from_str(site).ok().filter(|_| !site.is_empty());
    let site_value = site_value.ok_or(ConfigError::Header { what: "the site's name" })?;
    let mut key_value = HeaderValue::from_str(config.key.expose())
        .map_err(|_| ConfigError::Header { what: "the API key" })?;
    key_value.set_sensitive(true); // its Debug prints nothing, and HTTP/2 never puts it into a compression table
    let mut headers = HeaderMap::new();
    headers.insert(name("the name of the site header", &config.settings.site_header)?, site_value);
    headers.insert(name("the name of the key header", &config.settings.key_header)?, key_value);
    headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}

/// The HTTP client: rustls with ring, the system's certificates and the site's own, proxies from the environment.
pub(crate) fn http_client(config: &ClientConfig, base: &Url) -> Result<reqwest::Client, ConfigError> {
    for (which, timeout) in [
        ("connect_timeout", config.connect_timeout),
        ("read_timeout", config.read_timeout),
        ("total_timeout", config.total_timeout),
    ] {
        if timeout.is_zero() {
            return Err(ConfigError::Timeout { which });
        }
    }
    let agent = HeaderValue::from_str(&config.user_agent)
        .map_err(|_| ConfigError::Header { what: "the user agent" })?;
    // One provider for the process. An error only says that there is one already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(agent)
        .default_headers(headers(config)?)
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.read_timeout)
        .timeout(config.total_timeout)
        // A redirect would carry the key, and a POST, to an address that nobody configured: it is shown instead.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Whether to try again is decided in `retry`, for each typed outcome, and nowhere else.
        .retry(reqwest::retry::never())
        // Servers drop idle connections after as little as 5 s (Apache). A POST written into one that is just being
        // dropped ends with an unknown outcome, so leave it first.
        .pool_idle_timeout(Duration::from_secs(4));
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    if base.scheme() == "http" {
        // No TLS: do without the system's certificates, which a small container may not have.
        builder = builder.tls_certs_only(std::iter::empty());
    } else if let Some(path) = &config.ca_bundle {
        let failed = |reason: String| ConfigError::CaBundle { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| failed(crate::client::chain(&error)))?;
        if certificates.is_empty() {
            return Err(failed("it holds no PEM certificate".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| ConfigError::Tls { reason: crate::client::chain(&error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(base_url: &str) -> ClientConfig {
        ClientConfig::new(base_url, "TestSite", ApiKey::new("s3cr3t").unwrap())
    }

    fn addresses(base_url: &str) -> Result<String, String> {
        endpoints(&config(base_url)).map(|e| e.send.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_are_joined_with_one_slash() {
        for base in ["https://usage.access-ci.org/api/v1", " https://usage.access-ci.org/api/v1// "] {
            assert_eq!(addresses(base).unwrap(), "https://usage.access-ci.org/api/v1/usage/", "{base}");
        }
        let endpoints = endpoints(&config("https://h/api")).unwrap();
        assert_eq!(endpoints.status.as_str(), "https://h/api/usage/status");
        assert_eq!(endpoints.failed.as_str(), "https://h/api/usage/failed");
        assert_eq!(endpoints.loaded.as_str(), "https://h/api/usage/loaded");
    }

    #[test]
    fn the_key_never_travels_in_the_clear_unasked() {
        for base in ["http://usage.access-ci.org/api", "http://10.0.0.1/", "http://localhost.evil.org/"] {
            assert!(addresses(base).unwrap_err().contains("in the clear"), "{base}");
            let open = ClientConfig { allow_plain_http: true, ..config(base) };
            assert!(endpoints(&open).is_ok());
        }
        for base in ["http://localhost:8080/", "http://127.0.0.1:1", "http://[::1]:1", "http://127.8.8.8/api"]
        {
            assert!(addresses(base).is_ok(), "{base}");
        }
    }

    #[test]
    fn addresses_with_other_parts_are_refused_and_passwords_not_repeated() {
        for base in [
            "",
            "usage.access-ci.org",
            "ftp://h/",
            "https://h/?a=b",
            "https://h/#f",
            "https://u:hunter2@h/",
            "//h",
        ] {
            let error = addresses(base).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let mut broken = config("https://h/");
        broken.settings.send_path = "usage".to_owned();
        assert!(matches!(endpoints(&broken), Err(ConfigError::Settings(_))));
    }

    #[test]
    fn headers_that_cannot_be_sent_are_refused() {
        for site in ["", "  ", "a\nb"] {
            let config = ClientConfig { site: site.to_owned(), ..config("https://h/") };
            assert!(
                matches!(headers(&config), Err(ConfigError::Header { what: "the site's name" })),
                "{site:?}"
            );
        }
        let sent = headers(&config("https://h/")).unwrap();
        assert_eq!(sent.get("XA-SITE").unwrap(), "TestSite");
        assert_eq!(sent.get("XA-API-KEY").unwrap(), "s3cr3t");
        assert!(!format!("{sent:?}").contains("s3cr3t"));
    }

    #[test]
    fn certificates_that_are_none_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        for path in [path, folder.path().join("absent.pem")] {
            let config = ClientConfig { ca_bundle: Some(path.clone()), ..config("https://h/") };
            let error = http_client(&config, &Url::parse("https://h/").unwrap()).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn debug_of_a_configuration_shows_no_key() {
        assert!(!format!("{:?} {:#?}", config("https://h/"), config("https://h/")).contains("s3cr3t"));
    }
}
