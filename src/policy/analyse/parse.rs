//! Text → syntax tree: expressions of policies, and the one query or expression that a function's body may be. Owns
//! what of a text is too large, too deep or lexed in another way than Postgres does; what a tree means is others'.

use super::{
    precedence,
    refusal::{Read, Refusal, refuse},
};
use crate::policy::facts::{FunctionFacts, Language};
use sqlparser::{
    ast::{Expr, Query, Statement},
    dialect::PostgreSqlDialect,
    keywords::Keyword,
    parser::Parser,
    tokenizer::{Token, TokenWithSpan, Tokenizer},
};

/// A longer text is no policy a human wrote.
const MAX_LENGTH: usize = 64 * 1024;
/// How deep the parser may call itself.
const RECURSION_LIMIT: usize = 60;
/// How deep a tree may be, chains of operators included, which the parser builds without recursion but everybody else
/// walks, and drops, with it.
const MAX_DEPTH: usize = 250;

const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// What a function's body consists of.
#[derive(Debug)]
pub(super) enum Body {
    /// One query.
    Query(Box<Query>),
    /// One expression.
    Expression(Box<Expr>),
}

/// Reads an expression.
pub(super) fn expression(text: &str) -> Read<Expr> {
    parse_expression(tokens(text)?)
}

/// Reads the body of a function.
pub(super) fn body(function: &FunctionFacts) -> Read<Body> {
    match (&function.sql_body, function.language) {
        (Some(text), Language::Sql) => standard_body(tokens(text)?),
        (None, Language::Sql) => parse_query(tokens(&function.source)?).map(Body::Query),
        (None, Language::Plpgsql) => plpgsql_body(tokens(&function.source)?),
        _ => refuse(format!("function {} is written in a language that is not read", function.name)),
    }
}

/// Reads a text of which it is not known what it is, for the names in it.
pub(super) fn any(text: &str) -> Read<Body> {
    let tokens = tokens(text)?;
    match tokens.first().map(|token| keyword(&token.token)) {
        Some(Keyword::SELECT | Keyword::WITH) => parse_query(tokens).map(Body::Query),
        Some(Keyword::RETURN) => standard_body(tokens),
        Some(Keyword::BEGIN) if tokens.get(1).is_some_and(|token| keyword(&token.token) == Keyword::RETURN) => {
            plpgsql_body(tokens)
        }
        Some(Keyword::BEGIN) => standard_body(tokens),
        _ => parse_expression(tokens).map(|node| Body::Expression(Box::new(node))),
    }
}

/// `RETURN expression` or `BEGIN ATOMIC query; END`.
fn standard_body(tokens: Vec<TokenWithSpan>) -> Read<Body> {
    match words(&tokens).as_slice() {
        [Keyword::RETURN, ..] => parse_expression(without(tokens, 1, 0)).map(|node| Body::Expression(Box::new(node))),
        [Keyword::BEGIN, Keyword::ATOMIC, .., Keyword::END] => parse_query(without(tokens, 2, 1)).map(Body::Query),
        _ => refuse("the function's body is not one query"),
    }
}

/// `begin return expression; end`, which is all of PL/pgSQL that is read.
fn plpgsql_body(mut tokens: Vec<TokenWithSpan>) -> Read<Body> {
    if tokens.last().is_some_and(|token| token.token == Token::SemiColon) {
        tokens.pop();
    }
    let keywords = words(&tokens);
    let last = tokens.len().checked_sub(2).and_then(|index| tokens.get(index));
    match keywords.as_slice() {
        [Keyword::BEGIN, Keyword::RETURN, .., Keyword::END]
            if last.is_some_and(|token| token.token == Token::SemiColon) =>
        {
            parse_expression(without(tokens, 2, 2)).map(|node| Body::Expression(Box::new(node)))
        }
        _ => refuse("the function's body is more than begin return ...; end"),
    }
}

fn words(tokens: &[TokenWithSpan]) -> Vec<Keyword> {
    tokens.iter().map(|token| keyword(&token.token)).collect()
}

fn keyword(token: &Token) -> Keyword {
    match token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

fn without(mut tokens: Vec<TokenWithSpan>, front: usize, back: usize) -> Vec<TokenWithSpan> {
    tokens.truncate(tokens.len().saturating_sub(back));
    tokens.drain(..front.min(tokens.len()));
    tokens
}

fn parse_expression(tokens: Vec<TokenWithSpan>) -> Read<Expr> {
    let mut parser = parser(tokens);
    let tree = parser.parse_expr().map_err(unparsed)?;
    match parser.peek_token().token {
        Token::EOF => precedence::check(&tree).map(|()| tree),
        _ => refuse("the text is more than one expression"),
    }
}

fn parse_query(mut tokens: Vec<TokenWithSpan>) -> Read<Box<Query>> {
    if tokens.last().is_some_and(|token| token.token == Token::SemiColon) {
        tokens.pop();
    }
    let mut parser = parser(tokens);
    let statement = parser.parse_statement().map_err(unparsed)?;
    match (statement, parser.peek_token().token) {
        (Statement::Query(query), Token::EOF) => precedence::check(&query).map(|()| query),
        (Statement::Query(_), _) => refuse("the body is more than one statement"),
        _ => refuse("the body is no query"),
    }
}

fn parser(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&DIALECT).with_recursion_limit(RECURSION_LIMIT).with_tokens_with_locations(tokens)
}

fn unparsed(_: sqlparser::parser::ParserError) -> Refusal {
    // The parser's own words may hold parts of the text.
    Refusal("the text cannot be parsed here".to_owned())
}

/// The tokens of a text, without comments and space.
fn tokens(text: &str) -> Read<Vec<TokenWithSpan>> {
    if text.len() > MAX_LENGTH {
        return refuse("the text is too long");
    }
    // Postgres takes these for letters, the tokenizer for space.
    if text.chars().any(|character| character.is_whitespace() && !" \t\n\r\u{c}".contains(character)) {
        return refuse("the text holds unusual space");
    }
    let tokens = Tokenizer::new(&DIALECT, text)
        .tokenize_with_location()
        .map_err(|_| Refusal("the text cannot be parsed here".to_owned()))?;
    let tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
    // `\v` is read as `v` by the tokenizer.
    let has_escapes = tokens.iter().any(|token| matches!(token.token, Token::EscapedStringLiteral(_)));
    if has_escapes && text.contains("\\v") {
        return refuse("the text holds an escape that is not read");
    }
    // The parser takes `==` for `=`; in Postgres it is an operator somebody made.
    if tokens.iter().any(|token| matches!(token.token, Token::DoubleEq)) {
        return refuse("operator == is not known here");
    }
    if depth(&tokens) > MAX_DEPTH {
        return refuse("the text is nested too deeply");
    }
    Ok(tokens)
}

/// No tree of these tokens is deeper: brackets, and within each pair what stands between two commas.
fn depth(tokens: &[TokenWithSpan]) -> usize {
    let mut open = vec![0usize];
    let mut total = 0usize;
    let mut deepest = 0;
    for TokenWithSpan { token, .. } in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                open.push(1);
                total += 1;
            }
            Token::RParen | Token::RBracket | Token::RBrace => total -= open.pop().unwrap_or(0).min(total),
            Token::Comma => {
                if let Some(last) = open.last_mut() {
                    total -= (*last).min(total);
                    *last = 0;
                }
            }
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {}
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Period | Token::Placeholder(_) => {}
            // Operators, casts, and words such as `and`, `case`, `join`, `union`.
            _ => {
                if let Some(last) = open.last_mut() {
                    *last += 1;
                }
                total += 1;
            }
        }
        deepest = deepest.max(total);
    }
    deepest
}
