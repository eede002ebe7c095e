// SPDX-License-Identifier: Apache-2.0
//! Where the server is and which key to send.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

const DEFAULT_URL: &str = "http://127.0.0.1:7460";

/// Where the server is and which key to send. What is `None` is taken from the environment (`TAXIMETER_URL`,
/// `TAXIMETER_KEY`, `TAXIMETER_CA_FILE`), and then from the data directory of a server on this machine
/// (`TAXIMETER_DATA`, or `~/.local/share/taximeter`), which leaves its address and admin key there.
#[derive(Clone, Default)]
pub struct Options {
    /// `http://host:port`, `https://host:port`, or `host:port`: then plain text on this machine, and TLS elsewhere.
    pub url: Option<String>,
    /// API key, "tx_...".
    pub key: Option<String>,
    /// File with the certificates to trust instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for Options {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// The connection is not set up right; no server was asked.
#[derive(Debug)]
pub struct ConfigError(pub(crate) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Everything needed to reach a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) authority: String,
    pub(crate) key: String,
    pub(crate) is_tls: bool,
    pub(crate) ca_pem: Option<Vec<u8>>,
}

/// Finds out how to connect, by the environment of this process.
pub(crate) fn resolve(options: &Options) -> Result<Target, ConfigError> {
    resolve_in(options, &|name| env::var(name).ok())
}

fn resolve_in(options: &Options, variable: &dyn Fn(&str) -> Option<String>) -> Result<Target, ConfigError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let home = || Path::new(&variable("HOME").unwrap_or_default()).join(".local/share/taximeter");
    let data = set("TAXIMETER_DATA").map_or_else(home, PathBuf::from);
    // A server that listens everywhere is reached from this machine by loopback.
    let local = read_text(&data.join("address"))?.map(|text| {
        text.replacen("0.0.0.0:", "127.0.0.1:", 1)
            .replacen("[::]:", "[::1]:", 1)
    });
    let url = options.url.clone().or_else(|| set("TAXIMETER_URL")).or(local);
    let (authority, is_tls, is_loopback) = parse_url(url.as_deref().unwrap_or(DEFAULT_URL))?;
    let key = match options.key.clone().or_else(|| set("TAXIMETER_KEY")) {
        Some(key) => key,
        // The admin key of a server here goes to a server here only.
        None if is_loopback => read_text(&data.join("admin.key"))?.unwrap_or_default(),
        None => String::new(),
    };
    let ca_file = options
        .ca_file
        .clone()
        .or_else(|| set("TAXIMETER_CA_FILE").map(PathBuf::from));
    let ca_pem = ca_file
        .map(|file| fs::read(&file).map_err(|error| unreadable(&file, &error)))
        .transpose()?;
    Ok(Target {
        authority,
        key,
        is_tls,
        ca_pem,
    })
}

/// Host and port, whether to use TLS, and whether the address cannot leave this machine.
fn parse_url(text: &str) -> Result<(String, bool, bool), ConfigError> {
    let bad = || {
        ConfigError(format!(
            "{text:?} is no address of a server: use http://host:port, https://host or host:port"
        ))
    };
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority: http::uri::Authority = rest
        .strip_suffix('/')
        .unwrap_or(rest)
        .parse()
        .map_err(|_| bad())?;
    let port = match (authority.port_u16(), scheme) {
        (Some(port), "" | "http" | "https") if port > 0 => port,
        (None, "http") => 80,
        (None, "https") => 443,
        _ => return Err(bad()),
    };
    let host = authority.host();
    if host.is_empty() || authority.as_str().contains('@') {
        return Err(bad());
    }
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let is_tls = scheme == "https" || scheme.is_empty() && !is_loopback;
    Ok((format!("{host}:{port}"), is_tls, is_loopback))
}

/// The text of a file without the white space around it; `None` where there is no such file, or nothing in it.
fn read_text(path: &Path) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError(format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Options, parse_url, resolve_in};

    /// An address without a scheme is plain text on this machine and TLS elsewhere.
    #[test]
    fn addresses_are_read() {
        let found = |url| parse_url(url).ok();
        let address =
            |authority: &str, is_tls, is_loopback| Some((authority.to_owned(), is_tls, is_loopback));

        assert_eq!(
            found("http://example.com:7460"),
            address("example.com:7460", false, false)
        );
        assert_eq!(
            found("https://example.com"),
            address("example.com:443", true, false)
        );
        assert_eq!(
            found("example.com:7460"),
            address("example.com:7460", true, false)
        );
        assert_eq!(found("localhost:7460"), address("localhost:7460", false, true));
        assert_eq!(found("http://[::1]:7460/"), address("[::1]:7460", false, true));
        for bad in [
            "example.com",
            "ftp://example.com:1",
            "http://user@example.com",
            "http://example.com/path",
        ] {
            assert_eq!(found(bad), None, "{bad}");
        }
    }

    /// The admin key of a server on this machine is found, and goes nowhere else.
    #[test]
    fn local_key_stays_here() -> Result<(), Box<dyn std::error::Error>> {
        let data = std::env::temp_dir().join(format!("taximeter-{}", crate::RecordIds::default().next()));
        fs::create_dir(&data)?;
        fs::write(data.join("address"), "0.0.0.0:7461\n")?;
        fs::write(data.join("admin.key"), "tx_local\n")?;
        let variable = |name: &str| (name == "TAXIMETER_DATA").then(|| data.display().to_string());
        let here = resolve_in(&Options::default(), &variable)?;
        let elsewhere = Options {
            url: Some("https://example.com".to_owned()),
            ..Options::default()
        };
        let there = resolve_in(&elsewhere, &variable)?;
        fs::remove_dir_all(&data)?;

        assert_eq!(
            (here.authority.as_str(), here.key.as_str()),
            ("127.0.0.1:7461", "tx_local")
        );
        assert_eq!(there.key, "");
        Ok(())
    }
}
