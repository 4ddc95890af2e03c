//! What must hold of the world, whoever decides.

use super::*;

fn constant(rate: f64, secs: usize) -> Workload {
    let (name, bins) = ("constant".to_owned(), vec![rate; secs]);
    Workload { name, bin_secs: 1.0, bins, service_secs: 1.0, ..Workload::default() }
}

fn fixed(count: u32) -> Model {
    Model { bounds: (count, count), ..Model::default() }
}

fn built_in(name: &str, model: &Model) -> Contender {
    Contender::built_in(name, model).expect("it is built in")
}

/// The mean wait in a queue with Poisson arrivals, exponential service and so many servers, by Erlang's formula.
fn erlang_c(servers: u32, load: f64, service: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for waiting in 1..servers {
        term *= load / f64::from(waiting);
        sum += term;
    }
    let last = term * load / f64::from(servers) / (1.0 - load / f64::from(servers));
    last / (sum + last) * service / (f64::from(servers) - load)
}

#[test]
fn mean_waits_are_those_of_erlang() {
    for (load, secs) in [(14.0, 40_000), (17.0, 60_000), (18.4, 150_000)] {
        let shape = Shape::Exponential;
        let model = Model { service: Service { mean_secs: 2.0, shape }, ..fixed(20) };
        let outcome = run(&built_in("static_mean", &model), &constant(load / 2.0, secs), &model, 1);
        let expected = erlang_c(20, load, 2.0);
        let ratio = outcome.wait_mean_secs / expected;
        println!("load {load} of 20: {:.4} s, by Erlang {expected:.4} s, ratio {ratio:.3}", outcome.wait_mean_secs);
        assert!((0.95..=1.05).contains(&ratio), "load {load}: {} of {expected}", outcome.wait_mean_secs);
    }
}
