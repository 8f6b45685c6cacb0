//! [`Doors`]: every listening front of a process, opened and closed together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::Door;
use crate::error::Error;
use crate::fast;
use crate::hall::Hall;
use crate::identity::Tokens;
use crate::options::{Config, Stack};
use crate::reload::Reload;
use crate::server::Server;

/// The open doors of a process.
pub struct Doors {
    hall: Arc<Hall>,
    open: Vec<(Open, &'static str)>,
    reload: Reload,
}

enum Open {
    Standard(Server),
    Fast(fast::Server),
}

impl Open {
    fn address(&self) -> SocketAddr {
        match self {
            Open::Standard(server) => server.address(),
            Open::Fast(server) => server.address(),
        }
    }
}

impl Doors {
    /// Opens all doors to `hall`, or none.
    ///
    /// # Errors
    /// What keeps a door from being opened.
    pub fn open(config: Config, hall: Hall) -> Result<Doors, Error> {
        let Config { doors, tokens } = config;
        let (hall, tokens) = (Arc::new(hall), Arc::new(Tokens::new(tokens)));
        // What is refused is refused before anything listens.
        let doors = doors.into_iter().map(|options| Door::new(options, hall.clone(), tokens.clone()));
        let doors = doors.collect::<Result<Vec<_>, _>>()?;
        let doors: Vec<Arc<Door>> = doors.into_iter().map(Arc::new).collect();
        let reload = Reload { hall: hall.clone(), doors: doors.clone() };
        let mut all = Doors { hall, open: Vec::new(), reload };
        for door in doors {
            let scheme = if door.options.tls.is_some() { "https" } else { "http" };
            let opened = match door.options.stack {
                Stack::Standard => Server::open(door).map(Open::Standard),
                Stack::Fast => fast::Server::open(door).map(Open::Fast),
            };
            match opened {
                Ok(open) => all.open.push((open, scheme)),
                Err(error) => {
                    all.stop(Duration::ZERO);
                    return Err(error);
                }
            }
        }
        Ok(all)
    }

    /// Where they listen, in the order of the configuration, the ports as the system chose them.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.open.iter().map(|(open, _)| open.address()).collect()
    }

    /// The same, as clients write it.
    pub fn urls(&self) -> Vec<String> {
        self.open.iter().map(|(open, scheme)| format!("{scheme}://{}", open.address())).collect()
    }

    /// What takes a changed configuration while they are open.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Answers 503 to events from now on.
    pub fn refuse_events(&self) {
        self.hall.drain();
    }

    /// Closes the ports and waits until open requests are answered, at most `within`.
    pub fn stop(self, within: Duration) {
        self.hall.drain();
        std::thread::scope(|scope| {
            for (open, _) in self.open {
                scope.spawn(move || match open {
                    Open::Standard(server) => server.stop(within),
                    Open::Fast(server) => server.stop(within),
                });
            }
        });
    }
}
