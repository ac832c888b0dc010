//! Refusals before the caller is known, byte for byte: nobody learns by the answer what was wrong (W8, W22).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use obpilot::secure::{AGENT_HEADER, DATABASE_HEADER, V1_HEADER};
use serde_json::{Value, json};

use crate::door::master;
use crate::forge::{Forge, NO_SESSION, honest, now};
use crate::rig::{Home, LIMIT, PASSWORD};
use crate::scheme_v1;

/// What came back, with the two times and the date taken out of it. The rest is compared as it is.
fn answered(home: &Home, line: &str, headers: &[(&str, Vec<u8>)], body: &[u8]) -> String {
    let mut request = format!(
        "{line} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nX-OBSHELL-Trace-ID: mine\r\nContent-Length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(format!("{name}: ").as_bytes());
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    let mut stream = TcpStream::connect(home.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&request).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = format!("content-length: {}", body.len());
    assert!(head.contains(&length), "{head}");
    let head: Vec<_> =
        head.replace(&length, "content-length: as it is").split("\r\n").map(str::to_owned).collect();
    let head: Vec<_> = head.into_iter().filter(|line| !line.starts_with("date: ")).collect();
    let json: Value = serde_json::from_str(body).unwrap();
    let mut body = body.to_owned();
    for member in ["timestamp", "duration"] {
        body = body.replace(&format!("\"{member}\":{}", json[member]), &format!("\"{member}\":"));
    }
    format!("{}\r\n\r\n{body}", head.join("\r\n"))
}

struct Case {
    what: String,
    headers: Vec<(&'static str, Vec<u8>)>,
}

fn case(what: impl Into<String>, value: impl Into<Vec<u8>>) -> Case {
    Case { what: what.into(), headers: vec![(DATABASE_HEADER, value.into())] }
}

/// What is no base64, or no whole blocks, or nothing that our key opens.
fn torn(forge: &Forge, target: &str) -> Vec<Case> {
    let good = STANDARD.decode(forge.seal(&honest(target, json!({ "auth": PASSWORD })))).unwrap();
    let text = STANDARD.encode(&good);
    let mut cases = vec![
        case("nothing", ""),
        case("no base64", "!"),
        case("padding only", "===="),
        case("base64 for addresses", URL_SAFE.encode([0xfb; 256])),
        case("no padding", STANDARD_NO_PAD.encode(&good)),
        case("a space in it", text.replacen('A', " ", 1)),
        case("bytes that are no text", vec![0xff; 40]),
        case("truncated", &text.as_bytes()[..text.len() / 2]),
        case("twice in one", format!("{text}{text}")),
        case("oversized", vec![b'A'; 33 << 10]),
        case("65 blocks", STANDARD.encode([1; 65 * 256])),
        case("64 blocks", STANDARD.encode([1; 64 * 256])),
    ];
    for length in [1, 16, 255, 257, 511] {
        cases.push(case(format!("{length} bytes"), STANDARD.encode(vec![7; length])));
    }
    for (what, byte) in [("zeros", 0), ("ones", 1), ("more than the modulus", 0xff)] {
        cases.push(case(format!("a block of {what}"), STANDARD.encode([byte; 256])));
    }
    for at in [0, 1, 100, 255] {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        cases.push(case(format!("byte {at} is another"), STANDARD.encode(flipped)));
    }
    let mut short = good.clone();
    short.pop();
    cases.push(case("a byte is missing", STANDARD.encode(short)));
    cases
}

/// What opens, and is no header.
fn no_headers(forge: &Forge, target: &str) -> Vec<Case> {
    let good = honest(target, json!({ "auth": PASSWORD })).to_string();
    let seal = |text: &[u8]| STANDARD.encode(forge.blocks(text).concat());
    let open = good.trim_end_matches('}');
    let mut cases: Vec<_> = ["null", "[]", "5", "\"x\"", "{", "{]", "{\"auth\"}", "{'auth':1}", "\u{feff}{}"]
        .into_iter()
        .map(|text| case(format!("no header: {text}"), seal(text.as_bytes())))
        .collect();
    for (what, text) in [
        ("bytes after it", format!("{good} x")),
        ("another after it", format!("{good}{good}")),
        ("a member twice", format!("{open},\"auth\":\"x\"}}")),
        ("a member twice in another case", format!("{open},\"AUTH\":\"x\"}}")),
        ("half of it", open.to_owned()),
        ("half a character deeper", format!("{open},\"forwardagent\":{{\"x\":\"\\ud83d\"}}}}")),
        ("half a character", format!("{open},\"x\":\"\\ud83d\"}}")),
        ("nested without end", "[".repeat(200)),
    ] {
        cases.push(case(what, seal(text.as_bytes())));
    }
    let mut no_text = good.clone().into_bytes();
    no_text[10] = 0xff;
    cases.push(case("no UTF-8", seal(&no_text)));
    let keys = |bytes: usize| json!(STANDARD.encode(vec![1; bytes]));
    for (what, member, value) in [
        ("keys of 15 bytes", "keys", keys(15)),
        ("keys of 16 bytes", "keys", keys(16)),
        ("keys of 31 bytes", "keys", keys(31)),
        ("keys of 33 bytes", "keys", keys(33)),
        ("keys of 48 bytes", "keys", keys(48)),
        ("keys that are no base64", "keys", json!("no base64")),
        ("keys with a line break", "keys", json!("AAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAAAAAAA=")),
        ("keys as numbers", "keys", json!(vec![1; 32])),
        ("a time that is a number", "ts", json!(now() + 60)),
        ("no time", "ts", json!(null)),
        ("an empty time", "ts", json!("")),
        ("a time with a sign", "ts", json!(format!("+{}", now() + 60))),
        ("a time in hexadecimal", "ts", json!("0x7fffffff")),
        ("a time that is too long", "ts", json!("9".repeat(40))),
        ("a password that is none", "auth", json!(5)),
        ("a target that is none", "uri", json!({})),
        ("an unknown way of forwarding", "forwardtype", json!(3)),
        ("a way of forwarding in words", "forwardtype", json!("2")),
        ("an agent that is none", "forwardagent", json!("10.0.0.1:2886")),
    ] {
        let header = honest(target, json!({ "auth": PASSWORD, member: value }));
        cases.push(case(what, forge.seal(&header)));
    }
    cases
}

/// Whole headers of nobody: the password is wrong, whatever else is right or wrong.
fn strangers(forge: &Forge, target: &str) -> Vec<Case> {
    let (root, agent) = (DATABASE_HEADER, AGENT_HEADER);
    let seal = |shown: Value| forge.seal(&honest(target, shown)).into_bytes();
    let mut cases = Vec::new();
    let mut wrong = |what: String, shown: Value| cases.push(case(what, seal(shown)));
    for auth in ["", "x", "wrong", &PASSWORD.to_uppercase(), &format!("{PASSWORD} "), &"x".repeat(2_000)] {
        wrong(format!("password {:.20}", auth), json!({ "auth": auth }));
    }
    for (what, ts) in [("past", 0), ("just past", now() - 1), ("for ever", 99_999_999_999)] {
        wrong(format!("wrong, and {what}"), json!({ "auth": "wrong", "ts": ts.to_string() }));
    }
    for uri in [
        "",
        "/",
        "/api/v1/time",
        &format!("{target}?a=b"),
        &format!("{target}/"),
        &format!("{target}%20"),
        &target.replace("ob", "%6f%62"),
        &target.to_uppercase(),
        &format!("http://agent{target}"),
    ] {
        wrong(format!("wrong, and for {uri}"), json!({ "auth": "wrong", "uri": uri }));
    }
    wrong("wrong, and keys".into(), json!({ "auth": "wrong", "keys": STANDARD.encode([7; 32]) }));
    wrong("an unknown session".into(), json!({ "session_id": NO_SESSION }));
    wrong("a session that is none".into(), json!({ "session_id": "x" }));
    wrong("forwarded, no token".into(), json!({ "auth": "wrong", "forwardtype": 2, "token": "" }));
    wrong("single sign-on".into(), json!({ "ssotoken": NO_SESSION }));
    let right = || seal(json!({ "auth": PASSWORD }));
    let mut more = |what: &str, headers| cases.push(Case { what: what.to_owned(), headers });
    more("the agent's header", vec![(agent, right())]);
    more("the agent's header wins", vec![(root, right()), (agent, seal(json!({ "auth": "wrong" })))]);
    more("a header twice", vec![(root, right()), (root, right())]);
    let once = right();
    more("the same header twice", vec![(root, once.clone()), (root, once)]);
    cases
}

/// Under scheme v1: what does not open there, what is no header of it, and whole ones of nobody.
fn of_v1(forge: &Forge, target: &str) -> Vec<Case> {
    let under_v1 = |Case { what, headers }| Case {
        what: format!("v1: {what}"),
        headers: headers.into_iter().map(|(_, value)| (V1_HEADER, value)).collect(),
    };
    let mut cases: Vec<_> = torn(forge, target).into_iter().map(under_v1).collect();
    let (ts, far) = (now() + 60, now() + 60_000_000_000);
    let right = json!(PASSWORD);
    let mut more = |what: &str, text: String| {
        let value = scheme_v1::sealed(forge, &text, 53).into_bytes();
        cases.push(Case { what: format!("v1: {what}"), headers: vec![(V1_HEADER, value)] });
    };
    for text in ["null", "[]", "{", "{}", "\"x\"", "\u{feff}{}"] {
        more(text, text.to_owned());
    }
    for (what, text) in [
        ("a list", format!("[{right},{ts}]")),
        ("no time", format!("{{\"password\":{right}}}")),
        ("a time that is a text", format!("{{\"password\":{right},\"ts\":\"{ts}\"}}")),
        ("a time with a fraction", format!("{{\"password\":{right},\"ts\":{ts}.5}}")),
        ("a time that is too long", format!("{{\"password\":{right},\"ts\":99999999999999999999}}")),
        ("a time twice", format!("{{\"password\":{right},\"ts\":1,\"ts\":{ts}}}")),
        ("a password twice", format!("{{\"password\":\"x\",\"password\":{right},\"ts\":{ts}}}")),
        ("keys", format!("{{\"password\":{right},\"ts\":{ts},\"keys\":\"{}\"}}", STANDARD.encode([7; 32]))),
        ("a session", format!("{{\"password\":{right},\"ts\":{ts},\"session_id\":\"{NO_SESSION}\"}}")),
        ("bytes after it", format!("{{\"password\":{right},\"ts\":{ts}}} x")),
        ("a header of v2", honest(target, json!({ "auth": PASSWORD })).to_string()),
        ("wrong", format!("{{\"password\":\"wrong\",\"ts\":{ts}}}")),
        ("wrong, for ever", format!("{{\"password\":\"wrong\",\"ts\":{far}}}")),
        ("wrong, and past", "{\"password\":\"wrong\",\"ts\":5}".to_owned()),
        ("empty", format!("{{\"password\":\"\",\"ts\":{ts}}}")),
        ("no password", format!("{{\"password\":null,\"ts\":{ts}}}")),
    ] {
        more(what, text);
    }
    cases
}

/// The same where v1 is switched off and where it is on.
#[tokio::test]
async fn w8_refusals_are_the_same_byte_for_byte() {
    let (off, count) = refusals(scheme_v1::OFF).await;
    assert!(off.starts_with("HTTP/1.1 401 ") && off.contains("10008"), "{off}");
    let (on, more) = refusals(scheme_v1::ON).await;
    assert_eq!(on, off);
    println!("{} refusals, one answer", count + more);
}

/// Everything that is refused, compared: what all of it heard, and how many they were.
async fn refusals(toml: &str) -> (String, usize) {
    let mut home = Home::new();
    home.configure(toml);
    let _agent = master(&home).await;
    let forge = Forge::of(&home.address()).await;
    let mut first = None;
    let mut count = 0;
    for (line, target, body) in [
        ("GET", "/api/v1/ob/info", ""),
        ("POST", "/api/v1/ob/stop", "no body of anybody"),
        ("POST", "/api/v1/login", ""),
        ("POST", "/api/v1/agent/password", "no body of anybody"),
    ] {
        let line = format!("{line} {target}");
        let mut cases = torn(&forge, target);
        cases.extend(no_headers(&forge, target));
        cases.extend(strangers(&forge, target));
        cases.extend(of_v1(&forge, target));
        for Case { what, headers } in &cases {
            let answer = answered(&home, &line, headers, body.as_bytes());
            let expected = first.get_or_insert_with(|| answer.clone());
            assert_eq!(&answer, expected, "{line}: {what}");
            count += 1;
        }
        // An honest header comes once; what its second coming hears is nothing else.
        let once = forge.seal(&honest(target, json!({ "auth": PASSWORD })));
        let headers = [(DATABASE_HEADER, once.into_bytes())];
        let accepted = answered(&home, &line, &headers, body.as_bytes());
        assert!(!accepted.contains("10008"), "{line}: {accepted}");
        let replayed = answered(&home, &line, &headers, body.as_bytes());
        assert_eq!(Some(&replayed), first.as_ref(), "{line}: replayed");
        count += 1;
        // Nor the second coming of one of v1, or the first where v1 opens nothing.
        let headers = [(V1_HEADER, scheme_v1::python(&forge, PASSWORD).into_bytes())];
        let accepted = answered(&home, &line, &headers, body.as_bytes());
        let is_open = toml == scheme_v1::ON && !target.ends_with("/login") && !target.ends_with("/password");
        assert_eq!(accepted.contains("10008"), !is_open, "{line}: {accepted}");
        let replayed = answered(&home, &line, &headers, body.as_bytes());
        assert_eq!(Some(&replayed), first.as_ref(), "{line}: v1, replayed");
        count += 1;
    }
    (first.unwrap(), count)
}
