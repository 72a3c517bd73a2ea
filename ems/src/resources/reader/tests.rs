//! What becomes of a version that some clients reject and another takes after all: of Envoys, and of gRPC libraries.

use std::{collections::HashMap, sync::Arc, time::Duration};

use envoy_types::pb::envoy::config::{cluster::v3::Cluster, core::v3::Node};
use isthmus_model::ServiceName;
use prost::Message;

use crate::{
    record::{CircuitBreakers, Endpoint, Policy, Service},
    registry::Affected,
    resources::tests::world::*,
    xds::{
        Changed, ResourceType, Source, View, Witness,
        stream::{Action, Ask, Mode, Request, Stream},
    },
};

fn grpc(id: &str) -> Node {
    let fields = [("kind", "grpc"), ("service", "orders"), ("region", "us")];
    Node {
        id: id.into(),
        user_agent_name: "gRPC C-core linux".to_owned(),
        ..metadata(HashMap::from(fields.map(|(k, v)| (k, text(v)))))
    }
}

fn envoy(id: &str) -> Node {
    Node {
        id: id.into(),
        ..node("host", &[], false)
    }
}

#[test]
fn what_some_reject_and_another_takes() {
    for (who, kind, name) in [
        (
            envoy as fn(&str) -> Node,
            ResourceType::Cluster,
            "payments.us",
        ),
        (envoy, ResourceType::Endpoints, "payments.us"),
        (grpc, ResourceType::Cluster, "payments.us"),
        (grpc, ResourceType::Endpoints, "payments.us"),
        (grpc, ResourceType::Listener, "payments"),
        (grpc, ResourceType::Listener, "payments.us"),
    ] {
        let world = World::new();
        let payments: ServiceName = "payments".parse().unwrap();
        // All of its resources differ by this.
        let put = |number: u8| {
            put_service(
                &world.maps,
                Service {
                    policy: Policy {
                        circuit_breakers: CircuitBreakers {
                            max_requests: Some(number.into()),
                            ..CircuitBreakers::default()
                        },
                        max_stream_duration: Some(Duration::from_secs(number.into())),
                        ..Policy::default()
                    },
                    ..service("payments")
                },
            );
            put_endpoint(
                &world.maps,
                Endpoint {
                    weight: number.into(),
                    ..endpoint("payments", "a", "127.0.0.1:7001")
                },
            );
            world.apply(Affected::Service(payments.clone()));
        };
        let view = |id: &str| world.resources.view(&who(id)).unwrap();
        let get = |view: &Arc<dyn View>| view.get(kind, name).unwrap();
        let rejections = || {
            let all = world.resources.rejections_of_service(&payments);
            assert_eq!(all, world.resources.rejections());
            let all = all.into_iter();
            all.map(|r| (r.name, r.error, r.former_served))
                .collect::<Vec<_>>()
        };
        let says = |node: &str, view: &Arc<dyn View>, words: &str| {
            let resource = get(view);
            resource.fate().reject(Witness::of(node), &words.into());
            view.refused(kind, &resource);
            view.withheld(kind, name)
        };

        // Nothing was good before: there is nothing else.
        put(1);
        let (one, two) = (view("one"), view("two"));
        assert_eq!(says("one", &one, "bad"), None, "{kind} {name}");
        assert_eq!(rejections(), [(name.to_owned(), "bad".to_owned(), false)]);
        put(2);
        assert_eq!(rejections(), []);
        let good = get(&one);
        good.fate().take();

        put(3);
        let new = get(&one);
        assert_ne!(new, good, "{kind} {name}");
        assert_eq!(says("one", &one, "bad"), Some(new.version().clone()));
        assert_eq!(get(&one), good);
        assert_eq!(rejections(), [(name.to_owned(), "bad".to_owned(), true)]);
        assert_eq!(says("two", &two, "no"), Some(new.version().clone()));
        assert_eq!(get(&view("three")), good, "two are enough");
        assert!(new.fate().take());
        let changed = world.resources.ruled(kind, &new);
        let changed: Vec<_> = changed.iter().map(|(kind, name)| (kind, &**name)).collect();
        assert_eq!(changed, [(kind, name)]);
        assert_eq!(rejections(), []);
        // Not again by the stream that rejected it, but whoever comes may have been mended.
        assert_eq!((get(&one), get(&two)), (good.clone(), good.clone()));
        assert_eq!(get(&view("one")), new);
        assert_eq!(get(&view("three")), new);
        // What is given up starts anew, and something else ends it.
        one.unused(kind, name);
        assert_eq!(get(&one), new);
        put(4);
        assert!(![good, new].contains(&get(&two)));

        world.maps.services.write().unwrap().remove(&payments);
        says("one", &one, "bad");
        world.apply(Affected::Service(payments.clone()));
        assert_eq!(rejections(), [], "{kind} {name}");
    }
}

/// A node, and the only stream of it.
struct Client {
    stream: Stream,
    view: Arc<dyn View>,
    nonce: u64,
}

impl Client {
    fn new(world: &World, id: &str) -> Self {
        let stream = Stream::new(Mode::Delta, Some(ResourceType::Cluster), Arc::default());
        Self {
            stream: stream.of(Witness::of(id)),
            view: world.resources.view(&envoy(id)).unwrap(),
            nonce: 0,
        }
    }

    /// The connect timeouts of what is sent, and how the stream stands then.
    fn does(&mut self, what: &str) -> String {
        let mut request = Request {
            nonce: self.nonce.to_string(),
            ..Request::default()
        };
        match what {
            "ask" => {
                request.nonce.clear();
                request.ask = Ask::Delta {
                    subscribe: vec!["payments.us".into()],
                    unsubscribe: Vec::new(),
                    initial: HashMap::new(),
                };
            }
            "nack" => request.error = Some("bad".into()),
            _ => {}
        }
        if what == "hear" {
            let name = (ResourceType::Cluster, "payments.us".into());
            self.stream.on_change(&Changed::of([name]));
        } else {
            self.stream.on_request(request, &*self.view).unwrap();
        }
        let mut found = Vec::new();
        for action in self.stream.flush(&*self.view) {
            let Action::Send(response) = action else {
                continue;
            };
            self.nonce = response.nonce;
            found.extend(response.resources.iter().map(|resource| {
                let cluster = Cluster::decode(resource.body()).unwrap();
                cluster.connect_timeout.unwrap().seconds.to_string()
            }));
        }
        found.extend(self.stream.status().map(|status| {
            let words = status.error.map(|error| format!("({error})"));
            format!("{:?}{}", status.state, words.unwrap_or_default())
        }));
        found.join(" ")
    }
}

/// Streams with real resources: versions are told apart by the connect timeout.
#[test]
fn what_is_sent_after_a_rejection() {
    let scripts: [&[&str]; 5] = [
        // Who rejects what there is, and what was before, is sent neither again.
        &[
            "put 1 => ",
            "good ask => 1 Sent",
            "good ack => Acked",
            "put 2 => ",
            "good hear => 2 Sent",
            "good ack => Acked",
            "odd ask => 2 Sent",
            "odd nack => 1 Sent(bad)",
            "odd nack => Rejected(bad)",
            "odd hear => Rejected(bad)",
            "odd ask => 1 Sent(bad)",
            "odd nack => Rejected(bad)",
            "odd hear => Rejected(bad)",
            "put 3 => ",
            "odd hear => 3 Sent",
            "odd ack => Acked",
        ],
        // Something newer than what it rejected is not shown as rejected.
        &[
            "put 1 => ",
            "c ask => 1 Sent",
            "c ack => Acked",
            "put 2 => ",
            "c hear => 2 Sent",
            "put 3 => ",
            "c hear => Sent",
            "c nack => 3 Sent",
            "c ack => Acked",
        ],
        // Nor is what was good before, once that is what there is.
        &[
            "put 1 => ",
            "good ask => 1 Sent",
            "good ack => Acked",
            "put 2 => ",
            "c ask => 2 Sent",
            "c nack => 1 Sent(bad)",
            "c ack => Rejected(bad)",
            "put 1 => ",
            "c hear => Acked",
        ],
        // It may be mended when it comes back.
        &[
            "put 1 => ",
            "c ask => 1 Sent",
            "c ack => Acked",
            "put 2 => ",
            "c hear => 2 Sent",
            "c nack => Rejected(bad)",
            "put 3 => ",
            "c hear => 3 Sent",
            "c ack => Acked",
            "put 2 => ",
            "c hear => 2 Sent",
        ],
        // Another takes what it rejected: it goes on with what it has, and is shown to.
        &[
            "put 1 => ",
            "c ask => 1 Sent",
            "c ack => Acked",
            "put 2 => ",
            "c hear => 2 Sent",
            "c nack => Rejected(bad)",
            "d ask => 2 Sent",
            "d ack => Acked",
            "c hear => 1 Sent(bad)",
            "c ack => Rejected(bad)",
            "c hear => Rejected(bad)",
            "c ask => 1 Sent(bad)",
            "c nack => Rejected(bad)",
            "c hear => Rejected(bad)",
        ],
    ];
    for script in scripts {
        let world = World::new();
        let mut clients: HashMap<&str, Client> = HashMap::new();
        for (at, line) in script.iter().enumerate() {
            let (happens, expected) = line.split_once(" => ").unwrap();
            let (who, what) = happens.split_once(' ').unwrap();
            let found = if who == "put" {
                let connect_timeout = Duration::from_secs(what.parse().unwrap());
                let policy = Policy {
                    connect_timeout,
                    ..Policy::default()
                };
                let service = Service {
                    policy,
                    ..service("payments")
                };
                put_service(&world.maps, service);
                world.apply(Affected::Service("payments".parse().unwrap()));
                String::new()
            } else {
                let client = clients.entry(who);
                client
                    .or_insert_with(|| Client::new(&world, who))
                    .does(what)
            };
            assert_eq!(found, expected, "line {}: {line}", at + 1);
        }
    }
}
