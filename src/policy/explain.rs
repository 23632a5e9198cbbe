//! Why a row is seen or not: what every policy says of it, and every clause a policy is made of. Pure; it judges as
//! delivery does, by programs, and says what that came to, part by part. No value of a row or of claims is in it.

use super::{
    catalog::{Access, RowRule, Table},
    expr::Expr,
    facts::Facts,
    lookup::Lookups,
    print::Printer,
    program::{Arguments, Program, Row, Verdict},
};
use serde::Serialize;

/// The answer that lets a row through.
pub const YES: &str = "yes";
/// The answer that does not.
pub const NO: &str = "no";
/// The same, because SQL's third value counts as no.
pub const NULL: &str = "no (null)";

/// Clauses within clauses that are told apart; what is deeper is one clause.
const DEPTH: usize = 4;
/// A clause is repeated up to this length where it is part of a sentence.
const QUOTED: usize = 240;

/// What one policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyAnswer {
    /// Its name.
    pub policy: String,
    /// Whether it grants, or restricts what others grant.
    pub permissive: bool,
    /// `USING`, as Postgres prints it.
    pub using: String,
    /// The answer: `yes`, `no`, `no (null)`, `error SQLSTATE`, or `unknown: ...`.
    pub answer: String,
    /// Why the process did not decide it; then the answer is Postgres'.
    pub why_database: Option<String>,
    /// The clauses that must all be true, with their answers; none where Postgres answered.
    pub clauses: Vec<ClauseAnswer>,
}

/// What one clause says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClauseAnswer {
    /// The clause as it was understood: functions replaced by what they do.
    pub clause: String,
    /// The answer.
    pub answer: String,
    /// What joins its own parts: `and`, `or`, `not`.
    pub joined_by: Option<&'static str>,
    /// Its parts, where it has any.
    pub clauses: Vec<ClauseAnswer>,
}

/// A verdict in a word or two.
pub fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Yes => YES.to_owned(),
        Verdict::No => NO.to_owned(),
        Verdict::Absent => "unknown: the stream lacks a column it reads".to_owned(),
        Verdict::Failed(sqlstate) => failed(sqlstate),
        Verdict::Unsupported => "unknown: a value of a kind that is not computed with here".to_owned(),
    }
}

/// The answer that is an error.
pub fn failed(sqlstate: &str) -> String {
    format!("error {sqlstate}")
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
    /// What each policy of the program says, and each of its clauses. `table` is the oid of the row's table.
    pub fn policies(&self, facts: &Facts, table: u32) -> Vec<PolicyAnswer> {
        let policies = self.program.clauses.iter().map(|clause| {
            let mut printer = Printer::new(facts, table, &self.program.parameters);
            let whole = self.clause(&clause.expr, &mut printer, DEPTH);
            let answer = whole.answer.clone();
            let clauses = if whole.joined_by == Some("and") { whole.clauses } else { vec![whole] };
            let (policy, using) = (clause.policy.clone(), clause.text.clone());
            PolicyAnswer { policy, permissive: clause.permissive, using, answer, why_database: None, clauses }
        });
        policies.collect()
    }

    fn clause(&self, expr: &Expr, printer: &mut Printer<'_>, depth: usize) -> ClauseAnswer {
        let (joined_by, parts): (_, Vec<&Expr>) = match expr {
            Expr::And(parts) => (Some("and"), parts.iter().collect()),
            Expr::Or(parts) => (Some("or"), parts.iter().collect()),
            Expr::Not(part) => (Some("not"), vec![part]),
            _ => (None, Vec::new()),
        };
        // A single part says nothing that the whole does not.
        let is_split = depth > 0 && (parts.len() > 1 || joined_by == Some("not"));
        let clauses = match is_split {
            true => parts.into_iter().map(|part| self.clause(part, printer, depth - 1)).collect(),
            false => Vec::new(),
        };
        let joined_by = joined_by.filter(|_| is_split);
        ClauseAnswer { clause: printer.print(expr), answer: self.answer(expr), joined_by, clauses }
    }

    fn answer(&self, expr: &Expr) -> String {
        let judge = |expr: &Expr| self.program.judge_part(expr, self.arguments, self.row, self.lookups, self.now);
        match judge(expr) {
            Verdict::No if judge(&Expr::IsNull(Box::new(expr.clone()))) == Verdict::Yes => NULL.to_owned(),
            verdict => word(verdict),
        }
    }
}

/// The sentence that says what came of all policies of a table for a role, and names what decided.
pub fn sentence(answer: &str, policies: &[PolicyAnswer], table: &str, role: &str) -> String {
    let named = |wanted: &dyn Fn(&&PolicyAnswer) -> bool| {
        let names = policies.iter().filter(wanted).map(|policy| format!("\"{}\"", policy.policy));
        names.collect::<Vec<_>>().join(", ")
    };
    if answer == YES {
        let grants = named(&|policy| policy.permissive && policy.answer == YES);
        return match grants.is_empty() {
            true => format!("the policies of {table} let role \"{role}\" see this row"),
            false => format!("policy {grants} of {table} lets role \"{role}\" see this row"),
        };
    }
    if let Some(sqlstate) = answer.strip_prefix("error ") {
        let failing = named(&|policy| policy.answer.starts_with("error "));
        let which = if failing.is_empty() { "a policy".to_owned() } else { format!("policy {failing}") };
        return format!("{which} of {table} fails with SQLSTATE {sqlstate} for role \"{role}\"{}", hint(sqlstate));
    }
    if let Some(why) = answer.strip_prefix("unknown: ") {
        return format!("the policies of {table} cannot be decided for this row: {why}");
    }
    let granted = policies.iter().any(|policy| policy.permissive && policy.answer == YES);
    let wall = policies.iter().find(|policy| !policy.permissive && policy.answer != YES).filter(|_| granted);
    if let Some(wall) = wall {
        return format!(
            "restrictive policy \"{}\" of {table} keeps this row from role \"{role}\"{}",
            wall.policy,
            decisive(wall)
        );
    }
    let closest = policies.iter().filter(|policy| policy.permissive).max_by_key(|policy| closeness(policy));
    let closest = closest
        .map(|policy| format!("; closest: policy \"{}\"{}", policy.policy, decisive(policy)))
        .unwrap_or_default();
    format!("no permissive policy of {table} lets role \"{role}\" see this row{closest}")
}

/// How much of a policy that says no says yes, per mille; of several that are alike the first is taken.
fn closeness(policy: &PolicyAnswer) -> (usize, std::cmp::Reverse<String>) {
    let yes = policy.clauses.iter().filter(|clause| clause.answer == YES).count();
    (yes * 1000 / policy.clauses.len().max(1), std::cmp::Reverse(policy.policy.clone()))
}

/// The clause of a policy that made it say no.
fn decisive(policy: &PolicyAnswer) -> String {
    let Some(mut clause) = policy.clauses.iter().find(|clause| clause.answer != YES) else { return String::new() };
    while clause.joined_by == Some("and") {
        match clause.clauses.iter().find(|part| part.answer != YES) {
            Some(part) => clause = part,
            None => break,
        }
    }
    format!(" – clause {} is {}", shortened(&clause.clause), clause.answer)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What an error of a policy usually means.
fn hint(sqlstate: &str) -> &'static str {
    match sqlstate {
        "22P02" => ": a value is not of the type it is read as; often claim sub, which then is no UUID",
        "42501" => ": the role lacks a right to something the policy uses",
        "42704" => ": a setting the policy reads is not set",
        "42P17" => ": the policy looks into its own table, without end",
        "57014" => ": it takes too long",
        _ => "",
    }
}

/// What is to be said where no policy has to be asked.
pub fn settled(table: &Table, access: &Access, role: &str) -> Option<(bool, String)> {
    let name = format!("{}.{}", table.schema, table.name);
    match access.rows {
        RowRule::All if !table.row_security => {
            Some((true, format!("row level security of {name} is off: every role with a grant sees every row")))
        }
        RowRule::All => Some((true, format!("row level security of {name} lets role \"{role}\" see every row"))),
        RowRule::None => Some((false, format!("no permissive policy for SELECT on {name} applies to role \"{role}\""))),
        RowRule::Compiled(_) | RowRule::Database(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(text: &str, answer: &str) -> ClauseAnswer {
        ClauseAnswer { clause: text.to_owned(), answer: answer.to_owned(), joined_by: None, clauses: Vec::new() }
    }

    fn policy(name: &str, permissive: bool, answer: &str, clauses: Vec<ClauseAnswer>) -> PolicyAnswer {
        let (policy, answer) = (name.to_owned(), answer.to_owned());
        PolicyAnswer { policy, permissive, using: String::new(), answer, why_database: None, clauses }
    }

    fn said(answer: &str, policies: &[PolicyAnswer]) -> String {
        sentence(answer, policies, "public.t", "anon")
    }

    #[test]
    fn the_closest_policy_is_the_one_most_of_which_is_true_and_its_first_false_clause_is_named() {
        let far = policy("a", true, NO, vec![clause("x", NO), clause("y", YES)]);
        let nested = ClauseAnswer {
            joined_by: Some("and"),
            clauses: vec![clause("p", YES), clause("q", NULL)],
            ..clause("p and q", NULL)
        };
        let near = policy("b", true, NO, vec![clause("x", YES), clause("y", YES), nested]);
        let alike = policy("c", true, NO, near.clauses.clone());
        let sentence = said(NO, &[far, alike, near]);
        assert!(sentence.ends_with("closest: policy \"b\" – clause q is no (null)"), "{sentence}");
        let either = ClauseAnswer {
            joined_by: Some("or"),
            clauses: vec![clause("p", NO), clause("q", NO)],
            ..clause("p or q", NO)
        };
        let sentence = said(NO, &[policy("d", true, NO, vec![either])]);
        assert!(sentence.ends_with("– clause p or q is no"), "of alternatives none is the reason: {sentence}");
    }

    #[test]
    fn a_wall_is_named_only_where_something_would_let_the_row_through() {
        let wall = policy("w", false, NO, vec![clause("shown", NO)]);
        let grant = |answer| policy("g", true, answer, vec![clause("mine", answer)]);
        assert!(said(NO, &[grant(YES), wall.clone()]).starts_with("restrictive policy \"w\""));
        assert!(said(NO, &[grant(NO), wall.clone()]).starts_with("no permissive policy"));
        assert!(said(NO, &[wall]).ends_with("see this row"), "there is none that is close");
        let failing = policy("f", true, "error 22P02", Vec::new());
        assert!(said("error 22P02", &[failing]).starts_with("policy \"f\" of public.t fails with SQLSTATE 22P02"));
    }

    #[test]
    fn a_long_clause_is_cut_between_characters() {
        let long = policy("l", true, NO, vec![clause(&"é".repeat(1000), NO)]);
        assert!(said(NO, &[long]).ends_with("é… is no"));
    }
}
