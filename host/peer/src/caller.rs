//! Who speaks to whom: the metadata of every call.

use mortise_core::group::NodeId;
use mortise_core::ids::GroupId;
use mortise_core::replica::StreamId;
use mortise_proto::CLUSTER_METADATA;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::counters::Count;
use crate::options::{Identity, PROTOCOL};

const NODE: &str = "mortise-node";
const TO: &str = "mortise-to";
const VERSION: &str = "mortise-protocol";
const GROUP: &str = "mortise-group";
const STREAM: &str = "mortise-stream";

/// Adds to each call who speaks to whom.
#[derive(Clone, Debug)]
pub struct Speaker {
    cluster: Option<MetadataValue<Ascii>>,
    node: MetadataValue<Ascii>,
    to: MetadataValue<Ascii>,
}

impl Speaker {
    pub(crate) fn new(identity: Identity, to: NodeId) -> Self {
        Self {
            // Hexadecimal digits are always a value: `None` would be refused over there.
            cluster: format!("{:016x}", identity.cluster).parse().ok(),
            node: identity.node.0.into(),
            to: to.0.into(),
        }
    }
}

impl Interceptor for Speaker {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(cluster) = &self.cluster {
            metadata.insert(CLUSTER_METADATA, cluster.clone());
        }
        metadata.insert(NODE, self.node.clone());
        metadata.insert(TO, self.to.clone());
        metadata.insert(VERSION, PROTOCOL.into());
        Ok(request)
    }
}

/// Names the stream that a call carries.
pub(crate) fn name_stream(metadata: &mut MetadataMap, group: GroupId, stream: StreamId) {
    metadata.insert(GROUP, group.0.into());
    metadata.insert(STREAM, stream.0.into());
}

/// The stream that a call carries.
pub(crate) fn named_stream(metadata: &MetadataMap) -> Option<(GroupId, StreamId)> {
    Some((GroupId(number(metadata, GROUP)?), StreamId(number(metadata, STREAM)?)))
}

/// Who is refused, what is counted, and what is answered.
pub(crate) struct Stranger {
    pub(crate) node: NodeId,
    pub(crate) count: Count,
    pub(crate) status: Status,
}

/// Who speaks, where it speaks to this node, of this cluster, in words that this node understands. Whether it is a
/// member is another question.
pub(crate) fn caller(metadata: &MetadataMap, here: Identity) -> Result<NodeId, Box<Stranger>> {
    let node = NodeId(number(metadata, NODE).unwrap_or_default());
    let refuse = |count, status| Err(Box::new(Stranger { node, count, status }));
    let text = metadata.get(CLUSTER_METADATA).and_then(|cluster| cluster.to_str().ok());
    let cluster = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    let (Some(cluster), Some(to), Some(version), 1..) =
        (cluster, number(metadata, TO), number(metadata, VERSION), node.0)
    else {
        return refuse(Count::Unmarked, Status::invalid_argument("the call does not say who speaks to whom"));
    };
    if version.abs_diff(PROTOCOL.into()) > 1 {
        let words = format!(
            "protocol version {version} is more than one away from version {PROTOCOL} of this node: upgrade one release at a time"
        );
        return refuse(Count::OtherProtocol, Status::unimplemented(words));
    }
    if cluster != here.cluster {
        let words = format!("this node is of cluster {:016x}, not {cluster:016x}", here.cluster);
        return refuse(Count::OtherCluster, Status::failed_precondition(words));
    }
    if to != here.node.0 {
        let words = format!("this is node {}, not {to}", here.node);
        return refuse(Count::OtherListener, Status::failed_precondition(words));
    }
    Ok(node)
}

fn number(metadata: &MetadataMap, name: &str) -> Option<u64> {
    metadata.get(name)?.to_str().ok()?.parse().ok()
}
