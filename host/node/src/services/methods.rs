//! What the guard knows of each method.

/// A method of Data, Admin or Cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Method {
    /// Its name in spans and metrics.
    pub(super) name: &'static str,
    /// Whether it needs the scope admin. The others check the tenant they name themselves.
    pub(super) admin: bool,
    /// Whether it can change anything.
    pub(super) changes: bool,
    /// Whether its answer is a stream, which then measures itself and keeps the deadline.
    pub(super) streams: bool,
}

/// The method at a request's path. `None`: another service, or none.
pub(super) fn method(path: &str) -> Option<&'static Method> {
    let (methods, name) = match path.strip_prefix("/mortise.v1.")?.split_once('/')? {
        ("Data", name) => (DATA, name),
        ("Admin", name) => (ADMIN, name),
        ("Cluster", name) => (CLUSTER, name),
        _ => return None,
    };
    methods.iter().find(|method| method.name == name)
}

/// Those that only read.
const READ: Method = Method { name: "", admin: false, changes: false, streams: false };
/// Those that change something.
const CHANGE: Method = Method { changes: true, ..READ };

const DATA: &[Method] = &[
    Method { name: "WriteStream", streams: true, ..CHANGE },
    Method { name: "Write", ..CHANGE },
    Method { name: "Query", ..READ },
    Method { name: "AskFate", ..READ },
    Method { name: "Watch", streams: true, ..READ },
    Method { name: "OpenSession", ..CHANGE },
    Method { name: "CloseSession", ..CHANGE },
];

const ADMIN: &[Method] = &[
    Method { name: "CreateTenant", admin: true, ..CHANGE },
    Method { name: "ListTenants", admin: true, ..READ },
    Method { name: "GetTenant", admin: true, ..READ },
    Method { name: "DropTenant", admin: true, ..CHANGE },
    Method { name: "SwitchTenant", admin: true, ..CHANGE },
    Method { name: "ExportTenant", admin: true, streams: true, ..READ },
    Method { name: "ImportTenant", admin: true, ..CHANGE },
    Method { name: "UploadPlugin", admin: true, ..CHANGE },
    Method { name: "ListPlugins", admin: true, ..READ },
    Method { name: "InspectPlugin", admin: true, ..READ },
    Method { name: "GetProfile", admin: true, ..READ },
    Method { name: "SetProfile", admin: true, ..CHANGE },
    Method { name: "Snapshot", admin: true, ..CHANGE },
    Method { name: "Status", admin: true, ..READ },
];

const CLUSTER: &[Method] = &[
    Method { name: "CreateGroup", admin: true, ..CHANGE },
    Method { name: "ListGroups", admin: true, ..READ },
    Method { name: "ClusterStatus", admin: true, ..READ },
    Method { name: "TransferLeadership", admin: true, ..CHANGE },
    Method { name: "AddMember", admin: true, ..CHANGE },
    Method { name: "RemoveMember", admin: true, ..CHANGE },
    Method { name: "SetMinIsr", admin: true, ..CHANGE },
    Method { name: "UncleanStart", admin: true, ..CHANGE },
    Method { name: "AcceptEtcd", admin: true, ..CHANGE },
];

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// The guard refuses a method that is missing here.
    #[test]
    fn every_method_of_the_protos_is_known() {
        let descriptors = prost_types::FileDescriptorSet::decode(mortise_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut seen = 0;
        for service in descriptors.file.iter().flat_map(|file| &file.service) {
            for declared in &service.method {
                let path = format!("/mortise.v1.{}/{}", service.name(), declared.name());
                let known = method(&path).unwrap_or_else(|| panic!("{path} is not known"));
                assert_eq!(known.streams, declared.server_streaming(), "{path}");
                assert_eq!(known.admin, service.name() != "Data", "{path}");
                seen += 1;
            }
        }
        assert_eq!(seen, DATA.len() + ADMIN.len() + CLUSTER.len());
    }

    #[test]
    fn other_paths_are_none_of_ours() {
        for path in
            ["/metrics", "/grpc.health.v1.Health/Check", "/mortise.v1.Data/", "/mortise.v1.Admin/Write"]
        {
            assert_eq!(method(path), None, "{path}");
        }
    }
}
