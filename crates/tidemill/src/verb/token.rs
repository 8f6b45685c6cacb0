//! `tidemill token`: makes tokens, which are shown once and kept nowhere.

use tidemill_gateway::{Scope, new_token};

use crate::arguments::{Token, TokenAction};
use crate::console;
use crate::failure::Failure;

/// Does what is asked.
pub(crate) fn run(token: &Token) -> Result<(), Failure> {
    let TokenAction::New { name, scope } = &token.action;
    for scope in scope {
        Scope::parse(scope).map_err(|help| Failure::Usage(format!("there is no scope '{scope}': {help}")))?;
    }
    let (token, sha256) = new_token().map_err(Failure::environment)?;
    console::say("The token, which is shown this once. Its owner sends it as `Authorization: Bearer TOKEN`:");
    console::put(format!("{token}\n").as_bytes())?;
    console::say("The lines for the file of `tidemill run --config FILE`:");
    // A text in JSON is one in TOML.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let scopes: Vec<String> = scope.iter().map(|scope| quoted(scope)).collect();
    let lines =
        format!("[[token]]\nname = {}\nsha256 = \"{sha256}\"\nscopes = [{}]\n", quoted(name), scopes.join(", "));
    console::put(lines.as_bytes())?;
    Ok(())
}
