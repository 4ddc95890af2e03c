//! A cluster, and a master that sentinels watch.

use std::process::Command;

use serde_json::json;
use tidegate::error::ErrorKind;

use super::kit::{Redis, until};
use super::waiting;
use crate::support::servers::{Server, free_port};
use crate::support::source::{depth, read};

async fn cluster() -> [Redis; 3] {
    let node = || Redis::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]);
    let nodes = [node().await, node().await, node().await];
    let first = &nodes[0];
    for node in &nodes[1..] {
        first.run(&format!("CLUSTER MEET 127.0.0.1 {}", node.server.port));
    }
    for (node, slots) in nodes.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
        node.run(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
    }
    for node in &nodes {
        until("the cluster", async || node.run("CLUSTER INFO").contains("cluster_state:ok")).await;
    }
    nodes
}

#[tokio::test]
async fn the_keys_of_a_cluster_are_counted_wherever_they_are() {
    let nodes = cluster().await;
    let keys: Vec<String> = (0..12).map(|number| format!("orders{number}")).collect();
    for key in &keys {
        nodes[0].cli(&["-c", "RPUSH", key, "1", "2"]);
    }
    let settings = |cluster| nodes[0].settings(json!({ "keys": keys, "cluster": cluster }));
    assert_eq!(depth(settings(true)).await, waiting(24));
    let error = read(settings(false)).await.expect_err("most keys are elsewhere");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("set cluster to true"), "{error}");
    // A key that is on its way to another node is asked for there.
    let key = keys.iter().find(|key| nodes[0].run(&format!("LLEN {key}")).trim() == "2").expect("some are here");
    let slot = nodes[0].run(&format!("CLUSTER KEYSLOT {key}"));
    let [from, to] = [0, 1].map(|node: usize| nodes[node].run("CLUSTER MYID").trim().to_owned());
    nodes[1].run(&format!("CLUSTER SETSLOT {} IMPORTING {from}", slot.trim()));
    nodes[0].run(&format!("CLUSTER SETSLOT {} MIGRATING {to}", slot.trim()));
    nodes[0].run(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", nodes[1].server.port));
    assert_eq!(depth(settings(true)).await, waiting(24));
}

#[tokio::test]
async fn a_node_of_a_cluster_that_is_gone_is_an_error() {
    let mut nodes = cluster().await;
    let keys: Vec<String> = (0..12).map(|number| format!("orders{number}")).collect();
    nodes[2].server.kill();
    let error =
        read(nodes[0].settings(json!({ "keys": keys, "cluster": true }))).await.expect_err("some keys are gone");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn sentinels_name_the_master_and_a_replica_is_not_taken_for_it() {
    let master = Redis::start().await;
    master.run("RPUSH orders 1 2 3");
    let sentinel = Server::start(|folder, port| {
        let text = format!("port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\n", master.server.port);
        std::fs::write(folder.join("sentinel.conf"), text).expect("writing a file");
        let mut command = Command::new("redis-server");
        command.arg(folder.join("sentinel.conf")).arg("--sentinel");
        command
    })
    .await;
    let dead = free_port();
    let settings = |master: &str| {
        let hosts = [format!("127.0.0.1:{dead}"), sentinel.address().to_string()];
        json!({
            "type": "redis", "use_ssl": false, "queue_key": "orders", "sentinel": { "hosts": hosts, "master": master }
        })
    };
    assert_eq!(depth(settings("main")).await, waiting(3));
    let alone = json!({
        "type": "redis", "use_ssl": false, "queue_key": "orders",
        "sentinel": { "hosts": [sentinel.address().to_string()], "master": "mian" }
    });
    let error = read(alone).await.expect_err("there is no such master");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    master.run("REPLICAOF 127.0.0.1 1");
    let error = read(settings("main")).await.expect_err("it is none any more");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("it is a replica"), "{error}");
}
