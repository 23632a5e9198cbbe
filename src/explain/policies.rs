//! What the policies of a table say of a row: all of them together, as delivery asks them, and each by itself.

use super::{
    ExplainError, Explaining, Subject,
    ask::{Asked, Asker},
    report::{PostgresAnswer, Report},
    session::{LookupRows, Session},
};
use crate::{
    change::Datum,
    policy::{
        analyse::{self, Clause, Ruling, Unprovable},
        catalog::{ColumnIndex, CompiledPolicy, RowPolicy, RowRule, Table},
        class,
        explain::{Case, PolicyAnswer, YES, sentence, settled, word},
        facts::TableFacts,
        follow,
        lookup::Need,
        program::{Program, Verdict},
    },
};
use std::collections::BTreeMap;

/// Who decides.
pub(super) const PROCESS: &str = "process";
pub(super) const DATABASE: &str = "database";
const NOBODY: &str = "nobody has to";

/// What Postgres may say.
pub(super) const SEES: &str = "sees the row";

/// What came of the policies.
pub(super) struct Sight {
    /// Whether they let the row through; none when that is not known.
    pub(super) sees: Option<bool>,
    /// The sentence that says so.
    pub(super) because: String,
}

/// A policy, understood or not.
type Policy = Result<Clause, Unprovable>;

/// What is known while the policies are asked.
struct Asking<'a> {
    explaining: &'a Explaining<'a>,
    subject: &'a Subject<'a>,
    facts: &'a TableFacts,
    lookups: LookupRows,
    now: i64,
}

/// Asks the policies.
pub(super) async fn judge(
    explaining: &Explaining<'_>,
    session: &mut Session<'_>,
    report: &mut Report,
    subject: &Subject<'_>,
) -> Result<Sight, ExplainError> {
    let catalog = explaining.world.catalog;
    let role = &explaining.question.claims.role;
    let table = subject.table;
    let unknown = || ExplainError::NoTable(report.table.clone());
    let access = catalog.access(table, role).ok_or_else(unknown)?;
    let facts = catalog.facts.tables.get(&table.oid).ok_or_else(unknown)?;
    if let Some((sees, because)) = settled(table, access, role) {
        report.decided_by = Some(NOBODY);
        if !sees {
            let quoted = follow::quoted(facts);
            let fix = format!("create policy ... on {quoted} for select to {} using (...)", follow::quoted_name(role));
            report.hides("policies", format!("{because}, so it sees no row; a policy is missing: {fix}"), None);
        }
        return Ok(Sight { sees: Some(sees), because });
    }
    let policies: Vec<Policy> = match analyse::ruling(&catalog.facts, facts, role) {
        Ruling::Clauses(clauses) => clauses.into_iter().map(Ok).collect(),
        Ruling::Database(policies) => policies,
        Ruling::All | Ruling::None => Vec::new(),
    };
    let lookups = session.lookups(&catalog.facts, &needs(explaining, facts, &policies)).await?;
    let now = session.now;
    let asking = Asking { explaining, subject, facts, lookups, now };
    for policy in &policies {
        report.policies.push(asking.policy(session, policy).await?);
    }
    let answer = asking.together(session, report, &access.rows).await?;
    let because = sentence(&answer, &report.policies, &report.table, role);
    if answer != YES {
        report.hides("policies", because.clone(), None);
    }
    let sees = if answer.starts_with("unknown") { None } else { Some(answer == YES) };
    Ok(Sight { sees, because })
}

/// What the understood policies look into.
fn needs(explaining: &Explaining<'_>, facts: &TableFacts, policies: &[Policy]) -> BTreeMap<u32, Need> {
    let mut needs = BTreeMap::new();
    for clause in policies.iter().flatten() {
        follow::add(&mut needs, &class::alone(&explaining.world.catalog.facts, facts, clause).lookups);
    }
    needs
}

impl Asking<'_> {
    /// What one policy says by itself.
    async fn policy(&self, session: &mut Session<'_>, policy: &Policy) -> Result<PolicyAnswer, ExplainError> {
        let why = match policy {
            Ok(clause) => match self.compute(clause) {
                Ok(answer) => return Ok(answer),
                Err(why) => why,
            },
            Err(unprovable) => unprovable.why.clone(),
        };
        let name = match policy {
            Ok(clause) => &clause.policy,
            Err(unprovable) => &unprovable.policy,
        };
        let known = self.facts.policies.iter().find(|known| known.name == *name);
        let using = known.and_then(|known| known.using.clone()).unwrap_or_default();
        let answer = self.ask(session, &format!("({using})")).await?;
        let permissive = known.is_none_or(|known| known.permissive);
        Ok(PolicyAnswer {
            policy: name.clone(),
            permissive,
            using,
            answer,
            why_database: Some(why),
            clauses: Vec::new(),
        })
    }

    /// What the process says of one policy, clause by clause, or why it says nothing.
    fn compute(&self, clause: &Clause) -> Result<PolicyAnswer, String> {
        let facts = &self.explaining.world.catalog.facts;
        let program = class::alone(facts, self.facts, clause);
        if let Some(why) = self.missing(&program) {
            return Err(why);
        }
        let arguments = program.bind(self.explaining.question.claims).ok_or(UNBOUND)?;
        let column = |index| self.datum(index);
        let row = program.row(&column);
        let lookups = &self.lookups.rows;
        let case = Case { program: &program, arguments: &arguments, row: &row, lookups, now: self.now };
        let answer = case.policies(facts, self.facts.oid).into_iter().next().ok_or("it has no clause")?;
        if answer.answer == word(Verdict::Unsupported) {
            return Err("a value is of a kind that is not computed with".to_owned());
        }
        Ok(PolicyAnswer { permissive: clause.permissive, ..answer })
    }

    /// Which of the tables a program looks into could not be read here.
    fn missing(&self, program: &Program) -> Option<String> {
        let (oid, why) = program.lookups.keys().find_map(|oid| self.lookups.missing.get_key_value(oid))?;
        let table = self.explaining.world.catalog.facts.tables.get(oid);
        let name = table.map_or_else(|| oid.to_string(), |table| follow::quoted(table));
        Some(format!("table {name} was not read to explain it: {why}"))
    }

    fn datum(&self, index: ColumnIndex) -> &Datum {
        self.subject.streamed.get(index).unwrap_or(&Datum::Absent)
    }

    async fn ask(&self, session: &mut Session<'_>, expression: &str) -> Result<String, ExplainError> {
        let Subject { table, row, .. } = *self.subject;
        let asker = Asker::User(self.explaining.question.claims);
        session.ask(&Asked { table, row, expression, parameters: &[], asker }).await
    }

    /// What delivery would say, and who would say it.
    async fn together(
        &self,
        session: &mut Session<'_>,
        report: &mut Report,
        rule: &RowRule,
    ) -> Result<String, ExplainError> {
        let Some(asked) = rule.asked() else { return Ok(word(Verdict::No)) };
        if let RowRule::Compiled(compiled) = rule {
            let why = self.obstacles(compiled);
            if why.is_empty() {
                report.decided_by = Some(PROCESS);
                report.passes("decided_by", "this server's process decides the policies for these claims");
                return self.verdict(session, compiled).await;
            }
            report.why_database = why;
        } else {
            report.why_database.clone_from(&asked.why);
        }
        report.decided_by = Some(DATABASE);
        let meaning = "a subscription with these claims asks Postgres about every row, which takes longer";
        report.note("decided_by", format!("{meaning}: {}", report.why_database.join("; ")));
        if let Some(column) = self.unstreamed(asked) {
            return Ok(format!("unknown: the stream does not carry {column}, which a policy may read"));
        }
        self.ask(session, &asked.expression).await
    }

    /// Why the process does not decide for these claims at the moment.
    fn obstacles(&self, compiled: &CompiledPolicy) -> Vec<String> {
        let mut obstacles = Vec::new();
        let world = self.explaining.world;
        for oid in compiled.program.lookups.keys() {
            let Some(running) = world.running else { break };
            let table = world.catalog.facts.tables.get(oid);
            let name = table.map_or_else(|| oid.to_string(), |table| format!("{}.{}", table.schema, table.name));
            match running.lookups.iter().find(|lookup| lookup.table == name) {
                Some(lookup) if lookup.is_ready => {}
                Some(lookup) => {
                    let why = lookup.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                    obstacles.push(format!("table {name} is {}{why}", lookup.state));
                }
                None => obstacles.push(format!("table {name} is not followed yet")),
            }
        }
        if compiled.program.bind(self.explaining.question.claims).is_none() {
            obstacles.push(UNBOUND.to_owned());
        }
        obstacles
    }

    /// What the process says, or Postgres where the tables it takes could not be read here.
    async fn verdict(&self, session: &mut Session<'_>, compiled: &CompiledPolicy) -> Result<String, ExplainError> {
        let program = &compiled.program;
        let Some(arguments) = program.bind(self.explaining.question.claims).filter(|_| self.missing(program).is_none())
        else {
            return self.ask(session, &compiled.fallback.expression).await;
        };
        let column = |index| self.datum(index);
        let verdict = program.judge(&arguments, &program.row(&column), &self.lookups.rows, self.now);
        Ok(word(verdict))
    }

    /// A column that the database would need and the stream does not have.
    fn unstreamed(&self, asked: &RowPolicy) -> Option<String> {
        let table: &Table = self.subject.table;
        let is_streamed = |index: &ColumnIndex| !matches!(self.datum(*index), Datum::Absent);
        let is_there = |index: &ColumnIndex| {
            let generated = table.columns.get(*index).and_then(|column| column.generated.as_ref());
            is_streamed(index) || generated.is_some_and(|generated| generated.reads.iter().all(is_streamed))
        };
        let all: Vec<ColumnIndex> = (0..table.columns.len()).collect();
        let missing = asked.reads.as_ref().unwrap_or(&all).iter().find(|index| !is_there(index))?;
        table.columns.get(*missing).map(|column| column.name.clone())
    }
}

const UNBOUND: &str = "a value made of the claims alone cannot be computed (often sub is no UUID), and whether that is \
                       an error depends on the order in which Postgres computes";

/// Postgres' answer, beside ours.
pub(super) fn compared(selected: &Result<bool, String>, may: Option<bool>) -> PostgresAnswer {
    let answer = match selected {
        Ok(true) => SEES.to_owned(),
        Ok(false) => "does not see the row".to_owned(),
        Err(sqlstate) => format!("error {sqlstate}"),
    };
    PostgresAnswer { answer, agrees: may.map(|may| may == (*selected == Ok(true))) }
}
