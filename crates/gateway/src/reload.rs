//! [`Reload`]: who may come through doors that are open, and how often, told anew.
//!
//! Connections stay, and what they ask next is judged by the new rules; a call of gRPC that goes on is judged message by
//! message. All doors take a configuration or none does.

use std::path::Path;
use std::sync::Arc;

use crate::door::Door;
use crate::error::Error;
use crate::hall::Hall;
use crate::identity::Tokens;
use crate::limits::Rates;
use crate::options::{Config, Options};

/// Takes what can change while doors are open: their tokens and their rates.
#[derive(Clone)]
pub struct Reload {
    pub(crate) hall: Arc<Hall>,
    pub(crate) doors: Vec<Arc<Door>>,
}

impl Reload {
    /// Goes on with the tokens and rates of a configuration, which `file` describes.
    ///
    /// Returns a sentence for each door of which more has changed, which it does not take before it is opened again.
    ///
    /// # Errors
    /// [`Error::Config`] when it describes other doors than there are, [`Error::Insecure`] when a door that other machines
    /// can reach would not ask who they are any more. Everything stays as it is then.
    pub fn take(&self, config: Config, file: &Path) -> Result<Vec<String>, Error> {
        let Config { mut doors, tokens } = config;
        if doors.is_empty() {
            // One was opened where it was said otherwise.
            doors = self.doors.iter().map(|door| Options { rates: Rates::default(), ..door.options.clone() }).collect();
        }
        let tokens = Arc::new(Tokens::new(tokens));
        let listen: Vec<_> = self.doors.iter().map(|door| door.options.listen).collect();
        if doors.iter().map(|door| door.listen).ne(listen.iter().copied()) {
            let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
            let problem = format!("it describes other doors than those that are open at {}", listen.join(", "));
            let help = Some("stop and start to open and close doors".to_string());
            return Err(Error::Config { file: file.to_path_buf(), problem, help });
        }
        self.doors.iter().try_for_each(|door| door.check(&tokens))?;
        let mut notes = Vec::new();
        for (door, options) in self.doors.iter().zip(&doors) {
            door.guard.renew(tokens.clone(), &options.rates, &self.hall);
            let (rates, insecure) = (door.options.rates, door.options.insecure);
            if (Options { rates, insecure, ..options.clone() }) != door.options {
                let listen = door.options.listen;
                notes.push(format!("the door at {listen} takes its rates; what else has changed waits for a start"));
            }
        }
        Ok(notes)
    }
}
