//! The real `bootstrap` through the Lambda Runtime API on AWS interfaces.

mod crash;
mod curve;
mod deleted;
mod discovery;
mod dynamodb;
mod failures;
mod guards;
mod http;
mod looping;
mod overlap;
mod permissions;
mod references;
mod remote;
mod secrets;
mod settings;
mod state;
mod store;
