//! How each process under the load is started.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Fatal;
use crate::events;

/// A process that the soak starts again whenever it has ended.
pub struct Service {
    pub name: &'static str,
    pub address: SocketAddr,
    arguments: Vec<(&'static str, String)>,
    pub child: Option<Child>,
}

impl Service {
    pub fn start(&self, binary: &Path, log: &Path) -> std::io::Result<Child> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(binary);
        command.arg(if self.name == "gateway" { "sandbox-gateway" } else { "serve" }).env("RUST_LOG", "info");
        command.envs(self.arguments.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The process may already have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// When the soak ends, even by a panic, its processes end. (After a SIGKILL of the soak itself, they go on.)
impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A gateway and two replicas of the API. Each has its own port and keeps the port after a restart.
pub fn services(
    databases: [String; 2],
    gateway_database: String,
    (gateway, apis): (SocketAddr, [SocketAddr; 2]),
    gateway_proxies: [SocketAddr; 2],
    clocks: Option<&Clocks>,
) -> Vec<Service> {
    let webhook = format!("http://{}{}", gateway_proxies[0], events::PATH);
    let apis = apis.into_iter().zip(databases).zip(gateway_proxies).enumerate();
    let mut services = vec![Service {
        name: "gateway",
        address: gateway,
        arguments: vec![
            ("DATABASE_URL", gateway_database),
            ("SANDBOX_BIND", gateway.to_string()),
            ("SANDBOX_WEBHOOK_URL", webhook),
            ("GATEWAY_WEBHOOK_SECRET", events::SECRET.to_owned()),
        ],
        child: None,
    }];
    services.extend(apis.map(|(replica, ((address, database), gateway_proxy))| {
        Service {
            name: "api",
            address,
            arguments: vec![
                ("DATABASE_URL", database),
                ("GATEWAY_URL", format!("http://{gateway_proxy}")),
                ("GATEWAY_KEY", "sk_test_sandbox".to_owned()),
                ("GATEWAY_WEBHOOK_SECRET", events::SECRET.to_owned()),
                ("BIND", address.to_string()),
                ("DEMO", "true".to_owned()),
            ]
            .into_iter()
            .chain(clocks.into_iter().flat_map(|clocks| clocks.arguments(replica)))
            .collect(),
            child: None,
        }
    }));
    services
}

/// The replicas' clocks: once a second, libfaketime reads the difference from the right time from a file, separately
/// for each process.
pub struct Clocks {
    library: PathBuf,
    dir: PathBuf,
}

impl Clocks {
    pub fn right(dir: &Path) -> Result<Self, Fatal> {
        let places = ["x86_64", "aarch64"].map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/faketime/libfaketime.so.1"));
        let library = places.map(PathBuf::from).into_iter().find(|place| place.exists());
        let library = library.ok_or("--clocks needs libfaketime: Debian's package faketime")?;
        let clocks = Self { library, dir: dir.to_owned() };
        clocks.set(0, 0)?;
        clocks.set(1, 0)?;
        Ok(clocks)
    }

    /// Sets a replica's clock this many seconds off the right time.
    pub fn set(&self, replica: usize, seconds: i64) -> std::io::Result<()> {
        std::fs::write(self.file(replica), format!("{seconds:+}"))
    }

    fn file(&self, replica: usize) -> PathBuf {
        self.dir.join(format!("clock-{replica}"))
    }

    fn arguments(&self, replica: usize) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file(replica).display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            // Setting a clock leaves the monotonic one alone.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

pub fn shell(command: &str) -> Result<(), Fatal> {
    if Command::new("bash").args(["-c", command]).stdout(Stdio::null()).status()?.success() {
        return Ok(());
    }
    Err(format!("this command failed: {command}").into())
}

pub fn free_address() -> Result<SocketAddr, Fatal> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Builds the real binary in the profile of this program, and returns its path.
pub fn build() -> Result<PathBuf, Fatal> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--bin", "payments"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if !cargo.status()?.success() {
        return Err("the binary could not be built".into());
    }
    let here = std::env::current_exe()?;
    let profile = here.parent().and_then(Path::parent).ok_or("this program is not in a target directory")?;
    Ok(profile.join("payments"))
}
