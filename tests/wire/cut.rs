//! Long frames stand in the recordings cut after a few letters, with their real length. They were made of one letter
//! repeated, so the whole frame can be told: the beginning, the letter, and the end that closes what the beginning opened.

/// What the recording does not show of a cut frame.
pub struct Cut {
    /// Bytes of the whole frame.
    pub bytes: usize,
    /// Whether the client sent it.
    pub is_push: bool,
    /// V1 pushes end with their references: the push's own, and its join's.
    pub references: (usize, usize),
}

/// The whole frame.
pub fn whole(shown: &str, cut: &Cut) -> String {
    let begin = shown.strip_suffix('…').expect("a cut frame ends with three dots");
    let letter = begin.chars().last().expect("a cut frame begins");
    let (reference, join_ref) = cut.references;
    let end = match (begin.starts_with('['), cut.is_push) {
        (true, true) => "\"}}]".to_owned(),
        (true, false) => "\"},\"type\":\"broadcast\"}]".to_owned(),
        (false, true) => format!("\"}}}},\"ref\":\"{reference}\",\"join_ref\":\"{join_ref}\"}}"),
        (false, false) => "\"},\"type\":\"broadcast\"},\"topic\":\"realtime:lim\"}".to_owned(),
    };
    let missing = cut.bytes.checked_sub(begin.len() + end.len()).expect("a cut frame is longer than what is shown");
    let shown = begin.len() - begin.trim_end_matches(letter).len();
    assert_eq!((shown + missing) % 1000, 0, "the letters were a round number: {begin}");
    begin.to_owned() + &letter.to_string().repeat(missing) + &end
}

#[test]
fn a_cut_frame_is_told_from_its_beginning_and_its_length() {
    let cut = Cut { bytes: 1_000_090, is_push: true, references: (2, 1) };
    let begin = r#"["1","2","realtime:lim","broadcast",{"type":"broadcast","event":"big","payload":{"s":"xx"#;
    let text = whole(&format!("{begin}…"), &cut);
    assert_eq!(text.len(), 1_000_090);
    assert!(text.ends_with("xxx\"}}]") && serde_json::from_str::<serde_json::Value>(&text).is_ok());
}
