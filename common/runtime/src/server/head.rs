//! What a request must be before anything of it is looked at: a call as gRPC writes it, with metadata of a bounded size.

use common::fault::{Fault, FaultCode};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// Metadata of a request as HTTP/2 counts it, 32 bytes for each value and its path among it: some dozen of values of 255
/// characters.
pub(super) const METADATA_BYTES: usize = 16 << 10;

/// What HTTP/2 adds for each field.
const FIELD_BYTES: usize = 32;

/// What the type of each call's content begins with.
const GRPC: &str = "application/grpc";

/// Why a request is no call; the status of HTTP is for clients that do not know of gRPC's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) fault: Fault,
}

/// Looks at all that stands before a request's message.
///
/// # Errors
/// [`Refused`].
pub(super) fn check(head: &Parts) -> Result<(), Refused> {
    let refused = |status, fault| Err(Refused { status, fault });
    if head.method != Method::POST {
        let words = format!(
            "gRPC calls are POST requests, but this is a {:.20}: nothing was done",
            head.method.as_str()
        );
        let fault = Fault::new(FaultCode::InvalidArgument, words);
        return refused(StatusCode::METHOD_NOT_ALLOWED, fault);
    }
    if !is_grpc(&head.headers) {
        let words = "the content type is not application/grpc or application/grpc+proto: this port speaks gRPC with Protobuf; nothing was done";
        let fault = Fault::new(FaultCode::InvalidArgument, words).about("metadata.content-type");
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault);
    }
    let bytes = metadata_bytes(head);
    if bytes > METADATA_BYTES {
        let words = format!(
            "the request has {bytes} bytes of metadata (each value counts 32 bytes more than its length); at most {METADATA_BYTES} are accepted. Nothing was done; send less"
        );
        let fault = Fault::new(FaultCode::MessageTooLarge, words).about("metadata");
        return refused(StatusCode::OK, fault);
    }
    Ok(())
}

/// Whether the content is said, once, to be what is read here; what follows a semicolon says nothing of it.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(content), None) = (
        types.next().and_then(|content| content.to_str().ok()),
        types.next(),
    ) else {
        return false;
    };
    let essence = content.split(';').next().unwrap_or_default().trim();
    let rest = essence
        .split_at_checked(GRPC.len())
        .filter(|(begin, _)| begin.eq_ignore_ascii_case(GRPC))
        .map(|(_, rest)| rest);
    rest.is_some_and(|rest| rest.is_empty() || rest.eq_ignore_ascii_case("+proto"))
}

fn metadata_bytes(head: &Parts) -> usize {
    let path = head
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len() + FIELD_BYTES);
    let field =
        |(name, value): (&http::HeaderName, &HeaderValue)| name.as_str().len() + value.len() + FIELD_BYTES;
    path + head.headers.iter().map(field).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/a.B/C");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_a_post_is_a_call() {
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"] {
            let refused = check(&head(method, &[("content-type", "application/grpc")])).unwrap_err();
            assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
            assert!(refused.fault.message.contains(method));
        }
    }

    #[test]
    fn only_protobuf_in_grpc_is_read() {
        for content in [
            "application/grpc",
            "application/grpc+proto",
            "APPLICATION/gRPC",
            "application/grpc; charset=x",
        ] {
            assert_eq!(
                check(&head("POST", &[("content-type", content)])),
                Ok(()),
                "{content}"
            );
        }
        let twice = [
            ("content-type", "application/grpc"),
            ("content-type", "text/html"),
        ];
        assert!(check(&head("POST", &twice)).is_err());
        assert!(check(&head("POST", &[])).is_err());
        for content in [
            "",
            "application/json",
            "application/grpc+json",
            "application/grpc-web",
            "application/grpcweb",
            "text/html, application/grpc",
        ] {
            let refused = check(&head("POST", &[("content-type", content)])).unwrap_err();
            assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content}");
        }
    }

    #[test]
    fn metadata_is_bounded_by_its_bytes_and_its_number() {
        let content = ("content-type", "application/grpc");
        let long = "b".repeat(METADATA_BYTES - 200);
        assert_eq!(check(&head("POST", &[content, ("x-a", &long)])), Ok(()));
        let longer = "b".repeat(METADATA_BYTES);
        let many = vec![("x-a", "b"); 1_000];
        for fields in [&[("x-a", longer.as_str())][..], &many] {
            let refused = check(&head("POST", &[&[content], fields].concat())).unwrap_err();
            assert_eq!(
                refused.status,
                StatusCode::OK,
                "a client of gRPC reads its own status"
            );
            assert_eq!(refused.fault.code, FaultCode::MessageTooLarge);
        }
    }
}
