//! A history, sorted for the rules.

use std::collections::{BTreeMap, HashMap};

use crate::line::{Book, Books, Line, Object, Read, Request, Row, Span};

/// A history by key, by object and by book.
#[derive(Default)]
pub struct Facts<'a> {
    /// The requests of each key: account, scope, key. In the order of their calls.
    pub keys: BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a Request>>,
    /// What was seen of each object, in the order of the calls.
    pub seen: BTreeMap<&'a str, Vec<Seen<'a>>>,
    /// The reads that found nothing.
    pub missing: Vec<&'a Read>,
    /// The books with their rows.
    pub books: Vec<(&'a Book, Vec<&'a Row>)>,
}

/// An object at a time.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// When.
    pub span: Span,
    /// By whom.
    pub account: &'a str,
    /// The object.
    pub object: &'a Object,
    /// The server reported it in answer to a request with a key, so the write is acknowledged.
    pub is_acknowledged: bool,
    /// The answer was a stored one, so it shows the object as it was when the reply was stored.
    pub is_replay: bool,
}

impl<'a> Facts<'a> {
    /// Sorts a history. The lines may come in any order.
    #[must_use]
    pub fn of(history: &[&'a Line]) -> Self {
        let mut facts = Self::default();
        let mut place: HashMap<u64, usize> = HashMap::new();
        for line in history {
            if let Line::Book(book) = line {
                place.insert(book.number, facts.books.len());
                facts.books.push((book, Vec::new()));
            }
        }
        for line in history {
            match line {
                Line::Request(request) => facts.request(request),
                Line::Read(read) => match &read.object {
                    Some(object) => facts.see(read.span, &read.account, object, false, false),
                    None => facts.missing.push(read),
                },
                Line::Row(row) => {
                    // A row whose reading was cut out says nothing.
                    let Some(place) = place.get(&row.number) else { continue };
                    let (book, rows) = &mut facts.books[*place];
                    rows.push(row);
                    let (book, span) = (*book, book.span);
                    if matches!(book.book, Books::Orders | Books::Charges | Books::Refunds) {
                        facts.see(span, &book.account, &row.object, false, false);
                    }
                }
                Line::Book(_) | Line::Fault(_) => {}
            }
        }
        facts.keys.values_mut().for_each(|requests| requests.sort_by_key(|request| request.span.called));
        facts.seen.values_mut().for_each(|seen| seen.sort_by_key(|seen| seen.span.called));
        facts
    }

    fn request(&mut self, request: &'a Request) {
        self.keys.entry((&request.account, &request.scope, &request.key)).or_default().push(request);
        if let Some(answer) = &request.answer
            && let Some(object) = &answer.object
        {
            let is_acknowledged = answer.is_final || answer.status == 202;
            self.see(request.span, &request.account, object, is_acknowledged, answer.is_replay);
        }
    }

    fn see(&mut self, span: Span, account: &'a str, object: &'a Object, is_acknowledged: bool, is_replay: bool) {
        self.seen.entry(&object.id).or_default().push(Seen { span, account, object, is_acknowledged, is_replay });
    }

    /// The readings of a book after the last write, except those of a single order or charge.
    pub fn last(&self, which: Books) -> impl Iterator<Item = (&'a Book, &[&'a Row])> {
        let is_last = move |book: &Book| book.is_last && book.book == which && book.of.is_none();
        self.books.iter().filter(move |(book, _)| is_last(book)).map(|(book, rows)| (*book, rows.as_slice()))
    }

    /// The rows of an account's book after the last write. None if the book was not read.
    #[must_use]
    pub fn rows(&self, account: &str, which: Books) -> Option<&[&'a Row]> {
        self.last(which).find(|(book, _)| book.account == account).map(|(_, rows)| rows)
    }
}
