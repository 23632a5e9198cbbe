//! Random policies on the tables of a world, and who is asked about.

use super::{
    claims,
    expression::Writer,
    random::Random,
    world::{ROLES, World},
};
use crate::policies::asked::Subject;

const CLAIMS: usize = 10;

/// New policies in the places of the old ones.
pub fn policies(random: &mut Random, world: &World) -> Vec<String> {
    let mut statements = Vec::new();
    let is_by_role = random.percent(50);
    for (number, table) in world.tables.iter().enumerate() {
        let name = world.qualified(table);
        for policy in 0..5 {
            statements.push(format!("drop policy if exists p{policy} on {name}"));
        }
        if is_by_role {
            // One for each role, so that many are compared at once.
            for (policy, role) in ROLES[..5].iter().enumerate() {
                statements.push(create(random, world, number, policy, role));
            }
            continue;
        }
        let count = match random.below(20) {
            0 => 0,
            1..9 => 1,
            9..16 => 2,
            _ => random.between(3, 5),
        };
        for policy in 0..count {
            let to = roles(random);
            statements.push(create(random, world, number, policy, to));
        }
    }
    statements
}

fn create(random: &mut Random, world: &World, table: usize, policy: usize, to: &str) -> String {
    let mut writer = Writer::new(random, world);
    // Policies that look at each other in a circle fail in Postgres: now and then is enough.
    if !writer.random.percent(4) {
        writer.tables.retain(|&other| other > table);
    }
    let using = if writer.random.percent(4) { "true".to_owned() } else { writer.policy(table) };
    let permissive = if policy > 0 && random.percent(20) { " as restrictive" } else { "" };
    let command = *random.pick(&["select", "select", "all"]);
    let name = world.qualified(&world.tables[table]);
    format!("create policy p{policy} on {name}{permissive} for {command} to {to} using ({using})")
}

fn roles(random: &mut Random) -> &'static str {
    match random.below(10) {
        0..7 => "public",
        7..8 => "oracle_user",
        8 => "oracle_member, oracle_owner",
        _ => ROLES[random.below(ROLES.len())],
    }
}

pub fn subjects(random: &mut Random) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for _ in 0..CLAIMS {
        let claims = claims::random(random);
        // One that bypasses everything is of little interest.
        let last = if random.percent(10) { 6 } else { 5 };
        subjects.push(Subject::new(ROLES[random.below(last)], claims.clone()));
        subjects.push(Subject::new(ROLES[random.below(5)], claims));
    }
    subjects
}
