//! Content types of the bodies that carry DNS.
//!
//! Parameters behind a type are ignored.

/// A DNS message (RFC 8484 §6).
pub(super) const DNS: &[u8] = b"application/dns-message";
/// Messages of gRPC.
pub(super) const GRPC: &[u8] = b"application/grpc";

/// Content type of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Media {
    /// A DNS message.
    Dns,
    /// Messages of gRPC, which contain protobuf.
    Grpc,
    /// Any other, or none.
    #[default]
    Other,
}

impl Media {
    /// Returns the type that a `Content-Type` names.
    pub(super) fn of(value: &[u8]) -> Self {
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |known: &[u8]| essence.eq_ignore_ascii_case(known);
        if is(DNS) {
            Self::Dns
        } else if is(GRPC) || is(b"application/grpc+proto") {
            Self::Grpc
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Media;

    #[test]
    fn parameters_and_case_do_not_matter() {
        for (value, expected) in [
            ("application/dns-message", Media::Dns),
            ("Application/DNS-Message ; a=b", Media::Dns),
            ("application/grpc", Media::Grpc),
            ("application/grpc+proto;a=b", Media::Grpc),
            ("application/grpc-web", Media::Other),
            ("application/dns-json", Media::Other),
            ("", Media::Other),
        ] {
            assert_eq!(Media::of(value.as_bytes()), expected, "{value}");
        }
    }
}
