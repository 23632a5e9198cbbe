//! Random claims: what a good token says, and what a bad one does.

use super::{
    kinds::{STATES, TEXTS, UUIDS},
    random::Random,
};
use serde_json::{Map, Value, json};

/// Claims without a role. Good ones have values of the pools, or none; others anything.
pub fn random(random: &mut Random) -> Value {
    let is_good = random.percent(75);
    let mut claims = Map::new();
    let mut put = |random: &mut Random, name: &str, good: Value, bad: &[Value]| {
        if random.percent(15) {
            return;
        }
        let value = if is_good || random.percent(60) { good } else { random.pick(bad).clone() };
        claims.insert(name.to_owned(), value);
    };
    let uuid = |random: &mut Random| Value::from(*random.pick(&UUIDS));
    let text = |random: &mut Random| Value::from(*random.pick(&TEXTS));
    let not_uuids = [
        json!("user_2abc"),
        json!(""),
        Value::Null,
        json!(7),
        json!({"a": 1}),
        json!("{ABCDEFABCDEFABCDEFABCDEFABCDEFAB}"),
    ];
    let sub = uuid(random);
    put(random, "sub", sub, &not_uuids);
    let org = uuid(random);
    put(random, "org_id", org, &not_uuids);
    let email = text(random);
    put(random, "email", email, &[Value::Null, json!(1), json!("a\u{1F600}")]);
    let aal = json!(random.pick(&["aal1", "aal2"]));
    put(random, "aal", aal, &[Value::Null, json!(2), json!([])]);
    let anonymous = json!(random.percent(50));
    put(
        random,
        "is_anonymous",
        anonymous,
        &[Value::Null, json!("perhaps"), json!("true"), json!("t"), json!(" off "), json!(1)],
    );
    let user_role = text(random);
    put(random, "user_role", user_role, &[Value::Null, json!({})]);
    let issued = json!(1_700_000_000 + random.below(100));
    put(random, "iat", issued, &[Value::Null, json!("x"), json!(1.5), json!(-1), json!(1e30)]);
    let app = app_metadata(random, is_good);
    put(random, "app_metadata", app, &[Value::Null, json!("admin"), json!([]), json!(["orgs"]), json!(1)]);
    Value::Object(claims)
}

fn app_metadata(random: &mut Random, is_good: bool) -> Value {
    let mut app = Map::new();
    let mut put = |random: &mut Random, name: &str, good: Value, bad: &[Value]| {
        if random.percent(15) {
            return;
        }
        let value = if is_good || random.percent(60) { good } else { random.pick(bad).clone() };
        app.insert(name.to_owned(), value);
    };
    let uuid = |random: &mut Random| Value::from(*random.pick(&UUIDS));
    let org = uuid(random);
    put(random, "org_id", org, &[Value::Null, json!("none"), json!(1)]);
    let orgs: Vec<Value> = (0..random.below(4)).map(|_| uuid(random)).collect();
    put(random, "orgs", orgs.into(), &[Value::Null, json!({}), json!("x"), json!([null]), json!([1, "a", {}])]);
    let tags: Vec<Value> = (0..random.below(3)).map(|_| json!(random.pick(&["a", "b", "open", "admin", ""]))).collect();
    put(random, "tags", tags.into(), &[Value::Null, json!([null, "a"]), json!("a"), json!({"a": 1})]);
    let role = json!(random.pick(&["admin", "a", "open"]));
    put(random, "role", role, &[Value::Null, json!(["admin"])]);
    let level = json!(random.below(5));
    put(
        random,
        "level",
        level,
        &[Value::Null, json!("x"), json!("3"), json!(1.5), json!(99_999_999_999_u64), json!(true)],
    );
    let state = json!(random.pick(&STATES));
    put(random, "state", state, &[Value::Null, json!("unknown")]);
    Value::Object(app)
}
