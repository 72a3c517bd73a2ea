//! The built-in authority for development: one root per region, kept in the data folder, that certifies whoever asks.
//!
//! It has no way to find out who asks: a node gets the identity that it says it has. Whoever reaches the xDS port can
//! therefore be any service of the region, which is why EMS listens on loopback unless told otherwise. Identity that
//! stands up to strangers comes from another [`Issuer`].

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use isthmus_model::RegionName;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use x509_parser::pem::parse_x509_pem;

use super::{IssueError, Issued, Issuer, SpiffeId};

/// File in the data folder that holds the root and its key.
const FILE: &str = "development-ca.pem";

/// How long a root counts. Nobody rotates the root of a development authority: delete its file for a new one.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a certificate counts.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Certificates count from a little before they are made, for clocks that are late.
const BACKDATED: Duration = Duration::from_secs(300);

/// What a PEM block of a certificate begins with.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file cannot be read or written.
    #[error("cannot {what} {path}: {error}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} holds no authority ({reason}): restore it, or delete it for a new one, which other regions must then be told of"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The authority is that of another region: whoever trusts it would be told that it is this one.
    #[error(
        "{path} belongs to another region: it is the {found:?} and not the {wanted:?}: give each region a --data-dir of its own"
    )]
    Region {
        /// The file.
        path: PathBuf,
        /// The name in the root.
        found: String,
        /// The name that it should have.
        wanted: String,
    },
    /// A new one cannot be made.
    #[error("cannot make an authority: {0}")]
    Generate(#[from] rcgen::Error),
}

/// See the module.
pub struct DevelopmentCa {
    issuer: rcgen::Issuer<'static, KeyPair>,
    root_pem: String,
}

impl DevelopmentCa {
    /// Opens the authority of a data folder, and makes it at the first time.
    ///
    /// # Errors
    /// If the file cannot be read, written or understood, or is that of another region.
    pub fn open(data_dir: &Path, region: &RegionName, now: SystemTime) -> Result<Self, CaError> {
        let path = data_dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let content = |reason| CaError::Content {
                    path: path.clone(),
                    reason,
                };
                let ca = Self::read(&text).map_err(content)?;
                let (found, wanted) = (name_in(&ca.root_pem).map_err(content)?, name_of(region));
                if found != wanted {
                    return Err(CaError::Region {
                        path,
                        found,
                        wanted,
                    });
                }
                Ok(ca)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = generate(region, now)?;
                write_secret(&path, &text).map_err(|error| CaError::File {
                    what: "write",
                    path: path.clone(),
                    error,
                })?;
                Self::read(&text).map_err(|reason| CaError::Content { path, reason })
            }
            Err(error) => Err(CaError::File {
                what: "read",
                path,
                error,
            }),
        }
    }

    /// Reads a key followed by its certificate.
    fn read(text: &str) -> Result<Self, String> {
        let (key, root) = text
            .find(CERTIFICATE)
            .map(|at| text.split_at(at))
            .ok_or("no certificate")?;
        let key = KeyPair::from_pem(key).map_err(|e| format!("its key: {e}"))?;
        let issuer = rcgen::Issuer::from_ca_cert_pem(root, key)
            .map_err(|e| format!("its certificate: {e}"))?;
        Ok(Self {
            issuer,
            root_pem: root.to_owned(),
        })
    }
}

impl std::fmt::Debug for DevelopmentCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevelopmentCa").finish_non_exhaustive()
    }
}

impl Issuer for DevelopmentCa {
    fn trust_bundle(&self) -> &str {
        &self.root_pem
    }

    fn issue(&self, id: &SpiffeId, now: SystemTime) -> Result<Issued, IssueError> {
        let refused = |reason: &dyn std::fmt::Display| IssueError {
            id: id.clone(),
            reason: reason.to_string(),
        };
        let uri = id.as_str().try_into().map_err(|e| refused(&e))?;
        let (not_before, not_after) = (now - BACKDATED, now + LIFETIME);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(|e| refused(&e))?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|e| refused(&e))?;
        Ok(Issued {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_before,
            not_after,
        })
    }
}

/// What a region's root is called. It names no trust domain: nodes are certified for whichever they ask in.
fn name_of(region: &RegionName) -> String {
    format!("Isthmus development CA of region {region}")
}

/// What a root is called.
fn name_in(root: &str) -> Result<String, String> {
    let (_, pem) = parse_x509_pem(root.as_bytes()).map_err(|e| format!("its certificate: {e}"))?;
    let root = pem
        .parse_x509()
        .map_err(|e| format!("its certificate: {e}"))?;
    let name = root.subject().iter_common_name().next();
    let name = name.ok_or("its certificate has no name")?;
    let text = name
        .as_str()
        .map_err(|e| format!("the name of its certificate: {e}"))?;
    Ok(text.to_owned())
}

/// A new root: its key, then its certificate.
fn generate(region: &RegionName, now: SystemTime) -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, name_of(region));
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + ROOT_LIFETIME).into();
    // It certifies nodes and nothing between.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), root.pem()))
}

/// Writes a file that only its owner may read, all of it or nothing.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
