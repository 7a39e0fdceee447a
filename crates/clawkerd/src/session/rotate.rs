//! Renewal: a new leaf for the key in the bundle. Checked here, because PID 1 reads no certificates; stored there, because
//! this half may die at any moment; answered only then.

use clawker_identity::agent;
use clawker_wire::PROTOCOL;
use clawker_wire::session::RotateIdentity;
use clawker_wire::session::response::Body;
use rustls::pki_types::UnixTime;

use super::convert;
use super::hub::Hub;
use super::serve::Identity;
use crate::halves::{Reply, Request};

/// Most roots in force at a time: two while one replaces the other, and room for a fleet's.
const MAX_ROOTS: usize = 4;

/// The answer, and whether the identity in force is another one now.
pub async fn rotate(hub: &Hub, identity: &Identity, rotate: RotateIdentity) -> (Body, bool) {
    let refuse = |why: String| (convert::failed("bad_identity", why), false);
    if rotate.roots.len() > MAX_ROOTS {
        return refuse(format!("{} roots, the limit is {MAX_ROOTS}", rotate.roots.len()));
    }
    let roots: Vec<Vec<u8>> = rotate.roots.iter().map(|root| root.to_vec()).collect();
    let renewed = match agent::renewed(&identity.credentials(), rotate.leaf.to_vec(), roots, UnixTime::now()) {
        Ok(renewed) => renewed,
        Err(error) => return refuse(error.to_string()),
    };
    let request = Request::Rotate {
        leaf: renewed.leaf.clone(),
        roots: renewed.roots.clone(),
    };
    match hub.request(request).await {
        Ok(reply @ Reply::Done) => {
            identity.renewed(renewed);
            (convert::reply(reply, PROTOCOL), true)
        }
        Ok(reply) => (convert::reply(reply, PROTOCOL), false),
        Err(why) => refuse(why),
    }
}
