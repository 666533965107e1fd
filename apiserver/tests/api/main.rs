//! The API server over its socket: raw HTTPS requests, and the real kubectl.
#![allow(clippy::unwrap_used)]

mod access;
mod aggregation;
mod audit;
mod client;
mod controllers;
mod conversion;
mod fields;
mod hook;
mod kubectl;
mod limits;
mod mutations;
mod objects;
mod openapi;
mod pods;
mod quotas;
mod roles;
mod rules;
mod validation;
mod watches;
mod webhooks;
