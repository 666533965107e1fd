use super::*;

struct Pairs(Vec<(String, String)>);

impl Asked for Pairs {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn of(query: &str) -> Pairs {
    Pairs(crate::path::query_pairs(query))
}

fn list(query: &str) -> Result<ListOptions, Status> {
    ListOptions::read(&of(query))
}

fn watch(query: &str) -> Result<WatchOptions, Status> {
    WatchOptions::read(&of(query))
}

#[test]
fn the_state_of_a_list_is_chosen_as_the_documentation_has_it() {
    for (query, state) in [
        ("", State::NotOlderThan(0)),
        ("resourceVersion=0", State::NotOlderThan(0)),
        ("resourceVersion=7", State::NotOlderThan(7)),
        ("resourceVersion=7&limit=5", State::Exactly(7)),
        ("resourceVersion=0&limit=5", State::NotOlderThan(0)),
        ("resourceVersion=7&limit=5&resourceVersionMatch=NotOlderThan", State::NotOlderThan(7)),
        ("resourceVersion=7&resourceVersionMatch=Exact", State::Exactly(7)),
    ] {
        assert_eq!(list(query).unwrap().state, state, "{query}");
    }
    assert_eq!(list("limit=-1").unwrap().limit, 0);
}

#[test]
fn options_of_a_list_that_do_not_go_together_are_refused_as_by_kube_apiserver() {
    let told = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: ";
    for (query, code, message) in [
        ("resourceVersionMatch=Exact", 422, format!("{told}Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided")),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422, format!("{told}Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")),
        ("resourceVersion=3&resourceVersionMatch=Foo", 422, format!("{told}Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"")),
        ("sendInitialEvents=true", 422, "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".to_owned()),
        ("limit=abc", 400, "strconv.ParseInt: parsing \"abc\": invalid syntax".to_owned()),
        ("resourceVersion=-1", 400, "invalid resource version: resourceVersion: Invalid value: \"-1\": strconv.ParseUint: parsing \"-1\": invalid syntax".to_owned()),
    ] {
        let status = list(query).unwrap_err();
        assert_eq!((status.code, status.message), (code, message), "{query}");
    }
    assert_eq!(list("continue=abc").unwrap_err().code, 400);
}

#[test]
fn a_list_goes_on_at_the_revision_where_it_began() {
    let token = Continue { revision: Some(2472), after: (String::new(), "kube-root-ca.crt".to_owned()) };
    // As kube-apiserver 1.36 wrote it.
    let theirs = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MjQ3Miwic3RhcnQiOiIva3ViZS1yb290LWNhLmNydFx1MDAwMCJ9";
    assert_eq!(Continue::read(theirs).unwrap(), token);
    let placed = Continue { revision: Some(9), after: ("a".to_owned(), "b".to_owned()) };
    for token in [token, placed.clone()] {
        assert_eq!(Continue::read(&token.token()).unwrap(), token);
    }
    let options = list(&format!("limit=2&continue={}", placed.token())).unwrap();
    assert_eq!((options.state, options.continued.clone()), (State::Exactly(9), Some(placed.clone())));
    let (status, token) = placed.expired();
    let options = list(&format!("continue={token}")).unwrap();
    assert_eq!((status.code, options.state), (410, State::NotOlderThan(0)));
    assert_eq!(options.continued.unwrap().after, placed.after);
    let both = list(&format!("resourceVersion=3&continue={}", placed.token())).unwrap_err();
    assert_eq!(both.message, "specifying resource version is not allowed when using continue");
}

#[test]
fn a_watch_begins_as_the_documentation_has_it() {
    let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    for (query, start) in [
        ("", Start::Everything { mark_end: false }),
        ("resourceVersion=0", Start::Everything { mark_end: false }),
        ("resourceVersion=7", Start::After(7)),
        (initial, Start::Everything { mark_end: false }),
        (&format!("{initial}&allowWatchBookmarks=1&resourceVersion=7"), Start::Everything { mark_end: true }),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Start::Now),
        ("sendInitialEvents=0&resourceVersionMatch=NotOlderThan&resourceVersion=7", Start::After(7)),
    ] {
        assert_eq!(watch(query).unwrap().start, start, "{query}");
    }
    assert_eq!(watch("timeoutSeconds=5").unwrap().timeout, Some(5));
    assert_eq!(watch("timeoutSeconds=-5").unwrap().timeout, None);
}

#[test]
fn options_of_a_watch_that_do_not_go_together_are_refused_as_by_kube_apiserver() {
    let told = "ListOptions.meta.k8s.io \"\" is invalid: ";
    for (query, code, message) in [
        (
            "sendInitialEvents=true",
            422,
            format!(
                "{told}resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            ),
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=1",
            422,
            format!(
                "{told}[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, \
                 resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"
            ),
        ),
        (
            "resourceVersion=abc",
            500,
            "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax"
                .to_owned(),
        ),
    ] {
        let status = watch(query).unwrap_err();
        assert_eq!((status.code, status.message), (code, message), "{query}");
    }
}

#[test]
fn booleans_are_there_and_not_false() {
    for (query, wanted) in [
        ("", false),
        ("watch", true),
        ("watch=", true),
        ("watch=maybe", true),
        ("watch=False", false),
        ("watch=0", false),
    ] {
        assert_eq!(of(query).flag("watch"), wanted, "{query}");
    }
}
