//! What an API counts of its requests, for Prometheus at `/metrics`, under kube-apiserver's names
//! (`apiserver/pkg/endpoints/metrics/metrics.go`, `apiserver/pkg/server/filters/maxinflight.go`).

use apimachinery::rbac::What;
use daemon::metrics::{Counter, Family, Gauge, Histogram, Label, Metrics, PLAIN_CONTENT_TYPE};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::attributes::Action;
use crate::held::Held;
use crate::registry::Registry;
use crate::respond::{self, Answer};

/// Of a request; the values are those of a catalog, and few.
type Labels = Vec<(&'static str, String)>;
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// Upper bounds of durations, in seconds: some of kube-apiserver's.
const BOUNDS: [f64; 10] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

/// Of all requests of an API. Clones count together.
#[derive(Clone)]
pub(crate) struct Counts {
    requests: Family<Labels, Counter>,
    durations: Durations,
    in_flight: Family<Label, Gauge>,
    lasting: Family<Labels, Gauge>,
    metrics: Metrics,
}

/// A request that is counted.
pub(crate) struct Counting {
    counts: Counts,
    since: Instant,
    asked: Option<Asked>,
}

/// What is asked for, as far as it is known here.
struct Asked {
    /// verb, group, version, resource, subresource, scope
    labels: Labels,
    lasts: bool,
    _in_flight: Option<Up>,
}

/// A gauge that is one higher while this is there.
struct Up(Gauge);

impl Up {
    fn new(gauge: &Gauge) -> Up {
        gauge.inc();
        Up(gauge.clone())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Counts {
    pub(crate) fn new() -> Counts {
        let counts = Counts {
            requests: Family::default(),
            durations: Durations::new_with_constructor(|| Histogram::new(BOUNDS)),
            in_flight: Family::default(),
            lasting: Family::default(),
            metrics: Metrics::new("apiserver"),
        };
        counts.metrics.register(|registry| {
            registry.register(
                "request",
                "Requests by what was asked and the code of the answer",
                counts.requests.clone(),
            );
            registry.register(
                "request_duration_seconds",
                "Time until an answer was made, without requests that last",
                counts.durations.clone(),
            );
            registry.register(
                "current_inflight_requests",
                "Requests whose answer is being made, without those that last",
                counts.in_flight.clone(),
            );
            registry.register(
                "longrunning_requests",
                "Watches and other requests that last",
                counts.lasting.clone(),
            );
        });
        counts
    }

    pub(crate) fn begin(&self) -> Counting {
        Counting { counts: self.clone(), since: Instant::now(), asked: None }
    }

    pub(crate) fn answer(&self) -> Answer {
        respond::bytes(200, PLAIN_CONTENT_TYPE, self.metrics.render_plain())
    }
}

impl Counting {
    /// What names nothing of the catalog is counted without its name: clients choose those.
    pub(crate) fn asked_about(&mut self, action: &Action, catalog: &Registry) {
        let attributes = action.attributes();
        let (mut group, mut version, mut name, mut sub, mut scope) = ("", "", "", "", "");
        if let What::Resource { group: of, resource, subresource, namespace, name: object, .. } =
            &attributes.what
            && let Some(served) = catalog.find(of, action.version(), resource)
        {
            (group, version, name) = (of, action.version(), resource);
            let of_version = |one: &str| match one {
                "status" => served.version().status,
                "scale" => served.version().scale.is_some(),
                other => served.resource.subresources.contains(&other),
            };
            sub = if of_version(subresource) { subresource } else { "" };
            scope = match (object.is_empty(), namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            };
        }
        let verb = action.told();
        let labels = [
            ("verb", verb),
            ("group", group),
            ("version", version),
            ("resource", name),
            ("subresource", sub),
            ("scope", scope),
        ];
        let kind = if action.changes() { "mutating" } else { "readOnly" };
        let lasts = action.lasts();
        self.asked = Some(Asked {
            labels: labels.map(|(key, value)| (key, value.to_owned())).into(),
            lasts,
            _in_flight: (!lasts)
                .then(|| Up::new(&self.counts.in_flight.get_or_create(&[("request_kind", kind)]))),
        });
    }

    /// Counts the answer; one that lasts, until it has been sent.
    pub(crate) fn answered(self, answer: Answer) -> Answer {
        let Some(Asked { labels, lasts, .. }) = self.asked else { return answer };
        let mut with_code = labels.clone();
        with_code.push(("code", answer.status().as_str().to_owned()));
        self.counts.requests.get_or_create(&with_code).inc();
        if !lasts {
            self.counts.durations.get_or_create(&labels).observe(self.since.elapsed().as_secs_f64());
            return answer;
        }
        let held = Up::new(&self.counts.lasting.get_or_create(&labels));
        answer.map(|body| Held::new(body, held).boxed_unsync())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::RequestPath;
    use http::Method;

    use crate::request::Query;

    fn ask(counts: &Counts, method: &Method, path: &str, code: u16) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let action = Action::of(method, &RequestPath::parse(path).unwrap(), path, &Query::parse(Some(query)));
        let mut counting = counts.begin();
        counting.asked_about(&action, &Registry::default());
        counting.answered(respond::text(code, ""))
    }

    #[test]
    fn requests_are_counted_by_what_is_in_the_catalog() {
        let counts = Counts::new();
        let _ = ask(&counts, &Method::GET, "/api/v1/namespaces/n/pods/p", 200);
        let _ = ask(&counts, &Method::PUT, "/api/v1/namespaces/n/pods/p/status", 409);
        for name in ["a", "b"] {
            let _ = ask(&counts, &Method::GET, &format!("/api/v1/{name}"), 404);
            let _ = ask(&counts, &Method::GET, &format!("/{name}"), 404);
            let _ = ask(&counts, &Method::from_bytes(name.as_bytes()).unwrap(), "/x", 405);
        }
        let watch = ask(&counts, &Method::GET, "/api/v1/pods?watch=1", 200);
        let told = String::from_utf8(told(&counts)).unwrap();
        for line in [
            r#"apiserver_request_total{verb="GET",group="",version="v1",resource="pods",subresource="",scope="resource",code="200"} 1"#,
            r#"apiserver_request_total{verb="PUT",group="",version="v1",resource="pods",subresource="status",scope="resource",code="409"} 1"#,
            r#"apiserver_request_total{verb="LIST",group="",version="",resource="",subresource="",scope="",code="404"} 2"#,
            r#"apiserver_request_total{verb="other",group="",version="",resource="",subresource="",scope="",code="405"} 2"#,
            r#"apiserver_longrunning_requests{verb="WATCH",group="",version="v1",resource="pods",subresource="",scope="cluster"} 1"#,
            r#"apiserver_current_inflight_requests{request_kind="readOnly"} 0"#,
        ] {
            assert!(told.contains(&format!("{line}\n")), "{line}\n{told}");
        }
        drop(watch);
        let line = r#"scope="cluster"} 0"#;
        assert!(String::from_utf8(self::told(&counts)).unwrap().contains(line));
    }

    fn told(counts: &Counts) -> Vec<u8> {
        futures_util::FutureExt::now_or_never(counts.answer().into_body().collect())
            .unwrap()
            .unwrap()
            .to_bytes()
            .to_vec()
    }
}
