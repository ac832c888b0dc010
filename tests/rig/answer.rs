//! Requests and their answers.

use std::path::Path;
use std::time::Duration;

use obpilot::model::Password;
use obpilot::secure::{BodyKey, DATABASE_HEADER, PublicKey, SealedRequest, seal_request};
use serde_json::{Value, json};

use super::LIMIT;

/// A way to an agent.
#[derive(Clone, Debug)]
pub struct Door {
    pub http: reqwest::Client,
    pub base: String,
    sealing: Option<(PublicKey, Password)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// The envelope's data of a success.
    pub fn data(&self) -> Value {
        assert!(self.status < 300, "{} {}", self.status, self.text);
        self.json()["data"].clone()
    }

    /// `errCode` of a refusal.
    pub fn code(&self) -> String {
        let json = self.json();
        assert_eq!(json["successful"], json!(false), "{}", self.text);
        json["error"]["errCode"].as_str().unwrap_or_default().to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Of a DAG with details.
    pub fn expect_succeeded(&self) -> Value {
        let data = self.data();
        assert_eq!(data["state"], "SUCCEED", "{}", told(&data));
        data
    }
}

/// A task as a person reads it: each sub-task, and what it said.
pub fn told(dag: &Value) -> String {
    let mut lines = vec![format!("{} {} {} {}", dag["id"], dag["name"], dag["state"], dag["obpilot"])];
    for node in dag["nodes"].as_array().into_iter().flatten() {
        for sub_task in node["sub_tasks"].as_array().into_iter().flatten() {
            lines.push(format!(
                "  {} {} {}",
                sub_task["execute_agent"]["ip"], sub_task["name"], sub_task["state"]
            ));
            let logs = sub_task["task_logs"].as_array().into_iter().flatten();
            lines.extend(logs.map(|line| format!("      {}", line.as_str().unwrap_or_default())));
        }
    }
    lines.join("\n")
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(LIMIT)
}

impl Door {
    /// The Unix socket.
    pub fn socket(path: &Path) -> Self {
        let http = builder().unix_socket(path).build().unwrap();
        Self { http, base: "http://localhost".to_owned(), sealing: None }
    }

    /// TCP without any header.
    pub fn open(address: &str) -> Self {
        Self { http: builder().build().unwrap(), base: format!("http://{address}"), sealing: None }
    }

    /// TCP with sealed headers and bodies (scheme v2).
    pub async fn sealed(address: &str, password: &str) -> Self {
        Self::open(address).with_password(password).await
    }

    /// The same way, with sealed headers and bodies.
    pub async fn with_password(mut self, password: &str) -> Self {
        let secret = self.get("/api/v1/secret").await.data();
        let key = PublicKey::from_wire(secret["public_key"].as_str().unwrap()).unwrap();
        self.sealing = Some((key, Password::new(password)));
        self
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, None).await
    }

    pub async fn post(&self, target: &str, body: Value) -> Answer {
        self.send("POST", target, Some(body.to_string())).await
    }

    pub async fn send(&self, method: &str, target: &str, body: Option<String>) -> Answer {
        let request = self.request(method, target, body.as_deref());
        let response = request.send().await.unwrap_or_else(|e| panic!("{method} {target}: {e:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    /// As it would be sent.
    pub fn request(&self, method: &str, target: &str, body: Option<&str>) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        let request = self.http.request(method, format!("{}{target}", self.base));
        let Some((key, password)) = &self.sealing else {
            return match body {
                Some(body) => request.header("Content-Type", "application/json").body(body.to_owned()),
                None => request,
            };
        };
        let ts = obpilot::clock::system().now_secs() + 60;
        let keys = BodyKey::generate().unwrap();
        let sealed =
            seal_request(DATABASE_HEADER, key, password, ts, target, &keys, body.map(str::as_bytes)).unwrap();
        let SealedRequest { header_name, header_value, body } = sealed;
        let request = request.header(header_name, header_value).header("Content-Type", "application/json");
        match body {
            Some(body) => request.body(body),
            None => request,
        }
    }

    /// What an operator wishes of a task.
    pub async fn operate(&self, id: &str, operator: &str) -> Answer {
        self.post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": operator })).await
    }

    /// The DAG with its details once it is finished, failed, or waits for an operator.
    pub async fn finished(&self, id: &str) -> Answer {
        self.until(id, |dag| {
            let state = dag["state"].as_str().unwrap_or_default();
            dag["obpilot"]["finished"] == json!(true) || matches!(state, "SUCCEED" | "FAILED")
        })
        .await
    }

    /// The DAG with its details once it is as wanted; every look waits for a change.
    pub async fn until(&self, id: &str, is_wanted: impl Fn(&Value) -> bool) -> Answer {
        let look = async {
            let mut version = 0;
            loop {
                let target = format!("/api/v1/task/dag/{id}?show_details=true&watch={version}&wait=20");
                let answer = self.get(&target).await;
                let data = answer.data();
                if is_wanted(&data) {
                    return answer;
                }
                version = data["obpilot"]["version"].as_i64().unwrap_or_default();
            }
        };
        match tokio::time::timeout(LIMIT, look).await {
            Ok(answer) => answer,
            Err(_) => panic!(
                "task {id} is not as wanted: {}",
                told(&self.get(&format!("/api/v1/task/dag/{id}?show_details=true")).await.data())
            ),
        }
    }

    /// True when the DAG is as wanted, false when the agent is gone.
    pub async fn until_gone_or(&self, id: &str, is_wanted: impl Fn(&Value) -> bool) -> bool {
        let look = async {
            let mut version = 0;
            loop {
                let target = format!("/api/v1/task/dag/{id}?show_details=true&watch={version}&wait=20");
                let Ok(response) = self.request("GET", &target, None).send().await else { return false };
                let Ok(text) = response.text().await else { return false };
                let Ok(json) = serde_json::from_str::<Value>(&text) else { return false };
                let data = &json["data"];
                if is_wanted(data) {
                    return true;
                }
                version = data["obpilot"]["version"].as_i64().unwrap_or_default();
            }
        };
        tokio::time::timeout(LIMIT, look).await.expect("the task ends or the agent dies")
    }

    /// Waits until the status is as wanted: by the event stream, which tells every change.
    pub async fn until_status(&self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            let mut events =
                self.request("GET", "/api/v1/task/events", None).timeout(LIMIT).send().await.unwrap();
            loop {
                let status = self.get("/api/v1/status").await.data();
                if is_wanted(&status) {
                    return status;
                }
                // A change that came without an event is seen with the stream's next comment.
                let next = tokio::time::timeout(Duration::from_millis(500), events.chunk()).await;
                if let Ok(Ok(None) | Err(_)) = next {
                    panic!("the event stream ended");
                }
            }
        };
        match tokio::time::timeout(LIMIT, look).await {
            Ok(status) => status,
            Err(_) => panic!("the status stays {:#}", self.get("/api/v1/status").await.data()),
        }
    }
}
