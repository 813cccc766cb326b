//! The cluster service: what only a leader can do goes to it, what is meant for one node stays there.

use std::sync::{Arc, Mutex};

use mortise_client::{ClusterClient, ErrorKind, Options, TookEffect};
use mortise_proto::v1::cluster_server::{Cluster, ClusterServer};
use mortise_proto::v1::{self, ErrorCode, ErrorDetail};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A node that leads no group, or all.
#[derive(Clone, Default)]
pub(crate) struct Node {
    leader: Arc<Mutex<Option<String>>>,
    done: Arc<Mutex<Vec<&'static str>>>,
    refusals: Arc<Mutex<usize>>,
}

impl Node {
    /// Starts it, and says where it is.
    pub(crate) async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tonic::transport::Server::builder().add_service(ClusterServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    fn note<R>(&self, what: &'static str, response: R) -> Result<Response<R>, Status> {
        self.done.lock().unwrap().push(what);
        Ok(Response::new(response))
    }

    fn lead<R>(&self, what: &'static str, response: R) -> Result<Response<R>, Status> {
        let Some(hint) = self.leader.lock().unwrap().clone() else { return self.note(what, response) };
        *self.refusals.lock().unwrap() += 1;
        let detail = ErrorDetail::new(ErrorCode::NotLeader, "another node leads").retryable();
        Err(ErrorDetail { leader_hint: hint, ..detail }.into())
    }
}

fn group() -> v1::Group {
    v1::Group { group: 1, leader: 2, min_isr: 2, isr: vec![1, 2], ..v1::Group::default() }
}

#[tonic::async_trait]
impl Cluster for Node {
    async fn create_group(
        &self,
        request: Request<v1::CreateGroupRequest>,
    ) -> Result<Response<v1::CreateGroupResponse>, Status> {
        let v1::CreateGroupRequest { group: number, nodes, min_isr } = request.into_inner();
        let group = v1::Group { group: number, isr: nodes, min_isr, ..v1::Group::default() };
        self.note("create", v1::CreateGroupResponse { group: Some(group) })
    }

    async fn list_groups(
        &self,
        _: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        self.note("list", v1::ListGroupsResponse { groups: vec![group()] })
    }

    async fn cluster_status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let groups = vec![v1::GroupStatus { record: Some(group()), members: Vec::new() }];
        self.note("status", v1::ClusterStatusResponse { node: 1, groups, ..Default::default() })
    }

    async fn transfer_leadership(
        &self,
        _: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        self.lead("transfer", v1::TransferLeadershipResponse {})
    }

    async fn add_member(
        &self,
        _: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        self.lead("add", v1::AddMemberResponse {})
    }

    async fn remove_member(
        &self,
        _: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        self.lead("remove", v1::RemoveMemberResponse {})
    }

    async fn set_min_isr(
        &self,
        _: Request<v1::SetMinIsrRequest>,
    ) -> Result<Response<v1::SetMinIsrResponse>, Status> {
        self.lead("min_isr", v1::SetMinIsrResponse {})
    }

    async fn unclean_start(
        &self,
        _: Request<v1::UncleanStartRequest>,
    ) -> Result<Response<v1::UncleanStartResponse>, Status> {
        self.note("unclean_start", v1::UncleanStartResponse {})
    }

    async fn accept_etcd(
        &self,
        _: Request<v1::AcceptEtcdRequest>,
    ) -> Result<Response<v1::AcceptEtcdResponse>, Status> {
        self.note("accept_etcd", v1::AcceptEtcdResponse {})
    }
}

async fn client(addresses: &[&String]) -> ClusterClient {
    let admin_endpoints = addresses.iter().map(|address| format!("http://{address}")).collect();
    ClusterClient::connect(&Options { admin_endpoints, ..Options::default() }).await.unwrap()
}

#[tokio::test]
async fn what_only_a_leader_can_do_goes_to_it() {
    let (follower, leader) = (Node::default(), Node::default());
    let (here, there) = (follower.start().await, leader.start().await);
    *follower.leader.lock().unwrap() = Some(there);
    let cluster = client(&[&here]).await;
    cluster.transfer(1, 2).await.unwrap();
    cluster.add(1, 3).await.unwrap();
    cluster.remove(1, 3).await.unwrap();
    cluster.set_min_isr(1, 2).await.unwrap();
    assert_eq!(*leader.done.lock().unwrap(), ["transfer", "add", "remove", "min_isr"]);
    assert_eq!(*follower.refusals.lock().unwrap(), 1, "the leader is remembered");
    assert_eq!(cluster.list_groups().await.unwrap()[0].leader, Some(2));
    assert_eq!(cluster.status(None).await.unwrap().groups[0].record.isr, [1, 2]);
    assert_eq!(*follower.done.lock().unwrap(), ["list", "status"], "any node tells");
}

#[tokio::test]
async fn what_is_meant_for_one_node_is_refused_where_several_are_given() {
    let (one, two) = (Node::default(), Node::default());
    let (first, second) = (one.start().await, two.start().await);
    let several = client(&[&first, &second]).await;
    for error in
        [several.unclean_start(1).await.unwrap_err(), several.accept_etcd(None, &[]).await.unwrap_err()]
    {
        assert_eq!((error.kind(), error.took_effect()), (ErrorKind::Invalid, TookEffect::No));
    }
    assert!(one.done.lock().unwrap().is_empty() && two.done.lock().unwrap().is_empty());
    let only = client(&[&second]).await;
    only.unclean_start(1).await.unwrap();
    only.accept_etcd(Some(1), &[3]).await.unwrap();
    assert_eq!(*two.done.lock().unwrap(), ["unclean_start", "accept_etcd"]);
}
