//! nginx as an upstream that is not ours, with its own opinion of how many connections there are, and
//! as what stands before weir.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::wait::{SOON, eventually, within};

/// One request as nginx logged it, at the request's end.
#[derive(Clone, Debug)]
pub struct Logged {
    /// `x-request-id`, or `-`.
    pub request_id: String,
    /// Client connections that nginx had then, this one included.
    pub connections: u32,
    /// Method, path and content type.
    pub request: String,
}

/// A running nginx; killed when dropped.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Nginx {
    /// Starts nginx on a free port.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = free.local_addr().expect("a bound socket");
        drop(free);
        Self::start_on(address).await
    }

    /// Starts nginx on this address. It answers POSTs: `/echo` with the body, `/slow` so after
    /// 50 ms, `/second` after 1 s, `/never` after a minute, `/big` with 2 MB, `/broken` with 500.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start_on(address: SocketAddr) -> Self {
        Self::configured(address, ECHO_MODULE, &answers(address)).await
    }

    /// Starts nginx with these lines in its `http` block, which make it listen on `address`.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn before(address: SocketAddr, http: &str) -> Self {
        Self::configured(address, "", http).await
    }

    async fn configured(address: SocketAddr, modules: &str, http: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-tests-nginx-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        std::fs::write(folder.join("nginx.conf"), configuration(modules, http)).expect("writable");
        let mut command = Command::new("nginx");
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        command.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "error.log"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().expect("nginx is installed");
        eventually("nginx to listen", async || TcpStream::connect(address).await.ok()).await;
        Self { child, address, folder }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request that has ended, in the order of their ends.
    ///
    /// # Panics
    ///
    /// When its log is not as configured.
    pub fn log(&self) -> Vec<Logged> {
        let log = std::fs::read_to_string(self.folder.join("access.log")).unwrap_or_default();
        let logged = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let mut word = || words.next().expect("three fields").to_owned();
            let (request_id, connections) = (word(), word());
            let connections = connections.parse().expect("a number of connections");
            Logged { request_id, connections, request: word() }
        };
        log.lines().map(logged).collect()
    }

    /// Ends it: from now on connections are refused.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn stop(mut self) -> SocketAddr {
        within("nginx to end", SOON, self.child.kill()).await.expect("a child");
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// What answers POSTs.
const ECHO_MODULE: &str = "load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;";

fn answers(address: SocketAddr) -> String {
    let echo = |seconds: &str| format!("{seconds} echo_read_request_body; echo_request_body;");
    let (at_once, slow) = (echo(""), echo("echo_sleep 0.05;"));
    let (second, never) = (echo("echo_sleep 1;"), echo("echo_sleep 60;"));
    format!(
        r#"
    server {{
        listen {address};
        location = /echo {{ {at_once} }}
        location = /slow {{ {slow} }}
        location = /second {{ {second} }}
        location = /never {{ {never} }}
        location = /big {{ echo_duplicate 2000000 x; }}
        location = /broken {{ return 500; }}
    }}"#
    )
}

fn configuration(modules: &str, http: &str) -> String {
    format!(
        r#"{modules}
daemon off;
# One process: its death closes every socket.
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    log_format weir '$http_x_request_id $connections_active $request_method $uri $content_type';
    access_log access.log weir;
{http}
}}
"#
    )
}
