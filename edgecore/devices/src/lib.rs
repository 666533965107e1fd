//! The devices of this node: EventBus carries MQTT between apps, mappers and the node, DeviceTwin keeps what each device should be and is.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

pub mod devicetwin;
pub mod eventbus;
