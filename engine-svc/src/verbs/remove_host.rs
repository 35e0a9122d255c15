//! RemoveHost.

use common::fault::Fault;
use engine_core::model::RemoveHost;
use proto::convert;
use proto::engine::v1::RemoveHostRequest;

wire_form! { RemoveHost <=> RemoveHostParameters { host_id: id } }

mutation! { RemoveHost: RemoveHostRequest => RemoveHostResponse, read }

fn read(request: &RemoveHostRequest) -> Result<RemoveHost, Fault> {
    Ok(RemoveHost {
        host_id: convert::id("host_id", &request.host_id)?,
    })
}
