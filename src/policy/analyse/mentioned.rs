//! Which tables and functions a text names, before anything is known of them.

use super::parse::{self, Body};
use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Visit, Visitor};
use std::{collections::BTreeSet, ops::ControlFlow};

/// The last parts of the names of a text's tables and functions.
pub(super) fn names(text: &str) -> BTreeSet<String> {
    let mut found = Names::default();
    // The walk never stops before the end.
    let _: ControlFlow<()> = match parse::any(text) {
        Ok(Body::Query(query)) => query.visit(&mut found),
        Ok(Body::Expression(node)) => node.visit(&mut found),
        Err(_) => ControlFlow::Continue(()),
    };
    found.0
}

#[derive(Debug, Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn note(&mut self, name: &ObjectName) {
        if let Some(ObjectNamePart::Identifier(Ident { value, quote_style, span: _ })) = name.0.last() {
            self.0.insert(if quote_style.is_some() { value.clone() } else { value.to_ascii_lowercase() });
        }
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        self.note(name);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, node: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = node {
            self.note(&function.name);
        }
        ControlFlow::Continue(())
    }
}
