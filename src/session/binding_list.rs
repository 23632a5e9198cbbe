//! The bindings of a join: read, numbered, and echoed as the client wrote them (protocol reference, section 3.5).

use crate::policy::{
    binding::{Binding, BindingRequest},
    filter::Operator,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Numbers stay below this, as those of the server we replace do: clients take 0 for none and keep 32 bits.
const ID_RANGE: u32 = (1 << 27) - 1;

/// The bindings and their echo. Null entries are dropped; what is no object either cannot be echoed with a number.
pub(super) fn read(list: &[Value]) -> (Vec<Binding>, String) {
    let mut bindings: Vec<Binding> = Vec::with_capacity(list.len());
    let mut echo = Vec::with_capacity(list.len());
    let mut taken: Vec<(u32, &Map<String, Value>)> = Vec::new();
    for object in list.iter().filter_map(Value::as_object) {
        let id = number(object, &taken);
        taken.push((id, object));
        bindings.push(Binding { id, request: BindingRequest::parse(object) });
        let mut echoed = object.clone();
        echoed.insert("id".to_owned(), Value::from(id));
        echo.push(Value::Object(echoed));
    }
    (bindings, Value::Array(echo).to_string())
}

/// How many regular expressions the bindings' filters have.
pub(super) fn patterns(bindings: &[Binding]) -> usize {
    let requests = bindings.iter().filter_map(|binding| binding.request.as_ref().ok());
    let operators = requests.flat_map(|request| &request.conditions).map(|condition| condition.operator);
    operators.filter(|operator| matches!(operator, Operator::Match | Operator::Imatch)).count()
}

/// A number made of what the binding says, so that it is the same for every join; equal bindings share it, and two
/// that differ in one join never do.
fn number(object: &Map<String, Value>, taken: &[(u32, &Map<String, Value>)]) -> u32 {
    // serde_json's maps are sorted by key, so equal objects have equal texts.
    let digest = Sha256::digest(Value::Object(object.clone()).to_string());
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let mut id = hash % ID_RANGE + 1;
    while taken.iter().any(|(other, binding)| *other == id && *binding != object) {
        id = id % ID_RANGE + 1;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bindings_are_echoed_as_they_were_written_with_a_number() {
        let list = [json!({"event": "insert", "table": "t", "filter": null, "x": 1.0}), Value::Null];
        let (bindings, echo) = read(&list);
        let echo: Value = serde_json::from_str(&echo).unwrap();
        assert_eq!(bindings.len(), 1);
        let mut expected = list[0].clone();
        expected["id"] = json!(bindings[0].id);
        assert_eq!(echo, json!([expected]));
    }

    #[test]
    fn equal_bindings_share_a_number_and_others_do_not() {
        let list = [json!({"table": "a"}), json!({"table": "b"}), json!({"table": "a"})];
        let (bindings, _) = read(&list);
        assert_eq!(bindings[0].id, bindings[2].id);
        assert_ne!(bindings[0].id, bindings[1].id);
        assert!(bindings.iter().all(|binding| (1..=ID_RANGE).contains(&binding.id)));
        assert_eq!(read(&list[1..]).0[0].id, bindings[1].id, "the same in every join");
    }

    #[test]
    fn a_number_that_another_binding_has_is_stepped_over() {
        let (a, b) = (json!({"table": "a"}), json!({"table": "b"}));
        let id = number(a.as_object().unwrap(), &[]);
        assert_ne!(number(a.as_object().unwrap(), &[(id, b.as_object().unwrap())]), id);
    }

    #[test]
    fn regular_expressions_are_counted_and_other_filters_are_not() {
        let list = [
            json!({"schema": "s", "table": "a", "filter": "x=match.^a,y=not.imatch.b$,z=eq.1"}),
            json!({"schema": "s", "table": "a", "filter": "x=like.a%"}),
            json!({"schema": "s", "table": "a", "filter": "nonsense"}),
        ];
        assert_eq!(patterns(&read(&list).0), 2);
    }
}
