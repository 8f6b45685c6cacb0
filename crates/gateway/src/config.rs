//! The doors as a file of TOML describes them: `[[door]]` and `[[token]]`.
//!
//! Tables inside a door are read as dotted keys, `limits.body.bytes`, by the same rules as options in SQL: durations and
//! sizes have units, and a key that nobody knows is an error that suggests the right one.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use tidemill_base::options::{self, Options as Pairs};
use tidemill_base::suggest;
use toml::{Table, Value};

use crate::error::Error;
use crate::identity::{Scope, Token, parse_sha256};
use crate::limits::Rate;
use crate::options::{Config, Options, Stack};
use crate::tls::TlsOptions;

impl Config {
    /// Reads the text of a file; paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong with which door or token.
    pub fn parse(text: &str, file: &Path) -> Result<Config, Error> {
        let reader = Reader { file };
        let mut table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| reader.wrong(error.to_string().trim_end().to_string(), None))?;
        let doors = reader.list(&mut table, "door")?;
        let tokens = reader.list(&mut table, "token")?;
        if let Some(key) = table.keys().next() {
            let near = suggest::nearest(key, ["door", "token"]);
            let help =
                near.map_or("there are [[door]] and [[token]]".to_string(), |near| format!("did you mean [[{near}]]?"));
            return Err(reader.wrong(format!("nothing is called '{key}'"), Some(help)));
        }
        let doors =
            doors.into_iter().enumerate().map(|(index, door)| reader.door(index, door)).collect::<Result<_, _>>()?;
        let tokens: Vec<Token> = tokens.into_iter().map(|token| reader.token(token)).collect::<Result<_, _>>()?;
        for (index, token) in tokens.iter().enumerate() {
            if tokens[..index].iter().any(|other| other.name == token.name || other.sha256 == token.sha256) {
                let help = Some("give each token a name and a value of its own".to_string());
                return Err(reader.wrong(format!("the token '{}' is there twice", token.name), help));
            }
        }
        Ok(Config { doors, tokens })
    }
}

struct Reader<'a> {
    file: &'a Path,
}

impl Reader<'_> {
    fn wrong(&self, problem: String, help: Option<String>) -> Error {
        Error::Config { file: self.file.to_path_buf(), problem, help }
    }

    /// What an option has wrong, in the words of a file.
    fn option(&self, error: &options::Error) -> Error {
        let help = match error {
            options::Error::Missing { key, .. } => format!("add {key} = \"...\""),
            other => other.help(),
        };
        self.wrong(error.to_string(), Some(help))
    }

    /// The tables of `[[name]]`.
    fn list(&self, table: &mut Table, name: &str) -> Result<Vec<Table>, Error> {
        let wrong = || self.wrong(format!("'{name}' is not a list of tables"), Some(format!("write [[{name}]]")));
        match table.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) => {
                all.into_iter().map(|one| if let Value::Table(one) = one { Ok(one) } else { Err(wrong()) }).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn door(&self, index: usize, door: Table) -> Result<Options, Error> {
        let name = match door.get("listen") {
            Some(Value::String(listen)) => format!("door {listen}"),
            _ => format!("door {}", index + 1),
        };
        let mut pairs = Vec::new();
        self.flatten(&name, "", door, &mut pairs)?;
        let mut pairs = Pairs::new(name.clone(), pairs);
        let options = self.read_door(&mut pairs).map_err(|error| self.option(&error))?;
        pairs.finish().map_err(|error| self.option(&error))?;
        if options.stack == Stack::Fast && options.tls.is_some() {
            let help = "say stack = \"standard\", or put TLS in front of the door".to_string();
            return Err(self.wrong(format!("{name}: the fast stack speaks no TLS"), Some(help)));
        }
        Ok(options)
    }

    fn read_door(&self, pairs: &mut Pairs) -> Result<Options, options::Error> {
        let mut door = Options::default();
        let listen = |text: &str| text.to_socket_addrs().ok()?.next();
        let found: Option<SocketAddr> = pairs.parse("listen", "an address like \"127.0.0.1:8080\"", listen)?;
        set(&mut door.listen, found);
        set(&mut door.stack, pairs.choice("stack", &[("standard", Stack::Standard), ("fast", Stack::Fast)])?);
        set(&mut door.workers, count(pairs, "workers", 1..=1024)?);
        door.tls = self.tls(pairs)?;
        set(&mut door.connections_max, count(pairs, "limits.connections", 1..=10_000_000)?);
        set(&mut door.address_connections_max, count(pairs, "limits.address.connections", 1..=10_000_000)?);
        set(&mut door.head_bytes_max, size(pairs, "limits.head.bytes", (8 << 10)..=(16 << 20))?);
        set(&mut door.body_bytes_max, size(pairs, "limits.body.bytes", 1..=(1 << 30))?);
        set(&mut door.inflated_bytes_max, size(pairs, "limits.body.unpacked", 1..=(1 << 30))?);
        set(&mut door.question_bytes_max, size(pairs, "limits.question.bytes", 1..=(16 << 20))?);
        set(&mut door.inflight_bytes_max, size(pairs, "limits.bodies.bytes", (1 << 20)..=(1 << 40))?);
        set(&mut door.header_timeout, time(pairs, "limits.head.timeout")?);
        set(&mut door.body_timeout, time(pairs, "limits.body.timeout")?);
        set(&mut door.write_timeout, time(pairs, "limits.write.timeout")?);
        let mut rate = |key: &str| pairs.parse(key, "a rate like \"1000/s\" or \"1000/s burst 5000\"", Rate::parse);
        door.rates.address = rate("limits.requests.address")?;
        door.rates.identity = rate("limits.requests.identity")?;
        door.rates.source = rate("limits.requests.source")?;
        door.rates.endpoint = rate("limits.requests.endpoint")?;
        let window = (64 << 10)..=(1 << 30);
        set(&mut door.streams_max, count(pairs, "http2.streams", 1..=100_000)?.map(|count| count as u32));
        set(&mut door.stream_window_bytes, size(pairs, "http2.stream.window", window.clone())?.map(|size| size as u32));
        set(&mut door.connection_window_bytes, size(pairs, "http2.connection.window", window)?.map(|size| size as u32));
        set(&mut door.resets_max, count(pairs, "http2.resets", 1..=100_000)?);
        set(&mut door.ping_interval, time(pairs, "http2.ping")?);
        Ok(door)
    }

    fn tls(&self, pairs: &mut Pairs) -> Result<Option<TlsOptions>, options::Error> {
        let certificate = pairs.take("tls.certificate");
        let (key, clients) = (pairs.take("tls.key"), pairs.take("tls.clients"));
        let (reload, handshake) = (time(pairs, "tls.reload")?, time(pairs, "tls.handshake.timeout")?);
        let any =
            certificate.is_some() || key.is_some() || clients.is_some() || reload.is_some() || handshake.is_some();
        if !any {
            return Ok(None);
        }
        let missing = |key: &str| options::Error::Missing { key: key.to_string(), of: "[door.tls]".to_string() };
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let certificate = folder.join(certificate.ok_or_else(|| missing("certificate"))?);
        let mut tls = TlsOptions::of(certificate, folder.join(key.ok_or_else(|| missing("key"))?));
        tls.clients = clients.map(|clients| folder.join(clients));
        set(&mut tls.reload, reload);
        set(&mut tls.handshake_timeout, handshake);
        Ok(Some(tls))
    }

    fn token(&self, mut token: Table) -> Result<Token, Error> {
        let scopes = token.remove("scopes");
        let mut pairs = Vec::new();
        self.flatten("token", "", token, &mut pairs)?;
        let mut pairs = Pairs::new("a token", pairs);
        let name = pairs.require("name").map_err(|error| self.option(&error))?;
        pairs.rename(format!("token '{name}'"));
        let wrong =
            |problem: &str, help: &str| self.wrong(format!("token '{name}': {problem}"), Some(help.to_string()));
        let sha256 = pairs.require("sha256").map_err(|error| self.option(&error))?;
        let sha256 = parse_sha256(&sha256).ok_or_else(|| {
            wrong("'sha256' is not 64 hexadecimal digits", "make a token and its line with `tidemill token new`")
        })?;
        pairs.finish().map_err(|error| self.option(&error))?;
        let list = "write scopes = [\"ingest:SOURCE\", \"decide:ENDPOINT\", \"read:VIEW\", \"edit:TABLE\", \"admin\"]";
        let Some(Value::Array(scopes)) = scopes else { return Err(wrong("it has no list of scopes", list)) };
        let scopes = scopes.into_iter().map(|scope| match scope {
            Value::String(text) => {
                Scope::parse(&text).map_err(|help| wrong(&format!("there is no scope '{text}'"), &help))
            }
            _ => Err(wrong("a scope is not a text", list)),
        });
        let scopes = scopes.collect::<Result<Vec<_>, _>>()?;
        Ok(Token { scopes, sha256, name: name.clone() })
    }

    /// The values of a table and those in it, by dotted keys.
    fn flatten(&self, of: &str, prefix: &str, table: Table, pairs: &mut Vec<(String, String)>) -> Result<(), Error> {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            let text = match value {
                Value::Table(inner) => {
                    self.flatten(of, &format!("{key}."), inner, pairs)?;
                    continue;
                }
                Value::String(text) => text,
                Value::Array(_) => {
                    let problem = format!("{of}: '{key}' is a list");
                    return Err(self.wrong(problem, Some(format!("write {key} = \"...\""))));
                }
                other => other.to_string(),
            };
            pairs.push((key, text));
        }
        Ok(())
    }
}

fn set<T>(to: &mut T, found: Option<T>) {
    if let Some(found) = found {
        *to = found;
    }
}

fn count(
    pairs: &mut Pairs,
    key: &str,
    within: std::ops::RangeInclusive<usize>,
) -> Result<Option<usize>, options::Error> {
    let expected = format!("a whole number from {} to {}", within.start(), within.end());
    let read = |text: &str| text.replace('_', "").parse().ok().filter(|count| within.contains(count));
    pairs.parse(key, &expected, read)
}

fn size(
    pairs: &mut Pairs,
    key: &str,
    within: std::ops::RangeInclusive<usize>,
) -> Result<Option<usize>, options::Error> {
    let expected = format!("a size like \"64 KiB\", from {} to {} bytes", within.start(), within.end());
    let read = |text: &str| usize::try_from(options::parse_size(text)?).ok().filter(|size| within.contains(size));
    pairs.parse(key, &expected, read)
}

fn time(pairs: &mut Pairs, key: &str) -> Result<Option<std::time::Duration>, options::Error> {
    let read = |text: &str| options::parse_duration(text).filter(|time| !time.is_zero());
    pairs.parse(key, "a duration like \"5 s\", longer than nothing", read)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text, Path::new("/etc/tidemill/tidemill.toml"))
    }

    #[test]
    fn reads_doors_and_tokens() {
        let text = format!(
            r#"
            [[door]]
            listen = "127.0.0.1:0"

            [[door]]
            listen = "0.0.0.0:8443"
            workers = 4
            [door.tls]
            certificate = "server.pem"
            key = "/keys/server.key"
            [door.limits]
            connections = 500
            body.bytes = "1 MiB"
            head.timeout = "5 s"
            requests.address = "1000/s burst 2000"
            [door.http2]
            stream.window = "2 MiB"

            [[token]]
            name = "web"
            sha256 = "{}"
            scopes = ["ingest:clicks", "read:*"]
            "#,
            "0a".repeat(32)
        );
        let config = parse(&text).expect("it is well formed");
        let [first, second] = config.doors.as_slice() else { panic!("two doors") };
        assert_eq!((first.listen.port(), first.workers, first.stack), (0, 2, Stack::Standard));
        assert_eq!((second.workers, second.connections_max, second.body_bytes_max), (4, 500, 1 << 20));
        assert_eq!((second.header_timeout, second.stream_window_bytes), (Duration::from_secs(5), 2 << 20));
        assert_eq!(second.rates.address, Rate::parse("1000/s burst 2000"));
        let tls = second.tls.as_ref().expect("it has a certificate");
        assert_eq!(tls.certificate, Path::new("/etc/tidemill/server.pem"));
        assert_eq!(tls.key, Path::new("/keys/server.key"));
        let [token] = config.tokens.as_slice() else { panic!("one token") };
        assert_eq!((token.name.as_str(), token.sha256[31], token.scopes.len()), ("web", 10, 2));
        assert!(parse("").is_ok_and(|config| config.doors.is_empty()));
    }

    #[test]
    fn says_what_is_wrong_and_how_to_mend_it() {
        let check = |text: &str, problem: &str, help: &str| match parse(text) {
            Err(Error::Config { problem: found, help: mended, .. }) => {
                let mended = mended.unwrap_or_default();
                assert!(found.contains(problem) && mended.contains(help), "{text}: {found} / {mended}");
            }
            other => panic!("{text}: {other:?}"),
        };
        check("[[doors]]", "nothing is called 'doors'", "did you mean [[door]]?");
        check("[door]\nlisten = \"x\"", "not a list of tables", "write [[door]]");
        check("[[door]]\nlissten = \"127.0.0.1:1\"", "door 1 has no option 'lissten'", "did you mean 'listen'?");
        check("[[door]]\nlimits.body.byte = 1", "'limits.body.byte'", "did you mean 'limits.body.bytes'?");
        check("[[door]]\nlisten = \"nowhere\"", "'listen' = 'nowhere' is not an address", "127.0.0.1:8080");
        check("[[door]]\nworkers = 0", "'workers' = '0'", "from 1 to 1024");
        check("[[door]]\nlimits.head.timeout = \"0 s\"", "longer than nothing", "");
        check("[[door]]\nlimits.requests.source = \"many\"", "not a rate", "1000/s");
        check("[[door]]\ntls.certificate = \"c.pem\"", "[door.tls] needs the option 'key'", "add key = ");
        check("[[door]]\nstack = \"fast\"\ntls = {certificate = \"c\", key = \"k\"}", "speaks no TLS", "standard");
        check("[[door]]\nlisten = [1]", "'listen' is a list", "listen = ");
        check("[[token]]\nname = \"a\"", "needs the option 'sha256'", "add sha256");
        check("[[token]]\nname = \"a\"\nsha256 = \"beef\"\nscopes = []", "64 hexadecimal digits", "tidemill token new");
        let digest = "0".repeat(64);
        let token = |scopes: &str| format!("[[token]]\nname = \"a\"\nsha256 = \"{digest}\"\n{scopes}\n");
        check(&token(""), "no list of scopes", "ingest:SOURCE");
        check(&token("scopes = [\"ingst:x\"]"), "no scope 'ingst:x'", "did you mean 'ingest'?");
        check(&token("scope = \"x\""), "no option 'scope'", "");
        check(&token("scopes = []").repeat(2), "is there twice", "of its own");
        check("[[door]\n", "line 1", "");
    }
}
