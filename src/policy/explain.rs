//! Why a row is seen or not: the verdict of every policy and of the parts it is made of. Pure; it judges as delivery
//! does, by the same program, and says what that came to, part by part.

use super::{
    catalog::{Access, RowRule, Table},
    expr::Expr,
    facts::Facts,
    lookup::Lookups,
    print::Printer,
    program::{Arguments, Program, Row, Verdict},
};
use serde::Serialize;

/// How an answer came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The answer: `yes`, `no`, or why there is none.
    pub answer: String,
    /// One sentence that names what decided.
    pub because: String,
    /// What each policy says.
    pub policies: Vec<PolicyAnswer>,
}

/// What one policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyAnswer {
    /// Its name.
    pub policy: String,
    /// Whether it grants, or restricts what others grant.
    pub permissive: bool,
    /// `USING`, as Postgres prints it.
    pub using: String,
    /// The answer.
    pub answer: String,
    /// The clauses it is made of, with their answers.
    pub clauses: Vec<ClauseAnswer>,
}

/// What one clause says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClauseAnswer {
    /// The clause as it was understood: functions replaced by what they do.
    pub clause: String,
    /// The answer.
    pub answer: String,
}

/// A verdict in a word or two.
pub fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Yes => "yes".to_owned(),
        Verdict::No => "no".to_owned(),
        Verdict::Absent => "unknown: the image lacks a column it reads".to_owned(),
        Verdict::Failed(sqlstate) => format!("error {sqlstate}"),
        Verdict::Unsupported => "unknown: a value of a kind that is not computed with here".to_owned(),
    }
}

/// What can be asked about one row.
pub struct Case<'a> {
    /// The program.
    pub program: &'a Program,
    /// The subscriber.
    pub arguments: &'a Arguments,
    /// The row.
    pub row: &'a Row<'a>,
    /// The rows of other tables.
    pub lookups: &'a Lookups,
    /// Microseconds since 2000-01-01 UTC.
    pub now: i64,
}

impl Case<'_> {
    /// Judges the row, part by part.
    pub fn explain(&self, facts: &Facts, table: &Table) -> Explanation {
        let judge = |expr: &Expr| self.program.judge_part(expr, self.arguments, self.row, self.lookups, self.now);
        let verdict = judge(&self.program.predicate);
        let policies = self.program.clauses.iter().map(|clause| {
            let mut printer = Printer::new(facts, table.oid, &self.program.parameters);
            let parts: Vec<&Expr> = match &clause.expr {
                Expr::And(parts) | Expr::Or(parts) => parts.iter().collect(),
                whole => vec![whole],
            };
            let clauses =
                parts.into_iter().map(|part| ClauseAnswer { clause: printer.print(part), answer: word(judge(part)) });
            PolicyAnswer {
                policy: clause.policy.clone(),
                permissive: clause.permissive,
                using: clause.text.clone(),
                answer: word(judge(&clause.expr)),
                clauses: clauses.collect(),
            }
        });
        let policies: Vec<PolicyAnswer> = policies.collect();
        Explanation { answer: word(verdict), because: because(verdict, &policies), policies }
    }
}

fn because(verdict: Verdict, policies: &[PolicyAnswer]) -> String {
    let quoted = |wanted: &dyn Fn(&PolicyAnswer) -> bool| {
        let names = policies.iter().filter(|policy| wanted(policy)).map(|policy| format!("\"{}\"", policy.policy));
        names.collect::<Vec<_>>().join(", ")
    };
    let walls = quoted(&|policy| !policy.permissive && policy.answer != "yes");
    let grants = quoted(&|policy| policy.permissive && policy.answer == "yes");
    match verdict {
        Verdict::Yes => format!("policy {grants} lets him see it"),
        Verdict::No if !walls.is_empty() => format!("restrictive policy {walls} forbids it"),
        Verdict::No => "no permissive policy lets him see it".to_owned(),
        Verdict::Failed(sqlstate) => format!("Postgres fails on it with SQLSTATE {sqlstate}, so it is hidden"),
        Verdict::Absent | Verdict::Unsupported => "it cannot be decided, so it is hidden".to_owned(),
    }
}

/// What is to be said where no policy is asked.
pub fn without_policies(table: &Table, access: Option<&Access>, role: &str) -> Option<Explanation> {
    let fixed =
        |answer: &str, because: String| Some(Explanation { answer: answer.to_owned(), because, policies: Vec::new() });
    let Some(access) = access else {
        return fixed("no", format!("nothing is known of role \"{role}\""));
    };
    if !access.select.iter().any(|&granted| granted) {
        return fixed("no", format!("role \"{role}\" may SELECT no column of {}.{}", table.schema, table.name));
    }
    match access.rows {
        RowRule::All if !table.row_security => fixed("yes", "row level security is off for the table".to_owned()),
        RowRule::All => fixed("yes", format!("row level security lets role \"{role}\" see every row")),
        RowRule::None => fixed("no", format!("no permissive policy for SELECT applies to role \"{role}\"")),
        RowRule::Compiled(_) | RowRule::Database(_) => None,
    }
}
