//! Who decides about the rows of each published table for each role: what `policy` understands becomes a program, the
//! rest is the database's, with the reason.

use super::tables::TableRow;
use crate::policy::{
    analyse::{self, Clause, Ruling},
    catalog::{ColumnIndex, CompiledPolicy, RowPolicy, RowRule, Table, joined},
    expr::Expr,
    facts::{Facts, TableFacts},
    follow::{self, Names},
    lookup::Need,
    program::Program,
    value::Value,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// The published tables with everybody's rules, and what these look up.
pub(super) struct Ruled {
    pub(super) tables: HashMap<u32, Arc<Table>>,
    pub(super) lookups: BTreeMap<u32, Need>,
}

/// Decides for every table and role.
pub(super) fn rule(facts: &Facts, rows: Vec<TableRow>, names: Names<'_>) -> Ruled {
    let published: HashSet<u32> = rows.iter().map(|row| row.oid).collect();
    let mut ruled = Ruled { tables: HashMap::new(), lookups: BTreeMap::new() };
    for row in rows {
        let Some(table) = facts.tables.get(&row.oid) else { continue };
        let ruler = Ruler { facts, published: &published, names, table, row: &row };
        let mut access = row.access(names.roles);
        for (role, access) in &mut access {
            access.rows = ruler.rule(role);
            if let RowRule::Compiled(compiled) = &access.rows {
                follow::add(&mut ruled.lookups, &compiled.program.lookups);
            }
        }
        let columns = table.columns.clone();
        ruled.tables.insert(row.oid, Arc::new(row.into_table(columns, access)));
    }
    ruled
}

/// What is known while one table's rules are made.
struct Ruler<'a> {
    facts: &'a Facts,
    published: &'a HashSet<u32>,
    names: Names<'a>,
    table: &'a TableFacts,
    row: &'a TableRow,
}

impl Ruler<'_> {
    fn rule(&self, role: &Arc<str>) -> RowRule {
        let Some(rights) = self.table.rights.get(role) else { return RowRule::None };
        if rights.sees_all {
            return RowRule::All;
        }
        let asked = match self.asked(&rights.policies) {
            RowRule::Database(asked) => asked,
            decided => return decided,
        };
        match analyse::ruling(self.facts, self.table, role) {
            Ruling::Clauses(clauses) => self.compiled(clauses, asked),
            Ruling::Database(clauses) => {
                let why = clauses.into_iter().filter_map(Result::err).map(|reason| reason.to_string());
                left_to_database(&asked, why.collect())
            }
            // Both say what has just been found not to be so: then nobody but the database knows.
            Ruling::All | Ruling::None => RowRule::Database(asked),
        }
    }

    fn compiled(&self, clauses: Vec<Clause>, asked: Arc<RowPolicy>) -> RowRule {
        let is_true = |clause: &Clause| matches!(clause.expr, Expr::Const(Value::Bool(true)));
        let (permissive, restrictive): (Vec<&Clause>, Vec<&Clause>) =
            clauses.iter().partition(|clause| clause.permissive);
        if permissive.into_iter().any(is_true) && restrictive.into_iter().all(is_true) {
            return RowRule::All;
        }
        let program = Program::new(self.facts, self.table, clauses);
        // The database computes such a column anew from its definition; nobody else can.
        let read = program.reads.iter().filter_map(|&index| self.table.columns.get(index));
        let computed = read.filter(|column| column.generated.is_some() && !self.row.streams(column));
        let computed = computed.map(|column| format!("column {} is generated, and not in the stream", column.name));
        let computed: Vec<String> = computed.collect();
        if !computed.is_empty() {
            return left_to_database(&asked, computed);
        }
        let is_published = |oid| self.published.contains(&oid);
        let obstacles = follow::obstacles(self.facts, &program.lookups, is_published, self.names);
        if !obstacles.is_empty() {
            return left_to_database(&asked, obstacles.iter().map(ToString::to_string).collect());
        }
        RowRule::Compiled(Arc::new(CompiledPolicy { program, fallback: asked }))
    }

    /// A policy without a USING expression, such as `for all with check (...)`, adds nothing.
    fn asked(&self, policies: &[usize]) -> RowRule {
        let (mut permissive, mut restrictive) = (Vec::new(), Vec::new());
        let mut reads: Option<BTreeSet<ColumnIndex>> = Some(BTreeSet::new());
        for policy in policies.iter().filter_map(|&index| self.row.policies.get(index)) {
            let Some(using) = &policy.using else { continue };
            (if policy.permissive { &mut permissive } else { &mut restrictive }).push(using.as_str());
            match (&mut reads, self.row.reads(policy)) {
                (Some(all), Some(known)) => all.extend(known),
                (reads, _) => *reads = None,
            }
        }
        // Others beside a `true` may still fail before anything is computed: a recursion does.
        let is_true = |using: &&str| *using == "true";
        if !permissive.is_empty() && restrictive.is_empty() && permissive.iter().all(is_true) {
            return RowRule::All;
        }
        let Some(expression) = joined(&permissive, &restrictive) else { return RowRule::None };
        let reads = reads.map(|columns| columns.into_iter().collect());
        RowRule::Database(Arc::new(RowPolicy { expression, reads, why: Vec::new() }))
    }
}

fn left_to_database(asked: &RowPolicy, why: Vec<String>) -> RowRule {
    RowRule::Database(Arc::new(RowPolicy { why, ..asked.clone() }))
}
