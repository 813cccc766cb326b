//! Nodes under mutual TLS: each with its own certificate, and one with another node's.

use std::path::Path;
use std::time::Instant;

use mortise_cluster_kit::{LocalCluster, PATIENCE};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use crate::kit::Kv;

/// Writes an authority, and a certificate for each of three nodes, into a folder.
fn certify(folder: &Path) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    for node in 1..=3 {
        let names = vec![format!("node-{node}.local"), "127.0.0.1".to_owned()];
        let mut leaf = CertificateParams::new(names).unwrap();
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &ca).unwrap();
        std::fs::write(folder.join(format!("{node}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{node}.key")), key.serialize_pem()).unwrap();
    }
}

/// What a node's configuration says with the certificate of the node `of`.
fn secured(plain: &str, folder: &Path, of: usize) -> String {
    let file = |name: String| folder.join(name);
    let peer = format!(
        "[peer]\ntls_cert = {:?}\ntls_key = {:?}\ntls_client_ca = {:?}\n",
        file(format!("{of}.pem")),
        file(format!("{of}.key")),
        file("ca.pem".into())
    );
    plain.replace("[peer]\n", &peer)
}

fn refused(cluster: &mut LocalCluster, node: usize) -> f64 {
    cluster.node(node).metric("peer_refused_total{reason=\"other_certificate\"}").unwrap()
}

#[test]
fn a_node_with_another_nodes_certificate_is_no_peer() {
    let mut kv = Kv::start();
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let plain: Vec<String> =
        kv.cluster.nodes().iter().map(|node| std::fs::read_to_string(node.config()).unwrap()).collect();
    let configure = |kv: &mut Kv, node: usize, text: String| {
        std::fs::write(kv.cluster.node(node).config(), text).unwrap();
    };
    for node in 1..=3 {
        kv.cluster.node(node).stop().unwrap();
        configure(&mut kv, node, secured(&plain[node - 1], folder.path(), node));
    }
    (1..=3).for_each(|node| kv.cluster.node(node).start().unwrap());
    kv.cluster.wait_in_sync().unwrap();
    kv.put("k", "1");
    (1..=3).for_each(|node| assert_eq!(refused(&mut kv.cluster, node), 0.0));

    let follower = kv.follower();
    let leader = kv.cluster.wait_leader().unwrap();
    kv.kill(follower);
    let stolen = secured(&plain[follower - 1], folder.path(), leader);
    configure(&mut kv, follower, stolen.clone());
    kv.cluster.node(follower).start().unwrap_err();
    let told = std::fs::read_to_string(kv.cluster.node(follower).log()).unwrap();
    let name = format!("the DNS name node-{follower}.local");
    assert!(told.contains("is not the certificate of this node") && told.contains(&name), "{told}");

    // It does not care; the others do.
    configure(&mut kv, follower, stolen.replace("[cluster]\n", "[cluster]\npeer_certificate_name = \"\"\n"));
    kv.cluster.node(follower).start().unwrap();
    let begun = Instant::now();
    while refused(&mut kv.cluster, leader) < 3.0 {
        assert!(begun.elapsed() < PATIENCE, "nothing is refused");
        std::thread::yield_now();
    }
    kv.put("k", "2");
    let isr = kv.cluster.status().unwrap()["record"]["isr"].clone();
    assert!(!isr.as_array().unwrap().contains(&serde_json::json!(follower)), "{isr}");
    let told = std::fs::read_to_string(kv.cluster.node(leader).log()).unwrap();
    assert_eq!(told.matches("other_certificate").count(), 1, "it is said once: {told}");

    kv.cluster.node(follower).kill().unwrap();
    configure(&mut kv, follower, secured(&plain[follower - 1], folder.path(), follower));
    kv.restart(follower);
    assert_eq!(kv.get("k"), "2");
}
