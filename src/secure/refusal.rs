//! The one answer to callers that are not known (`security.md` §11, W8).

use crate::error::{Code, Error};

/// For every refusal before the caller is known: a header that does not open, a wrong or missing password, another
/// password than the identity asks for, a stale time, another target, a replay.
///
/// 10008 makes both SDKs read identity and key again and send once more (§2.10); code 1, which OBShell sends for headers
/// that do not open, makes the Python SDK execute a request twice. The name is the neutral one of the family.
pub fn refusal() -> Error {
    Error::new(
        Code::Unauthorized,
        "not authorised; check the password, that the clocks agree, and that the header was sealed with the key of \
         GET /api/v1/secret for exactly this request",
    )
}

/// For every body of a known caller that does not open (W12): nothing tells padding from length from keys.
pub fn body_refusal() -> Error {
    Error::new(Code::BindJsonFailed, "the body does not open with the keys of its header")
}
