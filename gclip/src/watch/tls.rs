// SPDX-License-Identifier: MIT OR Apache-2.0
//! A certificate to serve with, read from files and read again when they have changed: certificates last for weeks, the
//! program for months.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often it is looked whether the files have changed, at most.
const LOOK: Duration = Duration::from_secs(10);

/// Where they are, in PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// The certificate, and then those that vouch for it.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Files {
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub fn load(&self) -> Result<Arc<ServerConfig>> {
        let name = |path: &Path| path.display().to_string();
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("cannot read the certificate {}", name(&self.certificate)))?;
        ensure!(!chain.is_empty(), "{} holds no certificate in PEM", name(&self.certificate));
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("cannot read the key {}", name(&self.key)))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .with_context(|| {
                format!("{} and {} do not belong together", name(&self.certificate), name(&self.key))
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What changes when they do.
    fn stamp(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key]
            .map(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok())
    }
}

/// The files as they were when they last were right.
pub struct Renewed {
    files: Files,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    stamp: [Option<SystemTime>; 2],
    looked: Instant,
}

impl Renewed {
    /// # Errors
    /// As [`Files::load`].
    pub fn new(files: &Files) -> Result<Renewed> {
        let stamp = files.stamp();
        let current = Current { config: files.load()?, stamp, looked: Instant::now() };
        Ok(Renewed { files: files.clone(), current: Mutex::new(current) })
    }

    /// What to serve with now; `told` hears what is wrong with files that have changed. Until that is mended those before
    /// are served with.
    pub fn now(&self, told: impl FnOnce(String)) -> Arc<ServerConfig> {
        let mut current = self.current.lock();
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            let stamp = self.files.stamp();
            if stamp != current.stamp {
                current.stamp = stamp;
                match self.files.load() {
                    Ok(config) => {
                        current.config = config;
                        told(format!("{} has been read again", self.files.certificate.display()));
                    }
                    Err(error) => told(format!("{error:#}; the certificate before is used on")),
                }
            }
        }
        current.config.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn make(folder: &Path, name: &str) -> Files {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=test", "-keyout"])
            .arg(file("key"))
            .arg("-out")
            .arg(file("pem"))
            .output();
        assert!(made.unwrap().status.success());
        Files { certificate: file("pem"), key: file("key") }
    }

    #[test]
    fn files_that_do_not_belong_together_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (make(folder.path(), "one"), make(folder.path(), "other"));
        assert!(one.load().is_ok());
        let why = |certificate: &Path, key: &Path| {
            let files = Files { certificate: certificate.into(), key: key.into() };
            format!("{:#}", files.load().err().unwrap())
        };
        assert!(why(&one.certificate, &other.key).contains("belong together"));
        assert!(why(&one.key, &one.key).contains("no certificate"));
        assert!(why(&one.certificate, &one.certificate).contains("cannot read the key"));
        assert!(why(&folder.path().join("none"), &one.key).contains("cannot read the certificate"));
    }

    #[test]
    fn a_renewed_certificate_is_used_and_a_wrong_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = make(folder.path(), "one");
        let renewed = Renewed::new(&files).unwrap();
        let wait = || renewed.current.lock().looked = Instant::now().checked_sub(LOOK).unwrap();
        let first = renewed.now(|what| panic!("{what}"));
        make(folder.path(), "one");
        assert!(Arc::ptr_eq(&first, &renewed.now(|what| panic!("{what}"))), "not at once");
        wait();
        let second = renewed.now(|what| assert!(what.contains("read again"), "{what}"));
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&files.key, "nothing").unwrap();
        wait();
        let third = renewed.now(|what| assert!(what.contains("cannot read the key"), "{what}"));
        assert!(Arc::ptr_eq(&second, &third));
        wait();
        renewed.now(|what| panic!("told twice: {what}"));
    }
}
