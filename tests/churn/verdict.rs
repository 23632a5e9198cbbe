//! Whether what the members wrote down can be: their views against who is really there, and what they heard against
//! what was said.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;

use super::member::{End, Notes, Stay, Utterance};

/// What somebody tracks, by key, in an order of its own.
type Present = BTreeMap<String, Vec<String>>;

/// Everything that is wrong with the presence: views that are not the truth, and what clients would have forgiven.
pub fn presence(members: &[Notes]) -> Vec<String> {
    let mut truth: HashMap<usize, Present> = HashMap::new();
    for stay in remaining(members) {
        if let Some(tracked) = &stay.tracked {
            let room = truth.entry(stay.room).or_default();
            room.entry(stay.config.key.clone()).or_default().push(tracked.to_string());
        }
    }
    truth.values_mut().flat_map(BTreeMap::values_mut).for_each(|metas| metas.sort());
    let mut wrong = Vec::new();
    for stay in stays(members) {
        wrong.extend(stay.view.mistakes().iter().map(|mistake| format!("{}: {mistake}", stay.id)));
    }
    for stay in remaining(members).filter(|stay| stay.config.presence) {
        let seen = stay.view.known().map(|known| {
            let metas = |metas: &BTreeMap<String, Value>| {
                let mut metas: Vec<String> = metas.values().map(Value::to_string).collect();
                metas.sort();
                metas
            };
            known.iter().map(|(key, of)| (key.clone(), metas(of))).collect::<Present>()
        });
        let is = truth.get(&stay.room).cloned().unwrap_or_default();
        if seen.as_ref() != Some(&is) {
            wrong.push(format!("{} in room {} sees {seen:?}, but there is {is:?}", stay.id, stay.room));
        }
    }
    wrong
}

/// What was said and heard, counted.
#[derive(Default, Debug)]
pub struct Tally {
    pub said: usize,
    pub heard: usize,
    /// Messages that somebody had to hear for certain.
    pub owed: usize,
}

/// Everything that is wrong with the broadcasts: twice, out of order, with a gap, in another room, or not at all.
pub fn broadcasts(members: &[Notes]) -> (Tally, Vec<String>) {
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    let mut rooms: HashMap<usize, Vec<&Stay>> = HashMap::new();
    let mut speakers: HashMap<u64, &Stay> = HashMap::new();
    for stay in stays(members) {
        rooms.entry(stay.room).or_default().push(stay);
        speakers.insert(stay.id, stay);
        tally.said += stay.said.len();
        tally.heard += stay.heard.values().map(Vec::len).sum::<usize>();
    }
    for stay in stays(members) {
        for (speaker, numbers) in &stay.heard {
            let is_there = speakers.get(speaker).is_some_and(|speaker| speaker.room == stay.room);
            let is_allowed = *speaker != stay.id || stay.config.hears_itself;
            let in_order = numbers.windows(2).all(|pair| matches!(pair, [one, next] if one + 1 == *next));
            if !is_there || !is_allowed || !in_order {
                wrong.push(format!("{} in room {} heard of {speaker}: {numbers:?}", stay.id, stay.room));
            }
        }
        for speaker in rooms.get(&stay.room).into_iter().flatten() {
            if speaker.id == stay.id && !stay.config.hears_itself {
                continue;
            }
            let heard = stay.heard.get(&speaker.id).map_or(&[][..], Vec::as_slice);
            for (number, _) in (1..).zip(&speaker.said).filter(|(_, said)| owes(said, stay)) {
                tally.owed += 1;
                if !heard.contains(&number) {
                    wrong.push(format!("{} in room {} missed {number} of {}", stay.id, stay.room, speaker.id));
                }
            }
        }
    }
    (tally, wrong)
}

/// Whether a stay must have heard this: it was joined before it was said, and until it was in all outboxes.
fn owes(said: &Utterance, stay: &Stay) -> bool {
    let Some(certain) = said.certain else { return false };
    stay.from < said.sent
        && match (&stay.end, stay.until) {
            (End::Remains, _) => true,
            (End::Left, Some(until)) => certain < until,
            _ => false,
        }
}

/// Problems that members were told of.
pub fn problems(members: &[Notes]) -> Vec<String> {
    let told = stays(members).filter_map(|stay| match &stay.end {
        End::Problem(what) => Some(format!("{}: {what}", stay.id)),
        _ => None,
    });
    told.chain(members.iter().flat_map(|notes| notes.mistakes.iter().cloned())).collect()
}

/// The longest that a message was on its way until its sender could be sure of it.
pub fn longest_wait(members: &[Notes]) -> Duration {
    let waits = stays(members).flat_map(|stay| stay.said.iter());
    waits.filter_map(|said| said.certain.map(|certain| certain - said.sent)).max().unwrap_or_default()
}

fn stays(members: &[Notes]) -> impl Iterator<Item = &Stay> {
    members.iter().flat_map(|notes| notes.stays.iter())
}

fn remaining(members: &[Notes]) -> impl Iterator<Item = &Stay> {
    stays(members).filter(|stay| stay.end == End::Remains)
}
