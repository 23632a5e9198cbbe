//! What the filter of a subscription says of a row, condition by condition.

use super::{
    ExplainError, Explaining, Subject,
    ask::{Asked, Asker},
    report::{ConditionAnswer, Report},
    session::Session,
};
use crate::{
    change::Datum,
    policy::{
        catalog::Access,
        explain::{NO, NULL, YES},
        filter::{Condition, Filter, Operator, casts_needed, check_columns, parse},
    },
};

/// Asks every condition.
pub(super) async fn judge(
    explaining: &Explaining<'_>,
    session: &mut Session<'_>,
    report: &mut Report,
    subject: &Subject<'_>,
    text: &str,
) -> Result<(), ExplainError> {
    let catalog = explaining.world.catalog;
    let nothing = Access::default();
    let access = catalog.access(subject.table, &explaining.question.claims.role).unwrap_or(&nothing);
    let checked = parse(text).and_then(|conditions| {
        check_columns(subject.table, &catalog.types, access, &conditions, None).map(|()| conditions)
    });
    let conditions = match checked {
        Ok(conditions) => conditions,
        Err(why) => {
            report.hides("filter", format!("the server refuses a subscription with this filter: {why}"), None);
            return Ok(());
        }
    };
    for condition in &conditions {
        let (answer, decided_by) = match compiled(explaining, session, subject, condition).await? {
            Ok(filter) => answer(explaining, session, subject, &filter).await?,
            Err(why) => {
                report.hides("filter", format!("the server refuses a subscription with this filter: {why}"), None);
                return Ok(());
            }
        };
        report.filter.push(ConditionAnswer { condition: written(condition), answer, decided_by });
    }
    match report.filter.iter().find(|condition| condition.answer != YES) {
        None => report.passes("filter", "the row matches the filter"),
        Some(ConditionAnswer { condition, answer, .. }) => {
            let meaning = format!("the row does not match the filter: {condition} is {answer}");
            report.hides("filter", meaning, None);
        }
    }
    Ok(())
}

/// A filter of one condition; the inner error says why the server refuses it.
async fn compiled(
    explaining: &Explaining<'_>,
    session: &mut Session<'_>,
    subject: &Subject<'_>,
    condition: &Condition,
) -> Result<Result<Filter, String>, ExplainError> {
    let types = &explaining.world.catalog.types;
    let conditions = std::slice::from_ref(condition);
    let mut values = Vec::new();
    for cast in casts_needed(conditions, subject.table, types) {
        match session.cast(&cast).await? {
            Ok(read) => values = read,
            Err(sqlstate) => {
                let Condition { column, .. } = condition;
                return Ok(Err(format!("its value cannot be compared with column {column} (SQLSTATE {sqlstate})")));
            }
        }
    }
    Ok(Filter::compile(conditions, &[values], subject.table, types))
}

async fn answer(
    explaining: &Explaining<'_>,
    session: &mut Session<'_>,
    subject: &Subject<'_>,
    filter: &Filter,
) -> Result<(String, &'static str), ExplainError> {
    let absent = Datum::Absent;
    let datum = |index: usize| subject.streamed.get(index).unwrap_or(&absent);
    let Some((expression, parameters)) = filter.database_sql(2) else {
        let answer = match filter.eval(&datum) {
            Some(true) => YES,
            Some(false) => NO,
            None => NULL,
        };
        return Ok((answer.to_owned(), super::policies::PROCESS));
    };
    let Subject { table, row, .. } = *subject;
    let asker = Asker::Role(explaining.question.claims);
    let expression = format!("({expression})");
    let asked = Asked { table, row, expression: &expression, parameters: &parameters, asker };
    Ok((session.ask(&asked).await?, super::policies::DATABASE))
}

/// A condition as it was written.
fn written(condition: &Condition) -> String {
    let Condition { column, negate, operator, value } = condition;
    let not = if *negate { "not." } else { "" };
    let value = match operator {
        Operator::In => format!("({})", value.trim_start_matches('{').trim_end_matches('}')),
        _ => value.clone(),
    };
    format!("{column}={not}{}.{value}", operator.name())
}
