//! An answer of the API, and what every answer must have.

use reqwest::header::HeaderMap;
use serde_json::Value;
use uuid::Uuid;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

/// Sends a request and reads the answer, which must have a request id.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let answer = Answer { status, headers, body: response.text().await.unwrap() };
    assert!(answer.header("X-Request-Id").is_some_and(|id| Uuid::try_parse(id).is_ok()), "{answer:?}");
    answer
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    pub fn is_replay(&self) -> bool {
        self.header("Idempotency-Replayed") == Some("true")
    }

    /// The parts of an answer that a retry must repeat.
    pub fn reply(&self) -> (u16, Option<&str>, Option<&str>, &str) {
        (self.status, self.header("Content-Type"), self.header("Location"), &self.body)
    }

    /// The problem's slug. Panics if the answer is not a complete problem document, or shows internals.
    #[track_caller]
    pub fn problem(&self) -> String {
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{self:?}");
        for member in ["type", "title", "detail", "instance"] {
            assert!(json[member].as_str().is_some_and(|text| !text.is_empty()), "{member} is missing in {self:?}");
        }
        // `again` and Retry-After come together.
        let retry = json["retry"].as_str().unwrap_or_else(|| panic!("retry is missing in {self:?}"));
        assert!(["again", "fix", "new-key", "never"].contains(&retry), "{self:?}");
        assert_eq!(retry == "again", self.header("Retry-After").is_some(), "{self:?}");
        // A client that does not read the bodies of errors reads the header.
        assert_eq!(self.header("Retry-Advice"), Some(retry), "{self:?}");
        assert_eq!(self.header("X-Content-Type-Options"), Some("nosniff"), "{self:?}");
        for secret in ["SELECT", "INSERT", "UPDATE ", "relation", "constraint", "diesel", "socket", ".rs", "/tmp"] {
            assert!(!self.body.contains(secret), "{secret} leaks in {self:?}");
        }
        json["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned()
    }

    /// The pointers of a 422, sorted.
    pub fn pointers(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        let mut pointers: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect();
        assert!(errors.iter().all(|error| error["detail"].as_str().is_some_and(|text| !text.is_empty())), "{self:?}");
        pointers.sort();
        pointers
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn expect_problem(self, status: u16, slug: &str) -> Self {
        assert_eq!((self.status, self.problem().as_str()), (status, slug), "{self:?}");
        self
    }
}
