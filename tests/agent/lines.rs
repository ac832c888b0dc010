//! What two agents have between them, seen from there: connections, sessions, messages.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Cluster, free_port};

/// Passes on what comes to an address, and keeps what every connection has said.
struct Relay {
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Relay {
    async fn between(address: &str, behind: String) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let relay = Self { said: Arc::clone(&said) };
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let number = said.lock().unwrap().len();
                said.lock().unwrap().push(Vec::new());
                tokio::spawn(pass_on(caller, behind.clone(), Arc::clone(&said), number));
            }
        });
        relay
    }

    fn connections(&self) -> usize {
        self.said.lock().unwrap().len()
    }

    /// Requests to a target.
    fn requests(&self, target: &str) -> usize {
        let line = format!("POST {target} HTTP/1.1\r\n").into_bytes();
        let said = self.said.lock().unwrap();
        said.iter().map(|said| said.windows(line.len()).filter(|at| *at == line).count()).sum()
    }
}

async fn pass_on(caller: TcpStream, behind: String, said: Arc<Mutex<Vec<Vec<u8>>>>, number: usize) {
    let Ok(agent) = TcpStream::connect(behind).await else { return };
    let ((mut asks, mut hears), (mut answers, mut is_asked)) = (caller.into_split(), agent.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut hears).await });
    let mut bytes = vec![0; 16 << 10];
    while let Ok(count @ 1..) = asks.read(&mut bytes).await {
        said.lock().unwrap()[number].extend_from_slice(&bytes[..count]);
        if is_asked.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    drop(is_asked);
    drop(back.await);
}

/// W32: an operation is hundreds of messages, and a session and a few connections.
#[tokio::test]
async fn w32_agents_keep_their_connections_and_sessions() {
    let mut cluster = Cluster::at_rest(2, "", |n| format!("127.0.0.{}", n + 1));
    // The second is known by an address at which the relay listens.
    let behind = format!("127.0.0.2:{}", free_port());
    cluster.homes[1].configure(&format!("[agent]\nlisten = [\"{behind}\"]\n"));
    let relay = Relay::between(&cluster.address(1), behind).await;
    cluster.start(0);
    cluster.start(1);
    cluster.form().await;
    let (hellos, messages) = (|| relay.requests("/rpc/v1/peer/hello"), || relay.requests("/rpc/v1/peer"));
    assert!(hellos() >= 1 && messages() >= 10, "{} hellos, {} messages", hellos(), messages());

    let (begun, connected, said) = (hellos(), relay.connections(), messages());
    let global = json!({ "scope": { "type": "GLOBAL" }, "force": true });
    for _ in 0..3 {
        cluster.done(0, "/api/v1/ob/stop", global.clone()).await;
        cluster.start_all(0).await;
    }
    assert_eq!(hellos(), begun, "the session of before is the one");
    let (more, connections) = (messages() - said, relay.connections() - connected);
    assert!(more >= 40, "{more} messages");
    // As many as are in use at the same time.
    assert!(connections <= 8, "{connections} connections for {more} messages");
    println!("{more} messages, {connections} new connections, {begun} hellos");
}
