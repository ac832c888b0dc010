//! Parameters of the operations, wherever they stand.

use crate::error::Code;
use crate::wire::v2::{Ordered, StopKind};

fn read(query: &[(&str, &str)], body: &str) -> crate::error::Result<Ordered> {
    let pairs: Vec<_> = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Ordered::read(&pairs, body.as_bytes())
}

type Pairs = &'static [(&'static str, &'static str)];

#[test]
fn nothing_at_all_is_fine() {
    for body in ["", "  \n", "{}", "null", "{\"unknown\": [1]}", "{\"force\": null}"] {
        assert_eq!(read(&[], body).unwrap(), Ordered::default(), "{body}");
    }
    assert_eq!(read(&[("withStandby", "x")], "").unwrap(), Ordered::default());
}

#[test]
fn query_and_body_mean_the_same() {
    let query = [
        ("force", "True"),
        ("freezeServer", "FALSE"),
        ("type", "STOP_SERVICE"),
        ("zoneNames", "zone2,zone1"),
        ("order", "zone1"),
        ("parallel", "2"),
        ("pauseSeconds", "0"),
        ("serverDeadlineSeconds", "30"),
        ("stopTheWorld", "false"),
        ("planHash", "abc"),
        ("forcePassDag", "22130706433028869"),
        ("plan", "true"),
    ];
    let body = r#"{"force": true, "freezeServer": false, "type": "STOP_SERVICE", "zoneNames": ["zone2", "zone1"],
        "order": ["zone1"], "parallel": 2, "pauseSeconds": 0, "serverDeadlineSeconds": 30, "stopTheWorld": "False",
        "planHash": "abc", "forcePassDag": {"id": ["22130706433028869"]}, "plan": true}"#;
    let ordered = read(&query, "").unwrap();
    assert_eq!(ordered, read(&[], body).unwrap());
    // Said twice with one meaning.
    assert_eq!(ordered, read(&query, body).unwrap());
    assert_eq!((ordered.is_forced, ordered.freezes, ordered.kind), (true, false, StopKind::StopService));
    assert_eq!(
        (ordered.at_most, ordered.pause_secs, ordered.server_deadline_secs),
        (Some(2), Some(0), Some(30))
    );
    let list = read(&[], "{\"forcePassDag\": [\"22130706433028869\"]}").unwrap();
    assert_eq!(list.force_pass, ordered.force_pass);
}

#[test]
fn what_contradicts_itself_or_is_none_is_refused_by_name() {
    let wrong: [(Pairs, &str, &str); 17] = [
        (&[("force", "true")], "{\"force\": false}", "force"),
        (&[("force", "true"), ("force", "false")], "", "force"),
        (&[("force", "yes")], "", "force"),
        (&[("force", "")], "", "force"),
        (&[], "{\"freezeServer\": 1}", "freezeServer"),
        (&[("type", "STOP_ALL")], "", "STOP_SERVICE or STOP_PROCESS"),
        (&[("type", "stop_service")], "", "STOP_PROCESS"),
        (&[("parallel", "0")], "", "parallel"),
        (&[("parallel", "-1")], "", "parallel"),
        (&[], "{\"parallel\": 1.5}", "parallel"),
        (&[("pauseSeconds", "86401")], "", "pauseSeconds"),
        (&[], "{\"zoneNames\": [\"zone1\", \"zone1\"]}", "zone1"),
        (&[], "{\"zoneNames\": [5]}", "zoneNames"),
        (&[("order", "a b; DROP")], "", "order"),
        (&[], "{\"forcePassDag\": [\"x\"]}", "forcePassDag"),
        (&[], "[]", "JSON object"),
        (&[], "{", "JSON"),
    ];
    for (query, body, named) in wrong {
        let refused = read(query, body).expect_err(body);
        assert_eq!(refused.code, Code::IllegalArgument, "{query:?} {body}");
        assert!(refused.text().contains(named), "{query:?} {body}: {}", refused.text());
    }
}
