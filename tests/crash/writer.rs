//! The store's writer dies alone: an agent that cannot record anything must not go on.

use serde_json::{Value, json};

use crate::rig::{Door, Home};

#[tokio::test]
async fn an_agent_whose_writer_dies_ends_and_the_next_one_goes_on() {
    let mut home = Home::new();
    let armed = home.path.with_file_name("armed");
    home.env = vec![
        ("OBPILOT_CRASH".to_owned(), "after-commit:2".to_owned()),
        ("OBPILOT_CRASH_HOW".to_owned(), "panic".to_owned()),
        ("OBPILOT_CRASH_ARM".to_owned(), armed.to_str().unwrap().to_owned()),
    ];
    let mut agent = home.start();
    std::fs::write(&armed, "").unwrap();
    let body = json!({ "agentInfo": { "ip": "127.0.0.1", "port": home.port }, "zoneName": "zone1" });
    let ask = async |door: &Door| {
        let request = door.request("POST", "/api/v1/agent/join", Some(&body.to_string()));
        request.header("Idempotency-Key", "the same").send().await.unwrap().text().await.unwrap()
    };
    // Whether it is answered before the writer dies does not matter; what is answered then is the truth.
    let first = ask(&agent.door).await;
    let ended = agent.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("the store's writer has ended"), "{}", ended.stderr);
    home.env.clear();
    let agent = home.start();
    let again: Value = serde_json::from_str(&ask(&agent.door).await).unwrap();
    let id = again["data"]["id"].as_str().unwrap();
    assert!(first.contains(id) || first.contains("not known"), "{first}");
    agent.door.finished(id).await.expect_succeeded();
}
