//! What may not be journaled at all: judged by the writer, so against the state that the row would change.

use clawker_model::Event;

use crate::db::Db;
use crate::{Error, query, registry};

/// Whether an event may be journaled at all.
pub(crate) fn admit(state: &Db, event: &Event) -> Result<(), Error> {
    if let Event::RegistryRowWritten(e) = event
        && let Some(token) = &e.token
        && query::is_burnt(&state.conn, token).map_err(state.error("checking a token"))?
    {
        return Err(Error::TokenSpent);
    }
    let error = state.error("checking a registry row");
    let (container, thumbprints) = match event {
        Event::RegistryRowWritten(e) => {
            let held = query::registry_row(&state.conn, &e.row.container).map_err(error)?;
            registry::admit(held.as_ref(), &e.row)?;
            let thumbprints = [Some(&e.row.thumbprint), e.row.previous_thumbprint.as_ref()];
            (&e.row.container, thumbprints)
        }
        Event::IdentityRotated(e) => (&e.container, [Some(&e.thumbprint), e.held.as_ref()]),
        _ => return Ok(()),
    };
    for thumbprint in thumbprints.into_iter().flatten() {
        match query::registry_by_thumbprint(&state.conn, thumbprint).map_err(error)? {
            Some(held) if held.row.container != *container => {
                return Err(Error::ThumbprintTaken {
                    thumbprint: thumbprint.clone(),
                    container: container.clone(),
                    held_by: held.row.container,
                });
            }
            _ => {}
        }
    }
    Ok(())
}
