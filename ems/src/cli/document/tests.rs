//! Documents and their faults, as tables.

use super::*;

fn files(texts: &[&str]) -> Vec<(String, String)> {
    let name = |at| format!("{}.yaml", char::from(b'a' + u8::try_from(at).unwrap()));
    texts
        .iter()
        .enumerate()
        .map(|(at, text)| (name(at), (*text).to_owned()))
        .collect()
}

/// What is read from files: titles in the order of writing, or faults.
fn check(texts: &[&str], expected: Result<&[&str], &[&str]>) {
    let found = read(&files(texts));
    let found = found
        .map(|records| records.iter().map(Record::title).collect::<Vec<_>>())
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>());
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    match (&found, expected) {
        // A fault is known by its beginning: the words of a parser may change.
        (Err(found), Err(expected)) => {
            assert_eq!(found.len(), expected.len(), "{found:#?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    found.starts_with(expected),
                    "{found:?} is not {expected:?}…"
                );
            }
        }
        _ => assert_eq!(found, expected.map(owned).map_err(owned)),
    }
}

#[test]
fn documents_are_read_in_the_order_of_writing() {
    check(
        &[
            "kind: Endpoint\nservice: pay\nid: e1\naddress: 10.0.0.1\nport: 80\n---\nkind: Service\nname: pay\n",
            r#"{"kind": "Region", "name": "eu", "gateways": [{"address": "gw.eu", "port": 15443}]}"#,
        ],
        Ok(&["region eu", "service pay", "endpoint pay/e1"]),
    );
}

#[test]
fn every_fault_has_its_place() {
    check(
        &[
            "kind: Service\nname: pay\nretries: {attempts: 900}\nconnectTimeout: 0s\n---\n\
             kind: Endpoint\nservice: pay\nid: e1\n---\nname: x\n",
            "kind: Service\nname: pay\nretires: 1\nprotocol: http9\nretries: {attempts: many, tries: 1}\n\
             connectTimeout: 0s\nhashPolicy: [{header: a}, {header: 5}]\n",
            "- 1\n",
            "a: [",
            "",
            "kind: Region\nname: any\n",
        ],
        Err(&[
            "a.yaml, document 1 (service pay): connectTimeout: ",
            "a.yaml, document 1 (service pay): retries.attempts: ",
            "a.yaml, document 2 (endpoint pay/e1): address: ",
            "a.yaml, document 2 (endpoint pay/e1): port: must be 1 to 65535",
            "a.yaml, document 3: kind: must be Service, Endpoint or Region",
            "b.yaml (service pay): hashPolicy[1].header: ",
            "b.yaml (service pay): protocol: unrecognized enum value 'http9'",
            "b.yaml (service pay): retires: is no field: there are name, ",
            "b.yaml (service pay): retries.attempts: ",
            "b.yaml (service pay): retries.tries: is no field: there are attempts, ",
            "b.yaml (service pay): connectTimeout: must be a time of ",
            "c.yaml: is no mapping of fields",
            "d.yaml: is neither YAML nor JSON: ",
            "e.yaml: holds no document",
            "f.yaml (region any): name: ",
        ]),
    );
}

#[test]
fn a_record_is_written_once() {
    check(
        &[
            "kind: Service\nname: pay\n",
            "kind: Region\nname: eu\n---\nkind: Service\nname: pay\n",
        ],
        Err(&["b.yaml, document 2: service pay is in a.yaml already"]),
    );
}

#[test]
fn what_is_printed_can_be_read() {
    let texts = [
        "kind: Service\nname: pay\nversion: 7\nprotocol: grpc\nconnectTimeout: 1.500s\n\
         access: {allow: ['eu/*']}\n",
        "kind: Endpoint\nservice: pay\nid: e:1\naddress: '::1'\nport: 80\nweight: 0\n",
        "kind: Region\nname: eu\ndistance: 3\n",
    ];
    for text in texts {
        let text = text.replace("weight: 0", "weight: 5");
        let [record] = <[Record; 1]>::try_from(read(&files(&[&*text])).unwrap()).unwrap();
        let json = to_json(&record).unwrap().to_string();
        assert_eq!(
            read(&files(&[&*json])).unwrap(),
            std::slice::from_ref(&record)
        );
        let yaml = to_yaml(&record).unwrap();
        let again = read(&files(&[&*yaml])).unwrap();
        assert_eq!(again.first().map(Record::title), Some(record.title()));
        assert_eq!(
            to_yaml(&again[0]).unwrap().split_once('\n').unwrap().1,
            yaml.split_once('\n').unwrap().1
        );
    }
}

#[test]
fn what_no_envoy_could_use_is_a_comment() {
    let record = Record::Service(Box::new(v1::Service {
        name: "pay".into(),
        version: 5,
        rejected: vec![v1::Rejection {
            name: "pay.us".into(),
            error: "odd: [\nkind: Region".into(),
            ..Default::default()
        }],
        ..Default::default()
    }));
    let yaml = to_yaml(&record).unwrap();
    assert!(
        yaml.contains("\n#     odd: [\n#     kind: Region\nkind: Service\n"),
        "{yaml}"
    );
    let json = to_json(&record).unwrap().to_string();
    for text in [&*yaml, &*json] {
        let [again] = <[Record; 1]>::try_from(read(&files(&[text])).unwrap()).unwrap();
        assert_eq!(again.title(), "service pay");
    }
}

/// The exchange of region records: what one server says of itself is what another needs to be told.
#[test]
fn own_region_becomes_a_remote_one() {
    let own = Record::Region(v1::Region {
        name: "eu".into(),
        version: 5,
        local: true,
        distance: Some(0),
        ..Default::default()
    });
    assert_eq!(
        to_yaml(&own).unwrap(),
        "# version 5\nkind: Region\nname: eu\n"
    );
    let other = Record::Region(v1::Region {
        name: "us".into(),
        distance: Some(7),
        ..Default::default()
    });
    assert_eq!(
        to_yaml(&other).unwrap(),
        "# version 0\nkind: Region\nname: us\ndistance: 7\n"
    );
}

#[test]
fn limits_that_never_bind_are_pointed_at() {
    let warnings = |limits: &str| {
        let text = format!("kind: Service\nname: pay\nrateLimits:\n{limits}");
        let records = read(&files(&[&text])).unwrap();
        records[0].warnings()
    };
    let service = "- {per: service, requests: 50, unit: second}\n";
    assert_eq!(warnings(service), Vec::<String>::new());
    assert_eq!(
        warnings(&format!(
            "- {{per: [caller, method], requests: 100, burst: 200}}\n{service}"
        )),
        [
            "rateLimits[0] (caller+method 100/second) can never refuse anything: rateLimits[1] (service 50/second) always \
             does so first"
        ]
    );
}

/// A backup of everything is as large as the region.
#[test]
fn a_file_of_many_records_is_read() {
    let record = |n| format!("kind: Service\nname: s{n}\n");
    let all: Vec<String> = (0..5_000).map(record).collect();
    let text = all.join("---\n");
    let records = read(&[("backup.yaml".to_owned(), text)]).unwrap();
    assert_eq!(records.len(), 5_000);
}
