//! Certificates: what they say, how long, and who believes them.

use std::{
    cell::Cell,
    path::Path,
    time::{Duration, SystemTime},
};

use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    pem::Pem,
};

use super::*;

const DOMAIN: &str = "mesh.internal";

fn region(name: &str) -> RegionName {
    name.parse().unwrap()
}

fn at(hours: u64) -> SystemTime {
    // Not the epoch: certificates are backdated.
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + hours * 3600)
}

fn ca(dir: &Path) -> DevelopmentCa {
    DevelopmentCa::open(dir, &region("eu"), at(0)).unwrap()
}

fn pem(text: &str) -> Pem {
    let blocks: Result<Vec<_>, _> = Pem::iter_from_buffer(text.as_bytes()).collect();
    let mut blocks = blocks.unwrap();
    assert_eq!(blocks.len(), 1);
    blocks.remove(0)
}

#[test]
fn certificates_are_signed_by_the_root_and_say_who() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let orders = "orders".parse().unwrap();
    for (id, uri) in [
        (
            SpiffeId::service(DOMAIN, &region("eu"), &orders),
            "spiffe://mesh.internal/region/eu/service/orders",
        ),
        (
            SpiffeId::gateway(DOMAIN, &region("eu")),
            "spiffe://mesh.internal/region/eu/gateway",
        ),
    ] {
        let issued = ca.issue(&id, at(0)).unwrap();
        let (leaf, root) = (pem(&issued.chain_pem), pem(ca.trust_bundle()));
        let (leaf, root) = (leaf.parse_x509().unwrap(), root.parse_x509().unwrap());
        leaf.verify_signature(Some(root.public_key())).unwrap();
        root.verify_signature(None).unwrap();
        assert!(root.is_ca() && !leaf.is_ca());
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI(uri)]);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth);
        let life = leaf.validity().not_after - leaf.validity().not_before;
        assert_eq!(life.unwrap().whole_hours(), 24);
        assert!(leaf.extensions().iter().any(|e| matches!(
            e.parsed_extension(),
            ParsedExtension::AuthorityKeyIdentifier(_)
        )));
    }
}

#[test]
fn the_root_outlives_a_restart_and_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let first = ca(dir.path()).trust_bundle().to_owned();
    let again = ca(dir.path());
    assert_eq!(first, again.trust_bundle());
    let id = SpiffeId::gateway(DOMAIN, &region("eu"));
    let issued = again.issue(&id, at(0)).unwrap();
    let (leaf, root) = (pem(&issued.chain_pem), pem(&first));
    let root = root.parse_x509().unwrap();
    let leaf = leaf.parse_x509().unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!(leaf.issuer(), root.subject());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let file = dir.path().join("development-ca.pem");
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_spoilt_file_is_reported_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("development-ca.pem");
    for (content, part) in [
        ("", "no certificate"),
        ("-----BEGIN CERTIFICATE-----", "its key"),
    ] {
        std::fs::write(&file, content).unwrap();
        let error = DevelopmentCa::open(dir.path(), &region("eu"), at(0)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
    }
}

#[test]
fn the_folder_of_another_region_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = ca(dir.path()).trust_bundle().to_owned();
    let error = DevelopmentCa::open(dir.path(), &region("us"), at(0)).unwrap_err();
    for part in ["region eu", "region us", "--data-dir"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(ca(dir.path()).trust_bundle(), root);
}

#[test]
fn certificates_are_renewed_at_half_their_life_and_forgotten_unused() {
    thread_local!(static HOURS: Cell<u64> = const { Cell::new(0) });
    let dir = tempfile::tempdir().unwrap();
    let wallet = Wallet::new(Arc::new(ca(dir.path())), || at(HOURS.get()));
    let id = SpiffeId::gateway(DOMAIN, &region("eu"));
    let first = wallet.identity(&id).unwrap();
    assert_eq!(
        wallet.identity(&id).unwrap(),
        first,
        "the same until renewed"
    );

    HOURS.set(11);
    assert_eq!(wallet.renew(), []);
    HOURS.set(12);
    assert_eq!(wallet.renew(), std::slice::from_ref(&id));
    let second = wallet.identity(&id).unwrap();
    assert_ne!(second, first);
    assert!(second.not_after > first.not_after);
    assert_eq!(wallet.renew(), [], "once");

    HOURS.set(24);
    assert_eq!(wallet.renew(), std::slice::from_ref(&id));
    // Nobody came for that one.
    HOURS.set(36);
    assert_eq!(wallet.renew(), []);
    assert_eq!(wallet.len(), 0);
}

#[test]
fn a_key_shows_in_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let issued = ca
        .issue(&SpiffeId::gateway(DOMAIN, &region("eu")), at(0))
        .unwrap();
    for text in [format!("{issued:?}"), format!("{ca:?}")] {
        assert!(!text.contains("KEY"), "{text}");
    }
}
