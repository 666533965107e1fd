//! Built-in kinds that are stored in another form than they are served in: events of their newer group as those of `v1`,
//! HorizontalPodAutoscalers of `autoscaling/v1` as those of v2.

use apimachinery::autoscaling;
use serde_json::Value;

use crate::events;
use crate::registry::Served;

fn is_autoscaler(served: &Served) -> bool {
    let resource = &served.resource;
    !resource.custom && resource.group == "autoscaling" && resource.plural == "horizontalpodautoscalers"
}

/// True if what is stored is not what is served.
pub fn differs(served: &Served) -> bool {
    served.resource.group == events::GROUP || (is_autoscaler(served) && served.version().name == "v1")
}

/// From what is served, without its kind, to what is stored.
pub fn to_stored(served: &Served, object: &mut Value) {
    if served.resource.group == events::GROUP {
        events::to_stored(object);
    } else if is_autoscaler(served) {
        match served.version().name.as_str() {
            "v1" => autoscaling::to_v2(object),
            _ => drop(autoscaling::drop_carried(object)),
        }
    }
}

/// From what is stored to what is served.
pub fn from_stored(served: &Served, object: &mut Value) {
    if served.resource.group == events::GROUP {
        events::from_stored(object);
    } else if differs(served) {
        autoscaling::to_v1(object);
    }
}
