//! What the doors lead to: inboxes, views, versioned tables, versions.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tidemill_circuit::view::View;
use tidemill_gateway::{Config, Hall};
use tidemill_sql::Pipeline;
use tidemill_sql::pipeline::OutputKind;

use super::Options;
use crate::doors::ViewDoor;
use crate::endpoint::{Desks, Doors};
use crate::error::Error;
use crate::keep::start::State;
use crate::part::MAIN;
use crate::versioned::door::{TableDoor, VersionsDoor};
use crate::versioned::feed::Lookups;
use crate::versions::Versions;

/// What there is for the doors to lead to.
pub(super) struct Leads<'a> {
    pub(super) inboxes: &'a Doors,
    pub(super) desks: &'a Desks,
    pub(super) views: &'a BTreeMap<String, View>,
    pub(super) lookups: &'a Lookups,
    pub(super) state: Option<&'a State>,
}

/// Opens the doors, when the pipeline has an inbox or an address or a configuration was given.
pub(super) fn open(
    leads: &Leads<'_>,
    pipeline: &Pipeline,
    options: &Options,
) -> Result<Option<tidemill_gateway::Doors>, Error> {
    let Leads { inboxes, desks, views, lookups, state } = leads;
    let mut hall = Hall::new();
    let listen = options.listen.as_ref().or(pipeline.settings.listen.as_ref());
    if options.doors.is_none() && listen.is_none() && inboxes.is_empty() {
        return Ok(None);
    }
    // Requests of an endpoint that are no table's rows come in through the endpoint alone.
    for (name, door) in inboxes.iter().filter(|(name, _)| pipeline.table(name).is_some()) {
        hall.add_inbox(name.clone(), door.clone());
    }
    desks.furnish(&mut hall);
    for output in &pipeline.outputs {
        if let (OutputKind::MaterializedView { name }, Some(view)) = (&output.kind, views.get(&output.name)) {
            hall.add_view(name.clone(), Arc::new(ViewDoor(view.clone())));
        }
    }
    for table in lookups.tables() {
        hall.add_table(table.name(), Arc::new(TableDoor::new(table.clone())));
    }
    if let Some(State { folder, .. }) = state {
        let versions = Versions::of(&folder.path, folder.instance(MAIN)?);
        hall.show_versions(Arc::new(VersionsDoor(versions)));
    }
    Ok(Some(tidemill_gateway::Doors::open(config(options, listen)?, hall)?))
}

/// The doors that were configured, or else one where it was said.
fn config(options: &Options, listen: Option<&String>) -> Result<Config, Error> {
    let mut config = options.doors.clone().unwrap_or_default();
    if config.doors.is_empty() {
        let mut door = tidemill_gateway::Options::default();
        if let Some(listen) = listen {
            door.listen = address(listen)?;
        }
        config.doors.push(door);
    }
    config.doors.iter_mut().for_each(|door| door.insecure = options.insecure);
    Ok(config)
}

fn address(listen: &str) -> Result<SocketAddr, Error> {
    let wrong = || Error::Listen { value: listen.to_string() };
    listen.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)
}
