//! What can be wrong with the toy.

/// One defect, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    None,
    KeyNotRequired,
    EmptyKeyTaken,
    ShortKeysOnly,
    LongKeysTaken,
    FirstOfTwoKeysTaken,
    AnyBytesTaken,
    QuotedRefused,
    BareRefused,
    QuotedIsAnotherKey,
    ReplayIs200,
    /// Each replay differs from the first reply.
    ReplyDiffers,
    /// A replay is built from the object as it is now.
    ReplyRebuilt,
    LocationLost,
    KeyIgnored,
    MarkerMissing,
    MarkerAlways,
    ExpiryMissing,
    ReplyCacheable,
    MemberOrderCompared,
    WhiteSpaceCompared,
    BodyNotCompared,
    ReuseForgetsTheFirst,
    PathNotCompared,
    MethodNotCompared,
    NoLock,
    DuplicatesAnswerThemselves,
    LosersFail,
    ConflictWithoutRetryAfter,
    LockPerProcess,
    /// The effect comes before the record. A client that leaves cancels the rest.
    WorkCanceledHalfway,
    /// The record comes before the effect. A client that leaves cancels the rest.
    WorkLost,
    KeyStuckWithoutClient,
    FailureReplayedAs422,
    FailureMarkedButFree,
    FailureMadeAgainButKept,
    FailureStored,
    FailureLeavesEffect,
    ServerErrorStored,
    ServerErrorLeavesEffect,
    KeySharedBetweenAccounts,
    ProblemWithoutPage,
    ProblemIsPlainJson,
    ProblemWithoutAdvice,
}
