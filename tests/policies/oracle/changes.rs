//! Random rows and random transactions.

use super::{
    kinds::Kind,
    random::Random,
    world::{Column, Table, World},
};
use std::ops::Range;

fn value(random: &mut Random, column: &Column, schema: &str) -> String {
    if column.nullable { column.kind.stored(random, schema) } else { column.kind.value(random, schema) }
}

/// Rows for a table; some are not accepted, for their keys are there already.
pub fn rows(random: &mut Random, world: &World, table: &Table, numbers: Range<usize>) -> String {
    let columns: Vec<&Column> = table.writable().collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let rows: Vec<String> = numbers
        .map(|number| {
            let values = columns.iter().enumerate().map(|(index, column)| {
                // A key of one integer counts: it limits nothing.
                if index == 0 && column.name == "id" && column.kind == Kind::Int4 {
                    return number.to_string();
                }
                value(random, column, &world.schema)
            });
            format!("({})", values.collect::<Vec<_>>().join(", "))
        })
        .collect();
    format!(
        "insert into {} ({}) values {} on conflict do nothing",
        world.qualified(table),
        names.join(", "),
        rows.join(", ")
    )
}

/// Statements of one transaction, of which some may fail.
pub fn transaction(random: &mut Random, world: &World) -> Vec<String> {
    (0..random.between(1, 6)).map(|_| statement(random, world)).collect()
}

fn statement(random: &mut Random, world: &World) -> String {
    let table = random.pick(&world.tables).clone();
    let name = world.qualified(&table);
    match random.below(100) {
        0..35 => {
            let first = random.below(60);
            let last = first + random.between(1, 3);
            rows(random, world, &table, first..last)
        }
        35..75 => {
            let writable: Vec<Column> = table.writable().cloned().collect();
            let column = random.pick(&writable).clone();
            let set = format!("{} = {}", column.name, value(random, &column, &world.schema));
            format!("update {name} set {set} where {}", some(random, &table, world))
        }
        75..97 => format!("delete from {name} where {}", some(random, &table, world)),
        _ => format!("truncate {name}"),
    }
}

/// A condition that fits a few rows.
fn some(random: &mut Random, table: &Table, world: &World) -> String {
    let column = random.pick(&table.columns[..table.key]).clone();
    if column.kind == Kind::Int4 {
        return format!("{} % 7 = {}", column.name, random.below(7));
    }
    format!("{} = {}", column.name, value(random, &column, &world.schema))
}
