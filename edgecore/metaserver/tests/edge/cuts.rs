//! Cuts and restarts at random moments: what a client of the usual kind (list, then watch from there) knows is what there is.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::client::{Lines, Who};
use crate::cloud::Cloud;
use crate::node::Node;

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

/// As client-go's reflector.
struct Informer<'a> {
    who: &'a Who<'a>,
    known: BTreeMap<String, i64>,
    at: i64,
    lines: Option<Lines>,
}

fn revision(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

impl Informer<'_> {
    async fn list(&mut self, node: &Node) -> bool {
        let told = node.get(self.who, MAPS).await;
        if told.code != 200 {
            return false;
        }
        let items = told.body["items"].as_array().unwrap();
        let named = |item: &Value| (item["metadata"]["name"].as_str().unwrap().to_owned(), revision(item));
        self.known = items.iter().map(named).collect();
        self.at = told.revision();
        true
    }

    async fn begin(&mut self, node: &Node) {
        while self.lines.is_none() {
            if self.at == 0 && !self.list(node).await {
                tokio::task::yield_now().await;
                continue;
            }
            let path = format!("{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={}", self.at);
            let request = http::Request::get(path).body(Default::default()).unwrap();
            let answer = node.send(self.who, request).await;
            match answer.status().as_u16() {
                200 => self.lines = Some(Lines::new(answer)),
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// Takes events until everything up to `wanted` is known.
    async fn follow(&mut self, node: &Node, wanted: &BTreeMap<String, i64>) {
        while self.known != *wanted {
            self.begin(node).await;
            if self.known == *wanted {
                return;
            }
            let Some(lines) = &mut self.lines else { continue };
            let Some((kind, object)) = lines.next().await else {
                self.lines = None;
                continue;
            };
            if kind == "ERROR" {
                assert_eq!(object["code"], 410);
                (self.lines, self.at) = (None, 0);
                continue;
            }
            let revision = revision(&object);
            if kind == "BOOKMARK" {
                self.at = self.at.max(revision);
                continue;
            }
            assert!(revision > self.at, "{kind} {revision} was told already, at {}", self.at);
            self.at = revision;
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let before = match kind.as_str() {
                "DELETED" => self.known.remove(&name),
                _ => self.known.insert(name.clone(), revision),
            };
            assert_eq!(before.is_some(), kind != "ADDED", "{kind} {name}");
        }
    }
}

async fn change(cloud: &Cloud, random: &mut StdRng, wanted: &mut BTreeMap<String, i64>) {
    let name = format!("m{}", random.random_range(0..6));
    let object = json!({ "metadata": { "name": name }, "data": { "k": random.random::<u32>().to_string() } });
    let one = format!("{MAPS}/{name}");
    match (wanted.contains_key(&name), random.random_range(0..3)) {
        (true, 0) => {
            assert_eq!(cloud.admin("DELETE", &one, json!({})).await.0, 200);
            wanted.remove(&name);
        }
        (true, _) => {
            let (code, answer) = cloud.admin("PUT", &one, object).await;
            assert_eq!(code, 200, "{answer}");
            wanted.insert(name, revision(&answer));
        }
        (false, _) => {
            let answer = cloud.create(MAPS, object).await;
            wanted.insert(name, revision(&answer));
        }
    }
}

async fn round(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let cloud = Cloud::start().await;
    let mut node = Node::start(&cloud).await;
    let tokens = [cloud.token("reader"), cloud.token("reader")];
    let who = tokens.each_ref().map(|token| Who::Token(token));
    let mut informers =
        who.each_ref().map(|who| Informer { who, known: BTreeMap::new(), at: 0, lines: None });
    let mut wanted = BTreeMap::new();
    for step in 0..25 {
        let is_cut = match random.random_range(0..6) {
            0 | 1 => {
                cloud.cut();
                true
            }
            2 => {
                cloud.cut_after(random.random_range(1..4000));
                true
            }
            3 => {
                node.stop().await;
                if random.random() {
                    cloud.cut();
                }
                node.begin().await;
                true
            }
            _ => false,
        };
        for _ in 0..random.random_range(1..5) {
            change(&cloud, &mut random, &mut wanted).await;
        }
        if is_cut {
            cloud.mend();
        }
        for informer in &mut informers {
            let following = informer.follow(&node, &wanted);
            let done = tokio::time::timeout(std::time::Duration::from_secs(40), following).await;
            assert!(done.is_ok(), "seed {seed}, step {step}: {:?} instead of {wanted:?}", informer.known);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_random_cuts_and_restarts_no_event_is_missed_and_none_told_twice() {
    for seed in 0..4 {
        round(seed).await;
    }
}
