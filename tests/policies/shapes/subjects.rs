//! Who asks about the shapes: owners, members, strangers, and tokens as they should not be.

use crate::{
    policies::asked::Subject,
    support::token::{ALICE, BOB},
};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const CAROL: &str = "33333333-3333-3333-3333-333333333333";
const ORG: &str = "44444444-4444-4444-4444-444444444444";
const OTHER_ORG: &str = "55555555-5555-5555-5555-555555555555";

/// Roles that shapes are asked about.
pub const ROLES: [&str; 6] = ["anon", "authenticated", "service_role", "support", "shapes_owner", "shapes_editor"];

fn issued(seconds_ago: u64) -> Value {
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - seconds_ago).into()
}

/// Claims without their role.
fn claims() -> Vec<Value> {
    vec![
        json!({"sub": ALICE, "email": "alice@example.com", "aal": "aal2", "is_anonymous": false, "org_id": ORG,
            "user_role": "editor", "iat": issued(60),
            "app_metadata": {"org_id": ORG, "orgs": [ORG, OTHER_ORG], "role": "admin", "level": 3, "tags": ["green"]},
            "user_metadata": {"role": "admin"}}),
        json!({"sub": BOB, "email": "bob@other.org", "aal": "aal1", "is_anonymous": true, "org_id": OTHER_ORG,
            "user_role": "viewer", "iat": issued(7200),
            "app_metadata": {"org_id": OTHER_ORG, "orgs": [OTHER_ORG], "role": "member", "level": "0",
                "tags": ["red", "blue"]}}),
        json!({"sub": CAROL, "email": null, "aal": null, "is_anonymous": "no", "org_id": null, "iat": issued(0),
            "app_metadata": {"org_id": null, "orgs": [], "role": null, "level": null, "tags": []}}),
        // A user whom no row knows, with the identifiers of a person.
        json!({"sub": "99999999-9999-9999-9999-999999999999", "email": "%", "aal": "aal2", "iat": issued(3),
            "app_metadata": {"orgs": {(ORG): true}, "tags": [null]}}),
        // The identifier of a third party: `auth.uid()` fails on it.
        json!({"sub": "user_2abc", "is_anonymous": "perhaps", "org_id": "none", "iat": "yesterday",
            "app_metadata": {"org_id": "none", "orgs": ORG, "level": "x", "tags": "green"}}),
        json!({"sub": "", "org_id": "", "iat": null, "app_metadata": "admin", "user_metadata": []}),
        json!({"app_metadata": null}),
        json!({}),
    ]
}

/// Every claims under every role.
pub fn subjects() -> Vec<Subject> {
    let of_role = |role: &'static str| claims().into_iter().map(move |claims| Subject::new(role, claims));
    ROLES.into_iter().flat_map(of_role).collect()
}
