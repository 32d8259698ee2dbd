//! A real nginx in a directory of its own, as Debian ships it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::until;

/// A running nginx: killed when dropped.
pub struct Nginx {
    directory: TempDir,
    /// Where it serves.
    pub port: u16,
    /// Where it tells its figures.
    status_port: u16,
    server: String,
    child: Option<Child>,
}

/// One line of the access log.
#[derive(Debug)]
pub struct Access {
    pub request_id: String,
    pub host: String,
    pub status: u16,
    /// nginx's serial number of the connection.
    pub connection: u64,
}

impl Nginx {
    /// Starts an nginx whose `server` block has these directives.
    pub async fn start(server: &str) -> Self {
        // Both are free now; somebody else could take one before nginx does, which then fails to
        // start and says so.
        let free: Vec<_> =
            (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let port = |n: usize| free[n].local_addr().expect("an address").port();
        let directory = TempDir::with_prefix("weir-nginx-").expect("a directory");
        fs::create_dir(directory.path().join("root")).expect("a directory");
        let (port, status_port) = (port(0), port(1));
        drop(free);
        let mut nginx =
            Self { directory, port, status_port, server: server.to_owned(), child: None };
        nginx.begin().await;
        nginx
    }

    /// `http://address`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A directory that it serves.
    pub fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
    }

    /// Starts it again on the same port.
    pub async fn begin(&mut self) {
        let directory = self.directory.path().to_owned();
        fs::write(directory.join("nginx.conf"), self.configuration(&directory))
            .expect("the directory is ours");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(&directory)
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is not here: `make test` installs it (apt-get install nginx-light)");
        self.child = Some(child);
        until("nginx answers", || async {
            let log = fs::read_to_string(directory.join("error.log")).unwrap_or_default();
            assert!(!log.contains("[emerg]"), "nginx does not start: {log}");
            TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
                && TcpStream::connect(("127.0.0.1", self.status_port)).await.is_ok()
        })
        .await;
        until("the probes are gone", || async { self.connections().await == 0 }).await;
    }

    /// One process, so that it sees one close before the connect that follows it.
    fn configuration(&self, directory: &Path) -> String {
        let Self { port, status_port, server, .. } = self;
        let directory = directory.display();
        format!(
            "daemon off; master_process off; pid nginx.pid;
             events {{ worker_connections 512; }}
             http {{
               log_format tests '$http_x_request_id $http_host $status $connection';
               client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
               uwsgi_temp_path uwsgi; scgi_temp_path scgi;
               limit_conn_zone $server_name zone=all:64k;
               server {{
                 listen 127.0.0.1:{port} backlog=512; server_name tests; root {directory}/root;
                 access_log access.log tests;
                 {server}
               }}
               server {{
                 listen 127.0.0.1:{status_port}; access_log off;
                 location / {{ stub_status; }}
               }}
             }}"
        )
    }

    /// Connections that nginx has open now, without the one that asks.
    pub async fn connections(&self) -> usize {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.status_port)).await.expect("nginx runs");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("nginx reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).await.expect("nginx answers");
        let active = page.lines().find_map(|line| line.strip_prefix("Active connections:"));
        let active: usize = active.expect("stub_status").trim().parse().expect("a number");
        active - 1
    }

    /// The access log so far.
    pub fn log(&self) -> Vec<Access> {
        let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        log.lines()
            .map(|line| {
                let fields: Vec<_> = line.split(' ').collect();
                Access {
                    request_id: fields[0].to_owned(),
                    host: fields[1].to_owned(),
                    status: fields[2].parse().expect("a status"),
                    connection: fields[3].parse().expect("a number"),
                }
            })
            .collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}
