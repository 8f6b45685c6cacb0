//! The gRPC services of tidemill: Ingest, Decide and View, as messages, servers and clients.
//!
//! The one idea: the `.proto` files in `tidemill/v1` are the truth, read by people and by every language's generator; the
//! Rust here is made from them when this crate is built. What the services do is for `tidemill-gateway`.

/// Version 1 of the services.
#[allow(missing_docs, clippy::all, clippy::dbg_macro)]
pub mod v1 {
    tonic::include_proto!("tidemill.v1");
}

/// The descriptors of all files, encoded as a `google.protobuf.FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The files as they are written, by name, for those who generate a client from them.
pub const FILES: [(&str, &str); 4] = [
    ("tidemill/v1/common.proto", include_str!("../tidemill/v1/common.proto")),
    ("tidemill/v1/ingest.proto", include_str!("../tidemill/v1/ingest.proto")),
    ("tidemill/v1/decide.proto", include_str!("../tidemill/v1/decide.proto")),
    ("tidemill/v1/view.proto", include_str!("../tidemill/v1/view.proto")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_describes_itself() {
        let holds = |text: &str| DESCRIPTORS.windows(text.len()).any(|window| window == text.as_bytes());
        for (name, text) in FILES {
            assert!(holds(name), "{name}");
            assert!(text.contains("package tidemill.v1;"), "{name}");
        }
        for service in ["Ingest", "Decide", "View"] {
            assert!(holds(service), "{service}");
        }
    }
}
